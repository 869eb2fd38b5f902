"""A double of Google Cloud KMS's REST API, for `encrypt` and `decrypt`, from its reference.

The real library talks to it over its REST transport. It verifies the signed token of the service account, the
checksums and the authenticated data, and answers errors in Google's shape. What it cannot prove is that the
real service decides as it does.
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path
from typing import Any

import google_crc32c
import jwt
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from support.json_double import Answer, json_server

RING = "projects/tests/locations/europe-west1/keyRings/ring/cryptoKeys"
_ACCOUNT = "airberg@tests.iam.gserviceaccount.com"


def _error(code: int, status: str, message: str) -> Answer:
    return code, {"error": {"code": code, "message": message, "status": status}}


@dataclass
class GcpKmsDouble:
    """One project's key ring.

    Attributes:
        keys: By full name.
        account_key: Key of the service account that may use them.
        failing: Status to answer to everything, or None.
        failures: To how many requests only, if set.
        corrupted: Member of the next answers that is changed on its way.
        calls: Path of each request.
    """

    keys: dict[str, AESGCM] = field(default_factory=dict)
    account_key: rsa.RSAPrivateKey = field(default_factory=lambda: rsa.generate_private_key(65537, 2048))
    failing: int | None = None
    failures: int | None = None
    corrupted: str | None = None
    calls: list[str] = field(default_factory=list)
    url: str = ""

    def write_account(self, path: Path, key: rsa.RSAPrivateKey | None = None) -> Path:
        """The file of a service account, as GOOGLE_APPLICATION_CREDENTIALS names it."""
        pem = (key or self.account_key).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        account = {
            "type": "service_account",
            "project_id": "tests",
            "private_key_id": "1",
            "private_key": pem.decode(),
            "client_email": _ACCOUNT,
            "client_id": "1",
            "token_uri": f"{self.url}/token",
        }
        path.write_text(json.dumps(account))
        return path

    def handle(self, path: str, headers: Message, body: dict[str, Any]) -> Answer:
        """Answer a request."""
        self.calls.append(path)
        if self.failing is not None and self.failures != 0:
            if self.failures is not None:
                self.failures -= 1
            return _error(self.failing, "UNAVAILABLE", "The service is currently unavailable.")
        match = re.fullmatch(r"/v1/(.+):(encrypt|decrypt)(\?.*)?", path)
        if match is None:
            return _error(404, "NOT_FOUND", "Requested entity was not found.")
        refusal = self._refusal(headers.get("Authorization") or "")
        if refusal is not None:
            return refusal
        key = self.keys.get(match[1])
        if key is None:
            return _error(404, "NOT_FOUND", f"CryptoKey {match[1]} not found.")
        answer = self._encrypt(match[1], key, body) if match[2] == "encrypt" else self._decrypt(key, body)
        if self.corrupted in answer[1]:
            answer[1][self.corrupted] = _changed(answer[1][self.corrupted])
        return answer

    def _refusal(self, authorization: str) -> Answer | None:
        try:
            claims = jwt.decode(
                authorization.removeprefix("Bearer "),
                self.account_key.public_key(),
                algorithms=["RS256"],
                options={"verify_aud": False, "require": ["exp", "iss"]},
            )
        except jwt.InvalidTokenError:
            return _error(401, "UNAUTHENTICATED", "Request had invalid authentication credentials.")
        if claims["iss"] != _ACCOUNT:
            return _error(
                403, "PERMISSION_DENIED", "Permission 'cloudkms.cryptoKeyVersions.useToEncrypt' denied."
            )
        return None

    def _encrypt(self, name: str, key: AESGCM, body: dict[str, Any]) -> Answer:
        plaintext, data = _verified(body, "plaintext"), _verified(body, "additionalAuthenticatedData")
        if plaintext is None or data is None:
            return _error(400, "INVALID_ARGUMENT", "The checksum in field plaintext_crc32c did not match.")
        iv = os.urandom(12)
        sealed = iv + key.encrypt(iv, plaintext, data)
        return 200, {
            "name": f"{name}/cryptoKeyVersions/1",
            "ciphertext": base64.b64encode(sealed).decode(),
            "ciphertextCrc32c": str(google_crc32c.value(sealed)),
            "verifiedPlaintextCrc32c": "plaintextCrc32c" in body,
            "verifiedAdditionalAuthenticatedDataCrc32c": "additionalAuthenticatedDataCrc32c" in body,
        }

    def _decrypt(self, key: AESGCM, body: dict[str, Any]) -> Answer:
        sealed, data = _verified(body, "ciphertext"), _verified(body, "additionalAuthenticatedData")
        if sealed is None or data is None:
            return _error(400, "INVALID_ARGUMENT", "The checksum in field ciphertext_crc32c did not match.")
        try:
            plaintext = key.decrypt(sealed[:12], sealed[12:], data)
        except (InvalidTag, ValueError):
            return _error(400, "INVALID_ARGUMENT", "Decryption failed: the ciphertext is invalid.")
        return 200, {
            "plaintext": base64.b64encode(plaintext).decode(),
            "plaintextCrc32c": str(google_crc32c.value(plaintext)),
            "usedPrimary": True,
        }


def _verified(body: dict[str, Any], name: str) -> bytes | None:
    """A member's bytes; None when they are not those of its checksum."""
    data = base64.b64decode(body.get(name, ""), validate=True)
    return data if int(body.get(f"{name}Crc32c", -1)) == google_crc32c.value(data) else None


def _changed(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if value.isdigit():
        return str(int(value) ^ 1)
    if value.startswith("projects/"):
        return f"{RING}/other/cryptoKeyVersions/1"
    data = base64.b64decode(value)
    return base64.b64encode(bytes([data[0] ^ 1]) + data[1:]).decode()


@contextmanager
def running_gcp_kms() -> Iterator[GcpKmsDouble]:
    """A double with the keys `airberg` and `other`, while the block lasts."""
    kms = GcpKmsDouble()
    kms.keys = {f"{RING}/{name}": AESGCM(AESGCM.generate_key(256)) for name in ("airberg", "other")}
    with json_server(kms.handle) as kms.url:
        yield kms
