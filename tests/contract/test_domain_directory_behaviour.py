"""What every domain directory that knows its domains does: DataHub (a double of it) and memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from airberg.errors import Conflict, InvalidRequest, Unavailable
from airberg.governance.memory import MemoryDirectory
from airberg.governance.resolve import DataHubDirectory, DomainDirectory
from airberg.testing.datahub import Fault, serve_datahub

DOMAINS = {
    "urn:li:domain:marketing": "Marketing & Sales",
    "urn:li:domain:6f1d0f4e": "Finance",
    "urn:li:domain:77aa": "Logistics",
    "urn:li:domain:88bb": "Logistics",
    "urn:li:domain:Legal": "Contracts",
    "urn:li:domain:99cc": "Legal",
}


@contextmanager
def memory() -> Iterator[tuple[DomainDirectory, Callable[[], None]]]:
    """The twin, and how to switch it off."""
    directory = MemoryDirectory(DOMAINS)

    def away() -> None:
        directory.available = False

    yield directory, away


@contextmanager
def datahub() -> Iterator[tuple[DomainDirectory, Callable[[], None]]]:
    """The double, which gives two domains a page, and how to break it."""
    with serve_datahub() as gms:
        gms.page = 2
        for urn, name in DOMAINS.items():
            gms.add_domain(urn, name)

        def away() -> None:
            gms.fault = Fault(status=503)

        yield DataHubDirectory(gms.url, token=gms.token, timeout_s=5), away


@pytest.fixture(params=[memory, datahub], ids=["memory", "datahub"])
def known(request: pytest.FixtureRequest) -> Iterator[tuple[DomainDirectory, Callable[[], None]]]:
    """Each directory in turn."""
    with request.param() as pair:
        yield pair


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
def test_domains_are_found_by_urn_id_and_name(
    known: tuple[DomainDirectory, Callable[[], None]], text: str, urn: str
) -> None:
    """On whichever page they are."""
    assert known[0].resolve(text) == urn


@pytest.mark.parametrize("text", ["urn:li:domain:nowhere", "finance", "Marketing", "a (b), c"])
def test_an_unknown_domain_is_a_problem_of_the_field(
    known: tuple[DomainDirectory, Callable[[], None]], text: str
) -> None:
    """Names are exact; the guidance has the names that there are."""
    with pytest.raises(InvalidRequest) as caught:
        known[0].resolve(text)
    (problem,) = caught.value.problems
    assert (problem.pointer, problem.code) == ("/domain", "unknown-domain")
    assert "Finance" in problem.guidance


def test_the_nearest_name_is_suggested(known: tuple[DomainDirectory, Callable[[], None]]) -> None:
    """A typing error is pointed out."""
    with pytest.raises(InvalidRequest) as caught:
        known[0].resolve("Finanse")
    assert caught.value.guidance.startswith('Did you mean "Finance"?')


@pytest.mark.parametrize(
    ("text", "urns"),
    [
        ("Logistics", ["urn:li:domain:77aa", "urn:li:domain:88bb"]),
        ("Legal", ["urn:li:domain:99cc", "urn:li:domain:Legal"]),
    ],
)
def test_an_ambiguous_name_is_a_conflict(
    known: tuple[DomainDirectory, Callable[[], None]], text: str, urns: list[str]
) -> None:
    """Two of one name, or one's id being the other's name: the message has the urns."""
    with pytest.raises(Conflict) as caught:
        known[0].resolve(text)
    assert caught.value.code == "ambiguous-domain"
    assert all(urn in caught.value.message for urn in urns)


def test_a_malformed_urn_is_told_apart(known: tuple[DomainDirectory, Callable[[], None]]) -> None:
    """It would never be found."""
    with pytest.raises(InvalidRequest) as caught:
        known[0].resolve("urn:li:tag:pii")
    assert caught.value.code == "bad-domain-urn"


def test_a_directory_that_is_away_says_so(known: tuple[DomainDirectory, Callable[[], None]]) -> None:
    """The caller may try again."""
    directory, away = known
    away()
    with pytest.raises(Unavailable) as caught:
        directory.resolve("Finance")
    assert caught.value.code == "datahub-unavailable"
