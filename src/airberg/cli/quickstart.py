"""`make run`: the whole way of the data, once, through the public interface.

Starts the embedded stack, takes a development token, POSTs a job for the real connector source-faker,
follows its run, shows the tables. What a user would do with curl, in one command.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import httpx
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from airberg.cli.embedded import print_addresses, running_stack, wait_for_stop
from airberg.cli.tables import print_table
from airberg.errors import ConfigurationFailed, TransientFailed
from airberg.identity.development import DevelopmentIssuer
from airberg.settings import Settings

JOB_NAME = "quickstart"
OWNER = "developer@example.com"
STREAMS = ("users", "products", "purchases")
USERS = 1_000
RUN_WITHIN_S = 600.0
SLOW_ANSWERS = 3
"""How often a source that did not answer in time is asked again."""
PASSING = {
    "connector-installing": "The connector is being installed",
    "preflight-timeout": "The source did not answer in time",
}

BODY: dict[str, Any] = {
    "name": JOB_NAME,
    "source_name": "source-faker",
    "source_config": {"count": USERS, "seed": 42, "always_updated": False, "parallelism": 1},
    "schema_name": "quickstart",
    "mode": "append",
    "streams": list(STREAMS),
    "domain": "Marketing",
    "tags": ["demo", "faker"],
    "column_transformations": [
        {"stream": "users", "column": "email", "transformation_type": "encrypt"},
        {"stream": "users", "column": "name", "transformation_type": "rename", "new_name": "first_name"},
        {
            "stream": "products",
            "column": "price",
            "transformation_type": "cast",
            "target_type": "decimal(12,2)",
        },
    ],
}


def run_quickstart(settings: Settings, *, once: bool) -> int:
    """Run it.

    Args:
        once: Stop everything after the first load instead of staying up.

    Returns:
        0 when the load succeeded (and, without `once`, when the user stopped the stack).

    Raises:
        AirbergError: The stack could not be started, or the load failed.
    """
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print("[bold]Starting Airberg[/]")
    started = time.monotonic()
    with running_stack(settings, console) as stack:
        console.print(f"Ready after {time.monotonic() - started:.0f} s.")
        token = DevelopmentIssuer(settings).mint(OWNER, ["ingest:read", "ingest:write"], 3600, email=OWNER)
        headers = {"Authorization": f"Bearer {token}"}
        # The API is on this machine: a proxy of the environment is not for it.
        with httpx.Client(base_url=settings.api_url, headers=headers, timeout=40.0, trust_env=False) as api:
            load(api, settings, console)
        print_addresses(settings, console)
        if once:
            return 0
        _what_next(console, settings)
        return wait_for_stop(stack)


def load(api: httpx.Client, settings: Settings, console: Console) -> None:
    """Create the job (or run it again), follow the run, show what it made."""
    posted = time.monotonic()
    job_id = _submit(api, console)
    run = _follow(api, job_id, console)
    console.print(
        f"Run {run['id']}: [bold green]{run['status']}[/], {run['rows_written']:,} rows written "
        f"by attempt {run['attempt']}, {time.monotonic() - posted:.1f} s after the request."
    )
    for stream in STREAMS:
        print_table(settings, f"{BODY['schema_name']}.{stream}", 3, console)
    console.print(f"\nMetadata for DataHub: {escape(str(run['metadata']))}", soft_wrap=True, highlight=False)


def _submit(api: httpx.Client, console: Console) -> str:
    """POST the job; where it exists from an earlier time, start it again."""
    for job in _checked(api.get("/api/jobs")):
        if job["job_name"] == JOB_NAME and not job["is_deleted"]:
            console.print(f"The job {job['id']} exists from an earlier run; starting it again.")
            _checked(api.post(f"/api/jobs/{job['id']}/trigger"))
            return str(job["id"])
    console.print("\n[bold]POST /api/airbyte/ingest[/]")
    console.print_json(json.dumps(BODY), indent=None)
    answer = api.post("/api/airbyte/ingest", json=BODY)
    slow = 0
    while (code := _passing(answer)) is not None and slow < SLOW_ANSWERS:
        slow += code == "preflight-timeout"
        console.print(f"{PASSING[code]}; asking again.")
        time.sleep(float(answer.headers.get("Retry-After", "5")))
        answer = api.post("/api/airbyte/ingest", json=BODY)
    created = _checked(answer)
    console.print(f"{answer.status_code} {answer.reason_phrase}")
    console.print_json(json.dumps(created))
    return str(created["job_id"])


def _passing(answer: httpx.Response) -> str | None:
    """Why the service could not answer yet: nothing was created, so the same request may be sent again."""
    if answer.status_code != 503:
        return None
    return next((problem["code"] for problem in answer.json()["errors"] if problem["code"] in PASSING), None)


def _follow(api: httpx.Client, job_id: str, console: Console) -> dict[str, Any]:
    """Show the newest run's progress until its metadata is registered.

    Raises:
        ConfigurationFailed: It failed.
        TransientFailed: It did not end in time.
    """
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    deadline = time.monotonic() + RUN_WITHIN_S
    shown = ""
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("waiting for Airflow", total=None)
        while time.monotonic() < deadline:
            run = _checked(api.get(f"/api/jobs/{job_id}/runs", params={"limit": 1}))[0]
            text = (
                f"{run['status']}: {run['rows_read']:,} records read, {run['rows_written']:,} rows committed"
            )
            progress.update(task, description=text)
            if text != shown and not console.is_terminal:
                console.print(f"  {text}")
            shown = text
            if run["status"] in ("failed", "cancelled"):
                raise ConfigurationFailed(f"The run {run['status']}: {run['error']}")
            if run["status"] == "completed" and (run["metadata"] or run["metadata_error"]):
                return dict(run)
            time.sleep(0.5)
    raise TransientFailed(f"The run did not end within {RUN_WITHIN_S:.0f} s.")


def _checked(answer: httpx.Response) -> Any:  # noqa: ANN401 - JSON
    if answer.is_success:
        return answer.json()
    body = answer.json()
    hints = " ".join(f"{e['message']} {e['guidance']}" for e in body.get("errors", []))
    raise ConfigurationFailed(f"The API answered {answer.status_code}: {body.get('error')} {hints}".strip())


def _what_next(console: Console, settings: Settings) -> None:
    console.print("[bold]What to try next[/] (in another terminal, in this folder)")
    for line in (
        "export TOKEN=$(.venv/bin/airberg token)",
        f'curl -s {settings.public_url}/api/jobs -H "Authorization: Bearer $TOKEN"',
        ".venv/bin/airberg show quickstart.users --rows 10",
        f"open {settings.public_url}/docs for every call, {settings.airflow_public_url} for the flows",
    ):
        console.print(f"  {line}", highlight=False, markup=False, soft_wrap=True)
    console.print("Stop everything with Ctrl-C; data stays, `make run` goes on from here.")
