"""Names of columns: kept apart where they collide, fit for a table, and the same in every run."""

from __future__ import annotations

import itertools
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airberg.columns.arrow import table_fields
from airberg.columns.types import LONG, Field, List, Struct
from airberg.errors import InvalidRequest
from airberg.lake.schema import AddedColumn, column_paths, iceberg_schema, schema_changes
from airberg.plan.apart import apart_names, fit_name
from airberg.plan.model import (
    ColumnPlan,
    IngestRequest,
    JobPlan,
    Path,
    Transformation,
    decode_plan,
    encode_plan,
)
from airberg.plan.planner import Connector, build_plan
from airberg.plan.transformations import columns_as_builtins
from support.key_directory import keys_named

N = {"type": "integer"}


def obj(**properties: Any) -> dict[str, Any]:
    """The schema of an object."""
    return {"type": "object", "properties": properties}


def suffixed(name: str, digits: int = 8) -> str:
    """The name with the suffix that is its own."""
    return f"{name}_{sha256(name.encode()).hexdigest()[:digits]}"


def plan(
    properties: dict[str, Any], present: frozenset[Path] = frozenset(), *rules: Transformation, **more: Any
) -> JobPlan:
    """The plan of a job with one stream of these properties, whose table has the columns `present`."""
    stream = {"name": "s", "json_schema": obj(**properties), "supported_sync_modes": ["full_refresh"]}
    base: dict[str, Any] = {"name": "n", "source_name": "source-x", "schema_name": "shop", "mode": "append"}
    return build_plan(
        IngestRequest(**(base | more | {"column_transformations": rules})),
        Connector("source-x", "1", [stream], 1.0),
        keys_named("default"),
        present=lambda _: present,
    )


def columns(made: JobPlan) -> tuple[ColumnPlan, ...]:
    """The columns of its stream."""
    return made.streams[0].columns


def named(made: JobPlan) -> dict[str, str]:
    """Source name → name in the table, of the columns at the top."""
    return {c.source: c.name for c in columns(made)}


def present_in(made: JobPlan) -> frozenset[Path]:
    """The columns of a table that was made by the plan."""
    return column_paths(iceberg_schema(table_fields(columns(made), made.add_ingestion_metadata)))


def run(
    properties: dict[str, Any], present: frozenset[Path] = frozenset()
) -> tuple[dict[str, str], frozenset[Path]]:
    """Names of a run, and the columns of the table after it."""
    made = plan(properties, present)
    return named(made), present | present_in(made)


def test_names_that_differ_in_case_are_both_kept() -> None:
    """The first keeps its name, the others get a suffix that only depends on their own name."""
    made = plan({"Id": N, "id": N, "ID": N, "x": N})
    assert named(made) == {"Id": "Id", "id": suffixed("id"), "ID": suffixed("ID"), "x": "x"}
    assert [c.apart for c in columns(made)] == [False, True, True, False]
    shown = columns_as_builtins(columns(made))[1]
    assert shown["transformations"] == {"kept_apart": {"from": "id", "to": suffixed("id")}}
    assert [w for w in made.warnings if "'id'" in w and repr(suffixed("id")) in w]
    assert decode_plan(encode_plan(made)) == made


@pytest.mark.parametrize(
    "order", list(itertools.permutations([{"id": N}, {"Id": N, "id": N}, {"ID": N, "id": N, "Id": N}]))
)
def test_names_stay_whatever_the_order_of_runs(order: tuple[dict[str, Any], ...]) -> None:
    """What a column was called once it is called again, when others come, go, or change places."""
    known: dict[str, str] = {}
    present: frozenset[Path] = frozenset()
    for properties in order:
        names, present = run(properties, present)
        assert len({n.casefold() for n in names.values()}) == len(names)
        for source, name in names.items():
            assert known.setdefault(source, name) == name


def test_the_only_one_left_keeps_its_suffix() -> None:
    """Run 1 has both, run 2 only the second: it goes on in its own column."""
    _, present = run({"Id": N, "id": N})
    assert run({"id": N}, present)[0] == {"id": suffixed("id")}
    assert run({"Id": N}, present)[0] == {"Id": "Id"}


def test_another_spelling_in_the_table_is_not_written_to() -> None:
    """A table that has `ID` from elsewhere and a source that sends `id`."""
    assert run({"id": N}, frozenset({("ID",)}))[0] == {"id": suffixed("id")}


