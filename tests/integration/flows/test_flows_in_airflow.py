"""Flows in a real Airflow: how they look, how they run, how they follow their jobs."""

from __future__ import annotations

import ast
import json
import signal
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import httpx
import msgspec
import psutil
import pytest

from airberg.flows.model import HASH_MARK, SENTINEL_ID, FlowSpec
from airberg.flows.schedule import next_times
from support.airflow_stack import VISIBLE_WITHIN_S, AirflowStack
from support.conditions import eventually
from support.pages import Page

pytestmark = [pytest.mark.airflow, pytest.mark.xdist_group("airflow")]

HOSTILE_NAME = (
    '\'); import os #""" {{ 7*7 }} <script>alert(1)</script> \\u0000 \\ $HOME 价格 😀 airberg-spec: 0'
)
RUN = "airberg__1"


def parsed_files(stack: AirflowStack) -> list[Path]:
    """The flow files."""
    return sorted((stack.settings.home / "airflow" / "bundles").rglob("airberg_*.py"))


# ---- how they look ---------------------------------------------------------------------------------------


def test_a_flow_looks_as_its_job(airflow_stack: AirflowStack) -> None:
    """Schedule, time zone, name, tags and next run are those of the job, however hostile the name is."""
    spec = airflow_stack.registered(
        airflow_stack.spec(
            name=HOSTILE_NAME, schedule="30 2 * * *", timezone="Europe/Berlin", tags=("airberg", "x" * 300)
        )
    )
    flow = airflow_stack.get(f"/dags/{spec.flow_id}/details")
    assert flow["dag_display_name"] == HOSTILE_NAME
    assert flow["timetable_summary"] == "30 2 * * *"
    assert {t["name"] for t in flow["tags"]} == {"airberg", "x" * 100}
    assert (flow["max_active_runs"], flow["catchup"], flow["is_paused"]) == (1, False, False)
    assert spec.job_id in flow["doc_md"]
    assert flow["doc_md"].endswith(HASH_MARK + spec.spec_hash())
    due = datetime.fromisoformat(flow["next_dagrun_run_after"])
    assert due == next_times("30 2 * * *", "Europe/Berlin", datetime.now(UTC), 1)[0]


def test_a_flow_that_is_new_to_airflow_makes_up_for_nothing(airflow_stack: AirflowStack) -> None:
    """The job may be old: after its Airflow has lost its database, jobs must not all run at once."""
    an_hour_ago = datetime.now(UTC) - timedelta(hours=1)
    schedule = f"{an_hour_ago:%M %H} * * *"
    old = (datetime.now(UTC) - timedelta(days=3)).isoformat()
    spec = airflow_stack.registered(airflow_stack.spec(schedule=schedule, created_at=old))
    due = airflow_stack.get(f"/dags/{spec.flow_id}")["next_dagrun_run_after"]
    assert datetime.fromisoformat(due) == next_times(schedule, "UTC", datetime.now(UTC), 1)[0]
    assert airflow_stack.get(f"/dags/{spec.flow_id}/dagRuns")["dag_runs"] == []


@pytest.mark.parametrize(("preset", "hours"), [("@hourly", {0}), ("@quarterly", {0}), ("@weekly", {0})])
def test_presets_work(airflow_stack: AirflowStack, preset: str, hours: set[int]) -> None:
    """A preset has a next run, at the time that we compute for it too."""
    spec = airflow_stack.registered(airflow_stack.spec(schedule=preset))
    due = airflow_stack.get(f"/dags/{spec.flow_id}")["next_dagrun_run_after"]
    assert datetime.fromisoformat(due) in next_times(preset, "UTC", datetime.now(UTC) - timedelta(hours=1), 2)
    assert datetime.fromisoformat(due).minute in hours


