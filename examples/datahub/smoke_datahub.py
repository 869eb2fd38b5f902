"""Loads tables, tells a real DataHub of them, and looks at all of it there: `make smoke-datahub`.

    python smoke_datahub.py [--server URL] [--keep]

Without `--server` a DataHub is started with Docker (`datahub docker quickstart`) and stopped at the end.
The load is that of `airberg quickstart`: API, Airflow, a connector, two columns that are changed on the way.
Then somebody tags a table and owns it, as people do in DataHub's pages; the run is told once more; and what
is theirs has to be there still.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airberg.errors import AirbergError, Unavailable
from airberg.governance.compare import compare
from airberg.governance.connection import Connection
from airberg.governance.differences import EVENTS
from airberg.governance.directory import open_directory
from airberg.governance.entities import upserts
from airberg.governance.register import run_proposals
from airberg.governance.sinks import open_connection, open_sink
from airberg.jobs.model import Job, Run, RunStatus
from airberg.jobs.open import open_store
from airberg.lake.catalog import open_catalog
from airberg.settings import Settings, load_settings

VERSION = "v1.7.0"
QUICKSTART_SERVER = "http://localhost:8080"
AIRFLOW_PORT = "18080"
"""The default is DataHub's too."""
DOMAIN, DOMAIN_URN = "Marketing", "urn:li:domain:airberg-smoke-marketing"
TAG, OWNER = "urn:li:tag:airberg-smoke-person", "urn:li:corpuser:airberg-smoke-person"
KINDS = frozenset({"container", "dataset", "tag", "dataFlow", "dataJob", "dataProcessInstance"})
"""Of entities that every run with tables tells of."""
ANSWERS_WITHIN_S = 300.0
FOUND_WITHIN_S = 120.0


@dataclass
class Checked:
    """What was looked at.

    Attributes:
        entities: How many entities of each kind.
        problems: What is not as it should be; for people.
        kept: What people added: urn and aspect of each.
    """

    entities: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    kept: set[tuple[str, str, str]] = field(default_factory=set)


def check(settings: Settings) -> Checked:
    """Read every aspect of every entity that the runs of all jobs tell of, and compare.

    Raises:
        Unavailable: DataHub does not answer.
    """
    checked = Checked()
    store, catalog = open_store(settings), open_catalog(settings)
    try:
        with open_connection(settings) as datahub:
            jobs = list(store.jobs())
            for one in compare(store, jobs, catalog, settings, datahub):
                for found in one.found:
                    if found.kind == "kept":
                        checked.kept.add((found.urn, found.aspect, str(found.found)))
                    else:
                        words = f"{found.found!r} instead of {found.expected!r}"
                        checked.problems.append(
                            f"{found.kind}: {found.urn} {found.aspect}{found.pointer}: {words}"
                        )
                proposals = list(run_proposals(one.job, one.run, catalog, settings))
                checked.entities.update(kind for kind, _ in {(p.entityType, p.entityUrn) for p in proposals})
                checked.problems += _events(proposals, datahub)
            checked.problems += [
                f"untold: run {run.id}: {run.report.metadata_error}"
                for job in jobs
                for run in store.runs(job.id, status=RunStatus.COMPLETED, limit=100)
                if run.report.metadata_error
            ]
    finally:
        store.close()
    if missing := sorted(KINDS - set(checked.entities)):
        checked.problems.append(f"nothing is told of any {', '.join(missing)}")
    return checked


def _events(proposals: list[Any], datahub: Connection) -> Iterator[str]:
    """Events that are not there. The latest of each kind is read, which is to be ours or a later one."""
    newest: dict[tuple[str, str], int] = {}
    for proposal in proposals:
        if proposal.aspectName in EVENTS:
            place = (proposal.entityUrn, proposal.aspectName)
            newest[place] = max(newest.get(place, 0), proposal.aspect.timestampMillis)
    for (urn, name), moment in newest.items():
        value = datahub.read(urn, name).value
        there = value.get("timestampMillis") if isinstance(value, dict) else None
        if not isinstance(there, int) or there < moment:
            yield f"missing: {urn} {name} of {moment}: the latest is {there}"


def somebody_comes(settings: Settings) -> set[tuple[str, str, str]]:
    """Tag and own the first table of all, beside ours; returns what is to be kept."""
    import datahub.metadata.schema_classes as aspects
    from datahub.metadata.urns import TagUrn
    from datahub.specific.dataset import DatasetPatchBuilder

    job, run = next(_runs(settings))
    proposals = run_proposals(job, run, open_catalog(settings), settings)
    urn = next(p.entityUrn for p in proposals if p.entityType == "dataset")
    patch = DatasetPatchBuilder(urn).add_tag(aspects.TagAssociationClass(tag=TAG))
    patch.add_owner(aspects.OwnerClass(owner=OWNER, type=aspects.OwnershipTypeClass.BUSINESS_OWNER))
    tag = upserts(TAG, TagUrn.from_string(TAG).to_key_aspect())
    open_sink(settings).send(job.id, run.id, [*tag, *patch.build()])
    return {(urn, "globalTags", TAG), (urn, "ownership", OWNER)}


