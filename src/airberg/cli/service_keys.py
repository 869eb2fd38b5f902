"""The commands `airberg service-keys ...` and their arguments: for who runs the deployment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from airberg.identity.operating_system import operator
from airberg.settings import load_settings

if TYPE_CHECKING:
    from airberg.identity.service_keys import ServiceKey
    from airberg.jobs.audit import Act
    from airberg.jobs.sql_service_keys import SqlServiceKeys
    from airberg.settings import Settings

app = typer.Typer(help="Service keys, which programs send instead of access tokens.", no_args_is_help=True)


@app.command("create")
def _create(
    name: Annotated[str, typer.Argument(help="For people, and the identity of the service.")],
    scope: Annotated[list[str], typer.Option(help="What it may be used for; several times.")],
    owner: Annotated[str, typer.Option(help="Owner of the jobs that it makes.")],
    group: Annotated[list[str] | None, typer.Option(help="Role or group it has; several times.")] = None,
    days: Annotated[int | None, typer.Option(min=1, help="For how long; default the longest.")] = None,
    identity: Annotated[
        str | None,
        typer.Option(help="ISSUER|SUBJECT that it acts for; default `airberg|service:NAME`."),
    ] = None,
) -> None:
    """Make a service key and print it: it is not shown again. A key of the same name sees the same jobs."""
    from airberg.identity.service_keys import digest_of, new_key

    settings = load_settings()
    _check(settings, name, owner, scope, days, identity)
    key, text = new_key(
        name=name,
        scopes=frozenset(scope),
        groups=frozenset(group or ()),
        owner_id=owner,
        created_by=identity or f"airberg|service:{name}",
        life=timedelta(days=days or settings.auth.service_key_days),
        now=datetime.now(UTC),
    )
    with _store(settings) as store:
        store.add(key, digest_of(text), act=_act("service-key.create", key))
    typer.echo(text)
    typer.echo(f"{key.id}, until {key.expires_at:%Y-%m-%dT%H:%M:%SZ}", err=True)


@app.command("list")
def _list(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, an object a line.")] = False,
) -> None:
    """List all service keys, newest first; never what is in them."""
    with _store(load_settings()) as store:
        found = store.keys()
    if as_json:
        _print_json(found)
        return
    from airberg.cli.keys import print_table, shown_time

    now = datetime.now(UTC)
    rows = [
        (
            k.id,
            k.name,
            k.state(now),
            " ".join(sorted(k.scopes)),
            k.created_by,
            shown_time(k.expires_at),
            shown_time(k.last_used_at) if k.last_used_at else "-",
        )
        for k in found
    ]
    print_table(("id", "name", "state", "scopes", "acts for", "expires", "last used"), rows)


@app.command("revoke")
def _revoke(key_id: Annotated[UUID, typer.Argument(help="Id of the key.")]) -> None:
    """Revoke a service key, from its next request on."""
    from airberg.identity.service_keys import no_key

    with _store(load_settings()) as store:
        found = store.find(key_id)
        if found is None:
            raise no_key(key_id)
        store.revoke(key_id, datetime.now(UTC), act=_act("service-key.revoke", found[0]))


def _check(
    settings: Settings, name: str, owner: str, scopes: Sequence[str], days: int | None, identity: str | None
) -> None:
    """Refuse what the API would refuse, too.

    Raises:
        ConfigurationFailed: The deployment has no service keys, or an argument is wrong.
    """
    from airberg.api.auth import SCOPES
    from airberg.errors import ConfigurationFailed

    most = settings.auth.service_key_days
    problem = None
    if unknown := sorted(set(scopes) - SCOPES.keys()):
        problem = f"There is no scope {unknown[0]}. Choose from {', '.join(SCOPES)}."
    elif not all(text.strip() and text.isprintable() and len(text) <= 100 for text in (name, owner)):
        problem = "Name and owner must have 1 to 100 printable characters."
    elif most == 0:
        problem = "Service keys are turned off: AIRBERG_AUTH__SERVICE_KEY_DAYS is 0."
    elif days is not None and days > most:
        problem = f"Service keys live for {most} days at most (AIRBERG_AUTH__SERVICE_KEY_DAYS)."
    elif identity is not None and not all(identity.partition("|")):
        problem = "The identity is not ISSUER|SUBJECT, as `created_by` of a job or a key has it."
    if problem is not None:
        raise ConfigurationFailed(problem, code="bad-service-key")


@contextmanager
def _store(settings: Settings) -> Iterator[SqlServiceKeys]:
    from airberg.jobs.open import open_migrated
    from airberg.jobs.sql_service_keys import SqlServiceKeys

    engine = open_migrated(settings)
    try:
        yield SqlServiceKeys(engine)
    finally:
        engine.dispose()


def _act(action: str, key: ServiceKey) -> Act:
    from airberg.jobs.audit import Act

    facts = {"name": key.name, "scopes": sorted(key.scopes), "groups": sorted(key.groups)}
    return Act(actor=operator(), action=action, kind="service-key", target=str(key.id), detail=facts)


def _print_json(found: Sequence[ServiceKey]) -> None:
    import msgspec

    from airberg.identity.service_keys import key_facts

    now = datetime.now(UTC)
    for key in found:
        typer.echo(msgspec.json.encode(key_facts(key, now)).decode())
