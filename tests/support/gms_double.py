"""A double of DataHub's metadata service (GMS), for the calls that Airberg and DataHub's own client make.

It keeps aspects, refuses what the service refuses (unknown aspects and fields, values that the Avro schema
does not take, bad urns, a wrong token), applies patches by array keys, and answers GraphQL by the part of
DataHub's schema that is written here. What it cannot prove is that the Java service reads a patch as it
does: that was read from the client.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

os.environ["DATAHUB_TELEMETRY_ENABLED"] = "false"

from datahub.emitter.serialization_helper import post_json_transform, pre_json_transform
from datahub.metadata.schema_classes import ASPECT_NAME_MAP, KEY_ASPECTS
from datahub.metadata.urns import Urn
from datahub.utilities.urns.error import InvalidUrnError
from datahub.utilities.urns.urn_iter import list_urns_with_path
from graphql import build_schema, graphql_sync

TOKEN = "t0k"
SEPARATOR = "\u241f"
_NOBODY = {"time": 0, "actor": "urn:li:corpuser:unknown"}
_EMPTY: dict[str, dict[str, Any]] = {
    "globalTags": {"tags": []},
    "ownership": {"owners": [], "ownerTypes": {}, "lastModified": _NOBODY},
    "editableSchemaMetadata": {"editableSchemaFieldInfo": [], "created": _NOBODY, "lastModified": _NOBODY},
}
_DEFAULT_KEYS = {
    "editableSchemaMetadata": {
        "editableSchemaFieldInfo": ["fieldPath"],
        "editableSchemaFieldInfo/globalTags/tags": ["tag"],
    },
}

# The part of datahub-graphql-core's schema that is asked for, with its types.
_GRAPHQL = """
type Query {
  entityExists(urn: String!): Boolean
  scrollAcrossEntities(input: ScrollAcrossEntitiesInput!): ScrollResults
}
enum EntityType { DATASET DOMAIN TAG }
input ScrollAcrossEntitiesInput {
  types: [EntityType!] query: String! scrollId: String keepAlive: String count: Int
}
type ScrollResults { nextScrollId: String count: Int! total: Int! searchResults: [SearchResult!]! }
type SearchResult { entity: Entity! }
interface Entity { urn: String! }
type Domain implements Entity { urn: String! id: String! properties: DomainProperties }
type DomainProperties { name: String! description: String }
"""


class Refused(Exception):
    """The service would answer with this status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class GmsDouble:
    """What the service knows.

    Attributes:
        token: Bearer token that it wants, or None.
        failing: Status to answer to everything but `/config`, or None.
        graphql_error: Message to answer to every GraphQL query, or None.
        page: Most results of one GraphQL scroll.
        aspects: Latest value by urn and aspect name.
        timeseries: Urn, aspect name and value of each event.
        calls: Method and path of each request.
        system_metadata: That of each proposal that was taken.
    """

    def __init__(self, token: str | None = TOKEN) -> None:
        self.token = token
        self.failing: int | None = None
        self.graphql_error: str | None = None
        self.page = 1000
        self.aspects: dict[tuple[str, str], Any] = {}
        self.timeseries: list[tuple[str, str, Any]] = []
        self.calls: list[str] = []
        self.system_metadata: list[dict[str, Any]] = []
        self.url = ""
        self._schema = build_schema(_GRAPHQL)

    def state(self) -> dict[str, Any]:
        """All that was stored, to compare two ways of getting there."""
        latest = {f"{urn} {name}": value for (urn, name), value in self.aspects.items()}
        events = sorted(json.dumps(e, sort_keys=True) for e in self.timeseries)
        return {"latest": latest, "events": events}

    def add_domain(self, urn: str, name: str) -> None:
        """Store a domain as its page in the user interface would."""
        self.upsert(urn, "domainProperties", {"name": name})

    # ---- writes ------------------------------------------------------------------------------------------

    def propose(self, proposal: dict[str, Any]) -> None:
        """Take one change proposal of the rest.li endpoint."""
        value = json.loads(proposal["aspect"]["value"])
        urn, name = proposal["entityUrn"], proposal["aspectName"]
        if Urn.from_string(urn).entity_type != proposal["entityType"]:
            raise Refused(422, f"{urn} is no {proposal['entityType']}")
        self.system_metadata.append(proposal.get("systemMetadata") or {})
        match proposal["changeType"]:
            case "UPSERT":
                self.upsert(urn, name, value)
            case "PATCH":
                self.patch(urn, name, value if isinstance(value, dict) else {"patch": value})
            case other:
                raise Refused(422, f"change type {other}")

    def upsert(self, urn: str, name: str, value: Any) -> None:
        """Store an aspect if the service would, and make the entity's key."""
        kind = self._validate(urn, name, value)
        if getattr(kind, "ASPECT_TYPE", "") == "timeseries":
            self.timeseries.append((urn, name, value))
        else:
            self.aspects[urn, name] = value
        parsed = Urn.from_string(urn)
        if key := KEY_ASPECTS.get(parsed.entity_type):
            self.aspects.setdefault(
                (urn, key.ASPECT_NAME), pre_json_transform(parsed.to_key_aspect().to_obj())
            )

    def patch(self, urn: str, name: str, envelope: dict[str, Any]) -> None:
        """Apply a JSON patch whose paths address members of arrays by their keys."""
        current = json.loads(json.dumps(self.aspects.get((urn, name), _EMPTY.get(name, {}))))
        keys = {**_DEFAULT_KEYS.get(name, {}), **(envelope.get("arrayPrimaryKeys") or {})}
        for step in envelope["patch"]:
            parts = [p.replace("~1", "/").replace("~0", "~") for p in step["path"].split("/")[1:]]
            _apply(current, parts, step, keys, "")
        self.upsert(urn, name, current)

    def _validate(self, urn: str, name: str, value: Any) -> Any:
        kind = ASPECT_NAME_MAP.get(name)
        if kind is None:
            raise Refused(422, f"unknown aspect {name}")
        try:
            Urn.from_string(urn)
            aspect = kind.from_obj(post_json_transform(value))
            valid = aspect.validate()
            for found, _ in list_urns_with_path(aspect):
                Urn.from_string(found)
        except (ValueError, TypeError, KeyError, AttributeError, InvalidUrnError) as error:
            raise Refused(422, f"{name} of {urn}: {error}") from error
        if not valid:
            raise Refused(422, f"{name} of {urn}: not valid")
        _same_shape(value, pre_json_transform(aspect.to_obj()), name)
        return kind

    # ---- reads -------------------------------------------------------------------------------------------

    def graphql(self, body: dict[str, Any]) -> dict[str, Any]:
        """Execute a query; wrong fields, arguments and types are errors as in the service."""
        if self.graphql_error:
            return {"data": None, "errors": [{"message": self.graphql_error}]}
        root = {"entityExists": self._exists, "scrollAcrossEntities": self._scroll}
        result = graphql_sync(
            self._schema,
            body["query"],
            root,
            variable_values=body.get("variables"),
            type_resolver=lambda *_: "Domain",
        )
        errors = [{"message": e.message} for e in result.errors or []]
        return {"data": result.data} | ({"errors": errors} if errors else {})

    def _exists(self, _info: Any, urn: str) -> bool:
        return any(known == urn for known, _ in self.aspects)

    def _scroll(self, _info: Any, input: dict[str, Any]) -> dict[str, Any]:
        found = [(u, v) for (u, n), v in sorted(self.aspects.items()) if n == "domainProperties"]
        start = int(input.get("scrollId") or 0)
        end = start + min(input.get("count") or 10, self.page)
        hits = [
            {"entity": {"urn": u, "id": u.removeprefix("urn:li:domain:"), "properties": v}}
            for u, v in found[start:end]
        ]
        more = str(end) if end < len(found) else None
        return {"nextScrollId": more, "count": len(hits), "total": len(found), "searchResults": hits}


