"""What every directory of entities does, and the policies that ask it: a double of DataHub, and memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import pytest

from airberg.errors import Conflict, InvalidRequest, Unavailable
from airberg.governance.datahub_settings import DataHubSettings
from airberg.governance.directory import DataHubDirectory, Entity, EntityDirectory, Kind
from airberg.governance.memory import MemoryDirectory
from airberg.governance.policies import Policies
from airberg.plan.model import GovernancePlan, IngestRequest
from airberg.testing.datahub import Fault, serve_datahub

DOMAINS = {
    "urn:li:domain:marketing": "Marketing & Sales",
    "urn:li:domain:6f1d0f4e": "Finance",
    "urn:li:domain:77aa": "Logistics",
    "urn:li:domain:88bb": "Logistics",
    "urn:li:domain:Legal": "Contracts",
    "urn:li:domain:99cc": "Legal",
}
TAGS = {
    "urn:li:tag:pii": "",
    "urn:li:tag:1c4e": "Gold",
    "urn:li:tag:aa": "Twin",
    "urn:li:tag:bb": "Twin",
    "urn:li:tag:crm data": "CRM",
}
PEOPLE = {
    "urn:li:corpuser:ann@example.com": "",
    "urn:li:corpuser:Doe%2C Jane": "",
    "urn:li:corpGroup:crm": "",
}
Known: TypeAlias = tuple[EntityDirectory, Callable[[], None]]


@contextmanager
def memory() -> Iterator[Known]:
    """The twin, and how to switch it off."""
    directory = MemoryDirectory(DOMAINS | TAGS | PEOPLE)

    def away() -> None:
        directory.available = False

    yield directory, away


@contextmanager
def datahub() -> Iterator[Known]:
    """The double, which gives two entities a page, and how to break it."""
    with serve_datahub() as gms:
        gms.page = 2
        for urn, name in DOMAINS.items():
            gms.add_domain(urn, name)
        for urn, name in TAGS.items():
            if name:
                gms.upsert(urn, "tagProperties", {"name": name})
            else:
                gms.upsert(urn, "tagKey", {"name": urn.rpartition(":")[2]})
        for urn in PEOPLE:
            gms.upsert(urn, "status", {"removed": False})

        def away() -> None:
            gms.fault = Fault(status=503)

        yield DataHubDirectory(gms.url, token=gms.token, timeout_s=5), away


@pytest.fixture(params=[memory, datahub], ids=["memory", "datahub"])
def known(request: pytest.FixtureRequest) -> Iterator[Known]:
    """Each directory in turn."""
    with request.param() as pair:
        yield pair


def policies(known: Known, **settings: Any) -> Policies:
    """Policies that ask it."""
    about = {"server": "http://datahub"} | settings
    return Policies(DataHubSettings.model_validate(about), known[0])


def asks(**members: Any) -> IngestRequest:
    """A request."""
    about: dict[str, Any] = {"name": "n", "source_name": "source-x", "schema_name": "s", "mode": "append"}
    return IngestRequest(**(about | {"owner_id": "ann@example.com"} | members))


# ---- the directory ---------------------------------------------------------------------------------------


def test_what_is_there(known: Known) -> None:
    """More than one request may ask for, each once, whatever is in the urns."""
    there = {*DOMAINS, *TAGS, *PEOPLE}
    assert known[0].existing([*there, *(f"urn:li:tag:not {n}" for n in range(120))]) == there
    assert known[0].existing([]) == frozenset()


@pytest.mark.parametrize(
    ("kind", "entities"),
    [
        ("domain", {Entity(urn, name) for urn, name in DOMAINS.items()}),
        ("tag", {Entity(urn, name) for urn, name in TAGS.items()}),
        ("user", {Entity(urn) for urn in PEOPLE if "corpuser" in urn}),
        ("group", {Entity("urn:li:corpGroup:crm")}),
    ],
)
def test_entities_of_a_kind(known: Known, kind: Kind, entities: set[Entity]) -> None:
    """On whichever page they are."""
    found = known[0].entities(kind)
    assert (set(found), len(found)) == (entities, len(entities))


def test_a_directory_that_is_away_says_so(known: Known) -> None:
    """The caller may try again."""
    directory, away = known
    away()
    for ask in (lambda: directory.existing(["urn:li:tag:pii"]), lambda: directory.entities("domain")):
        with pytest.raises(Unavailable) as caught:
            ask()
        assert caught.value.code == "datahub-unavailable"


# ---- domains ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["must-exist", "create"])
@pytest.mark.parametrize(
    ("text", "urn"),
    [
        ("urn:li:domain:6f1d0f4e", "urn:li:domain:6f1d0f4e"),
        ("marketing", "urn:li:domain:marketing"),
        ("Marketing & Sales", "urn:li:domain:marketing"),
        ("  Finance ", "urn:li:domain:6f1d0f4e"),
        ("Contracts", "urn:li:domain:Legal"),
    ],
)
def test_domains_are_found_by_urn_id_and_name(known: Known, text: str, urn: str, policy: str) -> None:
    """Whatever becomes of those that are not."""
    assert policies(known, domain_policy=policy).domain(text) == urn


@pytest.mark.parametrize("text", ["urn:li:domain:nowhere", "finance", "Marketing", "a (b), c"])
def test_an_unknown_domain_is_a_problem_of_the_field(known: Known, text: str) -> None:
    """Names are exact; the guidance has the names that there are."""
    with pytest.raises(InvalidRequest) as caught:
        policies(known).domain(text)
    (problem,) = caught.value.problems
    assert (problem.pointer, problem.code) == ("/domain", "unknown-domain")
    assert "Finance" in problem.guidance


def test_the_nearest_name_is_suggested(known: Known) -> None:
    """A typing error is pointed out."""
    with pytest.raises(InvalidRequest) as caught:
        policies(known).domain("Finanse")
    assert caught.value.guidance.startswith('Did you mean "Finance"?')


@pytest.mark.parametrize(
    ("text", "urns"),
    [
        ("Logistics", ["urn:li:domain:77aa", "urn:li:domain:88bb"]),
        ("Legal", ["urn:li:domain:99cc", "urn:li:domain:Legal"]),
    ],
)
@pytest.mark.parametrize("policy", ["must-exist", "create"])
def test_an_ambiguous_name_is_a_conflict(known: Known, text: str, urns: list[str], policy: str) -> None:
    """Two of one name, or one's id being the other's name: the message has the urns."""
    with pytest.raises(Conflict) as caught:
        policies(known, domain_policy=policy).domain(text)
    assert caught.value.code == "ambiguous-domain"
    assert all(urn in caught.value.message for urn in urns)


def test_a_malformed_urn_is_told_apart(known: Known) -> None:
    """It would never be found."""
    with pytest.raises(InvalidRequest) as caught:
        policies(known).domain("urn:li:tag:pii")
    assert caught.value.code == "bad-domain-urn"


def test_a_domain_that_is_to_be_made_is_called_by_its_name(known: Known) -> None:
    """One whose id is taken by another name is not, and a urn names only what is there."""
    making = policies(known, domain_policy="create")
    assert making.domain("Human Resources") == "urn:li:domain:human-resources"
    for text, hint in [
        ("MARKETING", "Marketing & Sales"),
        ("urn:li:domain:nowhere", "give its name"),
        ("!!!", "Give its name or its urn."),
    ]:
        with pytest.raises(InvalidRequest) as caught:
            making.domain(text)
        assert caught.value.code == "unknown-domain"
        assert hint in caught.value.guidance


# ---- tags and owners -------------------------------------------------------------------------------------


def test_tags_have_to_be_there_if_that_is_the_policy(known: Known) -> None:
    """By id or by name; all that are missing are told, with near names."""
    strict = policies(known, tag_policy="must-exist")
    assert strict.resolve(asks(tags=("pii", "Gold", "crm data"))).tags == ("pii", "1c4e", "crm data")
    assert strict.resolve(asks(tags=("CRM", "crm data"))).tags == ("crm data",)
    with pytest.raises(InvalidRequest) as caught:
        strict.resolve(asks(tags=("pij", "pii", "Golden")))
    problems = [(p.pointer, p.code, p.guidance.split("?")[0]) for p in caught.value.problems]
    assert problems == [
        ("/tags", "unknown-tag", 'Did you mean "pii"'),
        ("/tags", "unknown-tag", 'Did you mean "Gold"'),
    ]
    with pytest.raises(Conflict) as conflict:
        strict.resolve(asks(tags=("Twin",)))
    assert (conflict.value.code, "urn:li:tag:bb" in conflict.value.message) == ("ambiguous-tag", True)
    assert policies(known).resolve(asks(tags=("new",))).tags == ("new",)


@pytest.mark.parametrize(
    ("owner", "hint"),
    [
        ("anne@example.com", 'Did you mean "ann@example.com"?'),
        ("Doe, Jan", 'Did you mean "Doe, Jane"?'),
        ("group:crn", 'Did you mean "crm"? Have it made there.'),
        ("zzz", "Users are there once they have signed in"),
    ],
)
def test_owners_have_to_be_there_if_that_is_the_policy(known: Known, owner: str, hint: str) -> None:
    """The nearest is told, the others are not: who asks need not know who else is there."""
    strict = policies(known, owner_policy="must-exist")
    with pytest.raises(InvalidRequest) as caught:
        strict.resolve(asks(owner_id=owner))
    [problem] = caught.value.problems
    assert (problem.pointer, problem.code) == ("/owner_id", "unknown-owner")
    assert problem.guidance.startswith(hint)
    assert policies(known).resolve(asks(owner_id=owner)).owner == owner


@pytest.mark.parametrize(
    "owner", ["ann@example.com", "Doe, Jane", "group:crm", "urn:li:corpuser:ann@example.com"]
)
def test_owners_that_are_there(known: Known, owner: str) -> None:
    """Users, groups and urns."""
    assert policies(known, owner_policy="must-exist").resolve(asks(owner_id=owner)).owner == owner


def test_everything_is_told_at_once(known: Known) -> None:
    """The caller need not find one after the other."""
    strict = policies(known, owner_policy="must-exist", tag_policy="must-exist")
    with pytest.raises(InvalidRequest) as caught:
        strict.resolve(asks(owner_id="nobody", tags=("x1",), domain="Nowhere"))
    assert [p.pointer for p in caught.value.problems] == ["/owner_id", "/tags", "/domain"]


def test_what_has_not_changed_is_not_asked_for(known: Known) -> None:
    """Also when DataHub is away, or has lost it since."""
    _, away = known
    away()
    strict = policies(known, owner_policy="must-exist", tag_policy="must-exist")
    before = GovernancePlan(domain="urn:li:domain:gone", tags=("gone",), owner="gone")
    request = asks(owner_id="gone", tags=("gone",), domain="Gone")
    assert strict.resolve(request, before=before, changed={"name"}) == before
    assert policies(known).resolve(asks(tags=("new",)), before=before, changed={"tags"}).tags == ("new",)
    with pytest.raises(Unavailable):
        strict.resolve(request, before=before, changed={"domain"})
