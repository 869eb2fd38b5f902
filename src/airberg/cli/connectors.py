"""What the commands `airberg sources ...` do and print."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table as Grid

from airberg.errors import ConfigurationFailed, Conflict, InvalidRequest
from airberg.jobs.model import Job
from airberg.settings import Settings
from airberg.sources.config_fields import config_fields
from airberg.sources.entry import ConnectorEntry
from airberg.sources.hosts import host_problems
from airberg.sources.installed import find_version, installed_versions, remove_version
from airberg.sources.launch import LaunchDescription, resolve
from airberg.sources.references import Resolved, refuse_values, resolve_references
from airberg.sources.refresh import fetch, newer_entries, registry_address, write_snapshot
from airberg.sources.registry import load_registry
from airberg.sources.snapshot import newest_snapshot, packaged_snapshot
from airberg.sources.spec import config_problems
from airberg.sources.spec_problems import ROOT
from airberg.sources.verbs import check, discover
from airberg.stack.environments import ensure_pyairbyte_environment

INSTALL_WITHIN_S = 1_800.0
_SHOWN_JOBS = 3
_WIDE = 240


def list_connectors(settings: Settings, words: Sequence[str], *, only_installed: bool, as_json: bool) -> None:
    """Print the known connectors.

    Args:
        settings: Of the deployment.
        words: Parts of name, title or category; all must fit, in any case.
        only_installed: Leave out those of which no version is installed.
        as_json: Print an object a line.
    """
    here = installed_versions(settings.connectors_dir)
    rows = [
        (entry, here.get(entry.name, []))
        for entry in load_registry(settings).entries()
        if _fits(entry, words) and (here.get(entry.name) or not only_installed)
    ]
    if as_json:
        for entry, versions in rows:
            _print_json(_facts(entry) | {"installed": versions})
        return
    head = ("name", "title", "category", "language", "version", "installed")
    _print_grid(
        head,
        [
            (e.name, e.title, e.category, e.language, e.known_version, ", ".join(versions))
            for e, versions in rows
        ],
    )


def refresh_registry(settings: Settings, where: str) -> None:
    """Write a newer snapshot of Airbyte's connectors, and print what it changes.

    Args:
        settings: Of the deployment.
        where: Address or file of the registry; empty: PyAirbyte's.

    Raises:
        TransientFailed: The registry does not answer.
        ConfigurationFailed: It is none, or PyAirbyte's environment is not there.
    """
    packaged = {entry.name: entry for entry in packaged_snapshot().connectors}
    data = fetch(where or registry_address(settings))
    newer = newer_entries(data, packaged)
    entries = newer.connectors
    before = {entry.name: entry.version for entry in newest_snapshot(settings.registry_file).connectors}
    write_snapshot(settings.registry_file, newer, datetime.now(UTC).date().isoformat())
    new = [entry.name for entry in entries if entry.name not in before]
    changed = [entry for entry in entries if before.get(entry.name, entry.version) != entry.version]
    for entry in changed:
        typer.echo(f"{entry.name} {before[entry.name]} -> {entry.version}")
    typer.echo(
        f"{len(entries)} connectors: {len(new)} new, {len(changed)} in another version. "
        f"{len(newer.images)} are no packages, and {newer.left_out} were left out."
    )


def install_connectors(
    settings: Settings, names: Sequence[str], version: str | None, *, as_json: bool
) -> None:
    """Install connectors one after the other, and PyAirbyte's environment before them.

    Raises:
        InvalidRequest: There is no connector of that name, or not in that version.
        Unavailable: It could not be installed.
    """
    registry = load_registry(settings)
    for entry in [registry.find(name, version) for name in names]:
        started = time.monotonic()
        launch = _launch(settings, entry)
        facts = {"name": launch.source_name, "version": launch.version, "command": launch.argv[0]}
        if as_json:
            _print_json(facts | {"seconds": round(time.monotonic() - started, 1)})
        else:
            typer.echo(f"{launch.source_name} {launch.version} is installed.")


def show_spec(settings: Settings, name: str, version: str | None, *, as_json: bool) -> None:
    """Print what belongs into a connector's configuration."""
    launch = _launch(settings, load_registry(settings).find(name, version))
    if as_json:
        _print_json(launch.spec)
        return
    rows = [
        (
            field.path,
            field.type,
            " ".join(word for word, so in (("required", field.required), ("secret", field.secret)) if so),
            field.when or "",
            field.title if field.title != field.path else field.description,
        )
        for field in config_fields(launch.spec)
    ]
    _print_grid(("field", "type", "flags", "when", "meaning"), rows)


