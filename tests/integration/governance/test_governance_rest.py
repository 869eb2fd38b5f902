"""The sink of DataHub's REST interface, with services of all ages and in every state."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal

import pytest
from pyiceberg.catalog import Catalog

from airberg.errors import Unavailable
from airberg.governance.memory import MemorySink
from airberg.governance.port import Proposal
from airberg.governance.register import register_run
from airberg.governance.rest import RestSink
from airberg.settings import Settings
from airberg.testing.datahub import DataHubDouble, Fault, serve_datahub
from support.governed_tables import (
    JOB_ID,
    RUN_ID,
    make_customers,
    make_job,
    make_orders,
    make_run,
    memory_catalog,
)

DATASET = "urn:li:dataset:(urn:li:dataPlatform:iceberg,sales.customers,PROD)"
EMAIL = "[version=2.0].[type=struct].[type=bytes].email"
HUMAN = {"tag": "urn:li:tag:human"}
BOB = {"owner": "urn:li:corpuser:bob", "type": "BUSINESS_OWNER"}
BATCH = "POST /aspects?action=ingestProposalBatch"
AUTO, PATCH, UPSERT = "auto", "patch", "upsert"


class Keeping(MemorySink):
    """Keeps the proposals themselves."""

    def send(self, job_id: Any, run_id: Any, proposals: Any) -> str:
        """Keep them."""
        self.proposals: list[Proposal] = list(proposals)
        return super().send(job_id, run_id, proposals)


@pytest.fixture(scope="module")
def proposals(tmp_path_factory: pytest.TempPathFactory) -> list[Proposal]:
    """Those of a run that loaded two tables."""
    folder: Path = tmp_path_factory.mktemp("rest")
    catalog: Catalog = memory_catalog(folder)
    make_customers(catalog)
    make_orders(catalog)
    sink = Keeping()
    register_run(make_job(), make_run("customers", "orders"), catalog, Settings(), sink)
    return sink.proposals


def touched(datahub: DataHubDouble) -> DataHubDouble:
    """The table, as people left it."""
    datahub.upsert(DATASET, "globalTags", {"tags": [HUMAN]})
    stamp = {"time": 7, "actor": "urn:li:corpuser:bob"}
    datahub.upsert(DATASET, "ownership", {"owners": [BOB], "lastModified": stamp})
    field = {"fieldPath": EMAIL, "description": "Where to write to", "globalTags": {"tags": [HUMAN]}}
    datahub.upsert(DATASET, "editableSchemaMetadata", {"editableSchemaFieldInfo": [field]})
    return datahub


def comparable(datahub: DataHubDouble) -> dict[str, Any]:
    """The state; stamps that the service makes and the order of owners are not compared."""
    state = datahub.state()
    for value in state["latest"].values():
        for stamp in ("created", "lastModified"):
            if "editableSchemaFieldInfo" in value or "owners" in value:
                value.pop(stamp, None)
        if "owners" in value:
            value["owners"].sort(key=lambda o: o["owner"])
    return state


@pytest.fixture(scope="module")
def wanted(proposals: list[Proposal]) -> dict[str, Any]:
    """The state that a service of today is in afterwards."""
    with serve_datahub(touched(DataHubDouble())) as datahub:
        RestSink(datahub.url, token=datahub.token, retries=0).send(JOB_ID, RUN_ID, proposals)
        return comparable(datahub)


@pytest.fixture
def served() -> Iterator[DataHubDouble]:
    """A service of today that people have used."""
    with serve_datahub(touched(DataHubDouble())) as datahub:
        yield datahub


def sink_of(datahub: DataHubDouble, waits: list[float] | None = None, **options: Any) -> RestSink:
    """A sink whose waits are written down and take no time."""
    noted = [] if waits is None else waits
    defaults = {"token": datahub.token, "timeout_s": 20, "retries": 2, "wait": noted.append}
    return RestSink(datahub.url, **(defaults | options))


# ---- services of all ages --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("service", "mode", "transport", "batches"),
    [
        ({}, AUTO, "restli", 1),
        ({}, PATCH, "restli", 1),
        ({}, UPSERT, "restli", 1),
        ({}, AUTO, "openapi", 0),
        ({}, UPSERT, "openapi", 0),
        ({"version": "v1.3.0"}, AUTO, "restli", 1),
        ({"version": "what?"}, AUTO, "restli", 1),
        ({"old": True}, AUTO, "restli", 2),
        ({"old": True}, UPSERT, "restli", 1),
        ({"drops_patches": True, "version": "v1.0.0"}, AUTO, "restli", None),
        ({"drops_patches": True, "version": "v1.3.0"}, AUTO, "openapi", 0),
        ({"drops_patches": True, "version": "v1.3.0"}, UPSERT, "restli", 1),
    ],
)
def test_what_people_did_stays_whatever_the_service_knows(
    proposals: list[Proposal],
    wanted: dict[str, Any],
    service: dict[str, Any],
    mode: Literal["auto", "patch", "upsert"],
    transport: Literal["restli", "openapi"],
    batches: int | None,
) -> None:
    """Sent once and sent again, every service ends as one of today, in so many batches."""
    with serve_datahub(touched(DataHubDouble(**service))) as datahub:
        sink = sink_of(datahub, patch_mode=mode, transport=transport, retries=0)
        for _ in range(2):
            datahub.calls.clear()
            sink.send(JOB_ID, RUN_ID, proposals)
            assert comparable(datahub) == wanted
            assert batches is None or datahub.calls.count(BATCH) == batches
    tags = [t["tag"] for t in datahub.aspect(DATASET, "globalTags")["tags"]]
    assert tags == ["urn:li:tag:human", "urn:li:tag:pii", "urn:li:tag:crm data"]
    owners = datahub.aspect(DATASET, "ownership")["owners"]
    assert BOB in owners
    assert len(owners) == 2
    (email,) = [
        f for f in datahub.aspect(DATASET, "editableSchemaMetadata")["editableSchemaFieldInfo"]
        if f["fieldPath"] == EMAIL
    ]  # fmt: skip
    assert email["description"] == "Where to write to"
    first, second = email["globalTags"]["tags"]
    assert (first["tag"], second["tag"]) == ("urn:li:tag:human", "urn:li:tag:encrypted")


def test_without_the_fallback_an_old_service_is_told(proposals: list[Proposal]) -> None:
    """`patch` means patch: the reason and the way out are in the error, and nothing is half done."""
    with serve_datahub(touched(DataHubDouble(old=True))) as datahub:
        before = datahub.state()
        with pytest.raises(Unavailable, match="Invalid JSON Patch") as caught:
            sink_of(datahub, patch_mode=PATCH).send(JOB_ID, RUN_ID, proposals)
        assert "AIRBERG_DATAHUB__PATCH_MODE=upsert" in caught.value.guidance
        assert datahub.state() == before
        with pytest.raises(Unavailable, match="no such call") as caught:
            sink_of(datahub, transport="openapi").send(JOB_ID, RUN_ID, proposals)
        assert "AIRBERG_DATAHUB__TRANSPORT" in caught.value.guidance


def test_an_old_service_may_also_break_over_a_patch(
    proposals: list[Proposal], wanted: dict[str, Any]
) -> None:
    """A 500 that stays, from one that says it is old, is taken as a patch that it does not know."""
    with serve_datahub(touched(DataHubDouble(old=True))) as datahub:
        datahub.fault = Fault(status=500, only="/aspects?action", times=3)
        sink_of(datahub).send(JOB_ID, RUN_ID, proposals)
        assert comparable(datahub) == wanted


def test_each_patch_that_was_left_out_is_found(proposals: list[Proposal], wanted: dict[str, Any]) -> None:
    """Also when others are there already, from an earlier run."""
    with serve_datahub(touched(DataHubDouble(drops_patches=True, version="v1.3.0"))) as datahub:
        sink_of(datahub).send(JOB_ID, RUN_ID, proposals)
        datahub.upsert(DATASET, "ownership", {"owners": [BOB]})
        sink_of(datahub).send(JOB_ID, RUN_ID, proposals)
        assert comparable(datahub) == wanted


class Busy(DataHubDouble):
    """Somebody tags the table right after each reading of its tags, a few times."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.left = times

    def version_of(self, urn: str, name: str) -> str:
        """The version, which is old a moment later."""
        version = super().version_of(urn, name)
        if (urn, name) == (DATASET, "globalTags") and self.left:
            self.left -= 1
            tags = self.aspect(urn, name)["tags"]
            self.upsert(urn, name, {"tags": [*tags, {"tag": f"urn:li:tag:late-{self.left}"}]})
        return version


