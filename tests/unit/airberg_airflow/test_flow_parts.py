"""What a planned run's parts are to Airflow, and what its parameters are to the command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airberg.flows import planned_parts as written
from airberg.jobs.model import RunPart, RunReport
from airberg.sync.sharing import MAX_PARTS as MOST_WRITTEN
from airberg_airflow.parts import MAX_PARTS, VARIABLE, asked_arguments, read_parts


def test_both_sides_mean_the_same() -> None:
    """The variable, and how many parts there may be."""
    assert (VARIABLE, MAX_PARTS) == (written.VARIABLE, MOST_WRITTEN)
    assert MAX_PARTS < 1024


@pytest.mark.parametrize("count", [0, 1, 3, 1000])
def test_what_is_written_is_read(tmp_path: Path, count: int) -> None:
    """Numbers always; names where there are few enough."""
    parts = [RunPart(number=n, tables=(f"table_{n}",), report=RunReport()) for n in range(count)]
    file = tmp_path / "parts"
    written.write_parts(parts, {VARIABLE: str(file)})
    named = "table_{}" if count < 100 else "part {}"
    assert read_parts(file.read_bytes()) == [{"part": n, "name": named.format(n)} for n in range(count)]


@pytest.mark.parametrize(
    "said",
    [
        None,
        b"",
        b"3",
        b"[]",
        b"{",
        b"[" * 100_000,
        b'{"parts": 2}',
        b'{"parts": true, "names": []}',
        b'{"parts": -1, "names": []}',
        b'{"parts": 1001, "names": []}',
        b'{"parts": "2", "names": []}',
        b'{"parts": 2, "names": {}}',
    ],
)
def test_what_cannot_be_read_fails_the_task(said: bytes | None) -> None:
    """A run without its parts would look complete."""
    with pytest.raises(ValueError, match="airberg plan"):
        read_parts(said)


def test_names_are_for_people() -> None:
    """One that Airflow could not show is replaced, and a number does where there is none."""
    said = {"parts": 3, "names": ["a\x00\ud800b", 7, "x" * 1000]}
    names = [part["name"] for part in read_parts(json.dumps(said).encode())]
    assert names == ["a\ufffd\ufffdb", "part 1", "x" * 100]


@given(st.lists(st.text(min_size=1)), st.booleans())
def test_no_name_of_a_stream_is_an_option(streams: list[str], full_refresh: bool) -> None:
    """Each is one argument that begins as one of ours."""
    arguments = asked_arguments({"streams": streams, "full_refresh": full_refresh})
    assert arguments == [*(f"--stream={name}" for name in streams), *["--full-refresh"][: int(full_refresh)]]


def test_nothing_asked() -> None:
    """Also of a run of a flow that had no parameters yet."""
    assert asked_arguments({}) == []
    assert asked_arguments({"streams": None, "full_refresh": None}) == []
