"""Targets, and the lines that are replayed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from airberg.columns.json_schema import stream_fields
from airberg.keys.cipher import CipherShelf
from airberg.keys.memory import MemoryKeyStore
from airberg.protocol.ledger import Ledger
from airberg.protocol.messages import Record, decode
from airberg.protocol.state import StateKey
from benchmarks.conversion import plan_stream, records_by_stream, run
from benchmarks.measure import run_measured
from benchmarks.recording import SHAPES
from benchmarks.report import Target, medians, ratio
from benchmarks.shapes import Shape, block_lines

ROWS = 2_500


@pytest.mark.parametrize(
    ("target", "value", "met"),
    [
        (Target(low=0.8), 0.8, True),
        (Target(low=0.8), 0.79, False),
        (Target(high=3), 3.01, False),
        (Target(low=0.9, high=1.1), 1.0, True),
        (Target(low=0.9, high=1.1), 1.2, False),
        (Target(low=0.8), None, None),
    ],
)
def test_targets(target: Target, value: float | None, met: bool | None) -> None:
    """A limit itself is within; what was not measured is neither met nor missed."""
    assert target.judge(value)["met"] is met


def test_medians_and_ratios() -> None:
    """Numbers only; a ratio needs both sides."""
    assert medians([{"a": 1, "b": "x"}, {"a": 3, "b": "y"}, {"a": 10, "b": "z"}]) == {"a": 3}
    assert ratio(6, 4) == 1.5
    assert ratio(None, 4) is None


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_block_is_a_read_that_can_be_repeated(shape: Shape) -> None:
    """Counts in states agree with the records, streams complete, also when the block comes twice."""
    lines = list(block_lines(shape, ROWS))
    assert lines == list(block_lines(shape, ROWS))
    counted = Counter(stream for stream, _ in lines if stream is not None)
    assert counted.total() == ROWS
    assert set(counted) == {s.name for s in shape.streams}
    ledger = Ledger([StateKey(None, s.name) for s in shape.streams])
    for number, (stream, line) in enumerate([*lines, *lines], 1):
        message = decode(line, number)
        ledger.observe(message)
        assert isinstance(message, Record) == (stream is not None)
    ledger.verdict(0)
    assert {s.name: ledger.records(StateKey(None, s.name)) for s in shape.streams} == {
        name: 2 * count for name, count in counted.items()
    }


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_every_value_fits_its_column(shape: Shape) -> None:
    """Nothing becomes null: all contenders can be asked for the same values."""
    records = records_by_stream(line for _, line in block_lines(shape, 500))
    shelf = CipherShelf(MemoryKeyStore())
    for stream in shape.streams:
        _, size, nulled = run(plan_stream(stream.declared, []), records[stream.name], shelf)
        assert size > 0
        assert nulled == 0


def test_the_wide_shape_has_200_columns() -> None:
    """As it says."""
    [stream] = SHAPES["wide"].streams
    assert len(stream_fields(stream.declared["json_schema"])) == 200


def test_measuring_a_process_tree(tmp_path: Path) -> None:
    """Time, memory and children of a shell that starts something which takes 50 MB and works a while."""
    work = "b = bytearray(50_000_000); b[::4096] = b'x' * len(b[::4096]); sum(range(20_000_000))"
    measured = run_measured(
        ["/bin/sh", "-c", f'python3 -c "{work}"; echo done; exit 3'],
        log=tmp_path / "log",
        environment={"PATH": "/usr/local/bin:/usr/bin:/bin"},
        cwd=tmp_path,
    )
    assert measured.exit_code == 3
    assert measured.output.strip() == "done"
    assert measured.peak_tree_mb > 50
    assert measured.peak_process_mb < 20
    assert measured.wall_s >= 0.1
    assert measured.cpu_s > 0.1
    [child] = measured.children
    assert measured.started - 0.1 <= child <= measured.started + measured.wall_s


def test_a_process_tree_that_does_not_end_is_killed(tmp_path: Path) -> None:
    """All of it, after the time that it may take."""
    measured = run_measured(
        ["/bin/sh", "-c", "sleep 600 & sleep 600"],
        log=tmp_path / "log",
        environment={"PATH": "/usr/bin:/bin"},
        cwd=tmp_path,
        timeout_s=0.5,
    )
    assert measured.exit_code == -9
    assert measured.wall_s < 60