def check_configuration(
    settings: Settings,
    name: str,
    version: str | None,
    config: str,
    timeout_s: float,
    *,
    owner: str | None = None,
    as_json: bool,
) -> None:
    """Print a connector's verdict about a configuration.

    Raises:
        InvalidRequest: The configuration does not fit the specification, or does not work.
        RunError: The connector gives no verdict.
    """
    launch, given = _configured(settings, name, version, config, owner)
    with _waiting("asking the source"):
        outcome = check(launch, given.config, timeout_s, _renewed(config, given), given.hidden)
    if as_json:
        _print_json({"ok": outcome.ok, "message": outcome.message})
        if not outcome.ok:
            raise typer.Exit(1)
        return
    if not outcome.ok:
        message = outcome.message or "The connector could not connect to the source and does not say why."
        raise InvalidRequest.one(ROOT, "check-failed", message, "Correct the configuration and try again.")
    typer.echo(f"{launch.source_name} {launch.version}: the configuration works.")


def discover_streams(
    settings: Settings,
    name: str,
    version: str | None,
    config: str,
    timeout_s: float,
    *,
    owner: str | None = None,
    as_json: bool,
) -> None:
    """Print the streams that can be read with a configuration; with `as_json` as the protocol has them.

    Raises:
        InvalidRequest: The configuration does not fit the specification.
        RunError: The connector gives no catalog.
    """
    launch, given = _configured(settings, name, version, config, owner)
    with _waiting("asking the source for its streams"):
        streams = discover(launch, given.config, timeout_s, _renewed(config, given), hidden=given.hidden)
    if as_json:
        for stream in streams:
            _print_json(stream)
        return
    _print_grid(("stream", "primary key", "cursor", "modes", "columns"), map(_stream_row, streams))


def remove_connector(settings: Settings, name: str, version: str | None, *, force: bool) -> None:
    """Remove an installed version.

    Raises:
        NotFound: It is not installed.
        Conflict: A job runs with it (`connector-in-use`); it is being installed; the version is not named.
    """
    version = find_version(settings.connectors_dir, name, version).name
    if not force:
        _require_unused(settings, name, version)
    remove_version(settings.connectors_dir, name, version)
    typer.echo(f"{name} {version} is removed.")


# ---- connectors and configurations -----------------------------------------------------------------------


def _launch(settings: Settings, entry: ConnectorEntry) -> LaunchDescription:
    with _waiting(f"installing {entry.name} {entry.known_version}"):
        ensure_pyairbyte_environment(settings, lambda line: typer.echo(line, err=True))
        return resolve(entry, settings, deadline=time.monotonic() + INSTALL_WITHIN_S)


def _configured(
    settings: Settings, name: str, version: str | None, source: str, owner: str | None
) -> tuple[LaunchDescription, Resolved]:
    entry = load_registry(settings).find(name, version)
    config = _read_config(source)
    refuse_values(config, owner, settings.secrets.rules)
    launch = _launch(settings, entry)
    given = resolve_references(config, owner, settings.secrets)
    problems = config_problems(launch.spec, given.config) or host_problems(
        given.config, launch.limits.host_rules
    )
    if problems:
        raise InvalidRequest(problems)
    return launch, given


