"""A service with people, and with something of every kind that operations of the API work on."""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID, uuid4

import httpx

from airberg.jobs.model import Run
from support.contract_service import ContractService, load

READ, WRITE, KEYS = "ingest:read", "ingest:write", "keys:admin"
PEOPLE: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "maker": ("ann", (READ, WRITE), ("sales",)),
    "maker who may read": ("ann", (READ,), ("sales",)),
    "maker who may write": ("ann", (WRITE,), ("sales",)),
    "teammate": ("cid", (READ, WRITE), ("sales",)),
    "stranger": ("bob", (READ, WRITE), ("marketing",)),
    "keeper of keys": ("kim", (KEYS,), ()),
    "administrator": ("eve", (READ, WRITE, KEYS), ("ingest-admin",)),
    "administrator who may read": ("eve", (READ,), ("ingest-admin",)),
}
"""Who they are, scopes, roles."""


class Ground:
    """The service with something of each kind that belongs to ann, new each time it is asked for."""

    def __init__(self, service: ContractService) -> None:
        self.service = service
        self.document: dict[str, Any] = httpx.get(f"{service.url}/openapi.json", trust_env=False).json()
        self.clients = {
            name: service.client(who, *scopes, roles=roles) for name, (who, scopes, roles) in PEOPLE.items()
        }
        self.admin = self.clients["administrator"]
        self.maker = self.clients["maker"]

    def __enter__(self) -> Ground:
        return self

    def __exit__(self, *_: object) -> None:
        for client in self.clients.values():
            client.close()

    def operations(self) -> dict[str, tuple[str, str, dict[str, Any]]]:
        """Method, path and operation by id."""
        return {
            o["operationId"]: (m, p, o) for p, item in self.document["paths"].items() for m, o in item.items()
        }

    def job(self) -> str:
        """A job, shared with a group."""
        answer = self.maker.post("/api/airbyte/ingest", json=self.submission() | {"share_with": ["sales"]})
        assert answer.status_code == 201, answer.text
        found: str = answer.json()["job_id"]
        return found

    def loaded_job(self) -> str:
        """A job with a table, and a run that has completed."""
        job = self.job()
        load(self.service.parts, UUID(job))
        return job

    def schema(self, job: str) -> str:
        """Where the tables of a job are."""
        return self.service.parts.store.job(UUID(job)).request.schema_name

    def submission(self) -> dict[str, Any]:
        """A body of the ingest call that is unlike those before."""
        body: dict[str, Any] = self.document["components"]["schemas"]["IngestBody"]["examples"][0]
        number = uuid4().hex
        return body | {"name": number, "schema_name": f"s{number}"}

    def made(self, parameter: str) -> str:
        """Something new of the kind that a parameter of a path names."""
        match parameter:
            case "job_id":
                return self.job()
            case "run_id":
                return self._made(self.maker.post(f"/api/jobs/{self.job()}/trigger"), "id")
            case "name":
                name = f"k{uuid4().hex}"
                return self._made(self.admin.post("/api/keys", json={"name": name}), "name")
            case "key_id":
                asked = {"name": "loader", "scopes": [READ]}
                return self._made(self.maker.post("/api/service-keys", json=asked), "id")
            case "schema":  # its table is called as its stream
                return self.schema(self.loaded_job())
            case "table":
                return "users"
            case "source_name":
                return "source-faker"
        raise AssertionError(f"what a {parameter} is, nobody has told this test")

    @staticmethod
    def _made(answer: httpx.Response, member: str) -> str:
        assert answer.status_code < 300, answer.text
        return str(answer.json()[member])

    def request(self, name: str) -> dict[str, Any]:
        """A request that would be carried out if its sender is let in."""
        method, path, operation = self.operations()[name]
        made = {parameter: self.made(parameter) for parameter in parameters_of(path)}
        if name in ("set_state", "rewind_job"):
            made["job_id"] = self.loaded_job()
        query = {
            p["name"]: p["example"]
            for p in operation.get("parameters", [])
            if p.get("required") and p["in"] == "query"
        }
        out: dict[str, Any] = {"method": method.upper(), "url": path.format(**made), "params": query}
        if "requestBody" in operation:
            out["json"] = self.body(name, operation, made)
        return out

    def body(self, name: str, operation: dict[str, Any], made: dict[str, str]) -> Any:
        """The example of the document, of something that is new where it has to be."""
        own = {
            "create_ingestion": self.submission,
            "create_key": lambda: {"name": f"k{uuid4().hex}"},
            "destroy_key": lambda: {"confirm": made["name"]},
            "create_service_key": lambda: {"name": "loader", "scopes": [WRITE]},
            "rewind_job": lambda: {"run_id": str(self.runs(made["job_id"])[0].id)},
        }
        if name in own:
            return own[name]()
        return self.examples(operation)[0]

    def runs(self, job: str) -> list[Run]:
        """The runs of a job, newest first."""
        return list(self.service.parts.store.runs(UUID(job)))

    def examples(self, operation: dict[str, Any]) -> list[Any]:
        """The examples of an operation's body."""
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        [reference] = [one["$ref"] for one in (schema, *schema.get("anyOf", ())) if "$ref" in one]
        found: list[Any] = self.document["components"]["schemas"][reference.rpartition("/")[2]]["examples"]
        return found


def parameters_of(path: str) -> tuple[str, ...]:
    """The parameters of a path."""
    return tuple(re.findall(r"\{(\w+)\}", path))
