"""Commands and their arguments."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, NoReturn
from uuid import UUID

import typer
from pydantic import ValidationError

from airberg import __version__
from airberg.cli import airflow, governance, keys, runs, service_keys, sources, states
from airberg.cli.logs import log_of_service, log_to_stdout
from airberg.cli.maintenance import add_upkeep_commands
from airberg.errors import AirbergError, InvalidRequest, RunError
from airberg.hardening import forbid_core_dumps, log_without_messages
from airberg.settings import load_settings

if TYPE_CHECKING:
    from airberg.jobs.model import RunRequest

app = typer.Typer(
    name="airberg",
    help="One HTTP call turns any Airbyte source into governed Apache Iceberg tables.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
database = typer.Typer(help="The job store.", no_args_is_help=True)
tables = typer.Typer(help="Tables of all jobs.", no_args_is_help=True)
app.add_typer(keys.app, name="keys")
app.add_typer(service_keys.app, name="service-keys")
app.add_typer(database, name="db")
app.add_typer(tables, name="tables")
app.add_typer(governance.app, name="governance")
app.add_typer(airflow.app, name="airflow")
app.add_typer(runs.app, name="runs")
app.add_typer(sources.app, name="sources")
app.add_typer(states.state, name="state")
app.command("rewind")(states.rewind)
add_upkeep_commands(tables)

JobId = Annotated[UUID, typer.Argument(help="Id of the job.")]
FlowRunId = Annotated[str, typer.Option(help="The orchestrator's id of the run.")]
Attempt = Annotated[int, typer.Option(min=1, help="Number of the attempt.")]
Streams = Annotated[
    list[str] | None, typer.Option(help="The only stream to sync; may be given several times.")
]
FullRefresh = Annotated[
    bool, typer.Option("--full-refresh", help="Read the streams from their beginning and replace the tables.")
]


def _version(show: bool) -> None:
    if show:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    del version  # its callback has done everything


@app.command()
def up() -> None:
    """Start the whole embedded stack and stay until Ctrl-C."""
    from airberg.cli.embedded import run_stack

    raise typer.Exit(run_stack(load_settings()))


@app.command()
def quickstart(
    once: Annotated[bool, typer.Option(help="Stop everything after the first load.")] = False,
) -> None:
    """Start the stack, load source-faker through the API, show the rows."""
    from airberg.cli.quickstart import run_quickstart

    raise typer.Exit(run_quickstart(load_settings(), once=once))


@app.command()
def serve() -> None:
    """Run the HTTP service alone (for a deployment with its own Airflow)."""
    from airberg.cli.serve import serve_api
    from airberg.flows.credentials import load_credentials

    settings = load_settings()
    log_of_service(settings, load_credentials(settings).secrets())
    log_without_messages()
    serve_api(settings)


@app.command()
def plan(
    job_id: JobId,
    flow_run_id: FlowRunId,
    attempt: Attempt = 1,
    stream: Streams = None,
    full_refresh: FullRefresh = False,
) -> None:
    """Begin a run and share its streams out: what the flow's task `plan` starts, of jobs with parallelism."""
    from airberg.cli.tasks import plan_job

    settings = load_settings()
    log_to_stdout(settings)
    log_without_messages()
    plan_job(settings, job_id, flow_run_id, attempt, asked=_asked(stream, full_refresh))


@app.command()
def sync(
    job_id: JobId,
    flow_run_id: FlowRunId,
    attempt: Attempt = 1,
    stream: Streams = None,
    full_refresh: FullRefresh = False,
    part: Annotated[
        int | None, typer.Option(min=0, help="Number of the part, of a run that `airberg plan` has begun.")
    ] = None,
) -> None:
    """Run a job once: what the flow's task `sync` starts. The exit code says whether to retry."""
    from airberg.cli.tasks import sync_job

    settings = load_settings()
    log_to_stdout(settings)
    log_without_messages()
    if part is not None and (stream or full_refresh):
        raise typer.BadParameter("What is asked of a run is given to `airberg plan`.", param_hint="--part")
    sync_job(settings, job_id, flow_run_id, attempt, part=part, asked=_asked(stream, full_refresh))


def _asked(streams: list[str] | None, full_refresh: bool) -> RunRequest:
    from airberg.jobs.model import RunRequest

    return RunRequest(streams=tuple(dict.fromkeys(streams or ())), full_refresh=full_refresh)


@app.command()
def register(
    job_id: JobId,
    flow_run_id: FlowRunId,
    attempt: Attempt = 1,
) -> None:
    """Register a run's tables in DataHub: what the flow's task `register` starts."""
    from airberg.cli.tasks import register_tables

    settings = load_settings()
    log_to_stdout(settings)
    log_without_messages()
    register_tables(settings, job_id, flow_run_id, attempt)


@app.command()
def token(
    sub: Annotated[str, typer.Option(help="Who the token is for.")] = "developer@example.com",
    scope: Annotated[str, typer.Option(help="Scopes, separated by spaces.")] = "ingest:read ingest:write",
    role: Annotated[list[str] | None, typer.Option(help="Roles, for example ingest-admin.")] = None,
    ttl: Annotated[int, typer.Option(min=1, help="Seconds it is good for.")] = 3600,
) -> None:
    """Print an access token of the development issuer."""
    from airberg.identity.development import DevelopmentIssuer

    issuer = DevelopmentIssuer(load_settings())
    email = {"email": sub} if "@" in sub else {}
    typer.echo(issuer.mint(sub, scope.split(), ttl, roles=role or [], **email))


@app.command("airflow-password")
def airflow_password() -> None:
    """Print the password of the user `admin` of the embedded Airflow."""
    from airberg.flows.credentials import load_credentials

    typer.echo(load_credentials(load_settings()).admin_password)


@app.command()
def show(
    table: Annotated[str, typer.Argument(help="Dotted name of the table.")],
    rows: Annotated[int, typer.Option(min=0, help="How many rows to show.")] = 5,
) -> None:
    """Show a table: schema, row count, snapshots, first rows."""
    from airberg.cli.tables import print_table

    print_table(load_settings(), table, rows)


@app.command()
def unseal(
    log: Annotated[
        typer.FileText | None, typer.Argument(help="The log; default standard input.", show_default=False)
    ] = None,
) -> None:
    """Show a log with what connectors said of protected columns, for those who may use the keys."""
    from airberg.reader.texts import read_sealed

    typer.echo(read_sealed((log or sys.stdin).read(), load_settings()), nl=False)


@database.command("upgrade")
def upgrade_database() -> None:
    """Bring the job store's schema to this version's."""
    from airberg.jobs.migrate import upgrade

    upgrade(load_settings().database_url)


def _stop(error: AirbergError) -> NoReturn:
    """Say what went wrong, last and on one line, where operators of flows look for it."""
    problems = error.problems if isinstance(error, InvalidRequest) else ()
    for p in problems[1:]:
        print(f"problem: {p.pointer}: {p.message} {p.guidance}", file=sys.stderr)
    sys.stdout.flush()
    print("error: " + " ".join(error.sentence().split()), flush=True)
    sys.exit(error.exit_code if isinstance(error, RunError) else 1)


def main() -> int:
    """Run the command line; errors of ours end with one sentence and the exit code that they stand for."""
    forbid_core_dumps()
    try:
        app(standalone_mode=True)
    except AirbergError as e:
        _stop(e)
    except ValidationError as e:
        for item in e.errors(include_input=False, include_url=False):
            name = "AIRBERG_" + "__".join(str(p).upper() for p in item["loc"])
            print(f"error: the setting {name} is wrong: {item['msg']}.")
        return 2
    return 0