def test_the_schedules_times_are_airflows(airflow_stack: AirflowStack) -> None:
    """Around both changes of the clock and far from them, next times are those of Airflow's timetable."""
    cases = [
        (schedule, zone, start)
        for schedule in (
            "30 2 * * *",
            "30 * * * *",
            "*/20 1-3 * * *",
            "0 0 1 */3 *",
            "15 2 * * MON",
            "0 3 L * *",
        )
        for zone in ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata")
        for start in (
            "2026-03-28T20:00:00",
            "2026-10-24T20:10:00",
            "2026-11-01T03:30:00",
            "2026-06-15T12:00:00",
        )
    ]
    script = """
import json, sys
import pendulum
from airflow.timetables.trigger import CronTriggerTimetable
out = []
for schedule, zone, start in json.load(sys.stdin):
    timetable = CronTriggerTimetable(schedule, timezone=zone)
    now, times = pendulum.parse(start, tz="UTC"), []
    for _ in range(12):
        now = timetable._get_next(now)
        times.append(now.isoformat())
    out.append(times)
print(json.dumps(out))
"""
    ran = subprocess.run(
        [airflow_stack.environment.python, "-c", script],
        input=json.dumps(cases),
        capture_output=True,
        text=True,
        check=True,
        env={"AIRFLOW_HOME": str(airflow_stack.settings.home / "airflow")},
    )
    theirs = json.loads(ran.stdout.splitlines()[-1])
    for (schedule, zone, start), expected in zip(cases, theirs, strict=True):
        ours = next_times(schedule, zone, datetime.fromisoformat(start).replace(tzinfo=UTC), 12)
        assert ours == [datetime.fromisoformat(t) for t in expected], (schedule, zone, start)


def test_flow_url_opens_airflows_page(airflow_stack: AirflowStack) -> None:
    """The address answers with Airflow's page, and Airflow knows the flow that it names."""
    spec = airflow_stack.registered(airflow_stack.spec())
    url = airflow_stack.orchestrator.flow_url(spec.flow_id)
    page = httpx.get(url, trust_env=False, follow_redirects=True)
    assert page.status_code == 200
    assert "text/html" in page.headers["content-type"]
    assert airflow_stack.get(f"/dags/{url.rsplit('/', 1)[1]}")["dag_id"] == spec.flow_id


def test_flow_files_import_nothing_of_ours_but_the_flows(airflow_stack: AirflowStack) -> None:
    """Parsing flow files loads Airflow's SDK and `airberg_airflow`; no client, no database driver."""
    airflow_stack.registered(airflow_stack.spec(schedule="@daily"))
    airflow_stack.registered(airflow_stack.upkeep_spec())
    script = """
import sys
from airflow.sdk import DAG, AssetAlias, BaseOperator, Param, get_parsing_context
from airberg_airflow.airflow_versions import CronTriggerTimetable
schedule = CronTriggerTimetable("@daily", timezone="UTC")
with DAG("warm", schedule=schedule, params={"only": Param(None, type=["null", "string"])}) as warm:
    BaseOperator(task_id="one", outlets=[AssetAlias("warm")])
warm.validate()
before = set(sys.modules)
for name in sys.argv[1:]:
    exec(compile(open(name).read(), name, "exec"))
print(sum(isinstance(v, DAG) for v in list(globals().values())))
print(",".join(sorted({m.split(".")[0] for m in set(sys.modules) - before} - set(sys.stdlib_module_names))))
"""
    home = airflow_stack.settings.home / "airflow"
    files = [f for f in parsed_files(airflow_stack) if f.name != "airberg_sentinel.py"]
    assert "airberg_upkeep.py" in {f.name for f in files}
    ran = subprocess.run(
        [airflow_stack.environment.python, "-c", script, *files],
        capture_output=True,
        text=True,
        check=True,
        env={"AIRFLOW_HOME": str(home), "PYTHONPATH": str(home / "lib")},
    )
    count, modules = ran.stdout.splitlines()[-2:]
    assert int(count) >= 2
    assert set(modules.split(",")) <= {"airberg_airflow", "airflow"}


# ---- how they run ----------------------------------------------------------------------------------------


