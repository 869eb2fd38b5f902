"""The commands `airberg sources ...` and their arguments; what they do is in `airberg.cli.connectors`."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import typer

from airberg.settings import load_settings

app = typer.Typer(help="Connectors.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Name of the connector, source-...")]
Version = Annotated[str | None, typer.Option(help="Which version; default the one that new jobs get.")]
Config = Annotated[str, typer.Option(metavar="FILE|-", help="JSON file with the configuration; - reads it.")]
Owner = Annotated[
    str | None,
    typer.Option(help="Allow the secret references that this owner of jobs may use; default every one."),
]
Timeout = Annotated[float, typer.Option(min=1, help="Seconds that the connector may take.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, an object a line.")]


@app.command("list")
def _list(
    only_installed: Annotated[
        bool, typer.Option("--installed", help="Only those that are installed.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List the connectors that jobs may name, and which versions are installed."""
    from airberg.cli.connectors import list_connectors

    list_connectors(load_settings(), (), only_installed=only_installed, as_json=as_json)


@app.command("search")
def _search(
    words: Annotated[list[str], typer.Argument(help="Parts of names, titles or categories; all must fit.")],
    as_json: AsJson = False,
) -> None:
    """Find connectors."""
    from airberg.cli.connectors import list_connectors

    list_connectors(load_settings(), words, only_installed=False, as_json=as_json)


@app.command("install")
def _install(
    names: Annotated[list[str], typer.Argument(help="Names of connectors, source-...")],
    version: Version = None,
    as_json: AsJson = False,
) -> None:
    """Install connectors, and what installing needs. What is there already is left as it is."""
    from airberg.cli.connectors import install_connectors

    install_connectors(load_settings(), names, version, as_json=as_json)


@app.command("spec")
def _spec(name: Name, version: Version = None, as_json: AsJson = False) -> None:
    """Show the fields of a connector's configuration; with --json its JSON schema."""
    from airberg.cli.connectors import show_spec

    show_spec(load_settings(), name, version, as_json=as_json)


@app.command("check")
def _check(
    name: Name,
    config: Config,
    version: Version = None,
    timeout: Timeout = 300,
    owner: Owner = None,
    as_json: AsJson = False,
) -> None:
    """Let a connector try a configuration. Exit code 1 when it does not work."""
    from airberg.cli.connectors import check_configuration

    check_configuration(load_settings(), name, version, config, timeout, owner=owner, as_json=as_json)


@app.command("discover")
def _discover(
    name: Name,
    config: Config,
    version: Version = None,
    timeout: Timeout = 300,
    owner: Owner = None,
    as_json: AsJson = False,
) -> None:
    """Show the streams that can be read with a configuration, their keys and cursors."""
    from airberg.cli.connectors import discover_streams

    discover_streams(load_settings(), name, version, config, timeout, owner=owner, as_json=as_json)


@app.command("remove")
def _remove(
    name: Name,
    version: Annotated[
        str | None, typer.Option(help="Which version; default the only installed one.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Remove it whatever jobs run with it; their next run installs it.")
    ] = False,
) -> None:
    """Remove an installed version with its lock, unless a job runs with it."""
    from airberg.cli.connectors import remove_connector

    remove_connector(load_settings(), name, version, force=force)


@app.command("upgrade")
def _upgrade(
    name: Name,
    job: Annotated[UUID | None, typer.Option(help="Only this job.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All jobs of the connector.")] = False,
    to: Annotated[
        str | None, typer.Option(metavar="VERSION", help="Which version; default the one that new jobs get.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would change.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Also move jobs that cannot follow; their next run may fail.")
    ] = False,
) -> None:
    """Move jobs to another version of their connector, after showing what changes for them."""
    from airberg.cli.source_upgrade import upgrade_jobs

    upgrade_jobs(load_settings(), name, job=job, every=every, version=to, dry_run=dry_run, force=force)


@app.command("refresh")
def _refresh(
    source: Annotated[
        str, typer.Option("--from", metavar="ADDRESS|FILE", help="Where the registry is; default Airbyte's.")
    ] = "",
) -> None:
    """Get a newer list of connectors from Airbyte's registry. Jobs keep the versions that they have."""
    from airberg.cli.connectors import refresh_registry

    refresh_registry(load_settings(), source)
