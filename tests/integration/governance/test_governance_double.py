"""The double of DataHub's service is no yes-man, and fails as it is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from airberg.testing.datahub import DataHubDouble, Fault, Refused, serve_datahub

DATASET = "urn:li:dataset:(urn:li:dataPlatform:iceberg,a.b,PROD)"
CONTAINER = "urn:li:container:c0ffee"
STATUS = {"removed": False}
BATCH = "/aspects?action=ingestProposalBatch"
TAG_KEYS = {"tags": ["attribution␟source", "tag"]}


@pytest.fixture
def datahub() -> DataHubDouble:
    """One that is not served."""
    return DataHubDouble()


@pytest.fixture(scope="module")
def _served() -> Iterator[tuple[DataHubDouble, httpx.Client]]:
    with serve_datahub() as served:
        headers = {"Authorization": f"Bearer {served.token}"}
        with httpx.Client(base_url=served.url, headers=headers, timeout=20) as client:
            yield served, client


@pytest.fixture
def http(_served: tuple[DataHubDouble, httpx.Client]) -> Iterator[tuple[DataHubDouble, httpx.Client]]:
    """One for the module, emptied and healed before each test."""
    served, client = _served
    for urn in {urn for urn, _ in served.aspects}:
        served.delete(urn)
    served.fault = None
    yield served, client
    served.fault = None


def proposal(value: Any, name: str = "status", urn: str = DATASET, **changes: Any) -> dict[str, Any]:
    """A change proposal in the words of rest.li."""
    about = {"entityType": "dataset", "entityUrn": urn, "changeType": "UPSERT", "aspectName": name}
    packed = {"value": json.dumps(value), "contentType": "application/json"}
    return about | {"aspect": packed} | changes


def tagging(op: str, *path: str, value: Any = None) -> dict[str, Any]:
    """The envelope in which DataHub's builders patch tags."""
    quoted = "/".join(p.replace("~", "~0").replace("/", "~1") for p in ("tags", *path))
    return {"arrayPrimaryKeys": TAG_KEYS, "patch": [{"op": op, "path": f"/{quoted}", "value": value or {}}]}


# ---- what is refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("urn", "name", "value", "words"),
    [
        (DATASET, "status", {"removed": False, "extra": 1}, "unrecognized field found but not allowed"),
        (DATASET, "status", {"removed": "no"}, "status"),
        (DATASET, "status", [], "no object"),
        (DATASET, "domains", {"domains": ["marketing"]}, "marketing"),
        (DATASET, "nothing", {}, "Unknown aspect nothing"),
        (DATASET, "containerProperties", {"name": "a"}, "Unknown aspect containerProperties"),
        (CONTAINER, "schemaMetadata", {}, "Unknown aspect schemaMetadata"),
        (DATASET, "tagKey", {"name": "a"}, "Unknown aspect tagKey"),
        ("dataset", "status", STATUS, "Invalid urn"),
        ("urn:li:dataset:(a,b)", "status", STATUS, "Invalid urn"),
        ("urn:li:tag:", "tagKey", {"name": ""}, "Invalid urn"),
        ("urn:li:teapot:short", "status", STATUS, "Unknown entity teapot"),
        (None, "status", STATUS, "Invalid urn"),
    ],
)
def test_what_the_schema_does_not_have_is_refused(
    datahub: DataHubDouble, urn: Any, name: str, value: Any, words: str
) -> None:
    """Unknown fields, wrong types, bad urns, unknown aspects and those of other entities."""
    with pytest.raises(Refused, match=words) as caught:
        datahub.upsert(urn, name, value)
    assert caught.value.status in (400, 422)
    assert (datahub.aspects, datahub.timeseries) == ({}, [])