def test_a_column_that_is_called_like_a_suffixed_one() -> None:
    """The suffix grows until it is free, and stays as it was."""
    taken = suffixed("id")
    names, present = run({"Id": N, taken: N, "id": N})
    assert names == {"Id": "Id", taken: taken, "id": suffixed("id", 16)}
    assert run({"id": N, taken: N, "Id": N}, present)[0] == names
    first, present = run({"id": N, taken: N})
    assert first == {"id": "id", taken: taken}
    assert run({"Id": N, "id": N, taken: N}, present)[0] == {"Id": suffixed("Id"), "id": "id", taken: taken}


def test_members_of_structs_and_of_lists_are_kept_apart() -> None:
    """At every depth; the struct's type follows."""
    item = obj(Id=N, id=N)
    made = plan({"box": item, "list": {"type": "array", "items": item}})
    box, items = columns(made)
    inside = Struct((Field("Id", LONG), Field(suffixed("id"), LONG)))
    assert box.type == inside
    assert [(c.source, c.name) for c in box.children] == [("Id", "Id"), ("id", suffixed("id"))]
    assert items.type == List(Struct((Field("Id", LONG), Field(suffixed("id"), LONG, source="id"))))
    assert items.source_type == items.type
    assert list(apart_names(columns(made))) == [
        (("box", "id"), ("box", suffixed("id"))),
        (("list", "element", "id"), ("list", "element", suffixed("id"))),
    ]
    present = present_in(made)
    again = plan({"list": {"type": "array", "items": obj(id=N, Id=N)}}, present)
    assert [f.name for f in columns(again)[0].type.element.fields] == [suffixed("id"), "Id"]  # type: ignore[union-attr]  # a list of structs


def test_a_dotted_name_and_a_member_of_a_struct() -> None:
    """Iceberg names fields with dots: `a.b` beside `a` with `b`, in either order of arrival."""
    made = plan({"a.b": N, "a": obj(b=N, c=N)})
    assert named(made) == {"a.b": "a.b", "a": "a"}
    assert [c.name for c in columns(made)[1].children] == [suffixed("b"), "c"]
    present = present_in(plan({"a": obj(b=N)}))
    later = plan({"a.b": N, "a": obj(b=N)}, present)
    assert named(later) == {"a.b": suffixed("a.b"), "a": "a"}
    assert [c.name for c in columns(later)[1].children] == ["b"]


def test_a_name_like_that_of_the_items_of_a_list() -> None:
    """Iceberg calls them `list.element`, which no other column can be called."""
    items = {"type": "array", "items": {"type": "array", "items": N}}
    assert named(plan({"l": items, "L.Element": N, "l.element.element": N})) == {
        "l": "l",
        "L.Element": suffixed("L.Element"),
        "l.element.element": suffixed("l.element.element"),
    }
    made = plan({"l.element": N, "l": items})
    assert named(made) == {"l.element": "l.element", "l": suffixed("l")}
    assert named(plan({"l": items, "l.element": N}, present_in(made))) == named(made)


@pytest.mark.parametrize(
    ("source", "kept"),
    [
        ("select", "select"),
        ("Order By", "Order By"),
        ("quoted \"x\" `y` 'z'", "quoted \"x\" `y` 'z'"),
        ("naïve 名前 🙂", "naïve 名前 🙂"),
        (" ", " "),
        ("a/b\\c", "a/b\\c"),
        ("x" * 255, "x" * 255),
        ("", "_e3b0c442"),
        ("a\x00b", "a_b_" + sha256(b"a\x00b").hexdigest()[:8]),
        ("line\nbreak", "line_break_" + sha256(b"line\nbreak").hexdigest()[:8]),
        ("x" * 10_000, "x" * 246 + "_" + sha256(b"x" * 10_000).hexdigest()[:8]),
        ("é" * 200, "é" * 123 + "_" + sha256("é".encode() * 200).hexdigest()[:8]),
    ],
)
def test_names_that_fit_stay_and_others_are_made_to(source: str, kept: str) -> None:
    """Reserved words, spaces, quotes and any script are fine; control characters and 10,000 of them not."""
    assert fit_name(source) == kept
    made = plan({source: N})
    assert named(made) == {source: kept}
    assert run({source: N}, present_in(made))[0] == {source: kept}


def test_columns_named_like_metadata_columns() -> None:
    """A source that was itself loaded by Airbyte: its columns are kept beside ours."""
    made = plan({"_airbyte_raw_id": N, "_AIRBYTE_META": N})
    assert named(made) == {
        "_airbyte_raw_id": suffixed("_airbyte_raw_id"),
        "_AIRBYTE_META": suffixed("_AIRBYTE_META"),
    }
    assert named(plan({"_airbyte_raw_id": N}, present_in(made))) == {
        "_airbyte_raw_id": suffixed("_airbyte_raw_id")
    }
    assert named(plan({"_airbyte_raw_id": N}, add_ingestion_metadata=False)) == {
        "_airbyte_raw_id": "_airbyte_raw_id"
    }


