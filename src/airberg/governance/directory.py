"""What DataHub has: domains, tags, users and groups, asked by the HTTP process, so without its client."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeAlias

import httpx

from airberg.errors import Unavailable

if TYPE_CHECKING:
    from airberg.settings import Settings

Kind: TypeAlias = Literal["domain", "tag", "user", "group"]

PAGE = 500
AT_MOST: Mapping[Kind, int] = {"domain": 50_000, "tag": 10_000, "user": 2_000, "group": 2_000}
"""Entities that are looked through: domains and tags for a name, people for one that is nearly it."""
URNS_AT_ONCE = 50

_TYPES: Mapping[Kind, str] = {"domain": "DOMAIN", "tag": "TAG", "user": "CORP_USER", "group": "CORP_GROUP"}
_NAMED: Mapping[Kind, str] = {
    "domain": "... on Domain { properties { name } }",
    "tag": "... on Tag { properties { name } }",
}


class Entity(NamedTuple):
    """An entity that DataHub has; its name is empty when it has none, or is not asked for."""

    urn: str
    name: str = ""


class EntityDirectory(Protocol):
    """Knows which entities there are. DataHub's and the one in memory pass one behaviour suite."""

    def existing(self, urns: Collection[str]) -> frozenset[str]:
        """Those of the urns that are there, also those that the search does not show yet.

        Raises:
            Unavailable: The server that knows them does not answer.
        """
        ...

    def entities(self, kind: Kind) -> list[Entity]:
        """The entities of a kind, as far as the search shows them, and at most `AT_MOST` of them.

        Raises:
            Unavailable: The server that knows them does not answer.
        """
        ...


class DataHubDirectory:
    """Asks DataHub's GraphQL endpoint.

    Args:
        server: Address of the metadata service.
        token: Access token, if it wants one; never shown.
        timeout_s: Of each request, in seconds.
    """

    def __init__(self, server: str, *, token: str | None = None, timeout_s: float = 10.0) -> None:
        self._url = f"{server.rstrip('/')}/api/graphql"
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._timeout_s = timeout_s

    def existing(self, urns: Collection[str]) -> frozenset[str]:
        """See `EntityDirectory.existing`."""
        asked, found = list(dict.fromkeys(urns)), set[str]()
        with self._client() as client:
            for start in range(0, len(asked), URNS_AT_ONCE):
                some = asked[start : start + URNS_AT_ONCE]
                types = ", ".join(f"$u{n}: String!" for n in range(len(some)))
                fields = " ".join(f"e{n}: entityExists(urn: $u{n})" for n in range(len(some)))
                query = f"query airbergExisting({types}) {{ {fields} }}"
                data = self._post(client, query, {f"u{n}": urn for n, urn in enumerate(some)})
                found |= {urn for n, urn in enumerate(some) if data.get(f"e{n}") is True}
        return frozenset(found)

    def entities(self, kind: Kind) -> list[Entity]:
        """See `EntityDirectory.entities`."""
        query = f"""
            query airbergEntities($input: ScrollAcrossEntitiesInput!) {{
              scrollAcrossEntities(input: $input) {{
                nextScrollId
                searchResults {{ entity {{ urn {_NAMED.get(kind, "")} }} }}
              }}
            }}
        """
        scroll_id, found = None, list[Entity]()
        with self._client() as client:
            while len(found) < AT_MOST[kind]:
                asked = {"types": [_TYPES[kind]], "query": "*", "count": PAGE, "scrollId": scroll_id}
                data = self._post(client, query, {"input": asked})
                scroll = data.get("scrollAcrossEntities") or {}
                results = scroll.get("searchResults") or []
                found += [_entity(r["entity"]) for r in results]
                scroll_id = scroll.get("nextScrollId")
                if not scroll_id or not results:
                    break
        return found

    def _client(self) -> httpx.Client:
        return httpx.Client(headers=self._headers, timeout=self._timeout_s)

    def _post(self, client: httpx.Client, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        try:
            response = client.post(self._url, json={"query": query, "variables": variables})
        except httpx.HTTPError as error:
            raise _away(f"DataHub does not answer ({type(error).__name__}).") from error
        if response.status_code != httpx.codes.OK:
            raise _away(f"DataHub answered {response.status_code} when it was asked what it has.")
        try:
            answer = response.json()
        except json.JSONDecodeError as error:
            raise _away("DataHub's answer is not JSON: is this the metadata service?") from error
        data = answer.get("data") if isinstance(answer, dict) else None
        if not isinstance(data, dict) or answer.get("errors"):
            raise _away("DataHub could not say what it has.")
        return data


def open_directory(settings: Settings) -> EntityDirectory | None:
    """DataHub's when the settings name a server, else None: nobody is asked."""
    datahub = settings.datahub
    if datahub.server is None:
        return None
    token = datahub.token.get_secret_value() if datahub.token else None
    return DataHubDirectory(datahub.server, token=token, timeout_s=datahub.timeout_s)


def _entity(found: dict[str, Any]) -> Entity:
    return Entity(found["urn"], (found.get("properties") or {}).get("name") or "")


def _away(message: str) -> Unavailable:
    return Unavailable(
        message,
        guidance="Try again, or check AIRBERG_DATAHUB__SERVER and AIRBERG_DATAHUB__TOKEN.",
        code="datahub-unavailable",
    )
