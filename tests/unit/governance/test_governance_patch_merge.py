"""Patches carried out here end as those that the service carries out."""

from __future__ import annotations

import copy
import json
from typing import Any

import datahub.metadata.schema_classes as aspects
import pytest
from datahub.emitter.mcp import MetadataChangeProposalWrapper
from datahub.specific.dataset import DatasetPatchBuilder

from airberg.governance.patch_merge import Stored, as_upserts, holds, merged, patch_of
from airberg.governance.port import Proposal
from airberg.testing.datahub import DataHubDouble

DATASET = "urn:li:dataset:(urn:li:dataPlatform:iceberg,sales.customers,PROD)"
BOB = {"owner": "urn:li:corpuser:bob", "type": "BUSINESS_OWNER"}
TOOL = {"time": 1, "actor": "urn:li:corpuser:x", "source": "urn:li:dataHubAction:x"}
PEOPLE: dict[str, Any] = {
    "globalTags": {
        "tags": [{"tag": "urn:li:tag:human"}, {"tag": "urn:li:tag:pii", "attribution": TOOL}],
    },
    "ownership": {"owners": [BOB], "lastModified": {"time": 7, "actor": "urn:li:corpuser:bob"}},
    "editableSchemaMetadata": {
        "editableSchemaFieldInfo": [
            {
                "fieldPath": "email",
                "description": "Theirs",
                "globalTags": {"tags": [{"tag": "urn:li:tag:human"}]},
            }
        ],
    },
}


def tag(name: str, **members: Any) -> aspects.TagAssociationClass:
    """A tag of an entity or a field."""
    return aspects.TagAssociationClass(tag=f"urn:li:tag:{name}", **members)


def owner(name: str) -> aspects.OwnerClass:
    """A technical owner."""
    return aspects.OwnerClass(
        owner=f"urn:li:corpuser:{name}", type=aspects.OwnershipTypeClass.TECHNICAL_OWNER
    )


def adding() -> list[Proposal]:
    """What a table's patches add."""
    patch = DatasetPatchBuilder(DATASET).add_tag(tag("pii")).add_tag(tag("a/b~c"))
    patch.add_owner(owner("alice")).add_owner(owner("bob"))
    patch.for_field("email").add_tag(tag("encrypted", context="{}"))
    patch.for_field("phone/home").add_tag(tag("encrypted"))
    return list(patch.build())


def removing() -> list[Proposal]:
    """What takes back things of ours, some of which are not there."""
    patch = DatasetPatchBuilder(DATASET).remove_tag("urn:li:tag:pii", "").remove_tag("urn:li:tag:none")
    patch.remove_owner("urn:li:corpuser:alice").remove_owner("urn:li:corpuser:bob", "TECHNICAL_OWNER")
    patch.for_field("email").remove_tag("urn:li:tag:encrypted")
    return list(patch.build())


def place(proposal: Proposal) -> str:
    """The aspect that a proposal is about."""
    return str(proposal.aspectName)


