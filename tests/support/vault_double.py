"""A contract double of Vault's Transit and key-value engines and AppRole login, from Vault's API reference.

It checks method paths, token, namespace and base64, encrypts with AES-256-GCM and the associated data, and
answers errors in Vault's shape. What it cannot prove is that a real Vault decides as it does.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from support.json_double import Answer, json_server

TOKEN = "hvs.a-token-of-the-tests"
SECRET_ID = "a-secret-id-of-the-tests"
ROLE_ID = "airberg-role"


@dataclass
class VaultDouble:
    """One Vault.

    Attributes:
        keys: By namespace, mount and name.
        tokens: Tokens that may use the keys.
        failing: Status to answer to everything, or None.
        failures: To how many requests only, if set.
        ignores_associated_data: As versions do that do not know it.
        policy: Paths that tokens may update; None: all.
        secrets: Of key-value engines of version 2, by mount and path.
        old_secrets: Of key-value engines of version 1, by mount and path.
        calls: Path of each request.
    """

    keys: dict[tuple[str, str, str], AESGCM] = field(default_factory=dict)
    tokens: set[str] = field(default_factory=lambda: {TOKEN})
    failing: int | None = None
    failures: int | None = None
    ignores_associated_data: bool = False
    policy: frozenset[str] | None = None
    secrets: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    old_secrets: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    url: str = ""

    def add_key(self, name: str, mount: str = "transit", namespace: str = "") -> None:
        """Make a key."""
        self.keys[namespace, mount, name] = AESGCM(AESGCM.generate_key(256))

    def handle(self, path: str, headers: Message, body: dict[str, Any]) -> Answer:
        """Answer a request."""
        self.calls.append(path)
        if self.failing is not None and self.failures != 0:
            if self.failures is not None:
                self.failures -= 1
            return self.failing, {"errors": ["Vault is sealed"]}
        if path == "/v1/auth/approle/login":
            return self._log_in(body)
        for mount in sorted({mount for mount, _ in self.old_secrets}, key=len, reverse=True):
            if path.startswith(f"/v1/{mount}/"):
                return self._old_secret(mount, path.removeprefix(f"/v1/{mount}/"), headers)
        if (data := re.fullmatch(r"/v1/([^/]+)/data/(.+)", path)) is not None:
            return self._secret(*data.groups(), headers)
        if path.split("/")[2] in {mount for mount, _ in self.secrets}:
            return 404, {"errors": [], "warnings": ["Invalid path for a versioned K/V engine."]}
        match = re.fullmatch(r"/v1/(.+)/(encrypt|decrypt)/([\w.-]+)", path)
        if match is None:
            return 404, {"errors": [f'no handler for route "{path}". route entry not found.']}
        allowed = self.policy is None or path.removeprefix("/v1/") in self.policy
        known = headers.get("X-Vault-Token") in self.tokens and headers.get("X-Vault-Request") == "true"
        if not (known and allowed):
            return 403, {"errors": ["1 error occurred:\n\t* permission denied\n\n"]}
        mount, verb, name = match.groups()
        namespace = headers.get("X-Vault-Namespace") or ""
        if not any(where[:2] == (namespace, mount) for where in self.keys):
            return 404, {"errors": ["no handler for route"]}
        key = self.keys.get((namespace, mount, name))
        if key is None:
            return 400, {"errors": ["encryption key not found"]}
        try:
            return 200, {"data": self._transit(verb, key, body)}
        except (binascii.Error, KeyError, IndexError):
            return 400, {"errors": ["failed to base64-decode plaintext"]}
        except InvalidTag:
            return 400, {"errors": ["cipher: message authentication failed"]}

    def _secret(self, mount: str, path: str, headers: Message) -> Answer:
        if headers.get("X-Vault-Token") not in self.tokens:
            return 403, {"errors": ["1 error occurred:\n\t* permission denied\n\n"]}
        fields = self.secrets.get((mount, path))
        if fields is None:
            return 404, {"errors": []}
        return 200, {"data": {"data": fields, "metadata": {"version": 1, "deletion_time": ""}}}

    def _old_secret(self, mount: str, path: str, headers: Message) -> Answer:
        if headers.get("X-Vault-Token") not in self.tokens:
            return 403, {"errors": ["1 error occurred:\n\t* permission denied\n\n"]}
        fields = self.old_secrets.get((mount, path))
        if fields is None:
            return 404, {"errors": []}
        return 200, {"lease_id": "", "renewable": False, "lease_duration": 2764800, "data": fields}

    def _log_in(self, body: dict[str, Any]) -> Answer:
        if (body.get("role_id"), body.get("secret_id")) != (ROLE_ID, SECRET_ID):
            return 400, {"errors": ["invalid role or secret ID"]}
        token = f"hvs.{secrets.token_hex(8)}"
        self.tokens.add(token)
        return 200, {"auth": {"client_token": token, "lease_duration": 60, "renewable": True}}

    def _transit(self, verb: str, key: AESGCM, body: dict[str, Any]) -> dict[str, Any]:
        associated = base64.b64decode(body["associated_data"], validate=True)
        if self.ignores_associated_data:
            associated = b""
        if verb == "encrypt":
            iv = os.urandom(12)
            sealed = iv + key.encrypt(iv, base64.b64decode(body["plaintext"], validate=True), associated)
            return {"ciphertext": f"vault:v1:{base64.b64encode(sealed).decode()}", "key_version": 1}
        sealed = base64.b64decode(body["ciphertext"].split(":", 2)[2], validate=True)
        return {"plaintext": base64.b64encode(key.decrypt(sealed[:12], sealed[12:], associated)).decode()}


@contextmanager
def running_vault() -> Iterator[VaultDouble]:
    """A double with the keys `transit/airberg` and `transit/other`, while the block lasts."""
    vault = VaultDouble()
    vault.add_key("airberg")
    vault.add_key("other")
    with json_server(vault.handle) as vault.url:
        yield vault
