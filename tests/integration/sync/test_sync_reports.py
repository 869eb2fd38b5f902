"""What a run tells of itself: states, times, attempts, and its log in the job store."""

from __future__ import annotations

import dataclasses
import logging
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from airberg.api.run_views import RunView, run_view
from airberg.errors import RunError, TransientFailed
from airberg.jobs.model import Job, Run, RunStatus
from airberg.settings import SyncSettings
from airberg.sync.run import run_sync
from support.deployment import Deployment, write_scenario

FLOW = "http://127.0.0.1:8080/dags/x"
STAMP = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} ")


@pytest.fixture
def deployment(tmp_path: Path, pyairbyte_dir: Path, connectors_dir: Path) -> Deployment:
    """A deployment that makes a checkpoint at every state."""
    return Deployment(tmp_path / "home", pyairbyte_dir, connectors_dir, SyncSettings(checkpoint_seconds=0.0))


def orders(count: int, **members: Any) -> dict[str, Any]:
    """A stream of numbered orders with a cursor and a primary key."""
    return {
        "name": "orders",
        "cursor": "id",
        "primary_key": [["id"]],
        "state_every": 10,
        "generate": {"count": count, "from": 1, "fields": {"id": "$i", "item": "item $i"}},
    } | members


def logged(message: str) -> dict[str, Any]:
    """A step of the source: it logs something."""
    return {"emit": {"type": "LOG", "log": {"level": "INFO", "message": message}}}


def view(run: Run) -> RunView:
    """The run as the API shows it, through JSON."""
    return RunView.model_validate_json(run_view(run, FLOW).model_dump_json())


def stored(deployment: Deployment, job: Job, flow_run_id: str = "run-1") -> Run:
    """The run as the job store has it."""
    run = deployment.store.find_run(job.id, flow_run_id)
    assert run is not None
    return run


def test_from_which_state_to_which(deployment: Deployment, tmp_path: Path) -> None:
    """A run begins where the one before ended; the difference is told by member."""
    copied = {"name": "copied", "records": [{"n": 1}]}
    job = deployment.job(write_scenario(tmp_path, {"streams": [orders(25), copied]}))
    first = view(deployment.run(job, "run-1"))
    write_scenario(tmp_path, {"streams": [orders(40), copied]})
    second = view(deployment.run(job, "run-2"))
    third = view(deployment.run(job, "run-3"))

    [began, went_on, stood] = [
        next(s for s in r.streams if s.stream == "orders") for r in (first, second, third)
    ]
    assert began.state_before is None
    assert began.state_after is not None
    assert began.state_after.value == {"cursor": 25}
    assert began.state_diff is not None
    assert [(m.pointer, m.value) for m in began.state_diff.added] == [("/cursor", 25)]
    assert went_on.state_before == began.state_after
    assert went_on.state_diff is not None
    assert [(c.pointer, c.before, c.after) for c in went_on.state_diff.changed] == [("/cursor", 25, 40)]
    assert (began.state_changed, went_on.state_changed, stood.state_changed) == (True, True, False)
    assert stood.state_diff is not None
    assert [*stood.state_diff.added, *stood.state_diff.changed, *stood.state_diff.removed] == []
    [full] = [s for s in first.streams if s.stream == "copied"]
    assert (full.state_before, full.state_after, full.state_diff, full.state_changed) == (None,) * 3 + (
        False,
    )


def test_when_and_how_often(deployment: Deployment, tmp_path: Path) -> None:
    """A stream has times of its own, within those of its run."""
    run = view(deployment.run(deployment.job(write_scenario(tmp_path, {"streams": [orders(25)]}))))
    [stream] = run.streams
    assert run.started_at is not None
    assert run.ended_at is not None
    assert stream.started_at is not None
    assert stream.ended_at is not None
    assert run.started_at <= stream.started_at <= stream.ended_at <= run.ended_at
    assert stream.duration_s == pytest.approx((stream.ended_at - stream.started_at).total_seconds(), abs=1e-3)
    assert run.duration_s == pytest.approx((run.ended_at - run.started_at).total_seconds(), abs=1e-3)
    assert stream.rows_per_s > 0
    assert stream.attempts == 1
    assert [(a.number, a.status) for a in run.attempts] == [(1, "completed")]
    assert (run.guidance, run.error_page) == (None, None)


