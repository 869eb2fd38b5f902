"""Examples of bodies and answers, by the name of their schema: for the OpenAPI document.

A test checks each against its schema, and sends the bodies to a service, which takes them.
"""

from __future__ import annotations

from typing import Any, Final

_JOB = "8f14e45f-ceea-467f-ab0e-5b6a1f0e4b1d"
_RUN = "c9f0f895-fb98-4b91-9ce5-1f9d3f6f6b1a"
_FLOW = "airberg_8f14e45f"
_FLOW_URL = f"http://127.0.0.1:8080/dags/{_FLOW}"

_SUMMARY: Final[dict[str, Any]] = {
    "id": _RUN,
    "status": "completed",
    "attempt": 1,
    "rows_read": 1000,
    "rows_written": 1000,
    "rows_deleted": 0,
    "created_at": "2026-03-29T12:00:00Z",
    "started_at": "2026-03-29T12:00:04Z",
    "ended_at": "2026-03-29T12:00:21Z",
    "duration_s": 17.0,
    "error": None,
}
_SERVICE_KEY: Final[dict[str, Any]] = {
    "id": "0b0e3a52-6d0b-4a53-9c28-0e8f4f4f0001",
    "name": "nightly loader",
    "state": "active",
    "scopes": ["ingest:read", "ingest:write"],
    "groups": [],
    "owner_id": "ann@example.com",
    "created_by": "https://sso.example.com/realms/data|8f14e45f",
    "created_at": "2026-03-29T12:00:00Z",
    "expires_at": "2026-04-28T12:00:00Z",
    "last_used_at": "2026-03-30T04:00:00Z",
    "revoked_at": None,
}
_STREAM: Final[dict[str, Any]] = {
    "stream": "users",
    "table": "shop.users",
    "phase": "complete",
    "rows_read": 1000,
    "bytes_read": 412_034,
    "rows_staged": 0,
    "bytes_staged": 0,
    "rows_written": 1000,
    "rows_estimated": 1000,
    "bytes_estimated": None,
    "rows_per_s": 118.4,
    "rows_deleted": 0,
    "values_nulled": 0,
    "records_ignored": 0,
    "bytes_written": 61_120,
    "checkpoints": 1,
    "snapshot_ids": ["5637456349023476834"],
    "complete": True,
    "attempts": 1,
    "started_at": "2026-03-29T12:00:09Z",
    "ended_at": "2026-03-29T12:00:20Z",
    "duration_s": 11.0,
    "state_before": {
        "value": {"updated_at": "2026-03-28T23:59:58Z"},
        "withheld": None,
        "bytes": 37,
        "sha256": "6f0e6c3f5e0c4c2e4b0f0c0a3f4c3d0d6f7a9f1d2b8c5e7a1d3f5b7c9e0a2c4e",
    },
    "state_after": {"value": None, "withheld": "protected", "bytes": None, "sha256": None},
    "state_changed": True,
    "state_diff": {
        "added": [{"pointer": "/parts/2", "value": "eu"}],
        "changed": [
            {"pointer": "/updated_at", "before": "2026-03-28T23:59:58Z", "after": "2026-03-29T11:58:12Z"}
        ],
        "removed": [],
        "more": 0,
    },
}
_RUN_IN_FULL: Final[dict[str, Any]] = _SUMMARY | {
    "job_id": _JOB,
    "flow_run_id": f"airberg__{_RUN}",
    "flow_run_url": f"{_FLOW_URL}/runs/airberg__{_RUN}",
    "asked": {"streams": [], "full_refresh": False},
    "parts": [],
    "error_code": None,
    "guidance": None,
    "error_page": None,
    "attempts": [
        {
            "number": 1,
            "status": "completed",
            "started_at": "2026-03-29T12:00:04Z",
            "ended_at": "2026-03-29T12:00:21Z",
            "duration_s": 17.0,
            "error": None,
            "error_code": None,
            "guidance": None,
        }
    ],
    "records_of_unknown_streams": 0,
    "metadata": "http://127.0.0.1:8081",
    "metadata_error": None,
    "lineage_error": None,
    "streams": [_STREAM],
}
_JOB_IN_FULL: Final[dict[str, Any]] = {
    "id": _JOB,
    "job_name": "Faker to the lake",
    "owner_id": "ann@example.com",
    "job_type": "airflow.airbyte",
    "source": "source-faker",
    "destination": "shop",
    "schedule": "0 6 * * *",
    "timezone": "Europe/Berlin",
    "paused": False,
    "status": "completed",
    "status_message": None,
    "created_at": "2026-03-29T12:00:00Z",
    "last_started_at": "2026-03-29T12:00:04Z",
    "last_completed_at": "2026-03-29T12:00:21Z",
    "last_failed_at": None,
    "is_deleted": False,
    "deleted_at": None,
    "properties_json": '{"name":"Faker to the lake","mode":"append","source_config":{"count":1000}}',
    "version": 1,
    "flow_id": _FLOW,
    "flow_url": _FLOW_URL,
    "flow_registered": True,
    "next_runs": ["2026-03-30T04:00:00Z"],
    "tables": ["shop.users"],
    "runs": [_SUMMARY],
}
_PLAN: Final[dict[str, Any]] = {
    "source": {"name": "source-faker", "version": "6.2.38"},
    "source_config": {"count": 1000},
    "mode": "append",
    "merging": None,
    "streams": [
        {
            "stream": "users",
            "namespace": None,
            "sync_mode": "incremental",
            "cursor": "updated_at",
            "primary_key": ["id"],
            "merge_key": [],
            "columns": [
                {"column": "id", "type": "long", "transformations": {}},
                {
                    "column": "email",
                    "type": "binary",
                    "transformations": {
                        "encrypt": {"key_name": "pii", "mode": "random", "aad": "shop.users.email"}
                    },
                },
            ],
            "dropped": ["telephone"],
            "table": {
                "name": "shop.users",
                "exists": False,
                "columns": {"id": "long", "email": "binary"},
                "changes": [],
                "partition_by": [],
                "sort_by": [],
                "identifier": [],
                "format_version": 2,
            },
        }
    ],
    "governance": {"domain": "urn:li:domain:sales", "tags": ["demo"], "owner": "ann@example.com"},
    "flow": {
        "id": "airberg_<job id, given at creation>",
        "schedule": None,
        "timezone": "UTC",
        "run_now": True,
        "next_runs": [],
        "options": {
            **dict.fromkeys(("pool", "queue", "deadline_s", "cpu", "memory")),
            "parallelism": 1,
            "priority": 10,
            "retries": 2,
            "retry_delay_s": 60,
            "timeout_s": 21600,
            "on_failure": [{"type": "slack", "connection": "slack", "channel": "#loads", "to": None}],
        },
    },
    "warnings": [],
}
_SOURCE: Final[dict[str, Any]] = {
    "name": "source-faker",
    "package_name": "airbyte-source-faker",
    "display_name": "Sample Data",
    "category": "api",
    "description": "Makes people, products and purchases up.",
    "version": "6.2.38",
    "language": "python",
    "installed": True,
}
_KEY_VERSION: Final[dict[str, Any]] = {
    "version": 1,
    "key_id": "00c0ffee",
    "state": "primary",
    "kek": "local://master",
    "created_at": "2026-03-29T12:00:00Z",
}
_STATE: Final[dict[str, Any]] = {
    "type": "STREAM",
    "stream": {
        "stream_descriptor": {"name": "users"},
        "stream_state": {"updated_at": "2026-03-29T11:58:00Z"},
    },
}
_SNAPSHOT = "5637456349023476834"
_REWIND: Final[dict[str, Any]] = {
    "stream": "users",
    "table": "shop.users",
    "from_snapshot_id": "8839476349023471122",
    "to_snapshot_id": _SNAPSHOT,
    "rows_before": 1200,
    "rows_after": 1000,
    "rows_difference": -200,
    "state_before": None,
    "state_after": _STATE,
    "protected": False,
    "lost": [
        {
            "snapshot_id": "8839476349023471122",
            "at": "2026-03-30T04:00:21Z",
            "operation": "append",
            "by": "run",
            "who": "scheduled__2026-03-30T04:00:00+00:00",
        }
    ],
}
_TABLE: Final[dict[str, Any]] = {
    "table": "shop.users",
    "location": "s3://lake/shop/users",
    "format_version": 2,
    "columns": [
        {
            "name": "id",
            "type": "long",
            "required": False,
            "doc": None,
            "protection": None,
            "key": None,
            "plain_type": None,
        },
        {
            "name": "email",
            "type": "binary",
            "required": False,
            "doc": None,
            "protection": "encrypted",
            "key": "pii",
            "plain_type": "string",
        },
    ],
    "partition_by": ["bucket(16, id)"],
    "sort_by": [],
    "identifier": [],
    "rows": 1000,
    "bytes": 61_120,
    "data_files": 1,
    "delete_files": 0,
    "owner": "ann@example.com",
    "comment": "Stream users of source-faker, loaded by Airberg.",
    "jobs": [_JOB],
    "snapshot_count": 1,
    "snapshots": [
        {
            "snapshot_id": _SNAPSHOT,
            "parent_id": None,
            "at": "2026-03-29T12:00:20Z",
            "operation": "append",
            "current": True,
            "rows_added": 1000,
            "rows_deleted": 0,
            "rows_total": 1000,
            "job_id": _JOB,
            "flow_run_id": f"airberg__{_RUN}",
            "checkpoint": 1,
            "act": None,
            "upkeep": None,
        }
    ],
    "preview": [{"id": 1, "email": "<encrypted>"}],
}

