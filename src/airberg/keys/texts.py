"""Sealed texts: what must not be told in clear, kept where it would have been told.

A connector's log line or error may quote the rows that it reads. Where columns are protected, such a text
goes into the log encrypted: under the keys of all the columns, one inside the other, so that reading it needs
the right to every one of them and a destroyed key takes it along, and then by what seals configurations.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from airberg.errors import ConfigurationFailed
from airberg.keys.cipher import ColumnCipher, decrypt_value
from airberg.keys.port import DataKey
from airberg.keys.seal import Sealer

MAX_BYTES: Final = 10_000
"""What is longer loses its middle: a line of a task's log may have 16 KB."""

_TOKEN = re.compile(r"airberg-sealed:([0-9a-f-]{36}):([a-z0-9._,-]*):([A-Za-z0-9_-]+)")
_CUT: Final = b" [...] "


class TextSeal:
    """Seals the texts of one job.

    Args:
        job_id: The job.
        keys: Those of its columns; without any, the sealer alone seals.
        sealer: What seals the deployment's configurations.

    Raises:
        ConfigurationFailed, Unavailable: The sealer cannot have its key.
    """

    def __init__(self, job_id: str, keys: Iterable[DataKey], sealer: Sealer) -> None:
        named = {key.name: key for key in keys}
        self._job_id = job_id
        self._names = sorted(named)
        self._ciphers = [ColumnCipher(named[name], _aad(job_id), "random") for name in self._names]
        self._sealer = sealer
        sealer.seal(
            b"", _context(job_id)
        )  # which loads its key: to fail later would be in the middle of a log

    def __call__(self, text: str) -> str:
        """The sealed text: one word, that is safe in logs."""
        data = text.encode("utf-8", "replace")
        if len(data) > MAX_BYTES:
            half = (MAX_BYTES - len(_CUT)) // 2
            data = data[:half] + _CUT + data[-half:]
        for cipher in self._ciphers:
            data = cipher.encrypt_value(data)
        sealed = self._sealer.seal(data, _context(self._job_id))
        names, body = ",".join(self._names), base64.urlsafe_b64encode(sealed).decode().rstrip("=")
        return f"airberg-sealed:{self._job_id}:{names}:{body}"


@dataclass(frozen=True, slots=True)
class SealedText:
    """A sealed text that was found in another one.

    Attributes:
        job_id: Job that it is of.
        key_names: The keys that it takes to open it.
        body: What is sealed.
    """

    job_id: str
    key_names: tuple[str, ...]
    body: str

    def open(self, versions: Callable[[str], Iterable[DataKey]], sealer: Sealer) -> str:
        """The text.

        Args:
            versions: Gives the versions of a key that may decrypt; what it raises is raised.
            sealer: What seals the deployment's configurations.

        Raises:
            ConfigurationFailed: The text was cut off or changed, or is of another deployment.
        """
        try:
            sealed = base64.urlsafe_b64decode(self.body + "=" * (-len(self.body) % 4))
        except ValueError:
            raise ConfigurationFailed(
                "A sealed text was cut off or changed.", code="cannot-open-sealed"
            ) from None
        data = sealer.open(sealed, _context(self.job_id))
        for name in reversed(self.key_names):
            data = decrypt_value(versions(name), data, _aad(self.job_id))
        return data.decode("utf-8", "replace")


def sealed_texts(text: str) -> Iterator[SealedText]:
    """The sealed texts in a text, such as a log."""
    return map(_found, _TOKEN.finditer(text))


def unsealed(text: str, opened: Callable[[SealedText], str]) -> str:
    """A text with its sealed parts replaced."""
    return _TOKEN.sub(lambda match: opened(_found(match)), text)


def _found(match: re.Match[str]) -> SealedText:
    job_id, names, body = match.groups()
    return SealedText(job_id, tuple(names.split(",")) if names else (), body)


def _context(job_id: str) -> dict[str, str]:
    return {"job": job_id, "part": "text"}


def _aad(job_id: str) -> bytes:
    return f"airberg.text.{job_id}".encode()
