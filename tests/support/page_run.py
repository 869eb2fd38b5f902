"""Runs a page: its bash and Python blocks in order, as a reader would, and compares what it prints.

A page is one bash process in a working folder of its own, where `.venv` and `.airberg` are those of the
running stack, so variables and files of one block are there in the next.
"""

from __future__ import annotations

import difflib
import os
import re
import subprocess
import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import duckdb
from duckdb_extensions import import_extension

from airberg.settings import Settings
from support.pages import Block, Page

DEFAULT_API, DEFAULT_AIRFLOW = "http://127.0.0.1:8000", "http://127.0.0.1:8080"
WITHIN_S = 240
PRELUDE = """\
set -euo pipefail
curl() { command curl --noproxy '*' --retry 10 "$@"; }  # 503: the connector is still being installed
"""
_VOLATILE = (
    (re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"), "<uuid>"),
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)?"), "<time>"),
    (re.compile(r"\b\d{15,}\b"), "<id>"),
    (re.compile(r"\b\d+(\.\d+)? s\b"), "<seconds>"),
    (re.compile(r"[━╇┃│─┬┼┴┌┐└┘├┤╋╂ \t]+"), " "),
)


@dataclass(frozen=True)
class Printed:
    """What a block printed."""

    block: Block
    text: str


class PageRun:
    """One run of a page.

    Args:
        page: The page.
        settings: Of the running stack.
        folder: An empty folder to work in.
        skip: Blocks that are not run.
    """

    def __init__(self, page: Page, settings: Settings, folder: Path, skip: Collection[Block] = ()) -> None:
        self._settings = settings
        self._folder = folder
        self._blocks = [b for b in page.blocks if b.language in ("bash", "python") and b not in skip]
        self._names = {DEFAULT_API: settings.api_url, DEFAULT_AIRFLOW: settings.airflow_url}

    def run(self) -> list[Printed]:
        """Run all blocks; the first that fails fails the test, with what it printed."""
        (self._folder / ".venv").symlink_to(sys.prefix)
        (self._folder / ".airberg").symlink_to(self._settings.home)
        script = [PRELUDE]
        for i, block in enumerate(self._blocks):
            script.append(f"exec >printed-{i} 2>&1")
            if block.language == "python":
                (self._folder / f"block-{i}.py").write_text(self._localised(block.text))
                script.append(f".venv/bin/python block-{i}.py")
            else:
                script.append(self._localised(block.text))
        done = subprocess.run(
            ["bash", "-s"],
            input="\n".join(script),
            text=True,
            cwd=self._folder,
            env=self._environment(),
            timeout=WITHIN_S,
            check=False,
        )
        printed = [Printed(b, self._text_of(i)) for i, b in enumerate(self._blocks) if self._path(i).exists()]
        assert done.returncode == 0, f"{printed[-1].block} failed:\n{printed[-1].text}"
        return printed

    def _localised(self, text: str) -> str:
        for default, here in self._names.items():
            text = text.replace(default, here)
        return text

    def _path(self, index: int) -> Path:
        return self._folder / f"printed-{index}"

    def _text_of(self, index: int) -> str:
        text = self._path(index).read_text()
        for default, here in self._names.items():
            text = text.replace(here, default)
        return text.replace(str(self._settings.home), ".airberg")

    def _environment(self) -> dict[str, str]:
        home = self._folder / "home"
        home.mkdir()
        install_extensions(home)
        kept = {k: v for k, v in os.environ.items() if k == "PATH" or k.startswith("AIRBERG_")}
        return kept | {"HOME": str(home), "LANG": "C.UTF-8", "COLUMNS": "100", "no_proxy": "127.0.0.1"}


def install_extensions(home: Path) -> None:
    """DuckDB's extensions, where `INSTALL` would put them: then it has nothing to fetch."""
    with duckdb.connect(":memory:", config={"home_directory": str(home)}) as connection:
        for name in ("avro", "iceberg"):
            import_extension(name, con=connection)


def outputs(page: Page) -> list[tuple[Block, Block]]:
    """Pairs of a block and the block right behind it that shows what it prints."""
    runnable = ("bash", "python")
    pairs = zip(page.blocks, page.blocks[1:], strict=False)
    return [(a, b) for a, b in pairs if a.language in runnable and b.language == "text"]


def not_printed(shown: str, printed: str) -> str:
    """Lines that a page shows and that were not printed in that order, with the nearest; empty when none.

    Ids, times and lines of tables are equal to any other; `...` stands for anything; more may be printed.
    """
    rest = [_plain(line) for line in printed.splitlines()]
    complaints = []
    for line in shown.splitlines():
        wanted = _plain(line)
        if not wanted.replace("...", "").strip():
            continue
        pattern = re.compile(".*".join(re.escape(part) for part in wanted.split("...")))
        at = next((i for i, candidate in enumerate(rest) if pattern.fullmatch(candidate)), None)
        if at is None:
            near = difflib.get_close_matches(wanted, rest, n=1, cutoff=0.3)
            complaints.append(f"shown:   {wanted}\nnearest: {near[0] if near else '(nothing)'}")
        else:
            del rest[: at + 1]
    return "\n".join(complaints)


def _plain(line: str) -> str:
    for pattern, mark in _VOLATILE:
        line = pattern.sub(mark, line)
    return line.strip()
