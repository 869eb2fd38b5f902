"""The error codes that the source can give, found by reading it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from support.pages import ROOT

SOURCE = ROOT / "src" / "airberg"
TOKEN = re.compile(r"[a-z]+(-[a-z]+)*")
PLACE_OF_CODE = {"Problem": 1, "one": 1, "problem_response": 1, "_reject": 0, "_Refused": 0, "_refused": -1}
"""Function → which positional argument is the code."""
TABLES_OF_CODES = {"HTTP_ERRORS", "codes"}


def codes_by_file() -> dict[str, set[str]]:
    """File (relative to the package) → the codes that it has."""
    found = {
        path.relative_to(SOURCE).as_posix(): set(_codes(ast.parse(path.read_text())))
        for path in SOURCE.rglob("*.py")
    }
    return {name: codes for name, codes in found.items() if codes}


def codes_of_requests() -> set[str]:
    """The codes of problems: what a request body can be told, field by field."""
    found: set[str] = set()
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and _name(node.func) in ("Problem", "one", "_reject", "_Refused"):
                found |= set(_positional(node))
    return found


def _codes(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield from _positional(node)
        elif isinstance(node, ast.keyword) and node.arg in ("code", "error_code"):
            yield from _tokens(node.value)
        elif isinstance(node, ast.Assign):
            targets = {t.id for t in node.targets if isinstance(t, ast.Name)}
            if "default_code" in targets:
                yield from _tokens(node.value)
            elif targets & TABLES_OF_CODES and isinstance(node.value, ast.Dict):
                for value in node.value.values:
                    yield from _tokens(value.elts[0] if isinstance(value, ast.Tuple) else value)


def _positional(call: ast.Call) -> Iterator[str]:
    place = PLACE_OF_CODE.get(_name(call.func))
    if isinstance(call.func, ast.Attribute) and call.func.attr == "get":
        place = 1 if _name(call.func.value) in TABLES_OF_CODES else None
    if place is None or len(call.args) <= place or not call.args:
        return
    yield from _tokens(call.args[place])


def _tokens(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and TOKEN.fullmatch(node.value):
        yield node.value


def _name(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
