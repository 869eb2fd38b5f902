"""Google Cloud KMS: `Encrypt` and `Decrypt` of a symmetric key, with the context as authenticated data.

Checksums go both ways, as Google asks (Cloud KMS, Verifying end-to-end data integrity). The library's REST
transport is used, not gRPC: for a few small requests it needs no threads of its own, and it survives a fork.
Credentials are the Application Default Credentials.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

from airberg.errors import AirbergError
from airberg.keys.address import KekAddress
from airberg.keys.backends.failures import (
    cannot_unwrap,
    kek_refused,
    kek_unavailable,
    kek_unusable,
    require,
)
from airberg.keys.kek import associated_data
from airberg.service_clients import silence

_RIGHTS = (
    "Look at the credentials, and give them the role roles/cloudkms.cryptoKeyEncrypterDecrypter on this key."
)


class GcpKmsKek:
    """A symmetric key of Google Cloud KMS; its primary version wraps, all enabled ones unwrap."""

    def __init__(self, address: KekAddress, *, timeout_s: float, attempts: int) -> None:
        """Take the address; nothing is asked yet.

        Args:
            timeout_s: Seconds for one answer.
            attempts: How often a request is sent before the service counts as away.

        Raises:
            ConfigurationFailed: google-cloud-kms or google-crc32c is not installed.
        """
        require("google.cloud.kms_v1", "gcp-kms")
        require("google_crc32c", "gcp-kms")
        self.uri = address.identity
        self._key = address.parts["key"]
        self._endpoint = address.options.get("endpoint")
        self._timeout_s = timeout_s
        self._attempts = attempts

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.uri})"

    def wrap(self, dek: bytes, context: Mapping[str, str]) -> bytes:
        """Encrypt a data key.

        Raises:
            ConfigurationFailed: No credentials, not allowed, or no such key.
            Unavailable: KMS does not answer, is over a quota, or bytes were changed on their way.
        """
        import google_crc32c

        data = associated_data(context)
        answer = self._ask(
            "encrypt",
            {
                "name": self._key,
                "plaintext": dek,
                "plaintext_crc32c": google_crc32c.value(dek),
                "additional_authenticated_data": data,
                "additional_authenticated_data_crc32c": google_crc32c.value(data),
            },
            context,
        )
        blob = bytes(answer.ciphertext)
        if not (
            answer.verified_plaintext_crc32c
            and answer.verified_additional_authenticated_data_crc32c
            and answer.ciphertext_crc32c == google_crc32c.value(blob)
            and answer.name.startswith(f"{self._key}/")
        ):
            raise kek_unavailable(self.uri, "the request or the answer was changed on its way")
        return blob

    def unwrap(self, blob: bytes, context: Mapping[str, str]) -> bytes:
        """Decrypt a data key.

        Raises:
            ConfigurationFailed: As `wrap`; or key, context or bytes do not match.
            Unavailable: KMS does not answer, is over a quota, or bytes were changed on their way.
        """
        import google_crc32c

        data = associated_data(context)
        answer = self._ask(
            "decrypt",
            {
                "name": self._key,
                "ciphertext": blob,
                "ciphertext_crc32c": google_crc32c.value(blob),
                "additional_authenticated_data": data,
                "additional_authenticated_data_crc32c": google_crc32c.value(data),
            },
            context,
        )
        dek = bytes(answer.plaintext)
        if answer.plaintext_crc32c != google_crc32c.value(dek):
            raise kek_unavailable(self.uri, "the answer was changed on its way")
        return dek

    # ---- asking --------------------------------------------------------------------------------------------

    @cached_property
    def _client(self) -> Any:  # noqa: ANN401 - the library's types are not known to mypy here
        from google.cloud import kms_v1

        silence("google", "google.auth", "google.api_core", "google.cloud", "google.cloud.kms_v1", "urllib3")
        options = {"api_endpoint": self._endpoint} if self._endpoint else None
        return kms_v1.KeyManagementServiceClient(transport="rest", client_options=options)

    def _ask(self, verb: str, request: Mapping[str, Any], context: Mapping[str, str]) -> Any:  # noqa: ANN401
        import google.api_core.exceptions
        import google.api_core.timeout
        import google.auth.exceptions
        import requests

        try:
            call = getattr(self._client, verb)
            patience = google.api_core.timeout.ConstantTimeout(self._timeout_s)
            return call(request=dict(request), retry=self._retry(), timeout=patience)
        except google.api_core.exceptions.GoogleAPICallError as e:
            raise self._answered(e, context, unwrapping=verb == "decrypt") from None
        except google.auth.exceptions.GoogleAuthError as e:
            raise self._no_credentials(e) from None
        except requests.exceptions.SSLError:
            raise kek_unusable(
                self.uri, "there is no TLS connection to trust", "See REQUESTS_CA_BUNDLE."
            ) from None
        except requests.exceptions.RequestException as e:
            raise kek_unavailable(self.uri, f"Cloud KMS is not reached ({type(e).__name__})") from None

    def _retry(self) -> Any:  # noqa: ANN401 - the library's types are not known to mypy here
        """Ask again after failures that may pass, but not more often than we were told."""
        from google.api_core import retry

        asked = itertools.count(1)
        passing: Callable[[Exception], bool] = self._may_pass
        return retry.Retry(
            predicate=lambda e: passing(e) and next(asked) < self._attempts,
            initial=0.2,
            maximum=2.0,
            timeout=self._attempts * (self._timeout_s + 2.0),
        )

    @staticmethod
    def _may_pass(error: Exception) -> bool:
        import requests
        from google.api_core import exceptions as e
        from google.api_core.retry import if_transient_error

        if isinstance(error, requests.exceptions.SSLError):
            return False
        return if_transient_error(error) or isinstance(
            error, e.BadGateway | e.GatewayTimeout | requests.exceptions.Timeout
        )

    # ---- failures ------------------------------------------------------------------------------------------

    def _answered(self, error: Any, context: Mapping[str, str], *, unwrapping: bool) -> AirbergError:  # noqa: ANN401
        from google.api_core import exceptions as e

        kind = type(error).__name__
        if isinstance(error, e.Forbidden | e.Unauthorized):
            return kek_refused(self.uri, f"Cloud KMS answers {kind}", _RIGHTS)
        if isinstance(error, e.BadRequest) and not isinstance(error, e.FailedPrecondition):
            if "crc32c" in str(error.message).lower() or "checksum" in str(error.message).lower():
                return kek_unavailable(self.uri, "the request was changed on its way")
            if unwrapping:
                return cannot_unwrap(self.uri, context)
        if isinstance(error, e.ClientError) and not isinstance(error, e.TooManyRequests | e.Conflict):
            return kek_unusable(
                self.uri,
                f"Cloud KMS answers {kind}",
                "It must be a key of purpose ENCRYPT_DECRYPT whose versions are enabled.",
            )
        return kek_unavailable(self.uri, f"Cloud KMS answers {kind}")

    def _no_credentials(self, error: Any) -> AirbergError:  # noqa: ANN401
        from google.auth.exceptions import TransportError

        kind = type(error).__name__
        if isinstance(error, TransportError) or error.retryable:
            return kek_unavailable(self.uri, f"the service of Google's tokens is not reached ({kind})")
        return kek_refused(self.uri, f"there are no credentials ({kind})", _RIGHTS)