@pytest.mark.parametrize(
    "wrong",
    [
        proposal(STATUS, entityType="container"),
        proposal(STATUS, changeType="RESTATE"),
        proposal(STATUS, colour="green"),
        proposal(STATUS, aspect={"value": "{"}),
        proposal(STATUS, aspect=None),
        proposal({"patch": [], "keys": {}}, "globalTags", changeType="PATCH"),
        proposal([{"op": "move", "path": "/tags"}], "globalTags", changeType="PATCH"),
        proposal([{"op": "add", "path": "tags", "value": 1}], "globalTags", changeType="PATCH"),
        proposal([{"op": "add", "path": "/tags/x"}], "globalTags", changeType="PATCH"),
        proposal([{"op": "add", "path": "/tags/x", "value": {"tag": "x"}}], "globalTags", changeType="PATCH"),
        proposal([{"op": "replace", "path": "/tags/x/y", "value": "z"}], "globalTags", changeType="PATCH"),
        proposal([{"op": "add", "path": "/hash", "value": "x"}], "schemaMetadata", changeType="PATCH"),
        proposal([{"op": "add", "path": "/rowCount", "value": 1}], "datasetProfile", changeType="PATCH"),
    ],
)
def test_wrong_proposals_are_refused(datahub: DataHubDouble, wrong: dict[str, Any]) -> None:
    """A type that is not the urn's, changes that there are not, members that there are not, bad patches."""
    with pytest.raises(Refused) as caught:
        datahub.propose(wrong)
    assert caught.value.status in (400, 422)
    assert (datahub.aspects, datahub.system_metadata) == ({}, [])


def test_a_batch_is_taken_whole_or_not_at_all(http: tuple[DataHubDouble, httpx.Client]) -> None:
    """One bad proposal, and nothing of the others is stored; the same by OpenAPI."""
    datahub, client = http
    batch = {"proposals": [proposal(STATUS), proposal({"removed": 7})]}
    assert client.post(BATCH, json=batch).status_code == 422
    wrapped = [{"urn": DATASET, "status": {"value": STATUS}}, {"urn": CONTAINER, "status": {"value": STATUS}}]
    assert client.post("/openapi/v3/entity/dataset?async=false", json=wrapped).status_code == 400
    assert datahub.aspects == {}


@pytest.mark.parametrize("path", [BATCH, "/aspects/x?aspect=status", "/openapi/v3/entity/dataset/x"])
@pytest.mark.parametrize("header", [None, "Bearer wrong", "Basic dTpw"])
def test_the_token_is_wanted(http: tuple[DataHubDouble, httpx.Client], path: str, header: str | None) -> None:
    """Everywhere but at `/config`."""
    datahub, _ = http
    with httpx.Client(base_url=datahub.url, headers={"Authorization": header} if header else {}) as client:
        assert client.post(path, json={"proposals": []}).status_code == 401
        assert client.get("/config").json()["versions"]["acryldata/datahub"]["version"] == "v1.7.0"


@pytest.mark.parametrize(
    ("body", "status"), [(b"{", 400), (b"[]", 400), (b'{"proposals": [1]}', 400), (b"\xff", 400), (b"", 400)]
)
def test_bodies_that_are_none(http: tuple[DataHubDouble, httpx.Client], body: bytes, status: int) -> None:
    """Text that is no JSON, or JSON that is no request."""
    _, client = http
    assert client.post(BATCH, content=body).status_code == status
    assert client.post("/openapi/v3/entity/dataset", content=body).status_code in (200, status)
    assert client.get("/nothing").status_code == 404


# ---- patches ---------------------------------------------------------------------------------------------


def test_members_of_arrays_are_found_by_their_keys(datahub: DataHubDouble) -> None:
    """A tag of a person, one of a tool, one of ours; each source adds and removes its own."""
    tool = {"tag": "urn:li:tag:pii", "attribution": {"source": "urn:li:dataHubAction:x"}}
    tool["attribution"] |= {"time": 1, "actor": "urn:li:corpuser:x"}  # type: ignore[operator]
    datahub.upsert(DATASET, "globalTags", {"tags": [{"tag": "urn:li:tag:human"}, tool]})
    ours = {"tag": "urn:li:tag:pii"}
    for _ in range(2):
        datahub.patch(DATASET, "globalTags", tagging("add", "", "urn:li:tag:pii", value=ours))
    assert datahub.aspect(DATASET, "globalTags")["tags"] == [{"tag": "urn:li:tag:human"}, ours, tool]
    datahub.patch(DATASET, "globalTags", tagging("remove", "", "urn:li:tag:pii"))
    datahub.patch(DATASET, "globalTags", tagging("remove", "", "urn:li:tag:none"))
    assert datahub.aspect(DATASET, "globalTags")["tags"] == [{"tag": "urn:li:tag:human"}, tool]
    datahub.patch(DATASET, "globalTags", tagging("remove", ""))
    assert datahub.aspect(DATASET, "globalTags")["tags"] == [tool]