def test_a_run_that_succeeds(airflow_stack: AirflowStack) -> None:
    """Both commands get their arguments, none of Airflow's secrets, and their lines are in the task log."""
    spec = airflow_stack.spec()
    out = airflow_stack.behave(
        spec,
        'printf "%s\\n" "$*" >> "$OUT/calls"; env > "$OUT/env-$1"; echo "rows: 价格 12"; '
        'echo "to stderr" >&2',
    )
    airflow_stack.registered(spec)
    airflow_stack.orchestrator.trigger(spec.flow_id, RUN)
    assert airflow_stack.ended(spec, RUN) == "success"
    assert airflow_stack.tasks(spec, RUN) == {"sync": ("success", 1), "register": ("success", 1)}
    assert (out / "calls").read_text().splitlines() == [
        f"sync {spec.job_id} --flow-run-id {RUN} --attempt 1",
        f"register {spec.job_id} --flow-run-id {RUN}",
    ]
    log = airflow_stack.task_log(spec, RUN, "sync")
    assert "rows: 价格 12" in log
    assert "to stderr" in log
    for verb in ("sync", "register"):
        names = {
            line.split("=", 1)[0] for line in (out / f"env-{verb}").read_text().splitlines() if "=" in line
        }
        assert "AIRBERG_HOME" in names
        hidden = ("AIRFLOW__", "_AIRFLOW", "AIRFLOW_HOME", "PYTHONPATH", "AIRBERG_AIRFLOW__BUNDLE_TOKEN")
        assert not {n for n in names if n.startswith(hidden)}
        text = (out / f"env-{verb}").read_text()
        assert not [s for s in airflow_stack.secrets() if s in text]


def test_flows_that_wait_for_tables_start(airflow_stack: AirflowStack) -> None:
    """One waits for a table, one for any table of the job; a run that changed nothing starts neither."""
    spec = airflow_stack.spec()
    table, flows = f"iceberg://lake.sales.T{uuid4().hex}", [f"downstream_{uuid4().hex}" for _ in range(2)]
    changed = json.dumps({"tables": [{"uri": table, "extra": {"rows_written": 3, "snapshot_id": "7"}}]})
    airflow_stack.behave(
        spec,
        f"[ $1 = register ] || [ -f $OUT/second ] || echo '{changed}' > $AIRBERG_CHANGED_TABLES_FILE\n"
        "[ $1 = sync ] || touch $OUT/second",
    )
    airflow_stack.registered(spec)
    airflow_stack.add_downstream(flows[0], f'Asset("{table}")')
    airflow_stack.add_downstream(flows[1], f'AssetAlias("{spec.flow_id}")')
    for run in ("airberg__1", "airberg__2"):
        airflow_stack.orchestrator.trigger(spec.flow_id, run)
        assert airflow_stack.ended(spec, run) == "success"
    told = [{"uri": f"{table}/", "extra": {"rows_written": 3, "snapshot_id": "7"}}]
    for flow in flows:
        assert airflow_stack.downstream_events(flow) == [told]
    assert table in airflow_stack.task_log(spec, "airberg__1", "sync")
    assert table not in airflow_stack.task_log(spec, "airberg__2", "sync")


def test_the_documented_flow_waits_for_the_tables_of_the_quickstart(airflow_stack: AirflowStack) -> None:
    """Airflow reads the flow of the page, and says what it waits for."""
    [block] = [b for b in Page("docs/how-to/start-another-flow.md").blocks if b.language == "python"]
    airflow_stack.add_flow_file("sales_report", block.text)
    waits = airflow_stack.get("/dags/sales_report/details")["asset_expression"]
    uris = [entry["asset"]["uri"] for entry in waits["all"]]
    assert uris == ["iceberg://quickstart.users/", "iceberg://quickstart.purchases/"]


def test_exit_2_fails_without_a_retry(airflow_stack: AirflowStack) -> None:
    """A configuration error ends the run at the first try; its last `error:` line is Airflow's reason."""
    spec = airflow_stack.spec(retries=3)
    airflow_stack.behave(spec, 'echo "error: first"; echo "error: The password is refused."; exit 2')
    airflow_stack.registered(spec)
    airflow_stack.orchestrator.trigger(spec.flow_id, RUN)
    assert airflow_stack.ended(spec, RUN) == "failed"
    assert airflow_stack.tasks(spec, RUN) == {"sync": ("failed", 1), "register": ("upstream_failed", 0)}
    log = airflow_stack.task_log(spec, RUN, "sync")
    assert "AirflowFailException" in log
    assert '"exc_value": "The password is refused."' in log