def _same_shape(sent: Any, known: Any, at: str) -> None:
    """Refuse what the schema does not have: the service says "unrecognized field found but not allowed"."""
    if isinstance(sent, dict):
        extra = set(sent) - set(known) if isinstance(known, dict) else set(sent)
        if extra:
            raise Refused(422, f"{at}: unrecognized field found but not allowed {sorted(extra)}")
        for name in sent:
            _same_shape(sent[name], known[name], f"{at}.{name}")
    elif isinstance(sent, list):
        if not isinstance(known, list) or len(sent) != len(known):
            raise Refused(422, f"{at}: no list")
        for ours, theirs in zip(sent, known, strict=True):
            _same_shape(ours, theirs, f"{at}[]")


def _apply(
    node: dict[str, Any], parts: list[str], step: dict[str, Any], keys: dict[str, list[str]], at: str
) -> None:
    name, rest = parts[0], parts[1:]
    path = f"{at}/{name}".lstrip("/")
    if path not in keys:
        if rest:
            _apply(node.setdefault(name, {}), rest, step, keys, path)
        elif step["op"] == "remove":
            node.pop(name, None)
        else:
            node[name] = step["value"]
        return
    key_names = keys[path]
    wanted, rest = rest[: len(key_names)], rest[len(key_names) :]
    array = node.setdefault(name, [])
    index = next((i for i, item in enumerate(array) if [_member(item, k) for k in key_names] == wanted), None)
    if rest:
        if index is None:
            array.append(dict(zip(key_names, wanted, strict=True)))
            index = len(array) - 1
        _apply(array[index], rest, step, keys, path)
    elif step["op"] == "remove":
        if index is not None:
            array.pop(index)
    elif index is None:
        array.append(step["value"])
    else:
        array[index] = step["value"]