def test_names_with_slashes_are_names(datahub: DataHubDouble) -> None:
    """Escaped in paths as RFC 6901 says."""
    urn = "urn:li:tag:a/b~c"
    datahub.patch(DATASET, "globalTags", tagging("add", "", urn, value={"tag": urn}))
    assert datahub.aspect(DATASET, "globalTags") == {"tags": [{"tag": urn}]}


def test_tags_of_fields_are_patched_without_keys(datahub: DataHubDouble) -> None:
    """By the template of the aspect; what a person wrote about the field stays."""
    written = {"fieldPath": "email", "description": "Where to write to"}
    datahub.upsert(DATASET, "editableSchemaMetadata", {"editableSchemaFieldInfo": [written]})
    tag = {"tag": "urn:li:tag:encrypted"}
    path = "/editableSchemaFieldInfo/{}/globalTags/tags/urn:li:tag:encrypted"
    steps = [{"op": "add", "path": path.format(field), "value": tag} for field in ("email", "phone")]
    datahub.patch(DATASET, "editableSchemaMetadata", steps)
    fields = datahub.aspect(DATASET, "editableSchemaMetadata")["editableSchemaFieldInfo"]
    tags = {"globalTags": {"tags": [tag]}}
    assert fields == [written | tags, {"fieldPath": "phone"} | tags]


def test_an_old_service_does_not_know_the_envelope() -> None:
    """It refuses it, and conditions, and has no OpenAPI; plain patches it knows."""
    old = DataHubDouble(old=True)
    envelope = tagging("add", "", "urn:li:tag:a", value={"tag": "urn:li:tag:a"})
    with pytest.raises(Refused, match="Invalid JSON Patch") as caught:
        old.propose(proposal(envelope, "globalTags", changeType="PATCH"))
    assert caught.value.status == 400
    with pytest.raises(Refused, match="unrecognized field"):
        old.propose(proposal(STATUS, headers={"If-Version-Match": "1"}))
    plain = [{"op": "add", "path": "/tags/urn:li:tag:a", "value": {"tag": "urn:li:tag:a"}}]
    old.propose(proposal(plain, "globalTags", changeType="PATCH"))
    assert old.aspect(DATASET, "globalTags") == {"tags": [{"tag": "urn:li:tag:a"}]}
    with serve_datahub(old) as served:
        headers = {"Authorization": f"Bearer {served.token}"}
        got = httpx.get(f"{served.url}/openapi/v3/entity/dataset/{quote(DATASET, safe='')}", headers=headers)
        assert got.status_code == 404
        assert httpx.get(f"{served.url}/config").json()["versions"]["acryldata/datahub"]["version"] < "v1"


def test_some_services_drop_what_they_cannot_read() -> None:
    """The envelope is gone, the rest of the batch is there, and the answer is 200."""
    datahub = DataHubDouble(drops_patches=True, version="v1.0.0")
    envelope = tagging("add", "", "urn:li:tag:a", value={"tag": "urn:li:tag:a"})
    for sent in (proposal(envelope, "globalTags", changeType="PATCH"), proposal(STATUS)):
        datahub.propose(sent)
    assert datahub.names(DATASET) == ["datasetKey", "status"]


# ---- conditions, reads, events ---------------------------------------------------------------------------


