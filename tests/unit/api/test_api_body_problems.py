"""Bodies: strict JSON, pointers, problems that never repeat values."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_core import PydanticCustomError

from airberg.api.body_problems import (
    MAX_DEPTH,
    MAX_PROBLEMS,
    body_problems,
    known_names,
    pointer,
    read_json_object,
)
from airberg.errors import InvalidRequest

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=12,
)


@given(value=st.dictionaries(text, json_values, max_size=5))
@settings(max_examples=100, deadline=None)
def test_json_objects_are_read_as_they_are(value: dict[str, Any]) -> None:
    """What is an object of interoperable JSON comes out equal, escaped or not."""
    for ascii_only in (True, False):
        assert read_json_object(json.dumps(value, ensure_ascii=ascii_only).encode()) == value


@given(raw=st.binary(max_size=60) | st.text(max_size=60).map(lambda t: t.encode("utf-8", "replace")))
@settings(max_examples=100, deadline=None)
def test_any_bytes_are_an_object_or_refused(raw: bytes) -> None:
    """Nothing but an object comes out, nothing but InvalidRequest is raised."""
    try:
        value = read_json_object(raw)
    except InvalidRequest:
        return
    assert isinstance(value, dict)


@pytest.mark.parametrize(("levels", "good"), [(MAX_DEPTH, True), (MAX_DEPTH + 1, False)])
@pytest.mark.parametrize("brackets", [("[", "]"), ('{"a":', "}")])
def test_the_limit_of_depth(levels: int, good: bool, brackets: tuple[str, str]) -> None:
    """Exactly MAX_DEPTH levels are fine, arrays and objects alike; the body itself is the first."""
    begin, end = brackets
    raw = '{"x":' + begin * (levels - 1) + "0" + end * (levels - 1) + "}"
    if good:
        assert "x" in read_json_object(raw.encode())
    else:
        with pytest.raises(InvalidRequest) as e:
            read_json_object(raw.encode())
        assert e.value.code == "too-deep"


def test_pointers() -> None:
    """RFC 6901: `~` and `/` are escaped, the whole document is empty."""
    assert pointer(()) == ""
    assert pointer(("a", 0, "b/c~d")) == "/a/0/b~1c~0d"


class Leaf(BaseModel):
    """A nested model with an alias."""

    model_config = ConfigDict(extra="forbid")
    column: str = Field("", alias="columnName")
    size: Annotated[int, Field(ge=1, le=5)] = 1


class Tree(BaseModel):
    """A model of many shapes."""

    model_config = ConfigDict(extra="forbid", strict=True)
    leaf: Leaf | None = None
    leaves: Annotated[list[Leaf] | None, Field(max_length=2)] = None
    mode: Literal["a", "b"] = "a"
    code: str = ""
    free: dict[str, Any] = {}

    @field_validator("code")
    @classmethod
    def _code(cls, value: str) -> str:
        if value == "own":
            raise PydanticCustomError("bad-code", "{message}", {"message": "Ours.", "guidance": "Do."})
        if value:
            raise ValueError(f"repeats {value}")
        return value


@pytest.mark.parametrize(
    ("place", "names"),
    [
        ((), ["code", "free", "leaf", "leaves", "mode"]),
        (("leaf",), ["columnName", "size"]),
        (("leaves", 1), ["columnName", "size"]),
        (("free",), []),
        (("free", "x"), []),
        (("nowhere",), []),
    ],
)
def test_known_names(place: tuple[int | str, ...], names: list[str]) -> None:
    """Names at a place, through optional fields, lists and aliases; none where anything goes."""
    assert known_names(Tree, place) == names


def problems_of(value: object) -> list[tuple[str, str, str, str]]:
    """What is wrong with a value for `Tree`."""
    with pytest.raises(ValidationError) as e:
        Tree.model_validate(value)
    return [(p.pointer, p.code, p.message, p.guidance) for p in body_problems(e.value, Tree)]


def test_our_own_errors_keep_their_words() -> None:
    """A validator's code, message and guidance are passed on; a plain ValueError's text is not."""
    assert problems_of({"code": "own"}) == [("/code", "bad-code", "Ours.", "Do.")]
    [(pointer, code, message, guidance)] = problems_of({"code": "s3cret"})
    assert (pointer, code, message) == ("/code", "value-error", "`code` is not valid.")
    assert "s3cret" not in guidance


def test_limits_are_named() -> None:
    """The message says which limit it is."""
    assert problems_of({"leaf": {"size": 9}})[0][2] == "`size` must have a value of at most 5."
    assert problems_of({"leaves": [{}, {}, {}]})[0][2] == "`leaves` must have at most 2 items."
    assert problems_of({"mode": "c"})[0][2] == '`mode` must be "a" or "b".'


def test_problems_are_limited() -> None:
    """A body with thousands of unknown fields does not get an answer of megabytes."""
    assert len(problems_of({f"x{i}": 1 for i in range(1000)})) == MAX_PROBLEMS
    ((at, _, message, _),) = problems_of({"y" * 5000: 1})
    assert at == "/" + "y" * 5000
    assert len(message) < 200


SECRET = "s3cret"


@given(
    value=st.fixed_dictionaries(
        {},
        optional={
            name: st.sampled_from(
                [SECRET, [SECRET], {"columnName": [SECRET]}, {"size": SECRET}, {"a": {SECRET}}]
            )
            for name in ("leaf", "leaves", "mode", "code", "other")
        },
    )
)
@settings(max_examples=60, deadline=None)
def test_values_are_never_repeated(value: dict[str, Any]) -> None:
    """Wherever a secret is sent by mistake, no problem has it."""
    try:
        Tree.model_validate(value)
    except ValidationError as e:
        found = body_problems(e, Tree)
        assert found
        assert SECRET not in json.dumps([p.as_dict() for p in found])
