"""The commands `airberg airflow ...`: whether Airberg and its Airflow can work together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from airberg.settings import load_settings

if TYPE_CHECKING:
    from airberg.flows.doctor.model import Finding, Report

app = typer.Typer(help="Airberg and its Airflow.", no_args_is_help=True)

MARKS = {"ok": "ok", "warning": "WARNING", "problem": "PROBLEM", "skipped": "-"}


@app.command("doctor")
def _doctor(
    run_task: Annotated[
        bool, typer.Option("--run-task", help="Also run a task on a worker, which says what it has.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False,
    api_url: Annotated[
        str | None, typer.Option(help="Where Airberg's API is; default AIRBERG_API__HOST and PORT.")
    ] = None,
    wait: Annotated[float, typer.Option(min=1, help="Seconds that Airflow has for what it is asked.")] = 60.0,
) -> None:
    """Look whether Airberg and Airflow can work together, and say what is wrong.

    Run it with the settings of the service. Exit code 0: no problem (there may be warnings); 1: a problem.
    """
    from airberg.flows.doctor.examination import examine
    from airberg.flows.doctor.ward import Ward
    from airberg.jobs.open import open_store

    settings = load_settings()
    ward = Ward(
        settings=settings,
        api_url=(api_url or settings.api_url).rstrip("/"),
        open_store=lambda: open_store(settings),
        wait_s=wait,
        run_task=run_task,
    )
    report = examine(ward, (lambda _: None) if as_json else _say)
    if as_json:
        _print_json(report)
    if report.status == "problem":
        raise typer.Exit(1)


def _say(finding: Finding) -> None:
    typer.echo(f"{MARKS[finding.status]:8} {finding.check:18} {finding.found}")
    if finding.advice and finding.status != "ok":
        typer.echo(f"{'':28}{finding.advice}")


def _print_json(report: Report) -> None:
    import msgspec

    typer.echo(msgspec.json.encode(msgspec.to_builtins(report) | {"status": report.status}).decode())


@app.command("worker")
def _worker(
    job: Annotated[UUID | None, typer.Option(help="A job that the service has.")] = None,
) -> None:
    """Say what this machine has of what a load needs: what the task of the flow `airberg_doctor` starts.

    Prints a JSON object a line; the exit code is 0 whatever is found.
    """
    import msgspec

    from airberg.flows.doctor.worker import look

    for finding in look(load_settings, job):
        typer.echo(msgspec.json.encode(finding).decode())