def test_writes_may_be_conditional(http: tuple[DataHubDouble, httpx.Client]) -> None:
    """On the aspect not being there, or on its version, which changes with its value."""
    datahub, client = http
    place = f"/openapi/v3/entity/dataset/{quote(DATASET, safe='')}/status?systemMetadata=true"

    def write(removed: bool, **headers: str) -> int:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        body = [{"urn": DATASET, "status": {"value": {"removed": removed}, "headers": named}}]
        return client.post("/openapi/v3/entity/dataset?async=false", json=body).status_code

    assert client.get(place).status_code == 404
    assert write(False, If_Version_Match="1") == 412
    assert write(False, If_Version_Match="-1") == 200
    assert client.get(place).json() == {"value": STATUS, "systemMetadata": {"version": "1"}}
    assert write(True, If_None_Match="*") == 412
    assert write(True, If_Version_Match="1") == 200
    assert write(False, If_Version_Match="1") == 412
    assert write(False, If_Unmodified_Since="2026-01-01T00:00:00Z") == 501
    assert datahub.aspect(DATASET, "status") == {"removed": True}
    sent = {"proposals": [proposal(STATUS, changeType="CREATE")]}
    assert client.post(BATCH, json=sent).status_code == 412
    sent = {"proposals": [proposal(STATUS, headers={"If-Version-Match": "2"})]}
    assert client.post(BATCH, json=sent).status_code == 200


def test_aspects_and_entities_are_read(http: tuple[DataHubDouble, httpx.Client]) -> None:
    """In the forms of rest.li and of OpenAPI; deleted, they are gone."""
    datahub, client = http
    datahub.upsert(DATASET, "status", STATUS)
    urn = quote(DATASET, safe="")
    got = client.get(f"/aspects/{urn}?aspect=status&version=0").json()
    assert got == {"version": 0, "aspect": {"com.linkedin.common.Status": STATUS}}
    assert client.get(f"/aspects/{urn}?aspect=globalTags&version=0").status_code == 404
    assert client.get(f"/aspects/{urn}?aspect=nothing&version=0").status_code == 404
    entity = client.get(f"/openapi/v3/entity/dataset/{urn}").json()
    assert entity["status"] == {"value": STATUS}
    assert entity["datasetKey"]["value"]["name"] == "a.b"
    assert client.get(f"/openapi/v3/entity/container/{urn}").status_code == 400
    assert client.post("/entities?action=delete", json={"urn": DATASET}).status_code == 200
    assert client.get(f"/openapi/v3/entity/dataset/{urn}").status_code == 404
    datahub.upsert(DATASET, "status", STATUS)
    assert client.delete(f"/openapi/v3/entity/dataset/{urn}").status_code == 200
    assert datahub.names(DATASET) == []


def test_events_are_kept_and_the_same_event_is_one(datahub: DataHubDouble) -> None:
    """A profile for each moment; sent again, it replaces itself."""
    for at, rows in ((2, 20), (1, 10), (2, 21)):
        datahub.upsert(DATASET, "datasetProfile", {"timestampMillis": at, "rowCount": rows})
    found = datahub.events(DATASET, "datasetProfile")
    assert [(e["timestampMillis"], e["rowCount"]) for e in found] == [(1, 10), (2, 21)]
    assert datahub.aspect(DATASET, "datasetProfile") is None


def test_names_are_searched(http: tuple[DataHubDouble, httpx.Client]) -> None:
    """By type and by filters, in pages; wrong queries are refused by the schema."""
    datahub, client = http
    for name in ("Finance", "Sales"):
        datahub.add_domain(f"urn:li:domain:{name.lower()}", name)
    datahub.upsert("urn:li:tag:pii", "tagProperties", {"name": "Finance"})
    query = """query q($input: ScrollAcrossEntitiesInput!) { scrollAcrossEntities(input: $input) {
        nextScrollId total searchResults { entity { urn type ... on Domain { properties { name } } } } } }"""

    def scroll(**asked: Any) -> dict[str, Any]:
        variables = {"input": {"query": "*", "types": ["DOMAIN"]} | asked}
        answer = client.post("/api/graphql", json={"query": query, "variables": variables}).json()
        assert "errors" not in answer
        found: dict[str, Any] = answer["data"]["scrollAcrossEntities"]
        return found

    named = [{"and": [{"field": "name", "values": ["Finance"], "condition": "EQUAL"}]}]
    (hit,) = scroll(orFilters=named)["searchResults"]
    assert hit["entity"] == {
        "urn": "urn:li:domain:finance", "type": "DOMAIN", "properties": {"name": "Finance"}
    }  # fmt: skip
    assert scroll(types=["TAG"], orFilters=named)["searchResults"][0]["entity"]["urn"] == "urn:li:tag:pii"
    first = scroll(count=1)
    assert (first["total"], first["nextScrollId"]) == (2, "1")
    assert scroll(count=1, scrollId="1")["nextScrollId"] is None
    wrong = client.post("/api/graphql", json={"query": "{ entityExists(urn: 1) nothing }"}).json()
    assert len(wrong["errors"]) == 2