def _member(item: Any, key: str) -> str:
    for part in key.split(SEPARATOR):
        item = item.get(part) if isinstance(item, dict) else None
    return item or ""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        self._serve({})

    def do_POST(self) -> None:
        self._serve(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def _serve(self, body: dict[str, Any]) -> None:
        gms = self.server.gms
        gms.calls.append(f"{self.command} {self.path}")
        try:
            status, answer = 200, self._answer(gms, body)
        except Refused as error:
            status, answer = error.status, {"message": str(error)}
        text = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _answer(self, gms: GmsDouble, body: dict[str, Any]) -> Any:
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        if url.path == "/config":
            return _CONFIG
        if gms.failing:
            raise Refused(gms.failing, "out of order")
        if gms.token and self.headers["Authorization"] != f"Bearer {gms.token}":
            raise Refused(401, "Unauthorized")
        match self.command, url.path, query.get("action"):
            case "POST", "/aspects", "ingestProposal":
                gms.propose(body["proposal"])
            case "POST", "/aspects", "ingestProposalBatch":
                for proposal in body["proposals"]:
                    gms.propose(proposal)
            case "POST", "/api/graphql", None:
                return gms.graphql(body)
            case "GET", path, None if path.startswith("/aspects/"):
                return _stored(gms, unquote(path.removeprefix("/aspects/")), query["aspect"])
            case _:
                raise Refused(404, "no such endpoint")
        return {"value": "ok"}

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet."""


def _stored(gms: GmsDouble, urn: str, name: str) -> dict[str, Any]:
    value = gms.aspects.get((urn, name))
    if value is None:
        raise Refused(404, "no such aspect")
    kind = ASPECT_NAME_MAP[name].RECORD_SCHEMA.fullname.replace(".pegasus2avro", "")
    return {"version": 0, "aspect": {kind: value}}


_CONFIG = {
    "noCode": "true",
    "patchCapable": True,
    "statefulIngestionCapable": True,
    "versions": {"acryldata/datahub": {"version": "v1.7.0", "commit": "abc"}},
    "managedIngestion": {"enabled": True, "defaultCliVersion": "1.7.0"},
    "datahub": {"serverType": "prod", "serverEnv": "core"},
    "telemetry": {"enabledCli": False, "enabledIngestion": False},
}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    gms: GmsDouble


@contextmanager
def serve_gms(token: str | None = TOKEN) -> Iterator[GmsDouble]:
    """A double that listens on a free loopback port while the block runs; its address is `url`."""
    gms = GmsDouble(token)
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.gms = gms
        gms.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield gms
        finally:
            server.shutdown()
            thread.join()
