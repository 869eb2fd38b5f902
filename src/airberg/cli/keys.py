"""The commands `airberg keys ...` and their arguments."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from airberg.identity.operating_system import operator
from airberg.keys.export import Format
from airberg.settings import load_settings

if TYPE_CHECKING:
    from airberg.keys.port import Key, KeyStore

app = typer.Typer(help="Keys of encrypted columns.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Name of the key.")]
Owner = Annotated[list[str] | None, typer.Option(help="User (owner id) that may use it; several times.")]
Role = Annotated[list[str] | None, typer.Option(help="Role or group that may use it; several times.")]
Version = Annotated[int | None, typer.Option(min=1, help="Only this version; default all of them.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, an object a line.")]


@app.command("create")
def _create(name: Name, owner: Owner = None, role: Role = None) -> None:
    """Make a key. Without owners and roles everybody may use it."""
    store = _store()
    store.create(name, actor=operator(), owners=frozenset(owner or ()), roles=frozenset(role or ()))
    _print_keys([store.describe(name)])


@app.command("list")
def _list(as_json: AsJson = False) -> None:
    """List the keys with their states and users; never what is in them."""
    _print_keys(_store().keys(), as_json=as_json)


@app.command("show")
def _show(name: Name, as_json: AsJson = False) -> None:
    """Show a key and its versions."""
    key = _store().describe(name)
    _print_keys([key], as_json=as_json)
    if not as_json:
        typer.echo()
        print_table(
            ("version", "key id", "state", "created", "wrapped by"),
            [(v.version, f"{v.key_id:08x}", v.state, shown_time(v.created_at), v.kek) for v in key.versions],
        )


@app.command("rotate")
def _rotate(name: Name) -> None:
    """Add a version, which encrypts from now on. Older ones still decrypt."""
    store = _store()
    store.rotate(name, actor=operator())
    _print_keys([store.describe(name)])


@app.command("allow")
def _allow(
    name: Name,
    owner: Owner = None,
    role: Role = None,
    everybody: Annotated[bool, typer.Option("--everybody", help="Whoever can make jobs.")] = False,
) -> None:
    """Say who may use a key, in place of who might before."""
    from airberg.errors import ConfigurationFailed

    if everybody == bool(owner or role):
        raise ConfigurationFailed(
            "It is not said, or said twice, who may use the key.",
            guidance="Give --owner and --role, or --everybody.",
            code="users-not-named",
        )
    users = {"owners": frozenset(owner or ()), "roles": frozenset(role or ())}
    _print_keys([_store().allow(name, actor=operator(), **users)])


@app.command("disable")
def _disable(name: Name, version: Version = None) -> None:
    """Put a key, or one version, out of use: runs that need it fail, nothing decrypts."""
    _print_keys([_store().disable(name, actor=operator(), version=version)])


@app.command("enable")
def _enable(name: Name, version: Version = None) -> None:
    """Undo `disable`."""
    _print_keys([_store().enable(name, actor=operator(), version=version)])


@app.command("destroy")
def _destroy(
    name: Name,
    version: Version = None,
    yes_destroy: Annotated[
        str | None, typer.Option(metavar="NAME", help="The name of the key again, instead of being asked.")
    ] = None,
) -> None:
    """Erase a key, or one version, for good: what it encrypted can never be read again."""
    from airberg.keys.states import changed, destroyed

    store = _store()
    key = store.describe(name)
    doomed = [v.version for v in changed(key.versions, destroyed(key, version))]
    if doomed:
        _confirm(key, doomed, yes_destroy)
        key = store.destroy(name, actor=operator(), version=version)
    _print_keys([key])


def _confirm(key: Key, versions: list[int], answered: str | None) -> None:
    """Ask twice: whether it is meant, and for the name of the key.

    Raises:
        Conflict: It is not meant, or there is nobody to ask.
    """
    from airberg.keys.shown import erasure, unconfirmed

    if answered is None and sys.stdin.isatty():
        typer.echo(erasure(key, versions))
        if typer.confirm("Is that meant?"):
            answered = typer.prompt("Type the name of the key", default="", show_default=False)
    if answered != key.name:
        raise unconfirmed(key, versions, f"Nothing was erased. To do it, say --yes-destroy {key.name}.")


@app.command("rewrap")
def _rewrap() -> None:
    """Wrap all versions of all keys with the key-encryption key that the settings name now."""
    from airberg.keys.open import open_kek, open_keys

    settings = load_settings()
    kek = open_kek(settings).current
    count = open_keys(settings).rewrap(kek, actor=operator())
    typer.echo(f"{count} version(s) wrapped with {kek.uri}")


@app.command("export")
def _export(
    name: Name,
    form: Annotated[Format, typer.Option("--format", help="What for.")],
    table: Annotated[str | None, typer.Option(help="For SQL: dotted name of the table.")] = None,
    column: Annotated[str | None, typer.Option(help="For SQL: the encrypted column.")] = None,
    with_key: Annotated[
        bool, typer.Option("--with-key", help="For SQL: the keys themselves instead of placeholders.")
    ] = False,
    skip_unreadable: Annotated[
        bool, typer.Option("--skip-unreadable", help="For SQL: null for values of other versions.")
    ] = False,
    version: Version = None,
    output: Annotated[
        Path | None, typer.Option(help="A new file that only this user can read; default the terminal.")
    ] = None,
) -> None:
    """Print a key, or SQL that decrypts a column with it. Whatever holds a key leaves an audit entry."""
    from airberg.cli.key_export import Export, export_key

    asked = Export(name, form, table, column, with_key, skip_unreadable, version, output)
    export_key(load_settings(), asked, operator())


@app.command("audit")
def _audit(
    name: Annotated[str | None, typer.Argument(help="Name of a key; default all keys.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="So many of the newest entries.")] = 100,
    as_json: AsJson = False,
) -> None:
    """Show what was done to keys and with them, newest first."""
    store = _store()
    entries = store.audit(None if name is None else store.describe(name).name, limit)
    if as_json:
        from airberg.keys.shown import audit_facts

        _print_json(map(audit_facts, entries))
        return
    print_table(
        ("at", "actor", "action", "key", "versions", "detail"),
        [
            (shown_time(e.at), e.actor, e.action, e.key, ",".join(map(str, e.versions)), e.detail)
            for e in entries
        ],
    )


# ---- what is printed ------------------------------------------------------------------------------


def _store() -> KeyStore:
    from airberg.keys.open import open_keys

    return open_keys(load_settings())


def _print_keys(keys: Sequence[Key], *, as_json: bool = False) -> None:
    if as_json:
        from airberg.keys.shown import key_facts

        _print_json(map(key_facts, keys))
        return
    from airberg.keys.names import users_text

    rows = [
        (
            k.name,
            k.state,
            k.primary.version if k.primary else "-",
            len(k.versions),
            users_text(k.owners, k.roles),
        )
        for k in keys
    ]
    print_table(("name", "state", "primary", "versions", "for"), rows)


def _print_json(facts: Iterable[dict[str, Any]]) -> None:
    import msgspec

    for fact in facts:
        typer.echo(msgspec.json.encode(fact).decode())


def print_table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Columns as wide as they have to be. What would steer the terminal is not printed."""
    lines = [head, *([_printable(str(cell)) for cell in row] for row in rows)]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    for line in lines:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)


def shown_time(at: Any) -> str:  # noqa: ANN401 - a datetime, which is not imported for the sake of a name
    """A moment in UTC."""
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"
