"""What becomes of the versions of a key when one is added, disabled, enabled or destroyed: pure functions.

The newest version that is not destroyed is the primary one unless it is disabled; all others that are in use
are active. So an older version never becomes the primary one again by itself: the newest of several cannot be
destroyed, and while it is disabled nothing encrypts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from airberg.keys.names import key_out_of_use, newest_version, unknown_version, version_destroyed
from airberg.keys.port import Key, KeyVersion, VersionState

Versions = tuple[KeyVersion, ...]
Change = Callable[[Key, int | None], Versions]


def check_rotation(key: Key) -> None:
    """Refuse a new version of a key that is out of use as a whole.

    Raises:
        Conflict: None of its versions is in use.
    """
    if not any(v.decrypts for v in key.versions):
        raise key_out_of_use(key)


def with_new(key: Key, version: KeyVersion) -> Versions:
    """The versions with a new one, which becomes the primary one."""
    return _settled((*key.versions, version))


def disabled(key: Key, version: int | None) -> Versions:
    """The versions with one (None: all that are not destroyed) out of use.

    Raises:
        NotFound: There is no such version.
        Conflict: It is destroyed.
    """
    return _in_state(key, "disabled", _living(key, version))


def enabled(key: Key, version: int | None) -> Versions:
    """The versions with one (None: all that are not destroyed) in use again. Raises as `disabled`."""
    return _in_state(key, "active", _living(key, version))


def destroyed(key: Key, version: int | None) -> Versions:
    """The versions with one (None: all) destroyed.

    Raises:
        NotFound: There is no such version.
        Conflict: It is the newest one of several that are not destroyed.
    """
    chosen = _chosen(key, version)
    living = [v.version for v in key.versions if v.state != "destroyed"]
    if version is not None and len(living) > 1 and version == living[-1]:
        raise newest_version(key, version)
    return _in_state(key, "destroyed", chosen)


def changed(before: Sequence[KeyVersion], after: Sequence[KeyVersion]) -> Versions:
    """Those of `after` whose state is another one."""
    states = {v.version: v.state for v in before}
    return tuple(v for v in after if states.get(v.version) != v.state)


def _chosen(key: Key, version: int | None) -> list[KeyVersion]:
    found = [v for v in key.versions if version in (None, v.version)]
    if version is not None and not found:
        raise unknown_version(key, version)
    return found


def _living(key: Key, version: int | None) -> list[KeyVersion]:
    """The chosen versions that are not destroyed; there must be one."""
    living = [v for v in _chosen(key, version) if v.state != "destroyed"]
    if not living:
        raise key_out_of_use(key) if version is None else version_destroyed(key, version)
    return living


def _in_state(key: Key, state: VersionState, chosen: Sequence[KeyVersion]) -> Versions:
    numbers = {v.version for v in chosen}
    return _settled(tuple(replace(v, state=state) if v.version in numbers else v for v in key.versions))


def _settled(versions: Versions) -> Versions:
    """Say anew which version is the primary one."""
    newest = max((v.version for v in versions if v.state != "destroyed"), default=0)
    return tuple(
        replace(v, state="primary" if v.version == newest else "active") if v.decrypts else v
        for v in versions
    )
