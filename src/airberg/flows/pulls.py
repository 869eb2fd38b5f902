"""Who has asked for the flows lately, as the API saw it, so that a doctor knows whether Airflow reaches it.

In the memory of one process: a note for every pull in the store would be a write for every task that starts.
Where several processes serve, whoever wants to know asks until the one that was asked answers.
"""

from __future__ import annotations

import email.utils
import re
import threading
from datetime import UTC, datetime

import msgspec

MOST_HOSTS = 1000
"""Hosts that are remembered; of more, those that asked last. They had the token, so there is no flood."""
_PRODUCT = re.compile(r"([a-z-]{1,32})/([A-Za-z0-9.+_~-]{1,64})(?: |$)")


class Pull(msgspec.Struct, frozen=True, kw_only=True):
    """The last time that a host asked for the flows, with the token.

    Attributes:
        host: Its own name for itself; None: it did not say.
        airflow: Version of Airflow there.
        package: Version of `airberg_airflow` there; None: it did not say.
        python: Version of Python there.
        at: When, by our clock.
        clock_s: Seconds that its clock is ahead of ours, as far as one that counts seconds can tell.
        count: How often it has asked since `PullsSeen.since`.
    """

    host: str | None
    airflow: str | None
    package: str | None
    python: str | None
    at: datetime
    clock_s: float | None
    count: int = 1


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """Requests for the flows that had not the token.

    Attributes:
        address: Where the last one came from.
    """

    count: int = 0
    at: datetime | None = None
    address: str | None = None


class PullsSeen(msgspec.Struct, frozen=True, kw_only=True):
    """All that a process of the API has seen since it started."""

    version: str
    since: datetime
    pulls: tuple[Pull, ...] = ()
    refused: Refused = Refused()


class FeedPulls:
    """Notes pulls. Safe to be used from several threads.

    Args:
        version: Of this service.
    """

    def __init__(self, version: str) -> None:
        self._version = version
        self._since = datetime.now(UTC)
        self._pulls: dict[str | None, Pull] = {}
        self._refused = Refused()
        self._lock = threading.Lock()

    def note(self, user_agent: str, date: str | None) -> None:
        """Note a pull by what its headers say of the sender."""
        now = datetime.now(UTC)
        said = dict(_PRODUCT.findall(user_agent[:512]))
        host = said.get("host")
        with self._lock:
            before = self._pulls.pop(host, None)
            self._pulls[host] = Pull(
                host=host,
                airflow=said.get("airflow"),
                package=said.get("airberg-airflow"),
                python=said.get("python"),
                at=now,
                clock_s=_ahead(date, now),
                count=before.count + 1 if before else 1,
            )
            while len(self._pulls) > MOST_HOSTS:
                del self._pulls[next(iter(self._pulls))]

    def refuse(self, address: str | None) -> None:
        """Note that somebody asked without the token."""
        with self._lock:
            self._refused = Refused(
                count=self._refused.count + 1, at=datetime.now(UTC), address=address and address[:64]
            )

    def seen(self) -> PullsSeen:
        """All of it, the last first."""
        with self._lock:
            pulls, refused = tuple(reversed(self._pulls.values())), self._refused
        return PullsSeen(version=self._version, since=self._since, pulls=pulls, refused=refused)

    def as_json(self) -> bytes:
        """What has been seen, as `PullsSeen` is read."""
        return msgspec.json.encode(self.seen())


def _ahead(date: str | None, now: datetime) -> float | None:
    """Seconds between the text of a `Date` header and now; a difference below one is none."""
    try:
        sent = email.utils.parsedate_to_datetime(date or "")
    except ValueError:
        return None
    if sent.tzinfo is None:
        return None
    # The header leaves out fractions of a second: on average half of one.
    ahead = (sent - now).total_seconds() + 0.5
    return 0.0 if abs(ahead) <= 1.0 else round(ahead, 1)