def _read_config(source: str) -> dict[str, Any]:
    where = "standard input" if source == "-" else source
    try:
        text = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
        config = msgspec.json.decode(text)
    except OSError as e:
        raise _bad_config(f"{where} cannot be read: {e.strerror}.") from None
    except msgspec.DecodeError as e:  # says where, not what
        raise _bad_config(f"{where} is not JSON: {e}.") from None
    if not isinstance(config, dict):
        raise _bad_config(f"{where} does not hold a JSON object.")
    return config


def _bad_config(what: str) -> ConfigurationFailed:
    return ConfigurationFailed(
        f"The configuration in {what}",
        guidance="Give a file with what `source_config` of a request would be.",
        code="bad-configuration-file",
    )


def _renewed(source: str, given: Resolved) -> Any:  # noqa: ANN401 - a callback, or None
    """Keeps a configuration that the connector changed: the old one may hold a token that is used up."""

    def keep(config: dict[str, Any]) -> None:
        if source == "-":
            typer.echo(
                "The source has renewed a token: the given configuration may not work again.", err=True
            )
            return
        target = Path(f"{source}.renewed")
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}-")  # mode 0600
        with os.fdopen(handle, "wb") as file:
            file.write(msgspec.json.encode(given.restored(config)))
        Path(temporary).replace(target)
        typer.echo(f"The source has renewed a token: the configuration is now {target}.", err=True)

    return keep


def _require_unused(settings: Settings, name: str, version: str) -> None:
    from airberg.jobs.open import open_store

    with contextlib.closing(open_store(settings)) as store:
        users = [
            job.request.name
            for job in store.jobs()
            if job.request.source_name == name and _version_of(job) == version
        ]
    if users:
        shown = ", ".join(repr(user) for user in users[:_SHOWN_JOBS])
        more = f" and {len(users) - _SHOWN_JOBS} more" if len(users) > _SHOWN_JOBS else ""
        raise Conflict(
            f"{name} {version} is the connector of {len(users)} job(s): {shown}{more}.",
            guidance="Move or delete them, or remove it with --force: then the next run installs it again.",
            code="connector-in-use",
        )


def _version_of(job: Job) -> str | None:
    if job.request.connector is not None:
        return job.request.connector.known_version
    return job.plan.connector_version if job.plan is not None else None


# ---- what is printed -------------------------------------------------------------------------------------


def _fits(entry: ConnectorEntry, words: Sequence[str]) -> bool:
    text = f"{entry.name} {entry.title} {entry.category}".lower()
    return all(word.lower() in text for word in words)


def _facts(entry: ConnectorEntry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "display_name": entry.title,
        "category": entry.category,
        "package_name": entry.package or None,
        "version": entry.known_version,
        "language": entry.language or None,
    }


def _stream_row(stream: dict[str, Any]) -> tuple[str, ...]:
    keys = (".".join(path) for path in stream.get("source_defined_primary_key") or ())
    name = ".".join(part for part in (stream.get("namespace"), stream["name"]) if part)
    return (
        name,
        ", ".join(keys),
        ".".join(stream.get("default_cursor_field") or ()),
        ", ".join(stream.get("supported_sync_modes") or ()),
        str(len((stream.get("json_schema") or {}).get("properties") or {})),
    )


@contextlib.contextmanager
def _waiting(what: str) -> Iterator[None]:
    """Say what is waited for, beside standard output and only in a terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    with console.status(escape(what)):
        yield


def _print_json(value: object) -> None:
    typer.echo(msgspec.json.encode(value).decode())


def _print_grid(head: Sequence[str], rows: Iterator[tuple[str, ...]] | Sequence[tuple[str, ...]]) -> None:
    """A table as wide as the terminal; elsewhere nothing is cut."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDE)
    grid = Grid(show_edge=False, pad_edge=False, header_style="bold cyan")
    for number, column in enumerate(head):
        last = number == len(head) - 1
        grid.add_column(column, overflow="fold" if last else "ellipsis", no_wrap=not last)
    for row in rows:
        grid.add_row(*(escape("".join(c if c.isprintable() else " " for c in cell)) for cell in row))
    console.print(grid)
