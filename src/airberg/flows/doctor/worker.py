"""What a worker has of what a load needs: looked at by the task of the flow `airberg_doctor`."""

from __future__ import annotations

import contextlib
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator
from uuid import UUID

from pydantic import ValidationError

from airberg import __version__
from airberg.flows.doctor.examination import finding_of
from airberg.flows.doctor.model import Finding, NotFit
from airberg.jobs.engine import parse_url
from airberg.jobs.port import JobStore
from airberg.settings import Settings


def look(load: Callable[[], Settings], job_id: UUID | None) -> Iterator[Finding]:
    """All that can be seen here.

    Args:
        load: Reads the settings.
        job_id: A job that the service has.
    """
    yield Finding(
        check="worker-command",
        status="ok",
        found=f"Airberg {__version__}, Python {platform.python_version()}, in {sys.prefix}",
    )
    loaded: list[Settings] = []

    def settings_found() -> str:
        try:
            loaded.append(load())
        except ValidationError as e:
            item = e.errors(include_input=False, include_url=False)[0]
            name = "AIRBERG_" + "__".join(str(p).upper() for p in item["loc"])
            raise NotFit(
                f"The setting {name} is wrong: {item['msg']}.", "Correct it on the worker."
            ) from None
        return "they can be read"

    yield finding_of("worker-settings", settings_found)
    if loaded:
        settings = loaded[0]
        yield finding_of("worker-home", lambda: _home(settings))
        with contextlib.ExitStack() as opened:
            yield from _store(settings, job_id, opened)
        yield finding_of("worker-keys", lambda: _keys(settings))
        yield finding_of("worker-catalog", lambda: _catalog(settings))
        yield finding_of("worker-connectors", lambda: _connectors(settings))


def _home(settings: Settings) -> str:
    try:
        settings.home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=settings.home) as file:
            file.write(b"airberg")
    except OSError as e:
        raise NotFit(
            f"{settings.home} cannot be written: {e.strerror}.",
            "Set AIRBERG_HOME to a folder of the worker's user.",
        ) from None
    return f"{settings.home} can be written"


def _store(settings: Settings, job_id: UUID | None, opened: contextlib.ExitStack) -> Iterator[Finding]:
    from airberg.jobs.open import open_store

    stores: list[JobStore] = []

    def reached() -> str:
        stores.append(opened.enter_context(contextlib.closing(open_store(settings))))
        stores[0].flows_version()
        return f"the job store ({parse_url(settings.database_url).get_backend_name()}) answers"

    yield finding_of("worker-store", reached)
    if not stores:
        return
    if job_id is None:
        yield Finding(check="worker-job", status="skipped", found="there is no job yet")
        return
    yield finding_of("worker-job", lambda: _job(stores[0], job_id))


def _job(store: JobStore, job_id: UUID) -> str:
    from airberg.errors import NotFound

    try:
        job = store.job(job_id)
    except NotFound:
        raise NotFit(
            f"The worker's job store has no job {job_id}: it is not that of the service.",
            "Give the worker the AIRBERG_STORE_URL of the service.",
        ) from None
    store.source_config(job.id)
    return "it is that of the service, and the configuration of a job in it is decrypted"


def _keys(settings: Settings) -> str:
    from airberg.keys.open import open_keys

    with contextlib.closing(open_keys(settings)) as keys:
        name = settings.keys.default_key
        if keys.describe(name).state == "enabled":
            keys.primary(name)  # unwrapped, by the master key or by the key service
    return f"the key {name!r} can be used"


def _catalog(settings: Settings) -> str:
    from airberg.lake.catalog import catalog_errors, open_catalog

    catalog = open_catalog(settings)
    with catalog_errors("listing namespaces", settings.catalog_properties):
        found = len(catalog.list_namespaces())
    return f"the catalog {settings.catalog.name!r} answers ({found} namespaces)"


def _connectors(settings: Settings) -> str:
    from airberg.stack.environments import pyairbyte_environment

    environment = pyairbyte_environment(settings)
    if not environment.complete():
        raise NotFit(
            f"PyAirbyte's environment is not in {environment.folder}, or is of another version.",
            "The first run makes it, where the package index is reached; or run "
            "`airberg sources install source-faker` there.",
            status="warning",
        )
    return f"PyAirbyte's environment is in {environment.folder}"
