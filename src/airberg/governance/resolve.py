"""Domains, tags and owners as callers name them, made into what DataHub calls them.

Used by the HTTP process when a job is submitted, so nothing here imports `datahub`; the urn rules are
those of its `mce_builder` (https://docs.datahub.com/docs/what/urn/#restrictions).
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from urllib.parse import quote

import httpx

from airberg.errors import Conflict, InvalidRequest, Unavailable
from airberg.plan.names import did_you_mean
from airberg.quoted import quoted

if TYPE_CHECKING:
    from airberg.settings import Settings

DOMAIN_PREFIX = "urn:li:domain:"
TAG_PREFIX = "urn:li:tag:"
USER_PREFIX = "urn:li:corpuser:"
GROUP_PREFIX = "urn:li:corpGroup:"
MAX_TAG_LENGTH = 200
MAX_URN_BYTES = 512
PAGE = 500
MAX_PAGES = 100

_RESERVED = frozenset(",()\u241f")

_DOMAINS_QUERY = """
query airbergDomains($urn: String!, $check: Boolean!, $input: ScrollAcrossEntitiesInput!) {
  exists: entityExists(urn: $urn) @include(if: $check)
  scrollAcrossEntities(input: $input) {
    nextScrollId
    searchResults { entity { urn ... on Domain { properties { name } } } }
  }
}
"""


class Domain(NamedTuple):
    """A domain that DataHub has."""

    urn: str
    name: str


class DomainDirectory(Protocol):
    """Knows the domains that tables may be put into."""

    def resolve(self, text: str) -> str:
        """The urn of the domain that `text` names by its urn, its id or its exact name.

        Raises:
            InvalidRequest: There is none (`unknown-domain`) or the urn is malformed (`bad-domain-urn`);
                the pointer is `/domain`.
            Conflict: Several have that name (`ambiguous-domain`); the message has their urns.
            Unavailable: The server that knows them does not answer.
        """
        ...


class SlugDirectory:
    """Without a server every domain is taken at its word: a urn stays, other text becomes a slug.

    The text itself stays in the job's request; `domain_name` finds it again for the proposals, so that
    a domain made by replaying a file has the name that was meant.
    """

    def resolve(self, text: str) -> str:
        """The urn; see `DomainDirectory.resolve`."""
        text = text.strip()
        if text.startswith("urn:"):
            return _checked_urn(text)
        if not (slug := _slug(text)):
            found = "The domain has no letters or digits."
            raise InvalidRequest.one("/domain", "unknown-domain", found, "Give its name or its urn.")
        return DOMAIN_PREFIX + slug


class DataHubDirectory:
    """Asks DataHub's GraphQL endpoint. One answer is enough for up to 500 domains.

    Args:
        server: Address of the metadata service.
        token: Access token, if it wants one; never shown.
        timeout_s: Of each request, in seconds.
    """

    def __init__(self, server: str, *, token: str | None = None, timeout_s: float = 10.0) -> None:
        self._url = f"{server.rstrip('/')}/api/graphql"
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._timeout_s = timeout_s

    def resolve(self, text: str) -> str:
        """The urn; see `DomainDirectory.resolve`."""
        text = text.strip()
        is_urn = text.startswith("urn:")
        urn = _checked_urn(text) if is_urn else DOMAIN_PREFIX + text
        # A domain that was just made is in the store before it is in the search index.
        exists, domains = self._ask(urn, check=is_urn or bool(re.fullmatch(r"[\w.:-]+", text)))
        if exists and all(d.urn != urn for d in domains):
            domains.append(Domain(urn, ""))
        return match_domain(text, domains)

    def _ask(self, urn: str, *, check: bool) -> tuple[bool, list[Domain]]:
        exists, scroll_id, found = False, None, list[Domain]()
        with httpx.Client(headers=self._headers, timeout=self._timeout_s) as client:
            for page in range(MAX_PAGES):
                asked = {"types": ["DOMAIN"], "query": "*", "count": PAGE, "scrollId": scroll_id}
                data = self._post(client, {"urn": urn, "check": check and page == 0, "input": asked})
                exists = exists or bool(data.get("exists"))
                scroll = data.get("scrollAcrossEntities") or {}
                found += [_domain(r["entity"]) for r in scroll.get("searchResults") or []]
                scroll_id = scroll.get("nextScrollId")
                if not scroll_id:
                    break
        return exists, found

    def _post(self, client: httpx.Client, variables: dict[str, Any]) -> dict[str, Any]:
        try:
            response = client.post(self._url, json={"query": _DOMAINS_QUERY, "variables": variables})
        except httpx.HTTPError as error:
            raise _away(f"DataHub does not answer ({type(error).__name__}).") from error
        if response.status_code != httpx.codes.OK:
            raise _away(f"DataHub answered {response.status_code} when it was asked for its domains.")
        try:
            answer = response.json()
        except json.JSONDecodeError as error:
            raise _away("DataHub's answer is not JSON: is this the metadata service?") from error
        data = answer.get("data") if isinstance(answer, dict) else None
        if not isinstance(data, dict) or answer.get("errors"):
            raise _away("DataHub could not say which domains it has.")
        return data


def open_directory(settings: Settings) -> DomainDirectory:
    """DataHub's domains when the settings name a server, else slugs."""
    datahub = settings.datahub
    if datahub.server is None:
        return SlugDirectory()
    token = datahub.token.get_secret_value() if datahub.token else None
    return DataHubDirectory(datahub.server, token=token, timeout_s=datahub.timeout_s)


def match_domain(text: str, domains: Sequence[Domain]) -> str:
    """The urn of the one domain that has this urn, id or exact name; raises as `DomainDirectory.resolve`."""
    text = text.strip()
    if text.startswith("urn:"):
        hits = {d.urn for d in domains if d.urn == _checked_urn(text)}
    else:
        hits = {d.urn for d in domains if text in (d.name, d.urn.removeprefix(DOMAIN_PREFIX))}
    if len(hits) > 1:
        raise Conflict(
            f"The domain {quoted(text)} is ambiguous: {', '.join(sorted(hits))}.",
            guidance="Name it by its urn.",
            code="ambiguous-domain",
        )
    if not hits:
        guidance = did_you_mean(text, {d.name for d in domains if d.name})
        raise InvalidRequest.one(
            "/domain", "unknown-domain", f"DataHub has no domain {quoted(text)}.", guidance
        )
    return hits.pop()


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


def _checked_urn(text: str) -> str:
    name = text.removeprefix(DOMAIN_PREFIX)
    if name == text or not name or any(c in _RESERVED or c.isspace() for c in name):
        raise InvalidRequest.one(
            "/domain",
            "bad-domain-urn",
            f"{quoted(text)} is not the urn of a domain.",
            "Write urn:li:domain:<id>.",
        )
    return text


def _slug(text: str) -> str:
    return re.sub(r"[\W_]+", "-", unicodedata.normalize("NFKC", text).casefold()).strip("-")


def _domain(entity: dict[str, Any]) -> Domain:
    return Domain(entity["urn"], (entity.get("properties") or {}).get("name") or "")


def _away(message: str) -> Unavailable:
    return Unavailable(
        message,
        guidance="Try again, or check AIRBERG_DATAHUB__SERVER and AIRBERG_DATAHUB__TOKEN.",
        code="datahub-unavailable",
    )
