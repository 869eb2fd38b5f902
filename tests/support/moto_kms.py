"""AWS KMS as moto has it: a server of its own on loopback, which checks signatures and IAM policies."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import httpx

from support.free_ports import free_ports

REGION = "eu-west-1"
START_DEADLINE_S = 60


@dataclass(frozen=True)
class MotoKms:
    """A running server with the keys `alias/airberg` and `alias/other`.

    Attributes:
        credentials: A file of credentials with the profiles `airberg`, whom the policy of the documentation
            allows, `nobody`, who has no policy, and `stranger`, whom AWS does not know.
        secrets: What must not be shown.
    """

    url: str
    arn: str
    credentials: Path
    secrets: tuple[str, ...]

    def address(self, key: str = "alias/airberg", profile: str = "airberg", url: str | None = None) -> str:
        """The address of a key, with the way to it."""
        region = "" if key.startswith("arn:") else f"region={REGION}&"
        return f"aws-kms://{key}?{region}profile={profile}&endpoint={url or self.url}"


@contextmanager
def running_moto(folder: Path, policy: dict[str, Any]) -> Iterator[MotoKms]:
    """A server while the block lasts.

    Args:
        policy: IAM policy of the user `airberg`. moto looks at its actions; resources must be `*`.
    """
    [port] = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    argv = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with (folder / "moto.log").open("wb") as log:
        server = subprocess.Popen(argv, stdout=log, stderr=log)
    try:
        wait_for_moto(url, server)
        yield _furnished(url, folder, policy)
    finally:
        server.terminate()
        server.wait(20)


def wait_for_moto(url: str, server: subprocess.Popen[bytes]) -> None:
    """Return when it answers. Raises RuntimeError when it does not."""
    deadline = time.monotonic() + START_DEADLINE_S
    while server.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):
            httpx.get(f"{url}/moto-api/data.json", trust_env=False).raise_for_status()
            return
        time.sleep(0.05)
    raise RuntimeError("moto did not start")


def _furnished(url: str, folder: Path, policy: dict[str, Any]) -> MotoKms:
    root = {
        "endpoint_url": url,
        "region_name": REGION,
        "aws_access_key_id": "root",
        "aws_secret_access_key": "root",
    }
    kms, iam = boto3.client("kms", **root), boto3.client("iam", **root)
    arns = []
    for name in ("airberg", "other"):
        key = kms.create_key()["KeyMetadata"]
        kms.create_alias(AliasName=f"alias/{name}", TargetKeyId=key["KeyId"])
        arns.append(key["Arn"])
    lines, hidden = [], []
    for user in ("airberg", "nobody"):
        iam.create_user(UserName=user)
        made = iam.create_access_key(UserName=user)["AccessKey"]
        lines += _profile(user, made["AccessKeyId"], made["SecretAccessKey"])
        hidden.append(made["SecretAccessKey"])
    iam.put_user_policy(UserName="airberg", PolicyName="keys", PolicyDocument=json.dumps(policy))
    lines += _profile("stranger", "AKIAAAAAAAAAAAAAAAAA", "a-secret-of-nobody")
    (folder / "credentials").write_text("\n".join(lines))
    # From now on, who calls is checked.
    httpx.post(f"{url}/moto-api/reset-auth", content=b"0", trust_env=False).raise_for_status()
    return MotoKms(url, arns[0], folder / "credentials", (*hidden, "a-secret-of-nobody"))


def _profile(name: str, key_id: str, secret: str) -> list[str]:
    return [f"[{name}]", f"aws_access_key_id = {key_id}", f"aws_secret_access_key = {secret}", ""]