def _runs(settings: Settings) -> Iterator[tuple[Job, Run]]:
    store = open_store(settings)
    try:
        for job in store.jobs():
            for run in store.runs(job.id, status=RunStatus.COMPLETED, limit=1):
                yield job, run
    finally:
        store.close()


def make_domain(settings: Settings) -> None:
    """Have the domain of the job, and wait until DataHub's search finds it by its name.

    Raises:
        Unavailable: It does not.
    """
    import uuid

    import datahub.metadata.schema_classes as aspects

    nobody = uuid.UUID(int=0)
    properties = aspects.DomainPropertiesClass(name=DOMAIN)
    open_sink(settings).send(nobody, nobody, upserts(DOMAIN_URN, properties))
    directory = open_directory(settings)

    def found() -> None:
        known = directory.entities("domain") if directory else []
        if DOMAIN_URN not in {entity.urn for entity in known}:
            raise Unavailable("DataHub's search does not find the domain.", code="smoke-failed")

    _eventually(found, FOUND_WITHIN_S)


def _eventually(call: Callable[[], object], within_s: float) -> None:
    """Call until it raises nothing."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            call()
        except AirbergError:
            if time.monotonic() > deadline:
                raise
            time.sleep(2)
        else:
            return


def airberg(settings: Settings, *arguments: str) -> None:
    """Run a command of Airberg.

    Raises:
        Unavailable: It failed.
    """
    command = [sys.executable, "-m", "airberg.cli", *arguments]
    token = settings.datahub.token.get_secret_value() if settings.datahub.token else None
    own = {"AIRBERG_HOME": str(settings.home), "AIRBERG_DATAHUB__SERVER": str(settings.datahub.server)}
    if token:
        own["AIRBERG_DATAHUB__TOKEN"] = token
    code = subprocess.run(command, env=os.environ | own, check=False).returncode
    if code:
        raise Unavailable(f"`airberg {' '.join(arguments)}` ended with {code}.", code="smoke-failed")


def _tell_again(settings: Settings) -> None:
    for _, run in list(_runs(settings)):
        airberg(settings, "governance", "replay", "--run", str(run.id))


def smoke(settings: Settings, load: Callable[[], None], again: Callable[[], None]) -> list[str]:
    """All of it; returns what is not as it should be.

    Args:
        settings: Where DataHub is, and the deployment.
        load: Loads tables by a job, and tells DataHub.
        again: Tells it once more.
    """
    make_domain(settings)
    load()
    first = check(settings)
    say(f"after the load: {_words(first)}")
    if first.problems:
        return first.problems
    theirs = somebody_comes(settings)
    again()
    second = check(settings)
    say(f"told again, after somebody came: {_words(second)}")
    lost = [f"lost: {urn} {aspect}: {what}" for urn, aspect, what in sorted(theirs - second.kept)]
    return second.problems + lost


def _words(checked: Checked) -> str:
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(checked.entities.items()))
    return f"{kinds}; {len(checked.problems)} problem(s), {len(checked.kept)} of people kept"


def say(line: str) -> None:
    """A line for whoever waits."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def docker_quickstart(*options: str) -> None:
    """Let DataHub's own command start or stop a DataHub.

    Raises:
        Unavailable: There is no Docker, or it did not work.
    """
    if shutil.which("docker") is None:
        raise Unavailable(
            "There is no Docker here.",
            guidance="Name a DataHub that runs: --server URL.",
            code="smoke-failed",
        )
    command = [str(Path(sys.executable).with_name("datahub")), "docker", "quickstart", *options]
    environment = os.environ | {"DATAHUB_TELEMETRY_ENABLED": "false"}
    if subprocess.run(command, env=environment, check=False).returncode:
        raise Unavailable("`datahub docker quickstart` failed; see above.", code="smoke-failed")


def main() -> int:
    """Read the arguments, and do it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--server", help="metadata service (GMS) of a DataHub that runs")
    parser.add_argument("--keep", action="store_true", help="leave a DataHub that was started for this")
    options = parser.parse_args()
    server = options.server or QUICKSTART_SERVER
    os.environ["AIRBERG_DATAHUB__SERVER"] = server
    os.environ.setdefault("AIRBERG_AIRFLOW__PORT", AIRFLOW_PORT)
    try:
        if not options.server:
            docker_quickstart("--version", VERSION)
        settings = load_settings()
        _eventually(lambda: open_connection(settings).close(), ANSWERS_WITHIN_S)
        problems = smoke(
            settings,
            lambda: airberg(settings, "quickstart", "--once"),
            lambda: _tell_again(settings),
        )
        if not options.server and not options.keep:
            docker_quickstart("--stop")
    except AirbergError as error:
        say(f"error: {error.sentence()}")
        return 1
    for problem in problems:
        say(problem)
    say(f"{len(problems)} problem(s)." if problems else "Everything is in DataHub.")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
