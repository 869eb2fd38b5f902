"""Urns of domains, tags and owners."""

from __future__ import annotations

import pytest
from datahub.emitter.mce_builder import make_group_urn, make_tag_urn, make_user_urn
from hypothesis import given, settings
from hypothesis import strategies as st

from airberg.errors import InvalidRequest
from airberg.governance.datahub_settings import DataHubSettings
from airberg.governance.directory import DataHubDirectory, open_directory
from airberg.governance.policies import Policies
from airberg.governance.resolve import clean_tags, domain_name, owner_urn
from airberg.settings import Settings


@pytest.mark.parametrize(
    ("text", "urn"),
    [
        ("urn:li:domain:6f1d", "urn:li:domain:6f1d"),
        ("marketing", "urn:li:domain:marketing"),
        ("  Marketing & Sales (EU)  ", "urn:li:domain:marketing-sales-eu"),
        ("Größe", "urn:li:domain:grösse"),
        ("データ", "urn:li:domain:データ"),
        ("a_b.c", "urn:li:domain:a-b-c"),
    ],
)
def test_without_a_server_a_domain_becomes_a_slug(text: str, urn: str) -> None:
    """A urn stays as it is, a name becomes one, in any script."""
    assert Policies(DataHubSettings(), None).domain(text) == urn


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("urn:li:tag:pii", "bad-domain-urn"),
        ("urn:li:domain:", "bad-domain-urn"),
        ("urn:li:domain:a b", "bad-domain-urn"),
        ("urn:li:domain:a(b)", "bad-domain-urn"),
        ("!!!", "unknown-domain"),
    ],
)
def test_without_a_server_what_cannot_be_a_domain_is_refused(text: str, code: str) -> None:
    """The problem points at the field."""
    with pytest.raises(InvalidRequest) as caught:
        Policies(DataHubSettings(), None).domain(text)
    assert [(p.pointer, p.code) for p in caught.value.problems] == [("/domain", code)]


@given(st.text(max_size=40))
@settings(max_examples=100, deadline=None)
def test_a_slug_is_a_urn_that_resolves_to_itself(text: str) -> None:
    """Resolving is idempotent, and what is resolved again has its name found again."""
    try:
        urn = Policies(DataHubSettings(), None).domain(text)
    except InvalidRequest:
        return
    assert Policies(DataHubSettings(), None).domain(urn) == urn
    assert domain_name(text, urn) == (None if text.strip().startswith("urn:") else text.strip())


@pytest.mark.parametrize(
    ("text", "urn", "name"),
    [
        ("Marketing Ops", "urn:li:domain:marketing-ops", "Marketing Ops"),
        ("Marketing Ops", "urn:li:domain:6f1d", None),
        ("urn:li:domain:x", "urn:li:domain:x", None),
        ("!!!", "urn:li:domain:x", None),
        (None, None, None),
    ],
)
def test_a_name_is_known_only_where_the_urn_was_made_of_it(
    text: str | None, urn: str | None, name: str | None
) -> None:
    """A domain that DataHub made keeps the name that it has there."""
    assert domain_name(text, urn) == name


def test_tags_are_names_without_blanks_and_duplicates() -> None:
    """Names and urns mix; the order stays."""
    tags = clean_tags(["pii", " crm ", "", "urn:li:tag:pii", "urn:li:tag:", "Ünï tag", "crm"])
    assert tags == ("pii", "crm", "Ünï tag")
    assert clean_tags(None) == ()


@pytest.mark.parametrize(
    ("tag", "found"),
    [
        ("a,b", "comma"),
        ("x" * 201, "too long"),
        ("語" * 60, "too long"),
        ("a\x00b", "control"),
        ("urn:li:domain:x", "not the urn of a tag"),
    ],
)
def test_what_cannot_be_a_tag_is_refused(tag: str, found: str) -> None:
    """DataHub takes urns of up to 512 encoded bytes; a comma is most likely two tags."""
    with pytest.raises(ValueError, match=found):
        clean_tags(["fine", tag])


