"""HashiCorp Vault or OpenBao: `encrypt` and `decrypt` of Transit, with the context as associated data."""

from __future__ import annotations

import base64
import binascii
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from airberg.errors import AirbergError, ConfigurationFailed
from airberg.keys.address import KekAddress
from airberg.keys.backends.failures import (
    cannot_unwrap,
    kek_refused,
    kek_unavailable,
    kek_unusable,
    require,
)
from airberg.keys.kek import associated_data
from airberg.service_clients import vault_client


@dataclass(frozen=True, slots=True)
class VaultLogin:
    """How a token is had: as it is, or by AppRole; with neither, hvac looks for one (`VAULT_TOKEN`)."""

    token: SecretStr | None = None
    role_id: str | None = None
    secret_id: SecretStr | None = None


class VaultTransitKek:
    """A key of a Transit engine, of a type with associated data (`aes256-gcm96`, which is the default)."""

    def __init__(self, address: KekAddress, login: VaultLogin, *, timeout_s: float, attempts: int) -> None:
        """Take the address; nothing is asked yet.

        Args:
            timeout_s: Seconds for one answer.
            attempts: How often a request is sent before the service counts as away.

        Raises:
            ConfigurationFailed: hvac is not installed.
        """
        require("hvac", "vault")
        self.uri = address.identity
        self._address = address
        self._login = login
        self._timeout_s = timeout_s
        self._attempts = attempts
        self._lock = threading.Lock()
        self._client: Any = None
        self._binds_context = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.uri})"

    def wrap(self, dek: bytes, context: Mapping[str, str]) -> bytes:
        """Encrypt a data key. The first time, see that the server really binds it to its context.

        Raises:
            ConfigurationFailed: No token, not allowed, no such key, or one without associated data.
            Unavailable: Vault does not answer, is sealed, or throttles.
        """
        answer = self._ask(
            lambda transit, where: transit.encrypt_data(
                plaintext=_base64(dek), associated_data=_base64(associated_data(context)), **where
            ),
            context,
            unwrapping=False,
        )
        blob = str(answer["ciphertext"]).encode()
        if not self._binds_context:
            self._see_that_context_is_bound(blob, context)
        return blob

    def unwrap(self, blob: bytes, context: Mapping[str, str]) -> bytes:
        """Decrypt a data key.

        Raises:
            ConfigurationFailed: As `wrap`; or key, context or bytes do not match.
            Unavailable: Vault does not answer, is sealed, or throttles.
        """
        try:
            text = blob.decode("ascii")
        except UnicodeDecodeError:
            raise cannot_unwrap(self.uri, context) from None
        answer = self._ask(
            lambda transit, where: transit.decrypt_data(
                ciphertext=text, associated_data=_base64(associated_data(context)), **where
            ),
            context,
            unwrapping=True,
        )
        try:
            return base64.b64decode(answer["plaintext"], validate=True)
        except (binascii.Error, TypeError, KeyError):
            raise kek_unavailable(self.uri, "the answer is not one of Vault's") from None

    def _see_that_context_is_bound(self, blob: bytes, context: Mapping[str, str]) -> None:
        """Servers that do not know associated data ignore it, and would open every record in any place."""
        try:
            self.unwrap(blob, {**context, "moved": "yes"})
        except ConfigurationFailed as e:
            if e.code != "cannot-unwrap-key":
                raise
            self._binds_context = True
            return
        raise kek_unusable(
            self.uri,
            "the server ignores associated data",
            "Use a version of Vault or OpenBao whose Transit engine has associated_data, and a key of type "
            "aes256-gcm96.",
        )

    # ---- asking --------------------------------------------------------------------------------------------

    def _ask(
        self, call: Callable[[Any, dict[str, str]], Any], context: Mapping[str, str], *, unwrapping: bool
    ) -> Mapping[str, Any]:
        import hvac
        import requests

        where = {"name": self._address.parts["key"], "mount_point": self._address.parts["mount"]}
        try:
            client = self._logged_in()
            try:
                answer = call(client.secrets.transit, where)
            except hvac.exceptions.Forbidden:
                if self._login.role_id is None or self._token() is not None:
                    raise
                self._log_in(client)  # tokens of an AppRole expire
                answer = call(client.secrets.transit, where)
        except hvac.exceptions.VaultError as e:
            raise self._answered(e, context, unwrapping=unwrapping) from None
        except requests.exceptions.RequestException as e:
            raise self._not_reached(e) from None
        data = answer.get("data") if isinstance(answer, dict) else None
        if not isinstance(data, dict):
            raise kek_unavailable(self.uri, "the answer is not one of Vault's")
        return data

    def _logged_in(self) -> Any:  # noqa: ANN401 - hvac has no types
        with self._lock:
            if self._client is None:
                client = self._new_client()
                if self._login.role_id is not None and self._token() is None:
                    self._log_in(client)
                self._client = client
            if "token_file" in self._address.options:
                self._client.token = self._token()  # whoever writes the file also renews the token
        return self._client

    def _new_client(self) -> Any:  # noqa: ANN401 - hvac has no types
        options = self._address.options
        token = self._token()
        return vault_client(
            options.get("endpoint", f"https://{self._address.parts['host']}"),
            token="" if token is None and self._login.role_id is not None else token,
            namespace=options.get("namespace"),
            timeout_s=self._timeout_s,
            attempts=self._attempts,
        )

    def _token(self) -> str | None:
        path = self._address.options.get("token_file")
        if path is None:
            return None if self._login.token is None else self._login.token.get_secret_value()
        try:
            return Path(path).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as e:
            raise kek_refused(
                self.uri,
                f"the token file cannot be read ({type(e).__name__})",
                "The option token_file names a text file that this user may read.",
            ) from None

    def _log_in(self, client: Any) -> None:  # noqa: ANN401 - hvac has no types
        import hvac

        secret_id = self._login.secret_id
        try:
            client.auth.approle.login(
                role_id=self._login.role_id,
                secret_id=None if secret_id is None else secret_id.get_secret_value(),
                mount_point=self._address.options.get("approle_mount", "approle"),
            )
        except (hvac.exceptions.InvalidRequest, hvac.exceptions.Forbidden, hvac.exceptions.InvalidPath) as e:
            raise kek_refused(
                self.uri,
                f"Vault does not accept the AppRole ({type(e).__name__})",
                "Look at AIRBERG_KEYS__VAULT_ROLE_ID and AIRBERG_KEYS__VAULT_SECRET_ID; it may have expired.",
            ) from None

    # ---- failures ------------------------------------------------------------------------------------------

    def _answered(self, error: Exception, context: Mapping[str, str], *, unwrapping: bool) -> AirbergError:
        from hvac import exceptions as e

        kind = type(error).__name__
        if isinstance(error, e.Forbidden | e.Unauthorized):
            return kek_refused(
                self.uri,
                f"Vault answers {kind}",
                "Look at the token, and allow `update` on MOUNT/encrypt/KEY and MOUNT/decrypt/KEY.",
            )
        if isinstance(error, e.InvalidRequest):
            texts = " ".join(str(t) for t in getattr(error, "errors", None) or ())
            if unwrapping and "not found" not in texts:
                return cannot_unwrap(self.uri, context)
        if isinstance(error, e.InvalidRequest | e.InvalidPath | e.ParamValidationError):
            return kek_unusable(
                self.uri,
                f"Vault answers {kind}",
                "There must be a Transit engine at that mount, with a key of that name, type aes256-gcm96.",
            )
        return kek_unavailable(self.uri, f"Vault answers {kind}")

    def _not_reached(self, error: Exception) -> AirbergError:
        from requests import exceptions as e

        kind = type(error).__name__
        if isinstance(error, e.SSLError):
            return kek_unusable(self.uri, "there is no TLS connection to trust", "See VAULT_CACERT.")
        if isinstance(error, e.InvalidSchema | e.InvalidURL | e.InvalidHeader):
            return kek_unusable(
                self.uri, f"the request cannot be sent ({kind})", "Look at address and token."
            )
        return kek_unavailable(self.uri, f"Vault is not reached ({kind})")


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