def test_attempts(deployment: Deployment, tmp_path: Path) -> None:
    """Each says how it went; the run's states are over all of them."""
    error = {"trace_error": {"message": "API key was revoked", "failure_type": "transient_error"}}
    fails = {"after": 25, "once": str(tmp_path / "failed"), "steps": [error, {"exit": 1}]}
    job = deployment.job(write_scenario(tmp_path, {"streams": [orders(40, at=[fails])]}))
    with pytest.raises(TransientFailed):
        deployment.run(job, "run-1", 1)
    failed = view(stored(deployment, job))
    assert failed.error_code == "connector-error"
    assert failed.guidance
    assert failed.error == f"{failed.attempts[0].error} {failed.guidance}"
    assert failed.error_page == "docs/reference/errors.md#codes-of-a-run"
    [stream] = failed.streams
    assert (stream.phase, stream.attempts, stream.complete) == ("incomplete", 1, False)
    assert stream.ended_at is not None
    assert stream.state_after is not None
    assert stream.state_after.value == {"cursor": 20}

    done = view(deployment.run(job, "run-1", 2))
    assert [(a.number, a.status, a.error_code) for a in done.attempts] == [
        (1, "failed", "connector-error"),
        (2, "completed", None),
    ]
    assert "API key was revoked" in (done.attempts[0].error or "")
    assert (done.error, done.guidance, done.error_page) == (None, None, None)
    [stream] = done.streams
    assert (stream.attempts, stream.rows_written, stream.state_before) == (2, 40, None)
    assert stream.state_after is not None
    assert stream.state_after.value == {"cursor": 40}


def test_a_killed_attempt_is_lost(deployment: Deployment, tmp_path: Path) -> None:
    """It could not say how it ended; the state that it committed is that of the run all the same."""
    job = deployment.job(write_scenario(tmp_path, {"streams": [orders(40)]}))
    run = deployment.run(job, "run-1", 1)
    [attempt] = run.report.attempts
    killed = msgspec.structs.replace(attempt, status=RunStatus.RUNNING, ended_at=None)
    [stream] = run.report.streams
    unsaid = msgspec.structs.replace(stream, complete=False, state_after=None, state_changed=False)
    report = msgspec.structs.replace(run.report, attempts=(killed,), streams=(unsaid,))
    deployment.store.report_run(run.id, report)
    again = view(deployment.run(job, "run-1", 2))
    assert [(a.number, a.status, a.duration_s is None) for a in again.attempts] == [
        (1, "lost", True),
        (2, "completed", False),
    ]
    [shown] = again.streams
    assert shown.state_changed
    assert shown.state_after is not None
    assert shown.state_after.value == {"cursor": 40}


def test_an_attempt_that_never_reads_loses_no_counts(deployment: Deployment, tmp_path: Path) -> None:
    """It fails while it plans: what the one before has committed is reported still."""
    fails = {"after": 25, "once": str(tmp_path / "failed"), "steps": [{"exit": 1}]}
    scenario = {"streams": [orders(40, at=[fails])]}
    job = deployment.job(write_scenario(tmp_path, scenario))
    with pytest.raises(TransientFailed):
        deployment.run(job, "run-1", 1)
    write_scenario(tmp_path, {"discover": {"steps": [{"exit": 1}]}})
    settings = deployment.settings
    sources = settings.sources.model_copy(update={"rediscover_after_s": 0.0})
    plans_anew = dataclasses.replace(
        deployment.parts, settings=settings.model_copy(update={"sources": sources})
    )
    with pytest.raises(RunError):
        run_sync(plans_anew, job.id, "run-1", 2)
    [stream] = stored(deployment, job).report.streams
    assert (stream.rows_written, stream.attempts) == (20, 1)
    write_scenario(tmp_path, scenario)
    [stream] = deployment.run(job, "run-1", 3).report.streams
    assert (stream.rows_written, stream.attempts) == (40, 2)


@pytest.mark.parametrize("shared", [False, True], ids=["own state", "shared state"])
def test_states_of_protected_columns_are_withheld(
    deployment: Deployment, tmp_path: Path, shared: bool
) -> None:
    """Nothing of them is in the report, of no stream of the job; that they moved is."""
    plain = orders(20, name="plain")
    scenario = {"streams": [orders(20), plain], "read": {"global_state": shared}}
    rules = [{"column": "id", "stream": "orders", "transformation_type": "encrypt"}]
    job = deployment.job(write_scenario(tmp_path, scenario), column_transformations=rules)
    run = deployment.run(job)
    assert b"cursor" not in msgspec.json.encode(run.report)
    for stream in view(run).streams:
        assert stream.state_after is not None
        assert (stream.state_after.withheld, stream.state_after.value) == ("protected", None)
        assert stream.state_diff is None
        assert stream.state_changed