def in_any_order(value: Any) -> Any:
    """Lists sorted: the service groups members by their keys."""
    if isinstance(value, dict):
        return {name: in_any_order(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return sorted((in_any_order(inner) for inner in value), key=lambda v: json.dumps(v, sort_keys=True))
    return value


@pytest.mark.parametrize("before", [{}, PEOPLE], ids=["nothing", "people"])
@pytest.mark.parametrize(
    "steps", [(adding,), (adding, adding), (adding, removing)], ids=["add", "twice", "back"]
)
def test_merging_ends_as_patching(before: dict[str, Any], steps: tuple[Any, ...]) -> None:
    """Tags, owners and tags of fields; two ways of doing it that share no code."""
    service, merging = DataHubDouble(), DataHubDouble()
    for datahub in (service, merging):
        for name, value in before.items():
            datahub.upsert(DATASET, name, value)
    for proposal in (p for step in steps for p in step()):
        service.propose(proposal.to_obj())
        patch = patch_of(proposal)
        assert patch is not None
        value = merged(merging.aspect(DATASET, place(proposal)), patch)
        merging.upsert(DATASET, place(proposal), value)
        assert holds(value, patch)
    arrays = {
        "globalTags": "tags",
        "ownership": "owners",
        "editableSchemaMetadata": "editableSchemaFieldInfo",
    }
    for name, array in arrays.items():
        ours, theirs = (in_any_order(d.aspect(DATASET, name)[array]) for d in (merging, service))
        assert ours == theirs
        assert ours or steps == (adding, removing)


def test_what_people_wrote_is_not_touched() -> None:
    """Their tags, owners, descriptions and stamps, in their order, and fields that nobody here knows."""
    for proposal in adding():
        before = copy.deepcopy(PEOPLE[place(proposal)]) | {"ofANewerService": 1}
        kept = copy.deepcopy(before)
        patch = patch_of(proposal)
        assert patch is not None
        after = merged(before, patch)
        assert before == kept
        array = next(k for k in patch.keys if "/" not in k)
        ours, theirs = after.pop(array), before.pop(array)
        assert after == before
        if "fieldPath" not in theirs[0]:
            assert ours[: len(theirs)] == theirs
            continue
        tags = ours[0].pop("globalTags")["tags"]
        assert [t["tag"] for t in tags] == ["urn:li:tag:human", "urn:li:tag:encrypted"]
        assert ours[0] == {"fieldPath": "email", "description": "Theirs"}


def test_a_patch_that_was_not_applied_is_seen() -> None:
    """Each by what it adds or removes, whatever else is there."""
    for proposal in adding():
        patch = patch_of(proposal)
        assert patch is not None
        assert not holds(PEOPLE[place(proposal)], patch)
        assert not holds(None, patch)
    tags = patch_of(removing()[0])
    assert tags is not None
    assert holds(PEOPLE["globalTags"], tags)
    assert not holds({"tags": [{"tag": "urn:li:tag:pii"}]}, tags)


def test_each_aspect_is_read_once_and_written_at_the_place_of_its_last_patch() -> None:
    """On the condition that it is as it was read; what is there already is not written."""
    reads: list[str] = []

    def read(urn: str, name: str) -> Stored:
        reads.append(name)
        return Stored(PEOPLE[name], "4")

    described = MetadataChangeProposalWrapper(entityUrn=DATASET, aspect=aspects.StatusClass(removed=False))
    (again,) = DatasetPatchBuilder(DATASET).add_tag(tag("human")).build()
    proposals = [*adding(), described, again]
    sent = as_upserts(proposals, read, envelopes_only=False)
    assert reads == ["globalTags", "ownership", "editableSchemaMetadata"]
    assert [(p.changeType, p.aspectName) for p in sent] == [
        ("UPSERT", "ownership"),
        ("UPSERT", "editableSchemaMetadata"),
        ("UPSERT", "status"),
        ("UPSERT", "globalTags"),
    ]
    assert [p.headers for p in sent if p is not described] == [{"If-Version-Match": "4"}] * 3
    assert as_upserts([again], read, envelopes_only=False) == []


def test_patches_that_old_services_know_can_stay() -> None:
    """Only those in the envelope have to go; an UPSERT before them counts as what is there."""

    def read(urn: str, name: str) -> Stored:
        assert name == "ownership"
        return Stored(None)

    tags = aspects.GlobalTagsClass(tags=[tag("first")])
    written = MetadataChangeProposalWrapper(entityUrn=DATASET, aspect=tags)
    sent = as_upserts([written, *adding()], read, envelopes_only=True)
    assert [(p.changeType, p.aspectName) for p in sent] == [
        ("UPSERT", "globalTags"),
        ("UPSERT", "globalTags"),
        ("UPSERT", "ownership"),
        ("PATCH", "editableSchemaMetadata"),
    ]
    names = [t["tag"] for t in json.loads(sent[1].aspect.value)["tags"]]
    assert names == ["urn:li:tag:first", "urn:li:tag:pii", "urn:li:tag:a/b~c"]
    assert sent[1].headers is None
