"""A run's proposals as they go out: encoded once, and as many in a request as may be."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from airberg.governance.port import Proposal

MOST_BYTES = 8_000_000
"""Of all proposals of a request. DataHub takes 16,000,000 bytes in one; and so much of a run is in memory."""


class Packed(NamedTuple):
    """A proposal and its JSON, in ASCII, as rest.li takes it."""

    proposal: Proposal
    text: str


def packed(proposal: Proposal) -> Packed:
    """Encode a proposal."""
    from datahub.emitter.serialization_helper import pre_json_transform

    return Packed(proposal, json.dumps(pre_json_transform(proposal.to_obj())))


def batches(
    proposals: Iterable[Proposal], most: int, most_bytes: int = MOST_BYTES
) -> Iterator[Sequence[Packed]]:
    """Groups of proposals in their order; none is held back longer than until the next does not fit.

    Args:
        proposals: Those of a run.
        most: Most proposals of a group.
        most_bytes: Most bytes of their JSON; one that is larger is a group of its own.
    """
    group: list[Packed] = []
    size = 0
    for proposal in proposals:
        item = packed(proposal)
        if group and (len(group) >= most or size + len(item.text) > most_bytes):
            yield group
            group, size = [], 0
        group.append(item)
        size += len(item.text)
    if group:
        yield group


def restli_body(batch: Sequence[Packed]) -> bytes:
    """The body of `ingestProposalBatch`; it is answered when the primary store has them all."""
    return ('{"async": "false", "proposals": [' + ",\n".join(item.text for item in batch) + "]}").encode()
