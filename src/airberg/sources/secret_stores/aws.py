"""AWS Secrets Manager. Credentials are found by boto3 as usual: environment, profile, role."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from airberg.errors import AirbergError, Unavailable
from airberg.service_clients import aws_client
from airberg.sources.secret_settings import SecretSettings
from airberg.sources.secret_stores import NoSuchSecret, refused
from airberg.sources.secret_stores.drivers import require_driver

_NOT_THERE: Final = frozenset({"ResourceNotFoundException", "InvalidRequestException", "ValidationException"})
"""No such secret, one marked for deletion, a name that cannot be one (GetSecretValue's errors)."""
_AWAY: Final = frozenset(
    {
        "ThrottlingException",
        "Throttling",
        "RequestLimitExceeded",
        "TooManyRequestsException",
        "InternalServiceError",
        "InternalFailure",
        "ServiceUnavailable",
        "ServiceUnavailableException",
        "RequestTimeout",
    }
)


def read_aws(settings: SecretSettings, name: str) -> str:
    """The current version of a secret.

    Raises:
        NoSuchSecret: There is none, or it is no text.
        ConfigurationFailed: boto3 is not installed, no credentials, or not allowed.
        Unavailable: The service does not answer, or throttles.
    """
    require_driver("boto3", "aws-kms")
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        answer = _client(settings).get_secret_value(SecretId=name)
    except ClientError as e:
        raise _answered(e.response) from None
    except BotoCoreError as e:
        raise _not_asked(e) from None
    if not isinstance(text := answer.get("SecretString"), str):
        raise NoSuchSecret("what is there is no text")
    return text


def _client(settings: SecretSettings) -> Any:  # noqa: ANN401 - boto3 makes its classes at run time
    return aws_client(
        "secretsmanager",
        profile=settings.aws_profile,
        region=settings.aws_region,
        endpoint=settings.aws_endpoint,
        timeout_s=settings.timeout_s,
        attempts=settings.attempts,
    )


def _answered(response: Mapping[str, Any]) -> Exception:
    code = str(response.get("Error", {}).get("Code", ""))
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code in _NOT_THERE:
        return NoSuchSecret("there is no such secret")
    if code in _AWAY or status >= 500:
        return _unavailable(f"it answers {code or status}")
    return refused(
        "aws-sm",
        f"it answers {code or status}",
        "Look at the credentials, and allow secretsmanager:GetSecretValue with this secret.",
    )


def _not_asked(error: Exception) -> AirbergError:
    from botocore import exceptions as e

    kind = type(error).__name__
    if isinstance(error, e.SSLError):
        return refused("aws-sm", "there is no TLS connection to trust", "See AWS_CA_BUNDLE.")
    if isinstance(error, e.HTTPClientError | e.ConnectionError | e.ChecksumError | e.IncompleteReadError):
        return _unavailable(f"it is not reached ({kind})")
    return refused(
        "aws-sm",
        f"the AWS client cannot send the request ({kind})",
        "Set AIRBERG_SECRETS__AWS_REGION, and give credentials in one of the ways that boto3 knows.",
    )


def _unavailable(why: str) -> Unavailable:
    return Unavailable(
        f"The secret store aws-sm does not answer at the moment: {why}.",
        guidance="Try again; look at AWS Secrets Manager if this lasts.",
        code="secrets-unavailable",
    )
