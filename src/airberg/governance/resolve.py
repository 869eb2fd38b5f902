"""Domains, tags and owners as callers name them, and the urns that DataHub gives them.

Used by the HTTP process when a job is submitted, so nothing here imports `datahub`; the urn rules are
those of its `mce_builder` (https://docs.datahub.com/docs/what/urn/#restrictions). Which of them have to be
there is decided in `airberg.governance.policies`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from urllib.parse import quote, unquote

from airberg.errors import InvalidRequest
from airberg.quoted import quoted

DOMAIN_PREFIX = "urn:li:domain:"
TAG_PREFIX = "urn:li:tag:"
USER_PREFIX = "urn:li:corpuser:"
GROUP_PREFIX = "urn:li:corpGroup:"
MAX_TAG_LENGTH = 200
MAX_URN_BYTES = 512

_RESERVED = frozenset(",()\u241f")


def domain_of_slug(text: str) -> str:
    """The urn of a domain that is made of its name.

    The text itself stays in the job's request; `domain_name` finds it again for the proposals, so that a
    domain that is made by sending them has the name that was meant.

    Raises:
        InvalidRequest: It has no letters or digits (`unknown-domain`).
    """
    if not (slug := _slug(text)):
        found = "The domain has no letters or digits."
        raise InvalidRequest.one("/domain", "unknown-domain", found, "Give its name or its urn.")
    return DOMAIN_PREFIX + slug


def checked_domain_urn(text: str) -> str:
    """The text, if it is the urn of a domain.

    Raises:
        InvalidRequest: It is not (`bad-domain-urn`).
    """
    name = text.removeprefix(DOMAIN_PREFIX)
    if name == text or not name or any(c in _RESERVED or c.isspace() for c in name):
        raise InvalidRequest.one(
            "/domain",
            "bad-domain-urn",
            f"{quoted(text)} is not the urn of a domain.",
            "Write urn:li:domain:<id>.",
        )
    return text


def domain_name(text: str | None, urn: str | None) -> str | None:
    """The name of a domain whose urn is the slug of the text it was asked for by, else None."""
    text = (text or "").strip()
    if not text or not urn or text.startswith("urn:"):
        return None
    return text if DOMAIN_PREFIX + _slug(text) == urn else None


def clean_tags(tags: Iterable[str] | None) -> tuple[str, ...]:
    """Names of tags, from names or `urn:li:tag:` urns, in order, without blanks and duplicates.

    Raises:
        ValueError: Some cannot be tags; it says all that is wrong. (No `InvalidRequest`: the check is one
            of many of a request body, which reports them together.)
    """
    names = list(dict.fromkeys(tag.strip().removeprefix(TAG_PREFIX).strip() for tag in tags or ()))
    if wrong := [found for name in names if (found := _tag_problem(name))]:
        raise ValueError(" ".join(wrong))
    return tuple(name for name in names if name)


def owner_urn(owner_id: str) -> str:
    """The urn of a user id, of a group written `group:<id>`, or the urn itself if it is one of the two.

    DataHub's sign-in makes user ids from the e-mail claim, so an e-mail address is the usual id.
    """
    owner_id = owner_id.strip()
    if owner_id.startswith((USER_PREFIX, GROUP_PREFIX)):
        return owner_id
    if owner_id.startswith("group:"):
        return GROUP_PREFIX + _encoded(owner_id.removeprefix("group:"))
    return USER_PREFIX + _encoded(owner_id)


def entity_id(urn: str) -> str:
    """What comes after the type in the urn of a user or a group, as people write it."""
    return unquote(urn.removeprefix(USER_PREFIX).removeprefix(GROUP_PREFIX))


def _encoded(text: str) -> str:
    return "".join(quote(c) if c in _RESERVED else c for c in text)


def _tag_problem(name: str) -> str | None:
    if name.startswith("urn:"):
        return f"{quoted(name[:80])} is not the urn of a tag."
    if "," in name:
        return f"The tag {quoted(name[:80])} has a comma; send a list of tags."
    if any(unicodedata.category(c).startswith("C") for c in name):
        return "A tag has control characters."
    if len(name) > MAX_TAG_LENGTH or len(quote(TAG_PREFIX + name)) > MAX_URN_BYTES:
        return f"The tag {quoted(name[:40] + '...')} is too long (at most {MAX_TAG_LENGTH} characters)."
    return None


def _slug(text: str) -> str:
    return re.sub(r"[\W_]+", "-", unicodedata.normalize("NFKC", text).casefold()).strip("-")
