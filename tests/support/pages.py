"""The pages of the documentation: their blocks, links and headings."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from airberg.keys.dialects import Engine
from airberg.keys.export import ENGINES

ROOT = Path(__file__).resolve().parents[2]
READ_ENCRYPTED = "docs/how-to/read-encrypted-columns.md"
"""The page whose SQL is for other engines, each under a heading with its name."""
_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>[a-z]*)\s*$")
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"`[^`]*`")


@dataclass(frozen=True)
class Block:
    """A fenced block; `line` is that of its first line of text, `heading` the one that it is under."""

    page: str
    line: int
    language: str
    text: str
    heading: str = ""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


@dataclass(frozen=True)
class Page:
    """A page; `name` is its path in the repository."""

    name: str

    @property
    def path(self) -> Path:
        """Where it is."""
        return ROOT / self.name

    @cached_property
    def text(self) -> str:
        """All of it."""
        return self.path.read_text()

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """Its fenced blocks, in order."""
        return tuple(block for block, _ in self._split() if block is not None)

    @cached_property
    def prose(self) -> str:
        """Its text outside of fenced blocks."""
        return "\n".join(line for block, line in self._split() if block is None)

    @cached_property
    def links(self) -> tuple[str, ...]:
        """Targets of its links."""
        return tuple(_LINK.findall(_CODE.sub("``", self.prose)))

    @cached_property
    def anchors(self) -> frozenset[str]:
        """What `#...` may name in it."""
        return frozenset(_anchor(line) for line in self.prose.splitlines() if re.match(r"#+ ", line))

    def json_block(self, containing: str) -> Any:
        """The value of the one JSON block that contains a text."""
        [block] = [b for b in self.blocks if b.language == "json" and containing in b.text]
        return json.loads(block.text)

    def table(self, heading: str) -> list[list[str]]:
        """Cells of the first table under a heading, without its head."""
        lines = iter(self.prose.splitlines())
        for line in lines:
            if re.match(r"#+ ", line) and line.lstrip("# ") == heading:
                break
        else:
            raise AssertionError(f"{self.name} has no heading {heading!r}")
        rows: list[list[str]] = []
        for line in lines:
            if line.startswith("|"):
                rows.append([c.strip().replace("\\|", "|") for c in re.split(r"(?<!\\)\|", line)[1:-1]])
            elif rows or line.startswith("#"):
                break
        return rows[2:]

    def _split(self) -> Iterator[tuple[Block | None, str]]:
        opened: tuple[int, str, str] | None = None
        inside: list[str] = []
        heading = ""
        for number, line in enumerate(self.text.splitlines(), 1):
            fence = _FENCE.match(line)
            if opened is None and fence:
                opened, inside = (number + 1, fence["language"], fence["indent"]), []
            elif opened is not None and line == f"{opened[2]}```":
                text = "".join(f"{x}\n" for x in inside)
                yield Block(self.name, opened[0], opened[1], text, heading), ""
                opened = None
            elif opened is not None:
                inside.append(line.removeprefix(opened[2]))
            else:
                heading = line.lstrip("# ") if re.match(r"#+ ", line) else heading
                yield None, line
        assert opened is None, f"{self.name}: a block is not closed"


def pages() -> list[Page]:
    """Every page that people read, in a fixed order."""
    found = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    return [Page(p.relative_to(ROOT).as_posix()) for p in sorted(found)]


def blocks(*languages: str) -> list[Block]:
    """Blocks of these languages on all pages."""
    return [b for page in pages() for b in page.blocks if b.language in languages]


def engine_of(block: Block) -> Engine | None:
    """The engine that a block of SQL is for; None when any would do, or when it is no SQL."""
    if block.page != READ_ENCRYPTED or block.language != "sql":
        return None
    return next(engine for engine in ENGINES if engine == block.heading.lower())


def _anchor(heading: str) -> str:
    """As GitHub makes them: lower case, without punctuation, hyphens for spaces."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading.lstrip("#").strip()).lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