def test_secrets_in_states(deployment: Deployment, tmp_path: Path) -> None:
    """A connector may put its password where it likes."""
    stream = {"name": "orders", "cursor": "id", "records": [{"id": "with hunter2-hunter2"}]}
    run = view(deployment.run(deployment.job(write_scenario(tmp_path, {"streams": [stream]}))))
    assert run.streams[0].state_after is not None
    assert run.streams[0].state_after.value == {"cursor": "with **********"}


# ---- logs ------------------------------------------------------------------------------------------------


def printed(deployment: Deployment, job: Job, attempt: int = 1, **settings: str) -> list[str]:
    """What `airberg sync` prints, without times: an item a line of the log, then the last line."""
    mine = {
        "AIRBERG_HOME": str(deployment.home),
        "AIRBERG_LOG_LEVEL": "DEBUG",
        "AIRBERG_SOURCES__CONNECTORS_DIR": str(deployment.connectors_dir),
        "AIRBERG_SOURCES__PYAIRBYTE_DIR": str(deployment.pyairbyte_dir),
    }
    command = [sys.executable, "-m", "airberg.cli", "sync", str(job.id), "--flow-run-id", "run-1"]
    done = subprocess.run(
        [*command, "--attempt", str(attempt)],
        capture_output=True,
        text=True,
        env=os.environ | mine | settings,
        check=False,
    )
    assert done.stderr == ""
    items: list[str] = []
    for line in done.stdout.splitlines():
        if STAMP.match(line) or line.startswith("error: "):
            items.append(STAMP.sub("", line))
        else:
            items[-1] += "\n" + line
    return items


def kept(deployment: Deployment, job: Job) -> list[tuple[int, str]]:
    """Attempt and line of what is in the store, in the form of the log."""
    lines = deployment.store.run_logs.read(stored(deployment, job).id, limit=10_000)
    return [(x.attempt, f"{logging.getLevelName(x.level):<7} {x.logger}: {x.message}") for x in lines]


def test_what_is_kept_is_what_the_log_shows(deployment: Deployment, tmp_path: Path) -> None:
    """Line by line, of all attempts, with what the connector says; its secrets are in neither."""
    says = logged("token hunter2-hunter2\nand more")
    fails = {"after": 5, "once": str(tmp_path / "failed"), "steps": [says, {"stderr": "oh"}, {"exit": 1}]}
    job = deployment.job(write_scenario(tmp_path, {"streams": [orders(10, at=[fails])]}))
    *first, last = printed(deployment, job)
    second = printed(deployment, job, attempt=2)
    assert last.startswith("error: ")
    assert kept(deployment, job) == [*((1, x) for x in first), *((2, x) for x in second)]
    assert "INFO    airberg.connector: token **********\n    and more" in first
    assert first[-1] == f"ERROR   airberg.sync.run: failed (connector-exited): {last.removeprefix('error: ')}"
    assert second[0].startswith("INFO    airberg.sync.run: run ")
    assert second[-1] == "INFO    airberg.sync.run: completed: 10 rows written, 0 deleted"


def test_what_a_connector_says_of_protected_columns_is_kept_sealed(
    deployment: Deployment, tmp_path: Path
) -> None:
    """As the log has it, and not cut: who may use the key can open it."""
    from airberg.reader.texts import read_sealed

    says = logged("row of ann " + "x" * 15_000)
    stream = orders(10, at=[{"after": 5, "steps": [says]}])
    rules = [{"column": "item", "transformation_type": "encrypt"}]
    job = deployment.job(write_scenario(tmp_path, {"streams": [stream]}), column_transformations=rules)
    shown = printed(deployment, job)
    lines = [line for _, line in kept(deployment, job)]
    assert lines == shown
    [sealed] = [line for line in lines if "airberg.connector: airberg-sealed:" in line]
    assert "row of ann" not in sealed
    assert "row of ann xxx" in read_sealed(sealed, deployment.settings)


def test_how_much_is_kept(deployment: Deployment, tmp_path: Path) -> None:
    """As the settings say, with the end of the log."""
    says = logged("chatter")
    stream = orders(10, at=[{"after": 5, "steps": [says] * 300}])
    job = deployment.job(write_scenario(tmp_path, {"streams": [stream]}))
    shown = printed(deployment, job, AIRBERG_RUN_LOGS__MAX_LINES="5")
    assert len(shown) > 300
    lines = [line for _, line in kept(deployment, job)]
    assert lines[:5] == shown[:5]
    assert lines[-200:] == shown[-200:]
    assert f"{len(shown) - 205:,} lines are left out here." in lines[6]
    assert len(lines) == 207