def test_exit_1_is_tried_again(airflow_stack: AirflowStack) -> None:
    """A transient failure is retried with the next attempt's number, and may then succeed."""
    spec = airflow_stack.spec(retries=1)
    out = airflow_stack.behave(
        spec,
        'echo "$1 $6" >> "$OUT/tries"; [ "$1 $6" = "sync 1" ] && { echo "error: reset"; exit 1; }; exit 0',
    )
    airflow_stack.registered(spec)
    airflow_stack.orchestrator.trigger(spec.flow_id, RUN)
    assert airflow_stack.ended(spec, RUN) == "success"
    assert airflow_stack.tasks(spec, RUN)["sync"] == ("success", 2)
    assert (out / "tries").read_text().splitlines()[:2] == ["sync 1", "sync 2"]


def test_exit_99_skips(airflow_stack: AirflowStack) -> None:
    """When another run of the job is alive, both tasks are skipped and nothing is marked as failed."""
    spec = airflow_stack.spec()
    airflow_stack.behave(spec, 'echo "error: Another run of this job is alive."; exit 99')
    airflow_stack.registered(spec)
    airflow_stack.orchestrator.trigger(spec.flow_id, RUN)
    assert airflow_stack.ended(spec, RUN) == "success"
    states = {task: state for task, (state, _) in airflow_stack.tasks(spec, RUN).items()}
    assert states == {"sync": "skipped", "register": "skipped"}


def test_cancel_reaches_the_command(airflow_stack: AirflowStack) -> None:
    """A cancelled run's command gets SIGTERM, has time to end in order, and is not tried again."""
    spec = airflow_stack.spec()
    out = airflow_stack.behave(
        spec,
        'trap \'echo got-term > "$OUT/term"; exit 143\' TERM; echo $$ > "$OUT/pid.part"; '
        'mv "$OUT/pid.part" "$OUT/pid"; while :; do sleep 0.1; done',
    )
    airflow_stack.registered(spec)
    airflow_stack.orchestrator.trigger(spec.flow_id, RUN)
    eventually((out / "pid").exists)
    airflow_stack.orchestrator.cancel(spec.flow_id, RUN)
    eventually((out / "term").exists, 20)
    assert airflow_stack.ended(spec, RUN) == "failed"
    pid = int((out / "pid").read_text())
    eventually(lambda: not psutil.pid_exists(pid), 20)
    assert airflow_stack.tasks(spec, RUN)["sync"] == ("failed", 1)


def test_a_command_that_ignores_sigterm_is_killed_with_its_group(airflow_stack: AirflowStack) -> None:
    """Neither a stubborn command nor what it has started survives a cancelled run."""
    spec = airflow_stack.spec(retries=0)
    out = airflow_stack.behave(
        spec,
        'trap "" TERM; sleep 600 & echo "$$ $!" > "$OUT/pids.part"; mv "$OUT/pids.part" "$OUT/pids"; '
        "while :; do sleep 0.1; done",
    )
    airflow_stack.registered(spec)
    airflow_stack.orchestrator.trigger(spec.flow_id, RUN)
    eventually((out / "pids").exists)
    pids = [int(p) for p in (out / "pids").read_text().split()]
    airflow_stack.orchestrator.cancel(spec.flow_id, RUN)
    eventually(lambda: not any(psutil.pid_exists(p) for p in pids), 30)


def test_runs_of_one_flow_do_not_overlap(airflow_stack: AirflowStack) -> None:
    """A second run waits until the first has ended."""
    spec = airflow_stack.spec(retries=0)
    out = airflow_stack.behave(spec, 'touch "$OUT/started"; while [ ! -f "$OUT/go" ]; do sleep 0.1; done')
    airflow_stack.registered(spec)
    airflow_stack.orchestrator.trigger(spec.flow_id, "airberg__1")
    eventually((out / "started").exists)
    airflow_stack.orchestrator.trigger(spec.flow_id, "airberg__2")
    assert airflow_stack.orchestrator.run_state(spec.flow_id, "airberg__2") == "queued"
    (out / "go").touch()
    assert airflow_stack.ended(spec, "airberg__1") == "success"
    assert airflow_stack.ended(spec, "airberg__2") == "success"


