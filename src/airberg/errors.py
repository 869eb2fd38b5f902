"""The exception tree. The branch of an error decides what happens next.

```
AirbergError
├── RequestError               the caller has to change something          HTTP 4xx
│   ├── InvalidRequest         one or many fields are wrong                422
│   ├── NotAuthenticated       no token, or one that does not hold         401
│   ├── MalformedCredentials   the Authorization header is not well formed 400
│   ├── NotAllowed             the token lacks a scope or a role           403
│   ├── NotFound               no such thing, or not yours                 404
│   ├── Conflict               it contradicts what is stored               409
│   ├── SlowRequest            the body does not arrive                    408
│   ├── PreconditionFailed     what it was made from has changed           412
│   ├── TooLarge               the body is over the limit                  413
│   ├── HeadersTooLarge        there are too many headers                  431
│   └── TooManyRequests        slow down                                   429
├── Unavailable                a part we need does not answer              HTTP 503, retry
├── RunError                   a run ends here                             exit code of `airberg sync`
│   ├── ConfigurationFailed    a person has to change something: no retry  exit 2
│   ├── TransientFailed        may well work next time: retry              exit 1
│   ├── RunCancelled           somebody asked us to stop                   exit 143
│   └── LeaseHeld              another run of the job is alive             exit 99
└── ValueRejected              one value does not fit: null with a reason, the row stays
```

Each error carries `message` (one sentence: what was found), `guidance` (one sentence: what to do) and
`code` (stable, for programs). None of them may ever hold a secret: they end in logs and answers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a request.

    Attributes:
        pointer: JSON pointer (RFC 6901) into the body, `""` for the whole of it.
        code: Stable identifier in kebab case.
        message: What was found.
        guidance: What to do about it.
    """

    pointer: str
    code: str
    message: str
    guidance: str = ""

    def as_dict(self) -> dict[str, str]:
        """The members of one entry of `errors[]` in a problem body."""
        return {
            "pointer": self.pointer,
            "code": self.code,
            "message": self.message,
            "guidance": self.guidance,
        }


class AirbergError(Exception):
    """Something went wrong in Airberg."""

    default_code: ClassVar[str] = "internal-error"

    def __init__(self, message: str | None = None, *, guidance: str = "", code: str | None = None) -> None:
        self.message = message or (type(self).__doc__ or "").splitlines()[0]
        self.guidance = guidance
        self.code = code or self.default_code
        super().__init__(self.message)

    def sentence(self) -> str:
        """The message with its guidance, for people."""
        return f"{self.message} {self.guidance}".strip()


# ---- requests --------------------------------------------------------------------------------------------


class RequestError(AirbergError):
    """The request cannot be carried out as it is."""

    status: ClassVar[int] = 400
    default_code = "bad-request"


class InvalidRequest(RequestError):
    """The request has fields that are wrong."""

    status = 422
    default_code = "invalid-request"

    def __init__(self, problems: list[Problem] | tuple[Problem, ...]) -> None:
        if not problems:
            raise ValueError("InvalidRequest needs at least one problem")
        self.problems = tuple(problems)
        first = self.problems[0]
        more = f" ({len(self.problems) - 1} more problems)" if len(self.problems) > 1 else ""
        super().__init__(first.message + more, guidance=first.guidance, code=first.code)

    @classmethod
    def one(cls, pointer: str, code: str, message: str, guidance: str = "") -> InvalidRequest:
        """An error with a single problem."""
        return cls([Problem(pointer, code, message, guidance)])


class NotAuthenticated(RequestError):
    """The request carries no access token that holds.

    `challenge` is the `error` of RFC 6750 section 3.1: `None` when there were no credentials at all.
    """

    status = 401
    default_code = "not-authenticated"

    def __init__(
        self, message: str | None = None, *, challenge: str | None = None, guidance: str = ""
    ) -> None:
        super().__init__(message, guidance=guidance)
        self.challenge = challenge


class MalformedCredentials(RequestError):
    """The Authorization header is not well formed."""

    status = 400
    default_code = "malformed-credentials"


class NotAllowed(RequestError):
    """The caller may not do this. `scope` names what is missing, where a scope is (RFC 6750)."""

    status = 403
    default_code = "not-allowed"

    def __init__(
        self,
        message: str | None = None,
        *,
        scope: str | None = None,
        guidance: str = "",
        code: str | None = None,
    ) -> None:
        super().__init__(message, guidance=guidance, code=code)
        self.scope = scope


class NotFound(RequestError):
    """There is no such thing, or it is not yours."""

    status = 404
    default_code = "not-found"


class Conflict(RequestError):
    """The request contradicts what is already stored."""

    status = 409
    default_code = "conflict"


class PreconditionFailed(RequestError):
    """The request was made from a state that has changed since."""

    status = 412
    default_code = "precondition-failed"


class TooLarge(RequestError):
    """The body is larger than this service takes."""

    status = 413
    default_code = "too-large"


class SlowRequest(RequestError):
    """The body of the request does not arrive."""

    status = 408
    default_code = "slow-request"


class HeadersTooLarge(RequestError):
    """The request has too many headers."""

    status = 431
    default_code = "too-many-headers"


class TooManyRequests(RequestError):
    """Too many requests at once. `retry_after` is in seconds."""

    status = 429
    default_code = "too-many-requests"

    def __init__(
        self,
        message: str | None = None,
        *,
        retry_after: int = 5,
        guidance: str = "",
        code: str | None = None,
    ) -> None:
        super().__init__(message, guidance=guidance, code=code)
        self.retry_after = retry_after


class Unavailable(AirbergError):
    """A part that is needed does not answer. `retry_after` is in seconds."""

    status: ClassVar[int] = 503
    default_code = "unavailable"

    def __init__(
        self,
        message: str | None = None,
        *,
        retry_after: int = 10,
        guidance: str = "",
        code: str | None = None,
    ) -> None:
        super().__init__(message, guidance=guidance, code=code)
        self.retry_after = retry_after


# ---- runs ------------------------------------------------------------------------------------------------


class RunError(AirbergError):
    """A run could not be completed."""

    exit_code: ClassVar[int] = 1
    default_code = "run-failed"


class ConfigurationFailed(RunError):
    """The run cannot succeed before a person changes something."""

    exit_code = 2
    default_code = "configuration-error"


class TransientFailed(RunError):
    """The run failed for a reason that may pass."""

    exit_code = 1
    default_code = "transient-error"


class RunCancelled(RunError):
    """The run was asked to stop."""

    exit_code = 143
    default_code = "cancelled"


class LeaseHeld(RunError):
    """Another run of this job is alive."""

    exit_code = 99
    default_code = "lease-held"


# ---- rows ------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class ValueRejected(AirbergError):
    """One value does not fit its column. The row stays, the value becomes null, the reason is recorded.

    Attributes:
        reason: A reason of the Airbyte protocol's `_airbyte_meta.changes`, e.g.
            `DESTINATION_TYPECAST_ERROR`.
    """

    reason: str = field(default="DESTINATION_TYPECAST_ERROR")

    def __post_init__(self) -> None:
        super().__init__("A value does not fit the type of its column.", code="value-rejected")
