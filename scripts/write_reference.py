"""Writes the reference pages that come from code: settings, command line, the HTTP API.

`python scripts/write_reference.py` writes them; `tests/docs/test_docs_reference.py` fails when they differ
from what this would write.
"""

from __future__ import annotations

import json
import sys
import tempfile
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import typer.main
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from airberg.api.app import AppParts, create_app
from airberg.cli.app import app as cli
from airberg.flows.memory import MemoryOrchestrator
from airberg.identity.verifier import build_verifier
from airberg.jobs.memory import MemoryJobStore
from airberg.plan.child import ChildPlanner
from airberg.settings import Settings

sys.path.insert(0, str(Path(__file__).resolve().parent))
from api_page import api_page

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "docs" / "reference"
NOTE = "<!-- Written by scripts/write_reference.py from the code. Change it there. -->\n"

SETTINGS_HEAD = """# Settings

Every setting is an environment variable. Groups are joined with two underscores: `api.port` is
`AIRBERG_API__PORT`. Lists and objects are written as JSON. A wrong value, or a name that a group does not
have, stops the start with the variable's name; values are never shown.

HOME stands for the folder that `AIRBERG_HOME` names.

These variables are not settings:

| variable | read by | meaning |
|---|---|---|
| `AIRBERG_ENV_FILE` | Airberg | a file with settings, one `NAME=value` a line; the environment wins |
| `AIRBERG_SECRET_...` | Airberg | [secrets](../how-to/secret-references.md) that configurations may name |
| `AIRBERG_BIN` | Airflow's workers | the command `airberg`, default found on `PATH` |
| `PYICEBERG_HOME`, `PYICEBERG_CATALOG__...` | pyiceberg | [catalogs](../how-to/own-catalog.md) |
"""

CLI_HEAD = """# Command line

`airberg` reads the [settings](settings.md) from the environment. Errors end with a last line `error: ...` and
exit code 1, or that of [a run](errors.md#how-a-run-ends).
"""


# ---- settings --------------------------------------------------------------------------------------------


def settings_page() -> str:
    """All settings, a table a group."""
    own = {n: f for n, f in Settings.model_fields.items() if not _is_group(f)}
    parts = [NOTE, SETTINGS_HEAD, "## Deployment\n", _settings_table("AIRBERG_", own)]
    for name, field in Settings.model_fields.items():
        if _is_group(field):
            group: type[BaseModel] = field.annotation  # type: ignore[assignment]  # _is_group has looked
            text = "\n".join(line.strip() for line in (group.__doc__ or "").strip().splitlines())
            table = _settings_table(f"AIRBERG_{name.upper()}__", group.model_fields)
            parts += [f"## `{name}`\n", f"{text}\n", table]
    return "\n".join(parts)


def _is_group(field: FieldInfo) -> bool:
    return isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)


def _settings_table(prefix: str, fields: dict[str, FieldInfo]) -> str:
    rows = ["| variable | value | default | meaning |", "|---|---|---|---|"]
    for name, field in fields.items():
        if not field.description:
            raise ValueError(f"the setting {prefix}{name.upper()} has no description")
        kind = _type_words(field.annotation)
        rows.append(f"| `{prefix}{name.upper()}` | {kind} | {_default(field)} | {_cell(field.description)} |")
    return "\n".join(rows) + "\n"


def _type_words(annotation: Any) -> str:  # noqa: ANN401 - any annotation
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return ", ".join(f"`{a}`" for a in args)
    if origin in (Union, types.UnionType):
        return _type_words(next(a for a in args if a is not type(None)))
    if origin in (tuple, frozenset):
        return "JSON list"
    if origin is dict:
        return "JSON object"
    if origin is not None:  # Annotated
        return _type_words(args[0])
    words = {int: "integer", float: "number", str: "text", bool: "`true`, `false`", Path: "path"}
    return "text, secret" if annotation is SecretStr else words[annotation]


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if value is None or value is PydanticUndefined:
        return ""
    if isinstance(value, tuple | frozenset):
        return f"`{json.dumps(sorted(value) if isinstance(value, frozenset) else list(value))}`"
    if isinstance(value, bool | dict):
        return f"`{json.dumps(value)}`"
    return f"`{value}`"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


# ---- command line ----------------------------------------------------------------------------------------


def cli_page() -> str:
    """All commands with their arguments and options."""
    parts = [NOTE, CLI_HEAD]
    for path, command in _commands(typer.main.get_command(cli), "airberg"):
        usage = [path]
        rows = []
        for parameter in command.params:
            if getattr(parameter, "hidden", False) or parameter.name == "help":
                continue
            word, row = _parameter(parameter)
            usage += [word] if word else []
            rows.append(row)
        parts += [f"## `{path}`\n", f"{command.help}\n", f"```text\n{' '.join(usage)}\n```\n"]
        if rows:
            parts.append("\n".join(["| argument | meaning | default |", "|---|---|---|", *rows]) + "\n")
    return "\n".join(parts)


def _commands(command: Any, path: str) -> Iterator[tuple[str, Any]]:  # noqa: ANN401 - typer has click's classes
    children = getattr(command, "commands", None)
    if children is None:
        if not command.hidden:
            yield path, command
        return
    for name, child in children.items():
        yield from _commands(child, f"{path} {name}")


def _parameter(parameter: Any) -> tuple[str, str]:  # noqa: ANN401
    """The word of the usage line (empty for what may be left out) and the row of the table."""
    if parameter.param_type_name == "argument":
        name = parameter.name.upper()
        word = name if parameter.required else f"[{name}]..."
    else:
        flag = parameter.is_flag
        name = ", ".join([*parameter.opts, *parameter.secondary_opts]) + ("" if flag else " VALUE")
        word = f"{parameter.opts[0]} VALUE" if parameter.required else ""
    default = "required" if parameter.required else _shown_default(parameter)
    return word, f"| `{name}` | {_cell(getattr(parameter, 'help', '') or '')} | {default} |"


def _shown_default(parameter: Any) -> str:  # noqa: ANN401
    if getattr(parameter, "is_flag", False):
        return "no" if parameter.default is False else "yes"
    return f"`{parameter.default}`" if isinstance(parameter.default, str | int) else ""


# ---- OpenAPI ---------------------------------------------------------------------------------------------


def openapi_document() -> dict[str, Any]:
    """The OpenAPI document that the service shows at /openapi.json."""
    with tempfile.TemporaryDirectory() as home:
        settings = Settings(home=Path(home))
        app = create_app(
            AppParts(
                settings=settings,
                store=MemoryJobStore(),
                planner=ChildPlanner(settings),
                orchestrator=MemoryOrchestrator(),
                directory=None,
                verifier=build_verifier(settings),
                machine_token="",
            )
        )
        return app.openapi()


def pages() -> dict[Path, str]:
    """File → what it has to hold."""
    document = openapi_document()
    return {
        REFERENCE / "settings.md": settings_page(),
        REFERENCE / "cli.md": cli_page(),
        REFERENCE / "openapi.json": json.dumps(document, indent=2, ensure_ascii=False) + "\n",
        REFERENCE / "api.md": api_page(document, NOTE),
    }


if __name__ == "__main__":
    for file, text in pages().items():
        if not file.exists() or file.read_text() != text:
            file.write_text(text)
            print(f"written: {file.relative_to(ROOT)}")
