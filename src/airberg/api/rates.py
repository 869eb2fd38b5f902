"""How often one caller may ask: token buckets in the memory of this process.

Each bucket is the moment at which it will be full again (the generic cell rate algorithm), so that one number
for each caller and kind is all there is to keep. A caller who has not asked for a minute costs nothing.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import Final, Literal

from airberg.api.limit_settings import LimitSettings
from airberg.errors import TooManyRequests

WINDOW_S: Final = 60.0
MAX_BUCKETS = 20_000
"""Of each kind. Beyond, the one that was used longest ago is forgotten: then its caller may ask anew."""

Kind = Literal["reads", "writes", "source-questions", "failed-logins"]


@dataclass(frozen=True, slots=True)
class Standing:
    """What is left of an allowance.

    Attributes:
        left: How many more requests at once.
        full_in_s: When all of it is there again.
    """

    kind: Kind
    allowance: int
    left: int
    full_in_s: int

    def headers(self) -> dict[str, str]:
        """As the IETF's draft `ratelimit-headers` writes them."""
        return {
            "RateLimit-Policy": f'"{self.kind}";q={self.allowance};w={WINDOW_S:.0f}',
            "RateLimit": f'"{self.kind}";r={self.left};t={self.full_in_s}',
        }


class Buckets:
    """One bucket a caller, all of one size; thread-safe.

    Args:
        allowance: Requests a minute, all of which may come at once; 0: no limit.
        clock: Seconds.
    """

    def __init__(self, kind: Kind, allowance: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._kind: Kind = kind
        self._allowance = allowance
        self._step = WINDOW_S / allowance if allowance else 0.0
        self._clock = clock
        self._full_at: OrderedDict[str, float] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, caller: str) -> Standing | None:
        """Take one from the caller's bucket; None without a limit.

        Raises:
            TooManyRequests: It is empty; says when there will be one.
        """
        return self._look(caller, self._step)

    def check(self, caller: str) -> None:
        """Raise as `take` would, and take nothing."""
        self._look(caller, 0.0)

    def _look(self, caller: str, step: float) -> Standing | None:
        if not self._allowance:
            return None
        now = self._clock()
        with self._lock:
            full_at = max(self._full_at.get(caller, now), now)
            wait_s = full_at + self._step - now - WINDOW_S
            # An allowance that divides badly must not cost one request: a microsecond is no wait.
            if wait_s > 1e-6:
                raise TooManyRequests(
                    f"There are more than {self._allowance} {_NAMES[self._kind]} a minute.",
                    guidance="Send fewer, or have AIRBERG_LIMITS__"
                    f"{_NAMES[self._kind].upper().replace(' ', '_')}_PER_MINUTE raised.",
                    retry_after=max(1, math.ceil(wait_s)),
                    code="rate-limited",
                )
            full_at += step
            if step:
                self._full_at[caller] = full_at
                self._full_at.move_to_end(caller)
                if len(self._full_at) > MAX_BUCKETS:
                    self._full_at.popitem(last=False)
        left = int((WINDOW_S - (full_at - now)) / self._step + 1e-6)
        return Standing(self._kind, self._allowance, left, math.ceil(full_at - now))


_NAMES: dict[Kind, str] = {
    "reads": "reads",
    "writes": "writes",
    "source-questions": "source questions",
    "failed-logins": "failed logins",
}


class Rates:
    """The buckets of a service, one set for each kind of request."""

    def __init__(self, limits: LimitSettings, clock: Callable[[], float] = time.monotonic) -> None:
        allowances: dict[Kind, int] = {
            "reads": limits.reads_per_minute,
            "writes": limits.writes_per_minute,
            "source-questions": limits.source_questions_per_minute,
            "failed-logins": limits.failed_logins_per_minute,
        }
        self._buckets = {kind: Buckets(kind, allowance, clock) for kind, allowance in allowances.items()}

    def admit(self, caller: str, kind: Kind) -> Standing | None:
        """Count a request of a caller; see `Buckets.take`."""
        return self._buckets[kind].take(caller)

    def check_address(self, address: str) -> None:
        """Refuse an address from which too many credentials came that did not hold, before looking at more.

        Raises:
            TooManyRequests: See `Buckets.take`.
        """
        self._buckets["failed-logins"].check(network_of(address))

    def count_failure(self, address: str) -> None:
        """Count credentials that did not hold. Raises nothing: the answer says what is wrong with them."""
        try:
            self._buckets["failed-logins"].take(network_of(address))
        except TooManyRequests:
            return


def kind_of(method: str, path: str, query: str) -> Kind:
    """Which allowance a request is taken from.

    What starts a process for a connector costs a thousand times what a read does.
    """
    if method in ("GET", "HEAD"):
        return "reads"
    asks = path in ("/api/airbyte/check", "/api/airbyte/discover") or (
        path == "/api/airbyte/ingest" and "preflight=skip" not in query.split("&")
    )
    return "source-questions" if asks else "writes"


def network_of(address: str) -> str:
    """Whose an address is: one of IPv4, or the 64 bits of IPv6 that one household or host gets."""
    try:
        found = ip_address(address)
    except ValueError:  # a socket without an address
        return address
    if not isinstance(found, IPv6Address):
        return address
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(IPv6Address(int(found) >> 64 << 64))
