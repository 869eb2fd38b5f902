"""House rules that no linter knows, checked by reading the tree. Exit code 1 with a line per breach.

Run as `python scripts/house_rules.py` (part of `make lint`).
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODULE_LINES = 500
FUNCTION_LINES = 70
IGNORES_PER_1000 = 2.0
EMPTY_NAMES = re.compile(r"(^|_)(utils?|helpers?|managers?|common|misc)(_|\.|$)")
LINE_RULES = {
    "a package index or its host": re.compile(r"(?i)(extra-)?index-url\s*=|https?://[^\s\"']*(pypi|npmjs)\."),
    "a path of one machine": re.compile(r"/(root|home/[a-z]+|Users/[A-Za-z]+|work)/"),
    "unfinished work": re.compile(r"\b(TODO|FIXME|XXX)\b"),
    "a mock": re.compile(r"unittest\.mock|MagicMock|mocker\."),
}
LIGHT = ("airberg.api", "airberg.jobs", "airberg.identity", "airberg.flows", "airberg.keys")
ARROW_IN_LIGHT = ("airberg.keys.arrays",)  # for the sync and for readers; no HTTP process loads it
TESTING = "airberg.testing"
HEAVY = (
    *("pyarrow", "pyiceberg", "duckdb", "datahub", "airbyte"),
    *(
        "boto3",
        "botocore",
        "hvac",
        "google",
        "google_crc32c",
        "pkcs11",
        "requests",
        "urllib3",
    ),  # key services
)


def tracked(pattern: str) -> list[Path]:
    """Files that git tracks (or would: not ignored) and that match a glob."""
    out = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", pattern], cwd=ROOT, check=True, capture_output=True
    )
    return [ROOT / p for p in out.stdout.decode().split() if (ROOT / p).exists()]


def size_rules(path: Path, text: str, tree: ast.Module) -> Iterator[str]:
    """Modules and functions stay small; names say something."""
    lines = text.count("\n")
    if lines > MODULE_LINES:
        yield f"{lines} lines, over {MODULE_LINES}"
    if EMPTY_NAMES.search(path.stem):
        yield "a name that says nothing"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES:
                yield f"{node.name} has {length} lines, over {FUNCTION_LINES}"


def import_rules(path: Path, tree: ast.Module) -> Iterator[str]:
    """What the HTTP process imports must not import heavy libraries at module level."""
    module = ".".join(path.relative_to(ROOT / "src").with_suffix("").parts)
    if not module.startswith(LIGHT) or module in ARROW_IN_LIGHT:
        return
    for node in tree.body:
        names = []
        if isinstance(node, ast.Import):
            names = [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        for name in names:
            if name.split(".")[0] in HEAVY:
                yield f"imports {name} at module level"


def testing_rules(path: Path, tree: ast.Module) -> Iterator[str]:
    """What is shipped for tests of others is used by nothing of ours."""
    if "testing" in path.relative_to(ROOT / "src").parts:
        return
    for node in ast.walk(tree):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
        yield from (f"imports {name}, which is for tests" for name in names if name.startswith(TESTING))


def line_rules(text: str) -> Iterator[str]:
    """Things that must not be in any file."""
    for number, line in enumerate(text.splitlines(), 1):
        for what, rule in LINE_RULES.items():
            if rule.search(line):
                yield f"line {number}: {what}"


def main() -> int:
    """Check the tree."""
    breaches: list[str] = []
    lines = ignores = 0
    for path in tracked("*.py"):
        text = path.read_text()
        name = str(path.relative_to(ROOT))
        tree = ast.parse(text)
        found = list(size_rules(path, text, tree))
        if path != Path(__file__).resolve():
            found += line_rules(text)
        if name.startswith("src/"):
            found += [*import_rules(path, tree), *testing_rules(path, tree)]
            lines += text.count("\n")
            ignores += len(re.findall(r"# type: ignore", text))
        breaches += [f"{name}: {what}" for what in found]
    for path in [*tracked("*.md"), *tracked("*.toml"), *tracked("requirements/*"), *tracked("Makefile")]:
        breaches += [f"{path.relative_to(ROOT)}: {what}" for what in line_rules(path.read_text())]
    if lines and ignores * 1000 / lines > IGNORES_PER_1000:
        breaches.append(f"src: {ignores} `type: ignore` in {lines} lines, over {IGNORES_PER_1000} per 1000")
    for breach in breaches:
        print(breach)
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main())