# ---- how they follow -------------------------------------------------------------------------------------


def test_a_change_of_the_schedule_follows(airflow_stack: AirflowStack) -> None:
    """A new schedule and zone have a new next run; without a schedule there is none."""
    old = airflow_stack.registered(airflow_stack.spec(schedule="0 3 * * *"))
    new = msgspec.structs.replace(old, schedule="15 4 * * *", timezone="America/New_York", name="renamed")
    airflow_stack.registered(new)
    flow = airflow_stack.get(f"/dags/{old.flow_id}")
    due = next_times("15 4 * * *", "America/New_York", datetime.now(UTC), 1)[0]
    assert flow["dag_display_name"] == "renamed"
    assert datetime.fromisoformat(flow["next_dagrun_run_after"]) == due
    airflow_stack.registered(msgspec.structs.replace(new, schedule=None))
    assert airflow_stack.get(f"/dags/{old.flow_id}")["next_dagrun_run_after"] is None


def test_a_withdrawn_flow_with_a_running_task_goes(airflow_stack: AirflowStack) -> None:
    """Removing a job ends its running command, and neither the flow nor its line in the file comes back."""
    spec = airflow_stack.spec(shard=7)
    out = airflow_stack.behave(
        spec, 'echo $$ > "$OUT/pid.part"; mv "$OUT/pid.part" "$OUT/pid"; exec sleep 600'
    )
    airflow_stack.registered(spec)
    airflow_stack.orchestrator.trigger(spec.flow_id, RUN)
    eventually((out / "pid").exists)
    airflow_stack.feed.remove(spec.flow_id)
    airflow_stack.orchestrator.withdraw(spec.flow_id)
    pid = int((out / "pid").read_text())
    eventually(lambda: not psutil.pid_exists(pid), 30)
    assert not [f for f in parsed_files(airflow_stack) if spec.flow_id in f.read_text()]
    airflow_stack.registered(airflow_stack.spec())  # another pass over the files
    assert airflow_stack.orchestrator.is_paused(spec.flow_id) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"retries": "many"},
        {"timezone": "Nowhere/Land"},
        {"schedule": "61 3 * * *"},
        {"timeout_s": "a day"},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_a_broken_spec_harms_nobody_else(airflow_stack: AirflowStack, wrong: dict[str, str]) -> None:
    """A spec that cannot be built is shown as broken and never counts as registered; its neighbour works."""
    broken, neighbour = (airflow_stack.spec(shard=9, schedule="@daily") for _ in range(2))
    entry = msgspec.to_builtins(broken) | wrong
    airflow_stack.feed.offer_raw({broken.flow_id: entry, "junk": "not a spec", "no-shard": {"flow_id": "x"}})
    try:
        airflow_stack.registered(neighbour)
        shown = eventually(lambda: flow_or_none(airflow_stack, broken), VISIBLE_WITHIN_S)
        assert "airberg-broken" in {t["name"] for t in shown["tags"]}
        assert not airflow_stack.orchestrator.publish(broken, 0.0)
        assert airflow_stack.get("/importErrors")["import_errors"] == []
    finally:
        airflow_stack.feed.remove(broken.flow_id, "junk", "no-shard")


def flow_or_none(stack: AirflowStack, spec: FlowSpec) -> dict[str, list[dict[str, str]]] | None:
    """A flow as Airflow's administrator sees it."""
    answer = stack.admin("GET", f"/dags/{spec.flow_id}")
    return answer.json() if answer.status_code == 200 else None


@pytest.fixture
def feed_away(airflow_stack: AirflowStack) -> Iterator[None]:
    """Our API does not answer for the time of a test."""
    airflow_stack.feed.close()
    yield
    airflow_stack.feed.open()


@pytest.fixture
def flow_before(airflow_stack: AirflowStack) -> FlowSpec:
    """A flow that was registered while the API was there."""
    spec = airflow_stack.spec()
    airflow_stack.behave(spec, "exit 0")
    return airflow_stack.registered(spec)