def test_a_tag_that_is_set_while_we_merge_is_not_lost(proposals: list[Proposal]) -> None:
    """The write is refused, the aspect read again; after some times it is left to the next attempt."""
    with serve_datahub(Busy(2)) as datahub:
        datahub.upsert(DATASET, "globalTags", {"tags": [HUMAN]})
        sink_of(datahub, patch_mode=UPSERT).send(JOB_ID, RUN_ID, proposals)
        tags = {t["tag"].removeprefix("urn:li:tag:") for t in datahub.aspect(DATASET, "globalTags")["tags"]}
        assert tags == {"human", "late-1", "late-0", "pii", "crm data"}
    with serve_datahub(Busy(10)) as datahub:
        datahub.upsert(DATASET, "globalTags", {"tags": [HUMAN]})
        with pytest.raises(Unavailable, match="Expected version"):
            sink_of(datahub, patch_mode=UPSERT).send(JOB_ID, RUN_ID, proposals)


# ---- services in every state -----------------------------------------------------------------------------


@pytest.mark.parametrize("transport", ["restli", "openapi"])
@pytest.mark.parametrize(
    ("fault", "waited"),
    [
        (Fault(status=429, retry_after=7, times=2), [7.0, 7.0]),
        (Fault(status=429, times=2), [1.0, 2.0]),
        (Fault(status=429, retry_after="soon", times=1), [1.0]),
        (Fault(status=503, retry_after=0, times=1, only="/aspects"), [0.0]),
        (Fault(status=500, times=2), [1.0, 2.0]),
        (Fault(cut="before", times=2), [1.0, 2.0]),
        (Fault(cut="after", times=1), [1.0]),
        (Fault(cut="after", times=1, only="async"), [1.0]),
    ],
)
def test_what_passes_is_waited_for(
    served: DataHubDouble,
    proposals: list[Proposal],
    wanted: dict[str, Any],
    fault: Fault,
    waited: list[float],
    transport: Literal["restli", "openapi"],
) -> None:
    """As long as the service asks for, else a bit longer each time; the end is that of a clean run."""
    waits: list[float] = []
    served.fault = fault
    sink_of(served, waits, transport=transport).send(JOB_ID, RUN_ID, proposals)
    hit = fault.only == "" or any(fault.only in call for call in served.calls)
    assert waits == (waited if hit else [])
    assert comparable(served) == wanted


