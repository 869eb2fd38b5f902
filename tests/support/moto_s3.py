"""S3 as moto has it: a server of its own on loopback, with one bucket."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from support.free_ports import free_ports
from support.moto_kms import wait_for_moto

BUCKET = "lake-landing"
KEY, SECRET = "AKIAIOSFODNN7EXAMPLE", "a/secret+of/the-tests"
REGION = "eu-west-1"


@contextmanager
def running_s3(folder: Path) -> Iterator[tuple[str, Any]]:
    """The address of the server, and a client; while the block lasts."""
    [port] = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    argv = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with (folder / "moto.log").open("wb") as log:
        server = subprocess.Popen(argv, stdout=log, stderr=log)
    try:
        wait_for_moto(url, server)
        s3 = boto3.client(
            "s3",
            endpoint_url=url,
            region_name=REGION,
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
            config=Config(proxies={}),
        )
        s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
        yield url, s3
    finally:
        server.terminate()
        server.wait(20)
