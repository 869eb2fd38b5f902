"""Change proposals as the JSON that DataHub's file source reads."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from airberg.governance.port import Proposal


def as_json(proposal: Proposal) -> dict[str, Any]:
    """One proposal as an object, its aspect unpacked below `aspect.json` (UPSERT and PATCH alike).

    Done here and not with `datahub.ingestion.sink.file`, whose import writes into the user's home.
    """
    obj: dict[str, Any] = proposal.to_obj()
    aspect = obj.get("aspect")
    if aspect and "value" in aspect:
        obj["aspect"] = {"json": json.loads(aspect["value"])}
    return obj


def render(proposals: Sequence[Proposal]) -> str:
    """The text of a metadata file: a JSON list, in the order given.

    Patches stay text with their content type. DataHub's file source takes whatever is unpacked for
    `application/json`, and its OpenAPI client then refuses to send it as a patch.
    """
    objects = [p.to_obj() if p.changeType == "PATCH" else as_json(p) for p in proposals]
    return json.dumps(objects, indent=1, ensure_ascii=False) + "\n"


def without_repeats(proposals: Iterable[Proposal]) -> list[Proposal]:
    """The proposals in order, each exact repetition left out (tables of one namespace share a container)."""
    first: dict[str, Proposal] = {}
    for proposal in proposals:
        first.setdefault(json.dumps(as_json(proposal), sort_keys=True), proposal)
    return list(first.values())