def test_a_date_to_come_again_is_understood(served: DataHubDouble) -> None:
    """`Retry-After` may be one; a date that has passed means now."""
    waits: list[float] = []
    later = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=25)
    served.fault = Fault(status=429, retry_after=format_datetime(later, usegmt=True), times=1)
    sink_of(served, waits).send(JOB_ID, RUN_ID, [])
    served.fault = Fault(status=429, retry_after="Wed, 21 Oct 2015 07:28:00 GMT", times=1)
    sink_of(served, waits).send(JOB_ID, RUN_ID, [])
    assert waits[1] == 0
    assert 0 < waits[0] <= 25


def test_tries_end(served: DataHubDouble, proposals: list[Proposal]) -> None:
    """After as many as there may be; at once when the service wants to be left alone for long."""
    waits: list[float] = []
    served.fault = Fault(status=503)
    with pytest.raises(Unavailable, match="503"):
        sink_of(served, waits).send(JOB_ID, RUN_ID, proposals)
    assert (waits, len(served.calls)) == ([1.0, 2.0], 3)
    served.calls.clear()
    served.fault = Fault(status=429, retry_after=3600)
    with pytest.raises(Unavailable, match="asked again in 3600 s") as caught:
        sink_of(served, waits).send(JOB_ID, RUN_ID, proposals)
    assert caught.value.retry_after == 3600
    assert (len(waits), len(served.calls)) == (2, 1)


