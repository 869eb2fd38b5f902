"""Change proposals as the JSON that DataHub's file source reads."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
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


def render(proposals: Iterable[Proposal]) -> Iterator[str]:
    """The text of a metadata file, a piece for each proposal: a JSON list, in the order given.

    Patches stay text with their content type. DataHub's file source takes whatever is unpacked for
    `application/json`, and its OpenAPI client then refuses to send it as a patch.
    """
    before = "[\n "
    for proposal in proposals:
        obj = proposal.to_obj() if proposal.changeType == "PATCH" else as_json(proposal)
        yield before + json.dumps(obj, indent=1, ensure_ascii=False).replace("\n", "\n ")
        before = ",\n "
    yield "[]\n" if before.startswith("[") else "\n]\n"


def without_repeats(proposals: Iterable[Proposal]) -> Iterator[Proposal]:
    """The proposals in order, each exact repetition left out (tables of one namespace share a container)."""
    seen: set[bytes] = set()
    for proposal in proposals:
        text = json.dumps(as_json(proposal), sort_keys=True)
        mark = hashlib.blake2b(text.encode(), digest_size=16).digest()
        if mark not in seen:
            seen.add(mark)
            yield proposal
