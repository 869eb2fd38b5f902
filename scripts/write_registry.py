"""Writes the snapshot of connectors that is inside the package: `src/airberg/sources/registry.json`.

`python scripts/write_registry.py PACKAGES.tsv --date 2026-11-27 [--tested source-faker=7.2.1 ...]`

PACKAGES.tsv lists packages of the index: name and version, then columns that are not read but for the last, a
summary. No index is asked, so that no name is looked up that nobody uses. A package becomes an entry, which
can be installed, only when it is one already or its name is in `airbyte_sources.tsv`: the sources that
Airbyte's own list of definitions has, with category and title. Anybody can publish a package of such a name;
the others are kept as `listed`, by name and version alone, so that asking for one is told what it would be
and how to declare it. Entries keep what was found out about them before (interpreters, overrides, version).
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SNAPSHOT = ROOT / "src" / "airberg" / "sources" / "registry.json"
OF_AIRBYTE = Path(__file__).with_name("airbyte_sources.tsv")
DOCS = "https://docs.airbyte.com/integrations/sources/"
PREFIX = "airbyte-"
NAME = re.compile(r"source-[a-z0-9]+(-[a-z0-9]+)*")
RELEASE = re.compile(r"\d+(\.\d+)*")
UNKNOWN_PYTHON = ">=3.10,<3.12"
"""Of packages that nobody resolved: what most connectors of their age run on."""
ABOUT = (
    "Python connectors of Airbyte on the package index. `tested`: this version was seen to install. "
    "`listed`: packages of such names that nobody has confirmed; only a declaration makes one installable."
)


def packages(file: Path) -> dict[str, tuple[str, str]]:
    """Source → version and summary, of the packages that are named like a connector."""
    found = {}
    for line in file.read_text("utf-8").splitlines()[1:]:
        name, version, *rest = line.split("\t")
        source = name.removeprefix(PREFIX)
        if name.startswith(PREFIX) and NAME.fullmatch(source) and RELEASE.fullmatch(version):
            found[source] = (version, rest[-1] if rest else "")
    return found


def confirmed() -> dict[str, tuple[str, str]]:
    """Source → category and title, of those that Airbyte's list of definitions has."""
    rows = (line.split("\t") for line in OF_AIRBYTE.read_text("utf-8").splitlines())
    return {name: (category, title) for name, category, title in rows}


def snapshot(before: dict[str, Any], listed: Path, date: str, tested: dict[str, str]) -> dict[str, Any]:
    """The new snapshot."""
    there = packages(listed)
    entries = {entry["name"]: dict(entry) for entry in before["connectors"]}
    for name, (category, title) in confirmed().items():
        if name in there and name not in entries:
            version = there[name][0]
            entries[name] = {"name": name, "package": PREFIX + name, "version": version}
            entries[name] |= {"python": UNKNOWN_PYTHON, "title": title, "category": category}
    for name, entry in entries.items():
        if name in there and there[name][1] and "<" not in there[name][1]:
            entry["description"] = " ".join(there[name][1].split())
        entry["docs"] = DOCS + name.removeprefix("source-")
        entry.pop("tested", None)
        if tested.get(name) == entry["version"]:
            entry["tested"] = True
    rest = {name: version for name, (version, _) in sorted(there.items()) if name not in entries}
    connectors = [entries[name] for name in sorted(entries)]
    return {"about": ABOUT, "snapshot": date, "connectors": connectors, "listed": rest}


def text(content: dict[str, Any]) -> str:
    """A line an entry, so that differences can be read."""
    lines = [f"  {json.dumps(entry, ensure_ascii=False)}" for entry in content["connectors"]]
    listed = [f"  {json.dumps(name)}: {json.dumps(version)}" for name, version in content["listed"].items()]
    return (
        "{\n"
        + "".join(f" {json.dumps(key)}: {json.dumps(content[key])},\n" for key in ("about", "snapshot"))
        + ' "connectors": [\n'
        + ",\n".join(lines)
        + '\n ],\n "listed": {\n'
        + ",\n".join(listed)
        + "\n }\n}\n"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("packages", type=Path)
    parser.add_argument("--date", required=True)
    parser.add_argument("--tested", nargs="*", default=[], metavar="NAME=VERSION")
    asked = parser.parse_args()
    seen = dict(pair.split("=") for pair in asked.tested)
    SNAPSHOT.write_text(text(snapshot(json.loads(SNAPSHOT.read_text()), asked.packages, asked.date, seen)))