def test_all_bad_tags_are_told_at_once() -> None:
    """The caller need not find them one by one."""
    with pytest.raises(ValueError, match=r"comma.*too long"):
        clean_tags(["a,b", "x" * 300])


@given(
    st.text(min_size=1, max_size=30)
    .map(str.strip)
    .filter(lambda t: t and not t.startswith(("urn:", "group:")))
)
@settings(max_examples=100, deadline=None)
def test_owner_urns_are_datahubs_own(owner: str) -> None:
    """Users and groups are encoded as DataHub's library does it."""
    assert owner_urn(owner) == make_user_urn(owner)
    assert owner_urn(f"group:{owner}") == make_group_urn(owner)


@pytest.mark.parametrize(
    ("owner", "urn"),
    [
        ("alice@example.com", "urn:li:corpuser:alice@example.com"),
        ("Doe, Jane (CRM)", "urn:li:corpuser:Doe%2C Jane %28CRM%29"),
        ("urn:li:corpuser:bob", "urn:li:corpuser:bob"),
        ("urn:li:corpGroup:crm", "urn:li:corpGroup:crm"),
        ("group:crm", "urn:li:corpGroup:crm"),
    ],
)
def test_owner_urns(owner: str, urn: str) -> None:
    """Users by id, groups by prefix, urns as they are."""
    assert owner_urn(owner) == urn


@given(st.lists(st.text(max_size=20), max_size=5))
@settings(max_examples=100, deadline=None)
def test_clean_tags_make_urns_that_say_the_tag(tags: list[str]) -> None:
    """A tag that passes becomes a urn of DataHub, and cleaning it again changes nothing."""
    try:
        cleaned = clean_tags(tags)
    except ValueError:
        return
    assert clean_tags(cleaned) == cleaned
    for tag in cleaned:
        urn = make_tag_urn(tag)
        assert make_tag_urn(*clean_tags([urn])) == urn


def test_settings_decide_who_knows_the_domains() -> None:
    """A server, if there is one."""
    assert open_directory(Settings()) is None
    datahub = DataHubSettings(server="http://localhost:1")
    assert isinstance(open_directory(Settings(datahub=datahub)), DataHubDirectory)


def users(**settings: str) -> Policies:
    """Policies without DataHub."""
    return Policies(DataHubSettings.model_validate(settings), None)


@pytest.mark.parametrize(
    ("expression", "owner", "claim", "user"),
    [
        ("(.*)", "ann@example.com", None, "ann@example.com"),
        ("([^@]+)", "ann@example.com", None, "ann"),
        ("([^@]+)", "ann@example.com", "a.nn@corp.example.com", "a.nn"),
        (".*(?=@example[.]com)", "ann@example.com", None, "ann"),
        (".*(?=@example[.]com)", "bob@elsewhere.example", None, "bob@elsewhere.example"),
        ("[0-9]*", "ann", None, "ann"),
        ("([^@]+)", "group:crm@eu", None, "group:crm@eu"),
        ("([^@]+)", "urn:li:corpuser:ann@example.com", None, "urn:li:corpuser:ann@example.com"),
        ("(.*)", "ann", "urn:li:corpGroup:crm", "ann"),
        ("(.*)", "ann", "group:crm", "ann"),
        ("[^|]+$", "oidc|group:crm", None, "oidc|group:crm"),
        ("[^|]+$", "oidc|urn:li:corpGroup:crm", None, "oidc|urn:li:corpGroup:crm"),
    ],
)
def test_user_ids_are_made_as_datahub_makes_them(
    expression: str, owner: str, claim: str | None, user: str
) -> None:
    """The first match, of the claim if there is one; nobody becomes a group by a name."""
    assert users(user_claim_regex=expression).user_id(owner, claim) == user


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"user_claim_regex": "("}, "no regular expression"),
        ({"owner_policy": "must-exist"}, "owner_policy must-exist needs server"),
        ({"tag_policy": "must-exist"}, "tag_policy must-exist needs server"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, str], found: str) -> None:
    """Are found when the process starts."""
    with pytest.raises(ValueError, match=found):
        users(**settings)
