"""A configuration that comes back with masks in it: which stored secrets it may keep.

People see a job's configuration with `**********` in place of secrets, change something, and send it back.
A mask then stands for the stored secret, but only if nothing has changed that could decide where it goes:
whoever may change a job, and does not know its secrets, could otherwise send them to a host of his own. What
decides that (host, url, port, account, proxy, bucket, whether certificates are checked, ...) cannot be told
from names. So every change beside a mask refuses it, but for numbers and dates under names that say how much
or since when is read, and for a secret that takes the place of another one and has no address in it.

A reference to a secret is like a mask for who may not use it: see `foreign`.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from airberg.errors import InvalidRequest, Problem
from airberg.sources.redact import MASK
from airberg.sources.secret_fields import is_reference
from airberg.sources.spec_problems import ROOT

Path: TypeAlias = tuple[str | int, ...]

_ABSENT = object()
_HARMLESS_NAME = re.compile(
    r"(start|end|since|until|from|to|replication_start)_?(date|time|datetime)?"
    r"|(date|time)_(from|to)"
    r"|(count|limit|seed|concurrency|num_workers|parallelism|page_size|batch_size|chunk_size|max_rows|max_records)"
    r"|(lookback|window|slice|interval)(_window)?(_(in_)?(seconds|minutes|hours|days))?"
)
_DATE = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d:?\d\d)?)?")
_ADDRESS = re.compile(r"://|[@;{}<>\s]|=[^=]")
"""In a secret: it may be a URL, a connection string or a document, which say where to go."""


def keep_secrets(
    sent: dict[str, Any],
    stored: dict[str, Any],
    public: dict[str, Any],
    *,
    foreign: Callable[[str], bool] = lambda _: False,
    root: str = ROOT,
) -> dict[str, Any]:
    """The configuration that was sent, with the stored secrets that its masks stand for.

    Args:
        sent: As it was sent.
        stored: As it is stored, with secrets.
        public: The stored one as it was shown: with its secrets masked.
        foreign: Whether a reference is to a secret that the caller may not use.
        root: Pointer to the configuration.

    Raises:
        InvalidRequest: `secret-needed` for each secret that is not kept.
    """
    masks = [path for path, text in _texts(sent) if text == MASK]
    borrowed = [path for path, text in _texts(sent) if is_reference(text) and foreign(text)]
    if not masks and not borrowed:
        return sent
    problems = [
        _needed(root, path, "There is no stored secret that the mask could stand for.", "")
        for path in masks
        if _at(public, path) != MASK or _at(stored, path) is _ABSENT
    ]
    problems += [
        _needed(root, path, "You may not use the secret that this reference names.", "")
        for path in borrowed
        if _at(stored, path) != _at(sent, path)
    ]
    changed = next(_changes(sent, public, stored, ()), None)
    if changed is not None and not problems:
        where = root + _pointer(changed)
        message = f"The stored secret is not kept, because {where} has changed: it could go elsewhere."
        problems = [
            _needed(root, path, message, f" Or leave {where} as it is.") for path in (*masks, *borrowed)
        ]
    if problems:
        raise InvalidRequest(problems)
    out = copy.deepcopy(sent)
    for path in masks:
        _put(out, path, copy.deepcopy(_at(stored, path)))
    return out


def still_masked(public: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    """What is shown of a configuration whose specification is not known: masked where it was before, too."""
    out = copy.deepcopy(public)
    for path, text in _texts(before):
        if text == MASK and _at(out, path) not in (_ABSENT, None, "") and not is_reference(_at(out, path)):
            _put(out, path, MASK)
    return out


def _needed(root: str, path: Path, message: str, guidance: str) -> Problem:
    advice = "Send the secret itself, or a reference to it (secret://...) that you may use."
    return Problem(root + _pointer(path), "secret-needed", message, advice + guidance)


def _changes(sent: Any, public: Any, stored: Any, path: Path) -> Iterator[Path]:  # noqa: ANN401 - JSON
    """Places that are not as they were shown, but for changes that send no secret elsewhere."""
    if isinstance(sent, dict) and isinstance(public, dict):
        for name in {**public, **sent}:
            kept = stored.get(name, _ABSENT) if isinstance(stored, dict) else _ABSENT
            yield from _changes(sent.get(name, _ABSENT), public.get(name, _ABSENT), kept, (*path, name))
    elif isinstance(sent, list) and isinstance(public, list) and len(sent) == len(public):
        for i, (one, other) in enumerate(zip(sent, public, strict=True)):
            inner_stored = stored[i] if isinstance(stored, list) and i < len(stored) else _ABSENT
            yield from _changes(one, other, inner_stored, (*path, i))
    elif public == MASK and sent != MASK:
        if not (_no_address(sent) and _no_address(stored)):
            yield path
    elif not _same(sent, public) and not _harmless(path, sent, public):
        yield path


def _same(one: object, other: object) -> bool:
    """Equal as JSON: 1 is not true."""
    if one is _ABSENT or other is _ABSENT:
        return one is other
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _harmless(path: Path, sent: object, public: object) -> bool:
    name = path[-1] if path else ""
    return (
        isinstance(name, str)
        and _HARMLESS_NAME.fullmatch(name) is not None
        and all(_amount(value) for value in (sent, public))
    )


def _amount(value: object) -> bool:
    """A number, a date, or nothing: no host has such a name."""
    if value is _ABSENT or value is None:
        return True
    if isinstance(value, str):
        return _DATE.fullmatch(value) is not None
    return isinstance(value, int | float) and not isinstance(value, bool)


def _no_address(value: object) -> bool:
    return isinstance(value, str) and not is_reference(value) and _ADDRESS.search(value) is None


def _texts(value: object, path: Path = ()) -> Iterator[tuple[Path, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for name, child in value.items():
            yield from _texts(child, (*path, name))
    elif isinstance(value, list):
        for i, child in enumerate(value):
            yield from _texts(child, (*path, i))


def _at(value: Any, path: Path) -> Any:  # noqa: ANN401 - JSON
    try:
        for part in path:
            if isinstance(value, str):
                return _ABSENT
            value = value[part]
    except (KeyError, IndexError, TypeError):
        return _ABSENT
    return value


def _put(value: Any, path: Path, new: object) -> None:  # noqa: ANN401 - JSON
    for part in path[:-1]:
        value = value[part]
    value[path[-1]] = new


def _pointer(path: Path) -> str:
    return "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in path)
