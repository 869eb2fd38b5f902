"""The port to wherever metadata goes. File, REST and memory sinks pass the same behaviour suite."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol, TypeAlias
from uuid import UUID

Proposal: TypeAlias = Any
"""A `MetadataChangeProposalWrapper` or `MetadataChangeProposalClass` of acryl-datahub."""


MADE_ONCE = frozenset({"domainProperties"})
"""Aspects that are made where they are missing, and belong to people from then on."""


class MetadataSink(Protocol):
    """Takes the change proposals of one run."""

    def send(self, job_id: UUID, run_id: UUID, proposals: Iterable[Proposal]) -> str:
        """Hand over all proposals of a run. Sending the same run again replaces what was sent.

        Args:
            job_id: The job.
            run_id: The run of the job.
            proposals: In the order in which they are to be applied; may be empty. They are taken one by one,
                and may be made as they are taken; what making them raises is not caught.

        Returns:
            Where they went, for people: the path of a file or the address of a server.

        Raises:
            Unavailable: They could not be handed over; nothing or only a part arrived, try again.
        """
        ...
