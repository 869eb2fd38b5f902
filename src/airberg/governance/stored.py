"""Files of change proposals, read back to be sent."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airberg.errors import ConfigurationFailed
from airberg.governance.later import LaterRuns

if TYPE_CHECKING:
    from airberg.governance.port import MetadataSink, Proposal
    from airberg.governance.replay import Send
    from airberg.jobs.model import Job, Run

MAX_BYTES = 256 << 20
HISTORY = frozenset({"operation", "datasetProfile", "dataProcessInstanceRunEvent"})
"""Aspects that are events: a late one takes no other's place."""


def from_files(folder: Path, sink: MetadataSink) -> Send:
    """Sends what was written for a run: the catalog is not asked, and tables are told as they were then."""

    def send(job: Job, run: Run, later: LaterRuns) -> str:
        proposals = read_file(folder / str(job.id) / f"{run.id}.json")
        names = job.plan.table_names if job.plan else ()
        return sink.send(job.id, run.id, still_true(proposals, later, names))

    return send


def read_file(path: Path) -> list[Proposal]:
    """The proposals in a file, in order.

    Raises:
        ConfigurationFailed: It is not there, cannot be read, is too large, or is no such file.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise _unreadable(path, f"is larger than {MAX_BYTES >> 20} MiB")
        objects = json.loads(path.read_bytes())
    except OSError as error:
        raise _unreadable(path, f"cannot be read ({error.strerror or type(error).__name__})") from error
    except ValueError as error:
        raise _unreadable(path, "is not JSON") from error
    if not isinstance(objects, list):
        raise _unreadable(path, "is no list of change proposals")
    return [_proposal(path, number, obj) for number, obj in enumerate(objects)]


def _proposal(path: Path, number: int, obj: Any) -> Proposal:  # noqa: ANN401  # JSON of a file
    from datahub.metadata.schema_classes import GenericAspectClass, MetadataChangeProposalClass

    try:
        aspect, kind = obj["aspect"], obj["changeType"]
        text = json.dumps(aspect["json"]) if "json" in aspect else aspect["value"]  # patches stay text
        texts = (obj["entityType"], obj["entityUrn"], obj["aspectName"])
        known = kind in ("UPSERT", "PATCH") and all(isinstance(t, str) and t for t in (*texts, text))
    except (KeyError, TypeError) as error:
        raise _unreadable(path, f"has no change proposal at {number}") from error
    if not known:
        raise _unreadable(path, f"has no change proposal at {number}")
    content_type = "application/json-patch+json" if kind == "PATCH" else "application/json"
    return MetadataChangeProposalClass(
        entityType=texts[0],
        entityUrn=texts[1],
        changeType=kind,
        aspectName=texts[2],
        aspect=GenericAspectClass(value=text.encode(), contentType=content_type),
    )


def still_true(proposals: list[Proposal], later: LaterRuns, tables: Collection[str] = ()) -> list[Proposal]:
    """What of a run's proposals takes nothing back that later runs tell.

    Args:
        proposals: Those of the run.
        later: What later runs tell of.
        tables: Tables that the job fills; when all were loaded since, what they share is not told either.
    """
    if not later.flow and not later.tables:
        return proposals
    shared = bool(set(tables) - later.tables)
    return [p for p in proposals if p.aspectName in HISTORY or _is_true(p, later, shared=shared)]


def _is_true(proposal: Proposal, later: LaterRuns, *, shared: bool) -> bool:
    kind = proposal.entityType
    if kind == "dataProcessInstance":
        return True
    if kind in ("dataFlow", "dataJob"):
        return not later.flow
    if kind == "dataset":
        found = re.fullmatch(r"urn:li:dataset:\(urn:li:dataPlatform:iceberg,(.+),[^,]+\)", proposal.entityUrn)
        name = found[1].casefold() if found else ""
        return not any(name == table or name.endswith(f".{table}") for table in later.tables)
    return shared  # the namespace, tags, a domain


def _unreadable(path: Path, found: str) -> ConfigurationFailed:
    return ConfigurationFailed(
        f"The metadata file {path} {found}.",
        guidance="Leave out --from-files: the proposals are then made of the tables.",
        code="metadata-file-unreadable",
    )