EXAMPLES: Final[dict[str, list[Any]]] = {
    "IngestBody": [
        {
            "name": "Faker to the lake",
            "source_name": "source-faker",
            "source_config": {"count": 1000, "seed": 42, "always_updated": False},
            "schema_name": "shop",
            "mode": "append",
            "streams": ["users"],
            "tags": ["demo"],
        },
        {
            "name": "Faker every morning",
            "source_name": "source-faker",
            "source_config": {"count": 1000, "seed": 42},
            "schema_name": "shop.daily",
            "mode": "merge",
            "merge": "id",
            "schedule": "0 6 * * *",
            "timezone": "Europe/Berlin",
            "run_now": False,
            "column_transformations": [
                {"column": "email", "transformation_type": "hash", "encryption_key_name": "pii"}
            ],
            "tables": {"users": {"partition_by": ["bucket(16, id)"]}},
        },
    ],
    "JobPatch": [
        {"schedule": "0 7 * * *", "timezone": "Europe/Berlin"},
        {"streams": ["users"], "tags": ["demo", "daily"]},
    ],
    "PlannedChange": [
        {
            "changed": ["streams"],
            "streams": ["+ purchases, into a new table purchases"],
            "columns": [],
            "tables": ["shop.purchases: is made"],
            "plan": _PLAN,
        }
    ],
    "IngestAnswer": [{"flow_url": _FLOW_URL, "job_id": _JOB, "error": None}],
    "PlanAnswer": [{"flow_url": "", "job_id": None, "error": None, "plan": _PLAN}],
    "SourceBody": [{"source_name": "source-faker", "source_config": {"count": 1000, "seed": 42}}],
    "SourceSummary": [_SOURCE],
    "SourceDetails": [
        _SOURCE
        | {
            "supported_python": "<3.13,>=3.10",
            "supported_python_from": "package",
            "documentation_url": "https://docs.airbyte.com/integrations/sources/faker",
            "tested": True,
            "versions": ["6.2.38"],
            "config_fields": [
                {
                    "name": "count",
                    "path": "count",
                    "title": "Count",
                    "type": "integer",
                    "required": False,
                    "secret": False,
                    "description": "How many users.",
                    "default": 1000,
                    "enum": None,
                    "when": None,
                }
            ],
            "config_template": None,
            "spec": {"type": "object", "properties": {"count": {"type": "integer", "default": 1000}}},
        }
    ],
    "CheckView": [
        {
            "succeeded": True,
            "message": None,
            "source_name": "source-faker",
            "version": "6.2.38",
            "config_renewed": False,
        }
    ],
    "DiscoverView": [
        {
            "source_name": "source-faker",
            "version": "6.2.38",
            "discovered_at": "2026-03-29T12:00:00Z",
            "config_renewed": False,
            "streams": [
                {
                    "name": "users",
                    "namespace": None,
                    "json_schema": {"type": "object", "properties": {"id": {"type": "integer"}}},
                    "sync_modes": ["full_refresh", "incremental"],
                    "primary_key": [["id"]],
                    "cursor_field": ["updated_at"],
                    "source_defined_cursor": True,
                }
            ],
        }
    ],
    "JobView": [_JOB_IN_FULL],
    "RunView": [_RUN_IN_FULL],
    "StatesBody": [{"states": [_STATE]}],
    "JobStateView": [
        {
            "job_id": _JOB,
            "states": [_STATE],
            "unfinished": [],
            "streams": [
                {
                    "stream": "users",
                    "namespace": None,
                    "table": "shop.users",
                    "exists": True,
                    "sync_mode": "incremental",
                    "kind": "stream",
                    "state": _STATE,
                    "protected": False,
                    "checkpoint": 1,
                    "shared": 0,
                    "flow_run_id": f"airberg__{_RUN}",
                    "complete": True,
                    "generation_id": 0,
                    "snapshot_id": _SNAPSHOT,
                }
            ],
        }
    ],
    "RewindBody": [{"run_id": _RUN}],
    "RunBody": [{"streams": ["users"], "full_refresh": True}],
    "RewindView": [
        {
            "job_id": _JOB,
            "run_id": _RUN,
            "flow_run_id": f"airberg__{_RUN}",
            "done": True,
            "tables": [_REWIND],
        }
    ],
    "TableView": [_TABLE],
    "LogLineView": [
        {
            "seq": 12,
            "at": "2026-03-29T12:00:09.482Z",
            "level": "INFO",
            "logger": "airberg.sync.progress",
            "message": "users: reading, 500 of 1,000 records read (0.2 MB, 118/s), 0 rows staged",
            "attempt": 1,
        }
    ],
    "ActView": [
        {
            "id": 4711,
            "at": "2026-03-29T12:00:00Z",
            "actor": "ann@example.com (urn:airberg:development|ann)",
            "action": "job.create",
            "kind": "job",
            "target": _JOB,
            "request_id": "3f1c9d0e5b6a4e4b8f14e45fceea467f",
            "address": "127.0.0.1",
            "detail": {"name": "Faker to the lake"},
        }
    ],
    "NewKey": [{"name": "pii", "owners": ["ann@example.com"], "roles": ["analysts"]}],
    "Access": [{"owners": ["ann@example.com", "bob@example.com"], "roles": []}],
    "NewServiceKey": [
        {"name": "nightly loader", "scopes": ["ingest:read", "ingest:write"], "groups": [], "days": 30}
    ],
    "ServiceKeyView": [_SERVICE_KEY],
    "MadeServiceKey": [
        _SERVICE_KEY
        | {
            "last_used_at": None,
            "key": "abk_0b0e3a526d0b4a539c280e8f4f4f0001_not-a-real-key-its-43-characters-are-random",
        }
    ],
    "VersionChoice": [{"version": 1}],
    "Destruction": [{"version": 1, "confirm": "pii"}],
    "KeyView": [
        {
            "name": "pii",
            "state": "enabled",
            "primary": 1,
            "restricted": True,
            "owners": ["ann@example.com"],
            "roles": ["analysts"],
            "versions": [_KEY_VERSION],
        }
    ],
    "AuditView": [
        {
            "at": "2026-03-29T12:00:00Z",
            "actor": "ann@example.com (urn:airberg:development|ann)",
            "action": "create",
            "key": "pii",
            "versions": [1],
            "detail": "",
        }
    ],
    "HealthView": [{"status": "ok", "version": "0.1.0"}],
    "PingView": [{"status": "ok", "version": "0.1.0", "build_number": "4711"}],
    "ReadyView": [{"status": "ok", "version": "0.1.0", "orchestrator": True}],
    "ResourceMetadata": [
        {
            "resource": "http://127.0.0.1:8000",
            "scopes_supported": ["ingest:read", "ingest:write", "keys:admin"],
            "bearer_methods_supported": ["header"],
            "resource_name": "Airberg",
            "authorization_servers": ["https://login.example.com"],
        }
    ],
}
