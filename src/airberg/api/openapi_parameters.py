"""What parameters mean, wherever they occur, with an example of each: for the OpenAPI document."""

from __future__ import annotations

from typing import Final, NamedTuple


class Parameter(NamedTuple):
    """The words for a parameter, used where its route has none of its own."""

    description: str
    example: object


_JOB = "8f14e45f-ceea-467f-ab0e-5b6a1f0e4b1d"
_RUN = "c9f0f895-fb98-4b91-9ce5-1f9d3f6f6b1a"

PARAMETERS: Final = {
    ("path", "job_id"): Parameter("Id of a job, as the ingest call answers it.", _JOB),
    ("path", "run_id"): Parameter("Id of a run.", _RUN),
    ("path", "key_id"): Parameter("Id of a service key.", "0b0e3a52-6d0b-4a53-9c28-0e8f4f4f0001"),
    ("path", "name"): Parameter("Name of an encryption key.", "pii"),
    ("path", "source_name"): Parameter("Name of a connector, as in the list of sources.", "source-faker"),
    ("path", "schema"): Parameter("The namespace of a table; dots between its levels.", "shop"),
    ("path", "table"): Parameter("Name of a table.", "users"),
    ("query", "snapshots"): Parameter("How many of the newest snapshots are listed.", 20),
    ("query", "preview"): Parameter("How many rows are shown.", 10),
    ("query", "stream"): Parameter("Name of a stream, or namespace.name.", ["users"]),
    ("query", "limit"): Parameter("How many at most.", 50),
    ("query", "target"): Parameter("Only what was done to it.", _JOB),
    ("query", "actor"): Parameter("Only what it did.", "ann@example.com (urn:airberg:development|ann)"),
    ("query", "before"): Parameter("Only entries with a lower id.", 4711),
    ("query", "cursor"): Parameter(
        "Where the page begins.", "MTc3NDc4NTYwMDAwMDAwMC44ZjE0ZTQ1ZmNlZWE0NjdmYWIwZTViNmExZjBlNGIxZA"
    ),
    ("query", "owner_id"): Parameter("Only jobs of this owner.", "ann@example.com"),
    ("query", "status"): Parameter("Only jobs of this status.", "failed"),
    ("query", "source"): Parameter("Only jobs of this connector.", "source-github"),
    ("query", "tag"): Parameter("Only jobs with this tag.", "demo"),
    ("query", "include_deleted"): Parameter("Deleted ones, too.", True),
    ("query", "after"): Parameter("Only lines with higher numbers.", 12),
    ("query", "level"): Parameter("Only lines of this level or above.", "WARNING"),
    ("query", "tail"): Parameter("Only so many of the last lines.", 100),
    ("header", "last-event-id"): Parameter("Go on behind the line of this number.", 12),
    ("query", "search"): Parameter("Words that name or description must have.", "github"),
    ("query", "category"): Parameter("Only connectors of this category.", "own"),
    ("query", "version"): Parameter("Version of the connector; else that of new jobs.", "6.2.38"),
    ("query", "again"): Parameter("Ask the source even if it was asked just before.", True),
    ("query", "dry_run"): Parameter("Answer the plan and create nothing.", True),
    ("query", "preflight"): Parameter("skip: accept without asking the source.", "skip"),
    ("header", "if-match"): Parameter("Only if this is still the ETag.", '"3"'),
    ("header", "idempotency-key"): Parameter(
        "Names this request. Sent again it gets the first one's answer, and makes no second job.",
        "9f3c1d0e-load-of-monday",
    ),
}
"""By where a parameter is, and its name."""
