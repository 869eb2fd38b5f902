"""Flow files: names stay data, shards come and go, the copy outlives the API."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airberg_airflow.flow_files import (
    DOCTOR_FILE,
    MAX_TOUCHED,
    SENTINEL_FILE,
    UPKEEP_FILE,
    FeedError,
    FlowFiles,
    flow_file,
    shard_files,
)
from support.flow_feed import FlowFeed
from support.free_ports import free_ports

TOKEN = "machine-token-of-the-test"
IMPORT = "from airberg_airflow.dags import build_all\n"


@pytest.fixture
def feed() -> Iterator[FlowFeed]:
    """A feed that answers."""
    opened = FlowFeed(free_ports(1)[0], TOKEN)
    opened.open()
    yield opened
    opened.close()


def entry(number: int, shard: int = 0, **changes: Any) -> dict[str, Any]:
    """An entry of the feed."""
    return {"flow_id": f"airberg_{number}", "job_id": str(number), "shard": shard, "name": "a job"} | changes


def built(text: str) -> list[tuple[Any, bool]]:
    """What a flow file hands to `build_all` when it is run."""
    calls: list[tuple[Any, bool]] = []

    def build_all(specs: str, sentinel: bool) -> dict[str, Any]:
        calls.append((json.loads(specs), sentinel))
        return {}

    assert IMPORT in text
    exec(text.replace(IMPORT, ""), {"build_all": build_all})  # noqa: S102 - it is what Airflow does
    return calls


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=60) | st.text("'\"\\{}#\n\r\0\u2028\ud800()%", max_size=30))
def test_a_name_is_data_whatever_it_is(name: str) -> None:
    """A flow file is ASCII, is one call, and hands over the very name; Airflow's safe mode accepts it."""
    text = flow_file([entry(1, name=name, tags=[name])])
    assert text.isascii()
    assert built(text) == [([entry(1, name=name, tags=[name])], False)]
    assert "airflow" in text
    assert "dag" in text


def test_shards_hold_their_flows_in_order() -> None:
    """Each shard is a file; within it flows are sorted, so that order in the feed changes nothing."""
    files = shard_files([entry(3, 1), entry(2, 0), entry(1, 1)])
    assert sorted(files) == ["airberg_00000.py", "airberg_00001.py", SENTINEL_FILE]
    assert [s["flow_id"] for s in built(files["airberg_00001.py"])[0][0]] == ["airberg_1", "airberg_3"]
    assert built(files[SENTINEL_FILE]) == [([], True)]
    assert files == shard_files([entry(1, 1), entry(3, 1), entry(2, 0)])


def test_upkeep_has_a_file_of_its_own() -> None:
    """The flow of upkeep is in no shard, whatever its entry says of one; its file never changes."""
    upkeep = {"flow_id": "airberg_upkeep", "kind": "upkeep", "schedule": "30 3 * * *"}
    files = shard_files([entry(1), upkeep])
    assert sorted(files) == ["airberg_00000.py", SENTINEL_FILE, UPKEEP_FILE]
    assert built(files[UPKEEP_FILE]) == [([upkeep], False)]
    assert files[UPKEEP_FILE] == shard_files([upkeep, entry(2, 5)])[UPKEEP_FILE]
    assert sorted(shard_files([upkeep | {"shard": 3}])) == [SENTINEL_FILE, UPKEEP_FILE]


def test_the_doctor_has_a_file_of_its_own() -> None:
    """As upkeep has."""
    doctor = {"flow_id": "airberg_doctor", "kind": "doctor"}
    files = shard_files([entry(1), doctor])
    assert sorted(files) == ["airberg_00000.py", DOCTOR_FILE, SENTINEL_FILE]
    assert built(files[DOCTOR_FILE]) == [([doctor], False)]


def test_upkeep_that_is_switched_off_has_no_file(feed: FlowFeed, tmp_path: Path) -> None:
    """When the feed does not have it any more, its file goes, and jobs' files stay."""
    feed.offer_raw({"1": entry(1), "upkeep": {"flow_id": "airberg_upkeep", "kind": "upkeep"}})
    files = FlowFiles(tmp_path, feed.url, TOKEN)
    files.pull()
    assert (tmp_path / UPKEEP_FILE).exists()
    feed.remove("upkeep")
    files.pull()
    assert {p.name for p in tmp_path.glob("*.py")} == {"airberg_00000.py", SENTINEL_FILE}


@pytest.mark.parametrize(
    "junk",
    [
        {"kind": "upkeep"},
        {"kind": "upkeep", "flow_id": 7},
        {"kind": "x", "flow_id": "y"},
        None,
        7,
        "text",
        [],
        {},
        entry(1, "../../x"),
        entry(1, -1),
        entry(1, True),
        {"shard": 1},
    ],
)
def test_junk_is_left_out(junk: object) -> None:
    """An entry that is no flow is left out; a shard can never name another file."""
    assert sorted(shard_files([junk, entry(2)])) == ["airberg_00000.py", SENTINEL_FILE]