# ---- faults ----------------------------------------------------------------------------------------------


def test_a_fault_hits_as_often_as_it_says(http: tuple[DataHubDouble, httpx.Client]) -> None:
    """Only the paths that it names, and then no more."""
    datahub, client = http
    datahub.fault = Fault(status=429, retry_after=7, times=2, only="/aspects")
    statuses = [client.get("/config").status_code]
    for _ in range(3):
        answer = client.post(BATCH, json={"proposals": []})
        statuses.append(answer.status_code)
        assert answer.headers.get("Retry-After") == ("7" if answer.status_code == 429 else None)
    assert statuses == [200, 429, 429, 200]


@pytest.mark.parametrize(("cut", "names"), [("before", []), ("after", ["datasetKey", "status"])])
def test_connections_are_cut(http: tuple[DataHubDouble, httpx.Client], cut: Any, names: list[str]) -> None:
    """Before anything was done, or after it with half of the answer."""
    datahub, client = http
    datahub.fault = Fault(cut=cut, times=1)
    with pytest.raises(httpx.RemoteProtocolError):
        client.post(BATCH, json={"proposals": [proposal(STATUS)]})
    assert datahub.names(DATASET) == names
    assert client.post(BATCH, json={"proposals": [proposal(STATUS)]}).status_code == 200


def test_slow_answers(http: tuple[DataHubDouble, httpx.Client]) -> None:
    """A client that does not wait sees nothing; healing lets the request go on."""
    datahub, client = http
    datahub.fault = Fault(delay_s=600)
    with pytest.raises(httpx.ReadTimeout):
        client.get("/config", timeout=0.2)
    datahub.fault = None
    assert client.get("/config").status_code == 200


def test_a_service_that_went_away_comes_back_with_what_it_knew() -> None:
    """Nobody listens in between."""
    with serve_datahub() as datahub:
        datahub.upsert(DATASET, "status", STATUS)
        url = datahub.url
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/config")
    with serve_datahub(datahub) as again:
        assert again.url == url
        assert httpx.get(f"{url}/config").status_code == 200
    assert datahub.aspect(DATASET, "status") == STATUS


# ---- from a shell ----------------------------------------------------------------------------------------


def test_the_double_is_a_command(tmp_path: Any) -> None:
    """It prints what settings it is reached by, tells each request, and writes nothing anywhere."""
    command = [sys.executable, "-u", "-m", "airberg.testing.datahub", "--port", "0"]
    options = ["--status", "429", "--retry-after", "3", "--times", "1"]
    home = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    with subprocess.Popen(
        [*command, *options], env=home, cwd=tmp_path, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            settings = dict(process.stdout.readline().strip().split("=", 1) for _ in range(2))
            url = settings["AIRBERG_DATAHUB__SERVER"]
            headers = {"Authorization": f"Bearer {settings['AIRBERG_DATAHUB__TOKEN']}"}
            with httpx.Client(base_url=url, headers=headers) as client:
                refused = client.post(BATCH, json={"proposals": [proposal(STATUS)]})
                assert (refused.status_code, refused.headers["Retry-After"]) == (429, "3")
                assert client.post(BATCH, json={"proposals": [proposal(STATUS)]}).status_code == 200
            lines = [process.stdout.readline().strip() for _ in range(2)]
            size = len(refused.request.content)
            assert lines == [f"POST {BATCH} 429 {size} B", f"POST {BATCH} 200 {size} B"]
        finally:
            process.terminate()
    assert list(tmp_path.iterdir()) == []
