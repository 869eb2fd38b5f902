"""A configuration is compared with the connector's specification."""

from __future__ import annotations

from typing import Any

import pytest

from airberg.sources.spec import config_problems

SPEC: dict[str, Any] = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "type": "object",
    "required": ["count", "credentials"],
    "additionalProperties": False,
    "properties": {
        "count": {"type": "integer", "minimum": 1, "description": "How <b>many</b> records."},
        "region": {"type": "string", "enum": ["eu", "us"]},
        "start": {"type": "string", "pattern": "^[0-9]{4}$", "pattern_descriptor": "YYYY"},
        "bad_pattern": {"type": "string", "pattern": "(?<x>a)\\p{L}("},
        "names": {"type": "array", "minItems": 1, "items": {"type": "string"}},
        "a/b": {"type": "boolean"},
        "credentials": {
            "type": "object",
            "oneOf": [
                {
                    "title": "Token",
                    "required": ["auth", "token"],
                    "properties": {
                        "auth": {"const": "token"},
                        "token": {"type": "string", "airbyte_secret": True},
                    },
                },
                {
                    "title": "Basic",
                    "required": ["auth", "password"],
                    "properties": {"auth": {"const": "basic"}, "password": {"type": "string"}},
                },
            ],
        },
    },
}
GOOD: dict[str, Any] = {"count": 1, "credentials": {"auth": "token", "token": "t"}}


def found(config: object, spec: dict[str, Any] = SPEC) -> list[tuple[str, str]]:
    """Pointer and code of each problem."""
    return [(problem.pointer, problem.code) for problem in config_problems(spec, config)]


def test_good_configuration_has_no_problems() -> None:
    """What fits passes; so do properties that the connector does not know."""
    assert found(GOOD) == []
    assert found(GOOD | {"something": "else"}) == []
    assert found(GOOD | {"credentials": {"auth": "token", "token": "t", "extra": 1}}) == []


@pytest.mark.parametrize(
    ("change", "pointer", "code", "words"),
    [
        ({"count": "s3cr3t"}, "/source_config/count", "type", "must be a whole number"),
        ({"count": 0}, "/source_config/count", "not-allowed", "at least 1"),
        ({"region": "s3cr3t"}, "/source_config/region", "not-allowed", '"eu", "us"'),
        ({"start": "s3cr3t"}, "/source_config/start", "not-allowed", "YYYY"),
        ({"names": []}, "/source_config/names", "not-allowed", "1 is the least"),
        ({"names": ["x", 7]}, "/source_config/names/1", "type", "must be a string"),
        ({"a/b": "s3cr3t"}, "/source_config/a~1b", "type", "true or false"),
        (
            {"credentials": {"auth": "basic"}},
            "/source_config/credentials/password",
            "required",
            "`credentials.password` is missing",
        ),
        (
            {"credentials": {"auth": "token", "token": 5}},
            "/source_config/credentials/token",
            "type",
            "must be a string",
        ),
        (
            {"credentials": {"auth": "s3cr3t", "token": "s3cr3t"}},
            "/source_config/credentials/auth",
            "no-alternative",
            'must be one of "token" (Token), "basic" (Basic)',
        ),
        (
            {"credentials": "s3cr3t"},
            "/source_config/credentials",
            "type",
            "must be an object",
        ),
    ],
)
def test_each_fault_is_told_with_its_place_and_without_its_value(
    change: dict[str, Any], pointer: str, code: str, words: str
) -> None:
    """One problem per fault: a pointer into the body, a stable code, words for people, never the value."""
    problems = config_problems(SPEC, GOOD | change)
    assert [(problem.pointer, problem.code) for problem in problems] == [(pointer, code)]
    assert words in problems[0].message
    assert "s3cr3t" not in str(problems)


def test_all_faults_are_told_at_once() -> None:
    """A caller does not have to come back for each."""
    assert sorted(found({"region": 1, "names": "x"})) == [
        ("/source_config/count", "required"),
        ("/source_config/credentials", "required"),
        ("/source_config/names", "type"),
        ("/source_config/region", "type"),
    ]


def test_guidance_is_the_connectors_description() -> None:
    """The connector's own explanation helps, as plain text."""
    (problem,) = config_problems(SPEC, {"credentials": GOOD["credentials"]})
    assert problem.guidance == "How many records."


def test_guidance_has_an_example_where_the_connector_gives_one() -> None:
    """Two sentences, also when the description ends without a full stop."""
    host = {"type": "string", "description": "The server", "examples": ["www.host.com"]}
    (problem,) = config_problems({"required": ["host"], "properties": {"host": host}}, {})
    assert problem.guidance == 'The server. For example "www.host.com".'


def test_misspelt_property_is_pointed_out() -> None:
    """A missing property beside a similar unknown one is most often a misspelling."""
    (problem,) = config_problems(SPEC, {"cuont": 5, "credentials": GOOD["credentials"]})
    assert "`cuont`" in problem.guidance


def test_pattern_of_another_dialect_is_left_to_the_connector() -> None:
    """Specifications are written for other regular expression engines too."""
    assert found(GOOD | {"bad_pattern": "x"}) == []


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"type": "nonsense"},
        {"$ref": "https://schemas.example/x.json"},
        {"$ref": "#/nowhere"},
        {"$ref": "#"},
        {"properties": {"count": {"required": True}}},
    ],
)
def test_specification_that_cannot_be_enforced_is_not(spec: dict[str, Any]) -> None:
    """A broken specification is no reason to refuse: the check decides; nothing is fetched."""
    assert found(GOOD, spec) == []


def test_configurations_of_a_strange_form() -> None:
    """No form of a value is an exception."""
    assert found(None) == [("/source_config", "type")]
    assert found([1]) == [("/source_config", "type")]
    deep: dict[str, Any] = {}
    for _ in range(5000):
        deep = {"x": deep}
    assert found(deep) == [("/source_config", "nesting")]
