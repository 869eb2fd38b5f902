"""source-file, real: CSV, JSONL and Parquet, from local files and over HTTPS on loopback."""

from __future__ import annotations

import datetime as dt
import json
import ssl
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from support.certificates import Authority

pytestmark = pytest.mark.connector

PEOPLE = [{"id": i, "name": n, "score": i / 4} for i, n in enumerate(("Ann", "Bjørn", 'C,"D"'), 1)]


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on standard error."""


@pytest.fixture
def files(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder, and the address of a server that serves it: by TLS, as the connector does not do without."""
    folder = tmp_path / "files"
    folder.mkdir()
    authority = Authority("files")
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    (tmp_path / "server.pem").write_bytes(b"".join(authority.server("localhost")))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "server.pem")
    handler = partial(_Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield folder, f"https://localhost:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def write(path: Path, people: list[dict[str, Any]]) -> None:
    """People, in the format that the name says."""
    if path.suffix == ".csv":
        quoted = [f'{p["id"]},"{p["name"].replace(chr(34), chr(34) * 2)}",{p["score"]}' for p in people]
        path.write_text("\n".join(["id,name,score", *quoted]) + "\n")
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(p) + "\n" for p in people))
    else:
        at = dt.datetime(2026, 3, 29, 2, 30, tzinfo=dt.UTC)
        table = pa.Table.from_pylist(people).append_column("at", pa.array([at] * len(people)))
        pq.write_table(table, path)


@pytest.mark.parametrize(
    ("suffix", "storage"),
    [("csv", "local"), ("jsonl", "HTTPS"), ("parquet", "local")],
)
def test_a_file_replaces_the_table_in_each_run(
    deploy: Any,
    files: tuple[Path, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    suffix: str,
    storage: str,
) -> None:
    """It can be read in full only; what the file has is what the table has."""
    folder, url = files
    file = folder / f"people.{suffix}"
    write(file, PEOPLE)
    deployment = deploy("source-file")
    # Connectors get this variable of the service's.
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    config = {
        "dataset_name": "people",
        "format": suffix,
        "url": str(file) if storage == "local" else f"{url}/{file.name}",
        "provider": {"storage": storage} | ({} if storage == "local" else {"user_agent": False}),
    }
    job = deployment.job_of("source-file", config, "overwrite")
    assert [s.sync_mode for s in job.plan.streams] == ["full_refresh"]
    deployment.run(job, "run-1")
    assert deployment.rows("people", "id", "name", "score") == [tuple(p.values()) for p in PEOPLE]
    if suffix == "parquet":
        assert {text[:16] for (text,) in deployment.rows("people", "at")} == {"2026-03-29T02:30"}
    write(file, PEOPLE[1:])
    deployment.run(job, "run-2")
    assert deployment.rows("people", "id", "name", "score") == [tuple(p.values()) for p in PEOPLE[1:]]
