"""Writes the snapshot of connectors that is inside the package: `src/airberg/sources/registry.json`.

`python scripts/write_registry.py PACKAGES.tsv --date 2026-11-27 [--tested source-faker=7.2.1 ...]`

PACKAGES.tsv lists packages of the index: name and version, then columns that are not read but for the last, a
summary. No index is asked, so that no name is looked up that nobody uses. A package becomes an entry, which
can be installed, only when it is one already or its name is in `airbyte_sources.tsv`. Anybody can publish a
package of such a name; the others are kept as `listed`, by name and version alone, so that asking for one is
told what it would be and how to declare it. Entries keep what was found out about them before (interpreters,
overrides, version).

`airbyte_sources.tsv` has, of sources in Airbyte's own list of definitions: name, category, title, and which
interpreters its `pyproject.toml` in Airbyte's public repository allows, and in which release of it. Both are
empty where neither that nor the package says anything. `airbyte_images.tsv` has sources of Airbyte that are
no packages, and their language, from their `metadata.yaml` there.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
SNAPSHOT = ROOT / "src" / "airberg" / "sources" / "registry.json"
OF_AIRBYTE = Path(__file__).with_name("airbyte_sources.tsv")
IMAGES = Path(__file__).with_name("airbyte_images.tsv")
DOCS = "https://docs.airbyte.com/integrations/sources/"
PREFIX = "airbyte-"
NAME = re.compile(r"source-[a-z0-9]+(-[a-z0-9]+)*")
RELEASE = re.compile(r"\d+(\.\d+)*")
UNKNOWN_PYTHON = ">=3.10,<3.12"
"""`airberg.sources.entry.UNKNOWN_PYTHON`."""
ABOUT = (
    "Python connectors of Airbyte on the package index. `tested`: this version was seen to install. "
    "`python_from`: where `python` is from, if not from this version's own metadata. "
    "`listed`: packages of such names that nobody has confirmed; only a declaration makes one installable. "
    "`images`: sources of Airbyte that are no packages, and what they are written in."
)


class Definition(NamedTuple):
    """A source in Airbyte's list of definitions."""

    category: str
    title: str
    python: str
    release: str

    def python_of(self, version: str) -> dict[str, str]:
        """What is known about the interpreters of a version."""
        if not self.python:
            return {"python": UNKNOWN_PYTHON, "python_from": "assumed"}
        if self.release == version:
            return {"python": self.python}
        return {"python": self.python, "python_from": "other-release"}


def packages(file: Path) -> dict[str, tuple[str, str]]:
    """Source → version and summary, of the packages that are named like a connector."""
    found = {}
    for line in file.read_text("utf-8").splitlines()[1:]:
        name, version, *rest = line.split("\t")
        source = name.removeprefix(PREFIX)
        if name.startswith(PREFIX) and NAME.fullmatch(source) and RELEASE.fullmatch(version):
            found[source] = (version, rest[-1] if rest else "")
    return found


def rows(file: Path) -> list[list[str]]:
    """The fields of each line."""
    return [line.split("\t") for line in file.read_text("utf-8").splitlines()]


def snapshot(before: dict[str, Any], listed: Path, date: str, tested: dict[str, str]) -> dict[str, Any]:
    """The new snapshot."""
    there = packages(listed)
    entries = {entry["name"]: dict(entry) for entry in before["connectors"]}
    for name, *fields in rows(OF_AIRBYTE):
        definition = Definition(*fields)
        if name in there and name not in entries:
            entries[name] = {"name": name, "package": PREFIX + name, "version": there[name][0]}
            entries[name] |= {"title": definition.title, "category": definition.category}
        if name in entries:
            entries[name].pop("python_from", None)
            entries[name] |= definition.python_of(entries[name]["version"])
    for name, entry in entries.items():
        entry["language"] = "python"
        if name in there and there[name][1] and "<" not in there[name][1]:
            entry["description"] = " ".join(there[name][1].split())
        entry["docs"] = DOCS + name.removeprefix("source-")
        entry.pop("tested", None)
        if tested.get(name) == entry["version"]:
            entry["tested"] = True
    rest = {name: version for name, (version, _) in sorted(there.items()) if name not in entries}
    connectors = [entries[name] for name in sorted(entries)]
    images = {name: language for name, language in rows(IMAGES) if name not in entries}
    return {"about": ABOUT, "snapshot": date, "connectors": connectors, "listed": rest, "images": images}


def text(content: dict[str, Any]) -> str:
    """A line an entry, so that differences can be read."""
    lines = [f"  {json.dumps(entry, ensure_ascii=False)}" for entry in content["connectors"]]
    listed, images = (
        ",\n".join(f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in content[key].items())
        for key in ("listed", "images")
    )
    return (
        "{\n"
        + "".join(f" {json.dumps(key)}: {json.dumps(content[key])},\n" for key in ("about", "snapshot"))
        + ' "connectors": [\n'
        + ",\n".join(lines)
        + f'\n ],\n "listed": {{\n{listed}\n }},\n "images": {{\n{images}\n }}\n}}\n'
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("packages", type=Path)
    parser.add_argument("--date", required=True)
    parser.add_argument("--tested", nargs="*", default=[], metavar="NAME=VERSION")
    asked = parser.parse_args()
    seen = dict(pair.split("=") for pair in asked.tested)
    SNAPSHOT.write_text(text(snapshot(json.loads(SNAPSHOT.read_text()), asked.packages, asked.date, seen)))
