"""Takes secrets out of log lines: those that this deployment knows, and whatever has the form of one.

The last net, not the first: nothing logs a secret on purpose. But libraries quote URLs with passwords,
headers and connection strings in their warnings.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from pydantic import BaseModel, SecretStr

from airberg.sources.redact import MASK, Redactor

MAX_TEXT = 64_000
"""Characters of a value that are kept: a line of megabytes helps nobody."""
_NAMED = (
    r"authorization(?:-psk)?|proxy-authorization|cookie|set-cookie|x-api-key|api[-_]?key|access[-_]?key"
    r"|secret[-_]?(?:id|key|access[-_]?key)?|client[-_]secret|private[-_]key|passwd|password|passphrase|pwd"
    r"|(?:access|refresh|id|bearer|auth|session)?[-_]?token|master[-_]key|credentials?"
)
_SECRET_NAME = re.compile(rf"(?:.*[-_.])?(?:{_NAMED})", re.IGNORECASE)
_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    # Service keys of ours, JSON web tokens, and what follows the scheme of an Authorization header.
    (re.compile(r"(?<![0-9A-Za-z_-])abk_[0-9A-Za-z_-]{8,}"), MASK),
    (re.compile(r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]{4,}(?:\.[A-Za-z0-9_-]*)?"), MASK),
    (re.compile(r"\b(bearer|basic|digest)(\s+)[A-Za-z0-9\-._~+/]{6,}=*", re.IGNORECASE), rf"\1\2{MASK}"),
    # user:password@ in addresses
    (re.compile(r"(?<=://)([^/\s:@]*):[^/\s@]+(?=@)"), rf"\1:{MASK}"),
    # name=value, name: value, "name": "value"; of a quoted value all, of another one the first word
    (
        re.compile(
            rf"""(?<![A-Za-z0-9])((?:[A-Za-z0-9]{{1,40}}[-_.]){{0,6}}(?:{_NAMED})["']?\s?(?:=|:(?!//))\s?b?)"""
            r"""(?:"(?:[^"\\]|\\.)*+"|'(?:[^'\\]|\\.)*+'|(?!bearer\b|basic\b|digest\b)[^\s,;&"'<>)\]}]+)""",
            re.IGNORECASE,
        ),
        rf"\1{MASK}",
    ),
    (
        re.compile(r"-----BEGIN ([A-Z ]*PRIVATE KEY)-----.*?(?:-----END \1-----|\Z)", re.DOTALL),
        f"-----BEGIN \\1----- {MASK}",
    ),
)
_MAY_HOLD_MORE = re.compile(r"[:=]|eyJ|abk_|-----|\b(?:bearer|basic|digest)\s", re.IGNORECASE)
"""Without any of these, none of the patterns fits: most values of most lines."""


class Scrubber:
    """Replaces secrets by `MASK` in texts, and in values of log events.

    Args:
        values: Secrets that are known.
    """

    def __init__(self, values: Iterable[str] = ()) -> None:
        self._known = Redactor(values)

    def __repr__(self) -> str:
        return "Scrubber(...)"

    def text(self, text: str) -> str:
        """The text without secrets, and without what steers a terminal."""
        if len(text) > MAX_TEXT:
            text = f"{text[:MAX_TEXT]} ({len(text) - MAX_TEXT} characters more)"
        text = self._known.text(text)
        if not _MAY_HOLD_MORE.search(text):
            return text
        for pattern, replacement in _PATTERNS:
            text = pattern.sub(replacement, text)
        return text

    def value(self, name: str, value: object, depth: int = 0) -> object:
        """The value of a field of an event; all of it is hidden where the name says that it is secret."""
        if isinstance(value, bool | int | float | None):
            return value
        if _SECRET_NAME.fullmatch(name):
            return MASK
        if depth > 4:
            return "..."
        if isinstance(value, Mapping):
            return {str(k): self.value(str(k), v, depth + 1) for k, v in value.items()}
        if isinstance(value, Sequence | set | frozenset) and not isinstance(value, str | bytes):
            return [self.value("", item, depth + 1) for item in value]
        return self.text(value if isinstance(value, str) else str(value))


def secrets_in(settings: BaseModel) -> set[str]:
    """The values of all secret settings."""
    found: set[str] = set()
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, SecretStr):
            found.add(value.get_secret_value())
        elif isinstance(value, BaseModel):
            found |= secrets_in(value)
    return found
