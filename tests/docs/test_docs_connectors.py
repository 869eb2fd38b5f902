"""The page of connectors names the versions that are run, and each of them is run."""

from __future__ import annotations

from pathlib import Path

from airberg.settings import Settings
from airberg.sources.registry import load_registry
from support.pages import ROOT, Page

PAGE = Page("docs/reference/connectors.md")


def test_versions_are_those_of_the_list(tmp_path: Path) -> None:
    """What a job gets today is what the tests ran; the example is no part of the list."""
    rows = {row[0].strip("` "): row for row in PAGE.table("Connectors that were run")}
    known = load_registry(Settings(home=tmp_path))
    listed = {name for name in rows if name != "source-postgres-lite"}
    assert {name: rows[name][1].strip() for name in listed} == {
        name: known.find(name).version for name in listed
    }
    heavy = {name for name, row in rows.items() if "test-connectors" in row[5]}
    tests = "".join(p.read_text() for p in (ROOT / "tests" / "connectors").glob("test_*.py"))
    assert heavy == {name for name in rows if f'deploy("{name}")' in tests}