@pytest.mark.parametrize("path", ["/config", "/aspects"])
def test_a_slow_service_is_not_waited_for_for_ever(
    served: DataHubDouble, proposals: list[Proposal], path: str
) -> None:
    """Each request has its time; it is tried as often as any."""
    waits: list[float] = []
    served.fault = Fault(delay_s=600, only=path)
    with pytest.raises(Unavailable, match=r"nothing within 0\.3 s") as caught:
        sink_of(served, waits, timeout_s=0.3, retries=1).send(JOB_ID, RUN_ID, proposals)
    assert caught.value.code == "metadata-unavailable"
    assert waits == [1.0]


@pytest.mark.parametrize(("status", "words"), [(401, "AIRBERG_DATAHUB__TOKEN"), (422, "422")])
def test_what_does_not_pass_is_told_at_once(
    served: DataHubDouble, proposals: list[Proposal], status: int, words: str
) -> None:
    """What to do is told; who refuses is not asked again for the same."""
    waits: list[float] = []
    served.fault = Fault(status=status, only="/aspects?")
    with pytest.raises(Unavailable) as caught:
        sink_of(served, waits, patch_mode=PATCH).send(JOB_ID, RUN_ID, proposals)
    assert words in caught.value.sentence()
    assert served.token not in caught.value.sentence()
    assert (waits, served.calls.count(BATCH)) == ([], 1)


@pytest.mark.parametrize("page", ["<html>", "{}", "[]", "null", '{"noCode": "false"}'])
def test_pages_are_not_the_service(page: str) -> None:
    """The web front end answers 200 as well; nothing is tried again."""
    waits: list[float] = []
    with (
        serving(page) as url,
        pytest.raises(Unavailable, match="is not DataHub's metadata service") as caught,
    ):
        RestSink(url, wait=waits.append).send(JOB_ID, RUN_ID, [])
    assert "AIRBERG_DATAHUB__SERVER" in caught.value.guidance
    assert waits == []


@contextmanager
def serving(page: str) -> Iterator[str]:
    """Something that answers every GET with one text."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(page.encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_a_service_that_repeats_the_token_does_not_make_us_tell_it(served: DataHubDouble) -> None:
    """Nor do control characters of an answer reach a terminal."""
    served.token = "s3cret-t0ken"
    tag: dict[str, Any] = {"name": "pii"}
    proposal = _proposal_of("urn:li:tag:pii", "tagKey", tag | {f"{served.token}\x1b[2J": 1})
    with pytest.raises(Unavailable, match="unrecognized field") as caught:
        sink_of(served).send(JOB_ID, RUN_ID, [proposal])
    assert "s3cret" not in caught.value.sentence()
    assert caught.value.sentence().isprintable()


def _proposal_of(urn: str, name: str, value: Any) -> Proposal:
    import json

    from datahub.metadata.schema_classes import GenericAspectClass, MetadataChangeProposalClass

    return MetadataChangeProposalClass(
        entityType="tag",
        entityUrn=urn,
        changeType="UPSERT",
        aspectName=name,
        aspect=GenericAspectClass(value=json.dumps(value).encode(), contentType="application/json"),
    )
