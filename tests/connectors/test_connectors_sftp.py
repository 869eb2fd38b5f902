"""source-sftp-bulk, real, against a real SFTP server: OpenSSH's where it is installed, else asyncssh's."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.sftp_server import Sftp, running_sftp

pytestmark = pytest.mark.connector


@pytest.fixture
def sftp() -> Iterator[Sftp]:
    """A server with one CSV file. Its folder is not below pytest's, which only its owner may enter."""
    with tempfile.TemporaryDirectory(prefix="airberg-sftp-") as folder:
        base = Path(folder)
        base.chmod(0o755)
        with running_sftp(base) as server:
            (server.folder / "orders").mkdir()
            put(server, "orders/1.csv", "id,item\n1,Käse\n2,\n")
            yield server


def put(server: Sftp, name: str, text: str) -> None:
    """Store a file that the server's account may read."""
    (server.folder / name).write_text(text)
    (server.folder / name).chmod(0o644)


def test_a_second_run_reads_new_files_only(deploy: Any, sftp: Sftp, record_property: Any) -> None:
    """Logged in by key; then what came into the folder since."""
    record_property("server", sftp.program)
    deployment = deploy("source-sftp-bulk")
    config = {
        "host": "127.0.0.1",
        "port": sftp.port,
        "username": sftp.username,
        "credentials": {"auth_type": "private_key", "private_key": sftp.private_key},
        "folder_path": sftp.path,
        "streams": [
            {
                "name": "orders",
                "globs": ["**/*.csv"],
                "format": {"filetype": "csv"},
                "validation_policy": "Emit Record",
                "schemaless": False,
            }
        ],
    }
    job = deployment.job_of("source-sftp-bulk", config)
    assert [s.sync_mode for s in job.plan.streams] == ["incremental"]
    assert "PRIVATE KEY" not in repr(job)
    assert [s.rows_written for s in deployment.run(job, "run-1").report.streams] == [2]
    # Of CSV, everything is text, unless `inference_type` and `null_values` say otherwise (test of source-s3).
    assert deployment.rows("orders", "id", "item") == [("1", "Käse"), ("2", "")]
    put(sftp, "orders/2.csv", "id,item\n3,Brot\n")
    assert [s.rows_written for s in deployment.run(job, "run-2").report.streams] == [1]
    assert deployment.rows("orders", "id", "item") == [("1", "Käse"), ("2", ""), ("3", "Brot")]
    assert [s.rows_written for s in deployment.run(job, "run-3").report.streams] == [0]
