"""The part of DataHub's GraphQL that is asked for: whether an entity is there, and the search for names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Set
from typing import Any

from graphql import build_schema, graphql_sync

from airberg.testing.datahub.untyped import Json

# Taken from the files of datahub-graphql-core, with its types, so that wrong queries are refused as there.
SCHEMA = """
type Query {
  entityExists(urn: String!): Boolean
  scrollAcrossEntities(input: ScrollAcrossEntitiesInput!): ScrollResults
}
enum EntityType { DATASET DOMAIN TAG CORP_USER CORP_GROUP CONTAINER DATA_FLOW DATA_JOB }
enum FilterOperator { CONTAIN EQUAL IEQUAL IN EXISTS START_WITH END_WITH }
input FacetFilterInput { field: String! values: [String!] negated: Boolean condition: FilterOperator }
input AndFilterInput { and: [FacetFilterInput!] }
input ScrollAcrossEntitiesInput {
  types: [EntityType!] query: String! scrollId: String keepAlive: String count: Int
  orFilters: [AndFilterInput!]
}
type ScrollResults { nextScrollId: String count: Int! total: Int! searchResults: [SearchResult!]! }
type SearchResult { entity: Entity! }
interface Entity { urn: String! type: EntityType! }
type Domain implements Entity { urn: String! type: EntityType! id: String! properties: DomainProperties }
type DomainProperties { name: String! description: String }
type Tag implements Entity { urn: String! type: EntityType! name: String! properties: TagProperties }
type TagProperties { name: String! description: String }
type CorpUser implements Entity { urn: String! type: EntityType! username: String! }
type CorpGroup implements Entity { urn: String! type: EntityType! name: String! }
type Other implements Entity { urn: String! type: EntityType! }
"""
_BUILT = build_schema(SCHEMA)
_KINDS = frozenset(re.findall(r"[A-Z_]+", SCHEMA.partition("enum EntityType {")[2].partition("}")[0]))
_OBJECTS = {"DOMAIN": "Domain", "TAG": "Tag", "CORP_USER": "CorpUser", "CORP_GROUP": "CorpGroup"}
_NAMED = ("domainProperties", "tagProperties", "datasetProperties", "containerProperties", "corpUserInfo")


def execute(
    aspects: Mapping[tuple[str, str], Any], unindexed: Set[str], page: int, body: Json
) -> dict[str, Any]:
    """Execute a query; wrong fields, arguments and types are errors as in the service.

    Args:
        aspects: Latest value by urn and name of the aspect.
        unindexed: Urns that the search does not find.
        page: Most results of one answer of a scroll.
        body: Of the request.
    """
    root = {
        "entityExists": lambda _info, urn: any(known == urn for known, _ in aspects),
        "scrollAcrossEntities": lambda _info, input: _scroll(
            {k: v for k, v in aspects.items() if k[0] not in unindexed}, page, input
        ),
    }
    result = graphql_sync(
        _BUILT,
        str(body.get("query")) if isinstance(body, dict) else "",
        root,
        variable_values=body.get("variables") if isinstance(body, dict) else None,
        type_resolver=lambda entity, *_: _OBJECTS.get(entity["type"], "Other"),
    )
    errors = [{"message": e.message} for e in result.errors or []]
    return {"data": result.data} | ({"errors": errors} if errors else {})


def _scroll(aspects: Mapping[tuple[str, str], Any], page: int, asked: dict[str, Any]) -> dict[str, Any]:
    entities: dict[str, Any] = {}
    for (urn, name), value in sorted(aspects.items()):
        entities.setdefault(urn, {"name": ""})
        if name in _NAMED:
            entities[urn] = value
    kept = [(u, v) for u, v in entities.items() if _matches(u, v, asked)]
    start = int(asked.get("scrollId") or 0)
    end = start + min(asked.get("count") or 10, page)
    hits = [{"entity": _entity(urn, value)} for urn, value in kept[start:end]]
    more = str(end) if end < len(kept) else None
    return {"nextScrollId": more, "count": len(hits), "total": len(kept), "searchResults": hits}


def _matches(urn: str, properties: dict[str, Any], asked: dict[str, Any]) -> bool:
    """Whether an entity is of a type that is asked for, and one group of filters holds."""
    kind = _kind(urn)
    if kind not in (asked.get("types") or _KINDS):
        return False
    groups = asked.get("orFilters") or []
    return not groups or any(all(_holds(urn, properties, f) for f in g.get("and") or []) for g in groups)


def _holds(urn: str, properties: dict[str, Any], wanted: dict[str, Any]) -> bool:
    field, values = wanted["field"], wanted.get("values") or []
    found = {"urn": urn, "_entityType": _kind(urn), "removed": "false"}.get(field, properties.get(field))
    held = found in values or (field == "_entityType" and str(found).replace("_", "") in values)
    return held is not bool(wanted.get("negated"))


def _kind(urn: str) -> str:
    """The GraphQL name of an entity's type: `corpuser` and `dataFlow` as `CORP_USER` and `DATA_FLOW`."""
    name = urn.split(":")[2]
    return "CORP_USER" if name == "corpuser" else re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).upper()


def _entity(urn: str, properties: dict[str, Any]) -> dict[str, Any]:
    key = urn.split(":", 3)[3]
    named = properties if properties.get("name") else None  # an entity without that aspect
    keys = dict.fromkeys(("id", "name", "username"), key)
    return {"urn": urn, "type": _kind(urn), "properties": named} | keys
