"""AWS KMS: `Encrypt` and `Decrypt` of a symmetric key, with the context as encryption context.

Credentials are found by boto3 as usual: environment, profile, role of the container or machine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, Final

from airberg.errors import AirbergError
from airberg.keys.address import KekAddress
from airberg.keys.backends.failures import (
    cannot_unwrap,
    kek_refused,
    kek_unavailable,
    kek_unusable,
    require,
)
from airberg.service_clients import aws_client

_WRONG_BLOB: Final = frozenset({"InvalidCiphertextException", "IncorrectKeyException"})
_NO_SUCH_KEY: Final = frozenset(
    {
        "NotFoundException",
        "DisabledException",
        "KMSInvalidStateException",
        "InvalidKeyUsageException",
        "InvalidArnException",
        "InvalidAliasNameException",
        "ValidationException",
        "UnsupportedOperationException",
    }
)
_AWAY: Final = frozenset(
    {
        "ThrottlingException",
        "Throttling",
        "RequestLimitExceeded",
        "TooManyRequestsException",
        "LimitExceededException",
        "KMSInternalException",
        "InternalFailure",
        "InternalError",
        "DependencyTimeoutException",
        "KeyUnavailableException",
        "ServiceUnavailable",
        "ServiceUnavailableException",
        "RequestTimeout",
        "RequestTimeoutException",
        "CloudHsmClusterNotActiveException",
        "XksProxyUriUnreachableException",
    }
)
"""Error codes of the KMS API reference (Encrypt, Decrypt, and Common Errors); all others are refusals."""


class AwsKmsKek:
    """A symmetric key of AWS KMS.

    The address names a key by alias, id or ARN. Unwrapping names it too, so that nothing is accepted that
    another key of the account has wrapped.
    """

    def __init__(self, address: KekAddress, *, timeout_s: float, attempts: int) -> None:
        """Take the address; nothing is asked yet.

        Args:
            timeout_s: Seconds for one answer.
            attempts: How often a request is sent before the service counts as away.

        Raises:
            ConfigurationFailed: boto3 is not installed.
        """
        require("boto3", "aws-kms")
        self.uri = address.identity
        self._key = address.parts["key"]
        self._address = address
        self._timeout_s = timeout_s
        self._attempts = attempts

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.uri})"

    def wrap(self, dek: bytes, context: Mapping[str, str]) -> bytes:
        """Encrypt a data key.

        Raises:
            ConfigurationFailed: No credentials, not allowed, or no such key.
            Unavailable: KMS does not answer, or throttles.
        """
        answer = self._ask(
            lambda kms: kms.encrypt(KeyId=self._key, Plaintext=dek, EncryptionContext=dict(context)), context
        )
        return bytes(answer["CiphertextBlob"])

    def unwrap(self, blob: bytes, context: Mapping[str, str]) -> bytes:
        """Decrypt a data key.

        Raises:
            ConfigurationFailed: As `wrap`; or key, context or bytes do not match.
            Unavailable: KMS does not answer, or throttles.
        """
        if not blob:  # the client would find fault with the request
            raise cannot_unwrap(self.uri, context)
        answer = self._ask(
            lambda kms: kms.decrypt(KeyId=self._key, CiphertextBlob=blob, EncryptionContext=dict(context)),
            context,
        )
        return bytes(answer["Plaintext"])

    @cached_property
    def _client(self) -> Any:  # noqa: ANN401 - boto3 makes its classes at run time
        options = self._address.options
        return aws_client(
            "kms",
            profile=options.get("profile"),
            region=self._address.parts["region"],
            endpoint=options.get("endpoint"),
            timeout_s=self._timeout_s,
            attempts=self._attempts,
        )

    def _ask(self, call: Callable[[Any], Mapping[str, Any]], context: Mapping[str, str]) -> Mapping[str, Any]:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return call(self._client)
        except ClientError as e:
            raise self._answered(e.response, context) from None
        except BotoCoreError as e:
            raise self._not_asked(e) from None

    def _answered(self, response: Mapping[str, Any], context: Mapping[str, str]) -> AirbergError:
        code = str(response.get("Error", {}).get("Code", ""))
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if code in _WRONG_BLOB:
            return cannot_unwrap(self.uri, context)
        if code in _NO_SUCH_KEY:
            return kek_unusable(
                self.uri,
                f"KMS answers {code}",
                "It must be an enabled symmetric key (SYMMETRIC_DEFAULT, ENCRYPT_DECRYPT) of that region.",
            )
        if code in _AWAY or status >= 500:
            return kek_unavailable(self.uri, f"KMS answers {code or status}")
        return kek_refused(
            self.uri,
            f"KMS answers {code or status}",
            "Look at the credentials, and allow kms:Encrypt and kms:Decrypt with this key.",
        )

    def _not_asked(self, error: Exception) -> AirbergError:
        from botocore import exceptions as e

        kind = type(error).__name__
        if isinstance(error, e.SSLError):
            return kek_unusable(self.uri, "there is no TLS connection to trust", "See AWS_CA_BUNDLE.")
        if isinstance(error, e.HTTPClientError | e.ConnectionError | e.ChecksumError | e.IncompleteReadError):
            return kek_unavailable(self.uri, f"KMS is not reached ({kind})")
        return kek_refused(
            self.uri,
            f"the AWS client cannot sign the request ({kind})",
            "Give credentials in one of the ways that boto3 knows, such as a role or AWS_PROFILE.",
        )
