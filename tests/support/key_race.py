"""What the processes of a race for a key do; in a module of its own, since a spawned process imports it."""

from __future__ import annotations

from multiprocessing.synchronize import Barrier

from airberg.errors import AirbergError
from airberg.jobs.engine import engine_of
from airberg.keys.kek import LocalKek
from airberg.keys.sql import SqlKeyStore


def rotate(gate: Barrier, url: str, name: str) -> str:
    """Rotate a key that all the others rotate too."""
    store = SqlKeyStore(engine_of(url), LocalKek([bytes(32)]))
    gate.wait(60)
    try:
        return f"version {store.rotate(name, actor='racer').version}"
    except AirbergError as e:
        return e.code
    finally:
        store.close()


def rotate_or_destroy(gate: Barrier, url: str, name: str) -> str:
    """Rotate a key that one of the others destroys."""
    store = SqlKeyStore(engine_of(url), LocalKek([bytes(32)]))
    try:
        if gate.wait(60) == 0:
            return store.destroy(name, actor="racer").state
        return f"version {store.rotate(name, actor='racer').version}"
    except AirbergError as e:
        return e.code
    finally:
        store.close()
