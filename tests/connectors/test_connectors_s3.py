"""source-s3, real, against moto."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.moto_s3 import BUCKET, KEY, REGION, SECRET, running_s3

pytestmark = pytest.mark.connector


@pytest.fixture
def s3(tmp_path: Path) -> Iterator[tuple[str, Any]]:
    """A bucket with a CSV and a JSONL file."""
    with running_s3(tmp_path) as (url, client):
        put(client, "people/1.csv", 'id,name,city\n1,Ann,"Köln, Süd"\n2,Bob,\n')
        lines = [{"id": i, "price": i / 4, "tags": ["a", "b"][: i % 3]} for i in range(1, 6)]
        put(client, "orders/2026/1.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
        put(client, "orders/readme.txt", "not a stream")
        yield url, client


def put(client: Any, key: str, text: str) -> None:
    """Store an object."""
    client.put_object(Bucket=BUCKET, Key=key, Body=text.encode())


def config(url: str) -> dict[str, Any]:
    """Two streams of one bucket."""

    def stream(name: str, globs: str, **form: Any) -> dict[str, Any]:
        return {
            "name": name,
            "globs": [globs],
            "format": form,
            "validation_policy": "Emit Record",
            "schemaless": False,
        }

    return {
        "bucket": BUCKET,
        "region_name": REGION,
        "endpoint": url,
        "credentials": {"auth_type": "iam_user", "aws_access_key_id": KEY, "aws_secret_access_key": SECRET},
        "streams": [
            stream(
                *("people", "people/*.csv"),
                filetype="csv",
                inference_type="Primitive Types Only",
                null_values=[""],
            ),
            stream("orders", "orders/**/*.jsonl", filetype="jsonl"),
        ],
    }


def test_a_second_run_reads_new_files_only(deploy: Any, s3: tuple[str, Any]) -> None:
    """Both formats, every value; then what came into the bucket since."""
    url, client = s3
    deployment = deploy("source-s3")
    job = deployment.job_of("source-s3", config(url))
    assert {s.name: s.sync_mode for s in job.plan.streams} == dict.fromkeys(
        ("people", "orders"), "incremental"
    )
    assert SECRET not in repr(job)
    first = deployment.run(job, "run-1")
    assert {s.stream: s.rows_written for s in first.report.streams} == {"people": 2, "orders": 5}
    people = deployment.rows("people", "id", "name", "city", "_ab_source_file_url")
    assert people == [(1, "Ann", "Köln, Süd", "people/1.csv"), (2, "Bob", None, "people/1.csv")]
    # The connector does not say what its arrays are of: they become JSON.
    assert deployment.rows("orders", "id", "price", "tags") == [
        (1, 0.25, '["a"]'),
        (2, 0.5, '["a","b"]'),
        (3, 0.75, "[]"),
        (4, 1.0, '["a"]'),
        (5, 1.25, '["a","b"]'),
    ]

    put(client, "people/2.csv", "id,name,city\n3,Cem,Bonn\n")
    second = deployment.run(job, "run-2")
    assert {s.stream: s.rows_written for s in second.report.streams} == {"people": 1, "orders": 0}
    assert deployment.rows("people", "id", "_ab_source_file_url")[-1] == (3, "people/2.csv")
    third = deployment.run(job, "run-3")
    assert [s.rows_written for s in third.report.streams] == [0, 0]