def rename(column: str, new_name: str) -> Transformation:
    """A rename."""
    return Transformation(column=column, transformation_type="rename", new_name=new_name)


@pytest.mark.parametrize(
    ("properties", "rule", "code"),
    [
        ({"id": N, "x": N}, rename("x", "ID"), "column-name-collision"),
        ({"Id": N, "id": N, "x": N}, rename("x", "ID"), "column-name-collision"),
        ({"a": obj(b=N), "x": N}, rename("x", "A.B"), "column-name-collision"),
        ({"a": obj(b=N, c=N)}, rename("a.b", "C"), "column-name-collision"),
        ({"x": N}, rename("x", "a\x00b"), "bad-new-name"),
        ({"x": N}, rename("x", "x" * 256), "bad-new-name"),
        ({"x": N}, rename("x", "_airbyte_META"), "reserved-column-name"),
    ],
)
def test_what_a_rename_causes_is_the_callers_to_mend(
    properties: dict[str, Any], rule: Transformation, code: str
) -> None:
    """Names that were asked for are not changed."""
    with pytest.raises(InvalidRequest) as refused:
        plan(properties, frozenset(), rule)
    assert [(p.pointer, p.code) for p in refused.value.problems] == [
        ("/column_transformations/0/new_name", code)
    ]


def test_a_rename_settles_a_collision() -> None:
    """Of two that differ in case one is renamed: no suffix is needed."""
    assert named(plan({"Id": N, "id": N}, frozenset(), rename("Id", "number"))) == {
        "Id": "number",
        "id": "id",
    }
    assert not plan({"Id": N, "id": N}, frozenset(), rename("Id", "number"), mode="overwrite").warnings


def test_encryption_is_bound_to_the_name_in_the_source() -> None:
    """The associated data of a column does not depend on what was in the table before."""
    rule = Transformation(column="id", transformation_type="encrypt")
    made = plan({"Id": N, "id": N}, frozenset(), rule)
    assert columns(made)[1].name == suffixed("id")
    assert columns(made)[1].encrypt is not None
    assert columns(made)[1].encrypt.aad == "shop.s.id"


def test_many_are_not_all_listed() -> None:
    """Warnings stay readable with hundreds of such names."""
    made = plan({f"c{i}\n{'y' * 300}": N for i in range(300)}, mode="overwrite")
    assert len(made.warnings) == 21
    assert "280 more" in made.warnings[-1]
    assert all(len(w) < 400 for w in made.warnings)


TEXTS = st.sampled_from(
    ["id", "Id", "ID", "a.b", "A", "a", "b", "B", "a.element", "", "\x00", "ß", "ss"]
) | st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
HOSTILE = TEXTS | st.sampled_from(
    [suffixed("id"), suffixed("id", 16), suffixed("Id"), suffixed("b"), fit_name("")]
)


def schemas(names: st.SearchStrategy[str]) -> st.SearchStrategy[dict[str, Any]]:
    """Properties with any nesting below them."""
    nested = st.recursive(
        st.just(N),
        lambda inner: (
            st.dictionaries(names, inner, min_size=1, max_size=5).map(lambda p: obj(**p))
            | inner.map(lambda s: {"type": "array", "items": s})
        ),
        max_leaves=8,
    )
    return st.dictionaries(names, nested, min_size=1, max_size=6)


@settings(max_examples=150, deadline=None)
@given(st.lists(schemas(TEXTS), min_size=1, max_size=3) | schemas(HOSTILE).map(lambda s: [s]))
def test_any_names_make_a_table_and_go_on_in_it(runs: list[dict[str, Any]]) -> None:
    """Whatever sources call their columns: a table takes all of them, and the next run finds them again."""
    paths: frozenset[Path] = frozenset()
    kinds: dict[Path, type] = {}
    for properties in runs:
        made = plan(properties, paths)
        schema = iceberg_schema(table_fields(columns(made), True))
        own = column_paths(schema)
        now = {path: type(schema.find_type(".".join(path))) for path in own}
        if any(kinds.setdefault(path, kind) != kind for path, kind in now.items()):
            return  # a change of type, which ends the run
        assert len(columns(made)) == len(properties)
        assert len({".".join(p).casefold() for p in own | paths}) == len(own | paths)
        again = plan(dict(reversed(properties.items())), paths | own)
        assert named(again) == named(made)
        assert present_in(again) == own
        wanted = table_fields(columns(again), True)
        assert not [c for c in schema_changes(schema, wanted) if isinstance(c, AddedColumn)]
        paths |= own