def test_files_follow_the_feed(feed: FlowFeed, tmp_path: Path) -> None:
    """New shards appear, changed ones change, vanished ones go, unchanged and foreign files are untouched."""
    files = FlowFiles(tmp_path, feed.url, TOKEN)
    (tmp_path / "own.py").write_text("# somebody else's")
    feed.offer_raw({"1": entry(1, 0), "2": entry(2, 1)})
    assert files.pull() is True
    untouched = (tmp_path / "airberg_00000.py").stat().st_mtime_ns
    feed.offer_raw({"2": entry(2, 2)})
    assert files.pull() is True
    names = {p.name for p in tmp_path.glob("*.py")}
    assert names == {"airberg_00000.py", "airberg_00002.py", SENTINEL_FILE, "own.py"}
    assert (tmp_path / "airberg_00000.py").stat().st_mtime_ns == untouched


def test_an_unchanged_feed_costs_a_304(feed: FlowFeed, tmp_path: Path) -> None:
    """The second pull sends the ETag; a lost file makes it ask for everything again."""
    files = FlowFiles(tmp_path, feed.url, TOKEN)
    assert [files.pull(), files.pull(), FlowFiles(tmp_path, feed.url, TOKEN).pull()] == [True, False, False]
    (tmp_path / SENTINEL_FILE).unlink()
    assert files.pull() is True
    assert feed.answers == [200, 304, 304, 200]


def test_files_written_a_moment_ago_are_touched(tmp_path: Path) -> None:
    """Airflow may have missed them; not those of right now, nor those of before, nor very many."""
    files = FlowFiles(tmp_path, "http://127.0.0.1:1", "t")
    files.write([entry(number, shard=number) for number in range(3)])
    now = time.time()
    ages = {"airberg_00000.py": 0, "airberg_00001.py": 5, "airberg_00002.py": 90, "airberg_sentinel.py": 5}
    for name, age in ages.items():
        os.utime(tmp_path / name, (now - age, now - age))
    before = {name: (tmp_path / name).stat().st_mtime for name in ages}
    files.touch_fresh()
    touched = {name for name, at in before.items() if (tmp_path / name).stat().st_mtime != at}
    assert touched == {"airberg_00001.py"}

    files.write([entry(number, shard=number) for number in range(MAX_TOUCHED + 1)])
    for path in tmp_path.glob("airberg_0*.py"):
        os.utime(path, (now - 5, now - 5))
    files.touch_fresh()
    assert {int(path.stat().st_mtime) for path in tmp_path.glob("airberg_0*.py")} == {int(now - 5)}


def test_a_copy_of_another_layout_is_written_again(feed: FlowFeed, tmp_path: Path) -> None:
    """After an upgrade that changes the files' form, the old ETag is not used."""
    files = FlowFiles(tmp_path, feed.url, TOKEN)
    files.pull()
    (tmp_path / ".etag").write_text('{"layout": 0, "etag": "\\"0\\""}')
    assert files.pull() is True
    (tmp_path / ".etag").write_text("garbage")
    assert files.pull() is True


@pytest.mark.parametrize("how", ["away", "refused", "redirected"])
def test_the_copy_stays_when_the_api_does_not_answer(feed: FlowFeed, tmp_path: Path, how: str) -> None:
    """No answer, a refused token or a redirect changes no file, and says so without the token."""
    feed.offer_raw({"1": entry(1)})
    FlowFiles(tmp_path, feed.url, TOKEN).pull()
    before = {p.name: p.read_text() for p in tmp_path.iterdir()}
    feed.remove("1")
    files = FlowFiles(tmp_path, feed.url, "wrong-token" if how == "refused" else TOKEN)
    if how == "away":
        feed.close()
    if how == "redirected":
        feed.redirect = feed.url + "/elsewhere"
    with pytest.raises(FeedError) as caught:
        files.pull()
    assert "token" not in str(caught.value)
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == before
    assert files.present


def test_the_token_does_not_follow_a_redirect(feed: FlowFeed, tmp_path: Path) -> None:
    """The machine token goes to the configured address only."""
    other = FlowFeed(free_ports(1)[0], TOKEN)
    other.open()
    try:
        feed.redirect = other.url + "/internal/airflow/flows"
        with pytest.raises(FeedError):
            FlowFiles(tmp_path, feed.url, TOKEN).pull()
        assert other.authorizations == []
    finally:
        other.close()


def test_a_proxy_of_the_environment_is_not_used_for_loopback(
    feed: FlowFeed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The feed on this machine is reached although a proxy is configured."""
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_ports(1)[0]}")
    assert FlowFiles(tmp_path, feed.url, TOKEN).pull() is True


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    """While shards are rewritten, whoever reads a file finds a whole one."""
    files = FlowFiles(tmp_path, "http://127.0.0.1:1", TOKEN)
    files.write([entry(n) for n in range(50)])
    stop = threading.Event()

    def rewrite() -> None:
        rounds = 0
        while not stop.is_set():
            rounds += 1
            files.write([entry(n, name="x" * (rounds % 7) * 100) for n in range(50)])

    writer = threading.Thread(target=rewrite)
    writer.start()
    try:
        for _ in range(200):
            ((specs, _),) = built((tmp_path / "airberg_00000.py").read_text())
            assert len(specs) == 50
    finally:
        stop.set()
        writer.join()


@pytest.mark.parametrize("url", ["file:///etc", "ftp://host", "127.0.0.1:8000"])
def test_only_http(tmp_path: Path, url: str) -> None:
    """An address of another kind is refused before anything is read."""
    with pytest.raises(ValueError, match="http"):
        FlowFiles(tmp_path, url, TOKEN)