@pytest.mark.usefixtures("flow_before", "feed_away")
def test_flows_run_on_while_the_api_is_away(airflow_stack: AirflowStack, flow_before: FlowSpec) -> None:
    """Neither a refresh nor a run needs the API: the last copy of the flows is used."""
    asked_for = airflow_stack.get(f"/dags/{SENTINEL_ID}")
    airflow_stack.admin("PUT", f"/parseDagFile/{asked_for['file_token']}").raise_for_status()
    eventually(
        lambda: airflow_stack.get(f"/dags/{SENTINEL_ID}")["last_parsed_time"] != asked_for["last_parsed_time"]
    )
    airflow_stack.orchestrator.trigger(flow_before.flow_id, RUN)
    assert airflow_stack.ended(flow_before, RUN) == "success"


# ---- what Airflow must not hold --------------------------------------------------------------------------


def test_airflows_files_hold_no_secret(airflow_stack: AirflowStack) -> None:
    """Neither flow files, logs, configuration nor the database of Airflow have a secret of the deployment."""
    spec = airflow_stack.spec()
    airflow_stack.behave(spec, "exit 0")
    airflow_stack.registered(spec)
    airflow_stack.orchestrator.trigger(spec.flow_id, RUN)
    airflow_stack.ended(spec, RUN)
    home = airflow_stack.settings.home
    files = [
        path
        for folder in (home / "airflow", home / "logs")
        for path in folder.rglob("*")
        if path.is_file() and not path.is_relative_to(home / "airflow" / "venv")
    ]
    assert {"airflow.db", "airflow.cfg", "airberg_sentinel.py"} <= {f.name for f in files}
    secrets = [s.encode() for s in airflow_stack.secrets()]
    assert len(secrets) == 6
    assert not [(f, s) for f in files for s in secrets if s in f.read_bytes()]


def test_flow_files_hold_the_spec_and_nothing_else(airflow_stack: AirflowStack) -> None:
    """A flow file has the members of `FlowSpec`, no more."""
    spec = airflow_stack.registered(airflow_stack.spec(shard=11))
    tree = ast.parse(next(f for f in parsed_files(airflow_stack) if f.name == "airberg_00011.py").read_text())
    (held,) = (n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str))
    assert json.loads(held) == [json.loads(msgspec.json.encode(spec))]


# ---- the stack itself ------------------------------------------------------------------------------------


def processes_of(stack: AirflowStack) -> list[psutil.Process]:
    """Airflow's processes; this one has other children too (a database, the API of other tests)."""
    home = str(stack.settings.home / "airflow")
    children = psutil.Process().children(recursive=True)
    return [p for p in children if p.environ().get("AIRFLOW_HOME") == home]


def test_stop_leaves_nothing_and_a_second_start_keeps_the_flows(airflow_stack: AirflowStack) -> None:
    """With a command at work, stop ends all processes; the next start needs no set-up and has all flows."""
    spec = airflow_stack.spec(retries=0)
    out = airflow_stack.behave(
        spec, 'echo $$ > "$OUT/pid.part"; mv "$OUT/pid.part" "$OUT/pid"; exec sleep 600'
    )
    airflow_stack.registered(spec)
    airflow_stack.orchestrator.trigger(spec.flow_id, RUN)
    eventually((out / "pid").exists)
    running = processes_of(airflow_stack)
    assert len(running) > 3
    running.append(psutil.Process(int((out / "pid").read_text())))
    airflow_stack.stop()
    assert [p for p in running if p.is_running()] == []
    assert airflow_stack.orchestrator.healthy() is False
    airflow_stack.steps.clear()
    airflow_stack.start()
    assert airflow_stack.steps == []
    assert airflow_stack.orchestrator.publish(spec, VISIBLE_WITHIN_S)


def test_a_killed_part_is_told_with_its_log(airflow_stack: AirflowStack) -> None:
    """A component that dies is noticed, by name, with its log."""
    mine = psutil.Process().children(recursive=True)
    processor = next(
        p for p in mine if p.cmdline()[-1:] == ["dag-processor"] and "keeper.py" not in str(p.cmdline())
    )
    processor.send_signal(signal.SIGKILL)
    failure = eventually(airflow_stack.failure, 30)
    assert "airflow-dag-processor" in failure.message
    assert failure.code == "part-ended"
