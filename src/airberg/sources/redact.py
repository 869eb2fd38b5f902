"""Takes known secrets out of texts of a connector before anybody else sees them.

A connector prints what it likes: exception texts with the whole configuration, URLs with passwords, HTTP
headers. So each secret is looked for in the forms in which programs print it: as it is, JSON-escaped, as a
Python literal, URL-quoted, in base64 (also inside a longer text such as `user:password`), and, for a secret
of several lines such as a PEM key, line by line.

What this cannot do: find a secret in a form that is not listed (hex, encrypted, split over two messages).
What would steer a terminal or a viewer of logs (escape sequences, other control characters, marks that turn
the direction of writing) is taken out too: a text may hide, move or overwrite what stands around it.

Values shorter than four characters are left alone: they occur in texts by chance, and hiding every `1`
would make each message unreadable without hiding anything.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus

MASK = "**********"
MIN_LENGTH = 4
# ECMA-48: CSI, then the strings (OSC, DCS, SOS, PM, APC), then two characters; and their C1 forms of one.
_SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c)?"
    r"|\x1b[ -/]*[0-~]?"
)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_URL_CREDENTIALS = re.compile(r"(?<=://)[^/\s:@]*:[^/\s@]+(?=@)")


class Redactor:
    """Replaces every form of the given values by `MASK`, and takes out what steers a terminal.

    Args:
        values: The secrets in plain text.
    """

    def __init__(self, values: Iterable[str] = ()) -> None:
        forms = {form for value in values for form in _forms(value)}
        # The longest first: a secret that contains another one is hidden whole.
        ordered = sorted(forms, key=lambda form: (-len(form), form))
        self.longest = len(ordered[0].encode("utf-8", "surrogatepass")) if ordered else 0
        self._pattern = re.compile("|".join(map(re.escape, ordered))) if ordered else None

    def __repr__(self) -> str:
        return "Redactor(...)"

    def text(self, text: str) -> str:
        """The text without secrets, and without anything that steers a terminal."""
        # Before, because a secret may itself hold such characters; after, because they may divide a secret.
        masked = self._masked(text)
        return masked if masked.isprintable() else self._masked(without_controls(masked))

    def _masked(self, text: str) -> str:
        if self._pattern is None:
            return text
        # A mask between two remainders can complete another secret that has asterisks in it, so until
        # nothing is left. This ends: each round removes at least one character that is no asterisk.
        while self._pattern.search(text):
            text = self._pattern.sub(MASK, text)
        return text

    def bytes(self, data: bytes) -> bytes:
        """The same for bytes; those that are not UTF-8 stay as they are."""
        return self.text(data.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")


def without_controls(text: str) -> str:
    """The text with line ends and tabs as its only control characters; a carriage return ends a line too."""
    lines = _SEQUENCE.sub("", text).replace("\r\n", "\n").replace("\r", "\n")
    return _CONTROL.sub("", lines)


def without_url_credentials(text: str) -> str:
    """The text with `user:password` in URLs replaced, for texts whose secrets are not known."""
    return _URL_CREDENTIALS.sub(MASK, text)


def _forms(value: str) -> Iterator[str]:
    lines = [line.strip() for line in value.splitlines()] if "\n" in value else []
    for text in {value, value.strip(), *lines}:
        for form in (text, *_printed(text), *_base64(text)):
            if len(form) >= MIN_LENGTH and form.strip("*"):
                yield form


def _printed(text: str) -> Iterator[str]:
    yield json.dumps(text)[1:-1]
    yield json.dumps(text, ensure_ascii=False)[1:-1]
    yield json.dumps(text)[1:-1].replace("/", "\\/")
    yield repr(text)[1:-1]
    if len(text) >= MIN_LENGTH:
        data = text.encode("utf-8", "surrogatepass")
        yield quote(data, safe="")
        yield quote(data)
        yield quote_plus(data)


def _base64(text: str) -> Iterator[str]:
    """The characters that any base64 text holding `text` must have, for each of the three alignments."""
    data = text.encode("utf-8", "surrogatepass")
    if len(data) < MIN_LENGTH:
        return
    for shift in range(3):
        encoded = base64.b64encode(bytes(shift) + data)
        whole = (shift + len(data)) * 8 // 6  # characters whose six bits are all known
        core = encoded[-(-shift * 8 // 6) : whole].decode()
        yield core
        yield core.replace("+", "-").replace("/", "_")
