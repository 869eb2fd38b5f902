"""Merge options, and what a merge plan makes of them: order by key, identifier, cursor, warnings."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from airberg.plan.merging import merge_options, new_format_version, table_notes
from airberg.plan.model import (
    IngestRequest,
    JobPlan,
    MergeOptions,
    TableRequest,
    Transformation,
    decode_plan,
    encode_plan,
)
from airberg.plan.planner import Connector, build_plan, merge_columns
from airberg.settings import MergeSettings, load_settings
from support.key_directory import keys_named

TIME = {"type": "string", "format": "date-time"}
PROPERTIES: dict[str, Any] = {
    "id": {"type": "integer"},
    "region": {"type": ["null", "string"]},
    "price": {"type": "number"},
    "box": {"type": "object", "properties": {"no": {"type": "integer"}}},
}


def stream(key: list[list[str]] | None = None, **properties: Any) -> dict[str, Any]:
    """A stream without a cursor."""
    return {
        "name": "users",
        "json_schema": {"properties": PROPERTIES | properties},
        "supported_sync_modes": ["full_refresh"],
        "source_defined_primary_key": key or [["id"]],
    }


def plan(offered: dict[str, Any], merging: MergeOptions | None = None, **changes: Any) -> JobPlan:
    """Plan a merge."""
    base = {"name": "n", "source_name": "source-x", "schema_name": "shop", "mode": "merge"}
    return build_plan(
        IngestRequest(**(base | changes)),
        Connector("source-x", "1", [offered], 1.0),
        keys_named("default"),
        merging=merging or MergeOptions(),
    )


def request(**members: Any) -> IngestRequest:
    """A merge request."""
    return IngestRequest(name="n", source_name="source-x", schema_name="shop", mode="merge", **members)


def rule(column: str, kind: str, **members: Any) -> Transformation:
    """One transformation."""
    return Transformation(column=column, transformation_type=kind, **members)


# ---- options ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "deployment", "expected"),
    [
        ({}, {}, "position"),
        ({}, {"readers": ("databricks",)}, "vector"),
        ({}, {"delete_format": "copy-on-write"}, "copy-on-write"),
        ({}, {"delete_format": "vector", "readers": ("databricks",)}, "vector"),
        ({"readers": ("spark", "trino")}, {"delete_format": "copy-on-write"}, "position"),
        ({"readers": ("databricks", "starrocks")}, {}, "copy-on-write"),
        ({"delete_format": "vector"}, {"readers": ("starrocks",)}, "vector"),
        ({"delete_format": "position", "readers": ("spark",)}, {"delete_format": "vector"}, "position"),
    ],
)
def test_the_nearest_word_on_the_format_counts(
    asked: dict[str, Any], deployment: dict[str, Any], expected: str
) -> None:
    """The job's format, the job's readers, the deployment's format, the deployment's readers, position."""
    assert merge_options(request(**asked), MergeSettings(**deployment)).delete_format == expected


@pytest.mark.parametrize("deployment", [False, True])
@pytest.mark.parametrize("asked", [None, False, True])
def test_what_a_job_does_not_say_the_deployment_does(asked: bool | None, deployment: bool) -> None:
    """Also a `false` of the job counts."""
    expected = deployment if asked is None else asked
    words = {None: None, False: "hard", True: "soft"}
    options = merge_options(
        request(skip_unchanged=asked, deletes=words[asked]),
        MergeSettings(skip_unchanged=deployment, deletes="soft" if deployment else "hard"),
    )
    assert (options.skip_unchanged, options.soft_deletes) == (expected, expected)


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"readers": ("sparc",)}, 'Did you mean "spark"'),
        ({"readers": ("starrocks",), "delete_format": "vector"}, "starrocks is not known to read"),
        ({"delete_format": "equality"}, "delete_format"),
    ],
)
def test_a_deployment_that_contradicts_itself_does_not_start(members: dict[str, Any], words: str) -> None:
    """It is found when the settings are read."""
    with pytest.raises(ValidationError, match=words):
        MergeSettings(**members)


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the reference writes them."""
    monkeypatch.setenv("AIRBERG_MERGE__READERS", '["spark", "trino:455"]')
    monkeypatch.setenv("AIRBERG_MERGE__SKIP_UNCHANGED", "true")
    found = load_settings().merge
    assert (found.readers, found.skip_unchanged, found.delete_format) == (("spark", "trino:455"), True, None)


def test_the_plan_keeps_the_options() -> None:
    """They are stored with the job, and a plan of before has those of before."""
    made = plan(stream(), MergeOptions(delete_format="vector", soft_deletes=True, skip_unchanged=True))
    again = decode_plan(encode_plan(made))
    assert again == made
    assert (again.merging.delete_format, new_format_version(again)) == ("vector", 3)
    assert new_format_version(plan(stream())) == 2
    assert new_format_version(plan(stream(), MergeOptions(delete_format="vector"), mode="append")) == 2


# ---- order and identifier ---------------------------------------------------------------------------------


def test_a_merge_table_is_sorted_by_its_key() -> None:
    """By the names in the table, nulls first; what is asked for wins, and other modes have no key."""
    [users] = plan(
        stream([["id"], ["region"]]), column_transformations=(rule("id", "rename", new_name="no"),)
    ).streams
    assert [str(t) for t in users.key_order] == ["no asc nulls first", "region asc nulls first"]
    assert users.sort_by == ()
    table = TableRequest(stream="users", sort_by=("price desc",))
    [users] = plan(stream(), tables=(table,)).streams
    assert ([str(t) for t in users.sort_by], users.key_order) == (["price desc nulls last"], ())
    assert plan(stream(), mode="append").streams[0].key_order == ()


@pytest.mark.parametrize(
    ("key", "changes", "identifier"),
    [
        ([["id"]], {}, (("id",),)),
        ([["region"], ["id"]], {}, (("region",), ("id",))),
        ([["id"]], {"merge": ("id",)}, (("id",),)),
        ([["id"]], {"merge": ("region",)}, ()),
        ([["id"], ["region"]], {"merge": ("id",)}, ()),
        ([["price"]], {}, ()),
        ([["id"], ["price"]], {}, ()),
        ([["box", "no"]], {}, ()),
        (
            [["price"]],
            {"column_transformations": (rule("price", "cast", target_type="long"),)},
            (("price",),),
        ),
        ([["id"]], {"column_transformations": (rule("id", "rename", new_name="no"),)}, (("no",),)),
        ([["id"]], {"column_transformations": (rule("id", "encrypt"),)}, (("id",),)),
        ([["id"]], {"mode": "append"}, ()),
    ],
)
def test_the_identifier_is_the_primary_key_or_nothing(
    key: list[list[str]], changes: dict[str, Any], identifier: tuple[tuple[str, ...], ...]
) -> None:
    """Part of a key identifies nothing; Iceberg allows no floating-point and no optional parents."""
    assert plan(stream(key), **changes).streams[0].identifier == identifier


# ---- cursor and deletions ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("columns", "rules", "cursor"),
    [
        ({}, (), None),
        ({"_ab_cdc_lsn": {"type": "number"}, "_ab_cdc_updated_at": TIME}, (), "_ab_cdc_lsn"),
        ({"_ab_cdc_cursor": {"type": "integer"}, "_ab_cdc_updated_at": TIME}, (), "_ab_cdc_cursor"),
        ({"_ab_cdc_lsn": {"type": "string"}}, (), "_ab_cdc_lsn"),
        ({"_ab_cdc_updated_at": TIME}, (), "_ab_cdc_updated_at"),
        ({"_ab_cdc_updated_at": {"type": "string"}}, (), None),
        ({"_ab_cdc_lsn": {"type": "object"}, "_ab_cdc_updated_at": TIME}, (), "_ab_cdc_updated_at"),
        (
            {"_ab_cdc_lsn": {"type": "number"}, "_ab_cdc_updated_at": TIME},
            (rule("_ab_cdc_lsn", "encrypt"),),
            "_ab_cdc_updated_at",
        ),
        ({"_ab_cdc_lsn": {"type": "number"}}, (rule("_ab_cdc_lsn", "drop"),), None),
        ({"_ab_cdc_lsn": {"type": "number"}}, (rule("_ab_cdc_lsn", "rename", new_name="lsn"),), "lsn"),
    ],
)
def test_a_cdc_stream_is_ordered_by_its_place_in_the_log(
    columns: dict[str, Any], rules: tuple[Transformation, ...], cursor: str | None
) -> None:
    """The first usable column of the three, by its name in the table."""
    made = plan(stream(**columns), column_transformations=rules).streams[0]
    assert merge_columns(made).cursor == ((cursor,) if cursor else None)


def test_a_declared_cursor_comes_first() -> None:
    """Also when it cannot be compared: what the source orders by is not replaced by a guess."""
    offered = stream(v={"type": "integer"}, _ab_cdc_lsn={"type": "number"}) | {
        "supported_sync_modes": ["full_refresh", "incremental"],
        "source_defined_cursor": True,
        "default_cursor_field": ["v"],
    }
    assert merge_columns(plan(offered).streams[0]).cursor == ("v",)
    hidden = plan(offered, column_transformations=(rule("v", "encrypt"),)).streams[0]
    assert merge_columns(hidden).cursor is None


def test_soft_deletes_have_no_column_that_deletes() -> None:
    """The row stays, with its mark."""
    [users] = plan(stream(_ab_cdc_deleted_at=TIME)).streams
    assert merge_columns(users).deleted_at == ("_ab_cdc_deleted_at",)
    assert merge_columns(users, soft_deletes=True).deleted_at is None


# ---- warnings ---------------------------------------------------------------------------------------------


def test_rows_with_ciphertext_at_random_are_never_unchanged() -> None:
    """The plan says so, and only then."""
    skip = MergeOptions(skip_unchanged=True)
    hidden = (rule("region", "encrypt"),)
    [note] = plan(stream(), skip, column_transformations=hidden).warnings
    assert "skip_unchanged skips nothing" in note
    assert "region" in note
    assert plan(stream(), skip).warnings == ()
    assert plan(stream(), column_transformations=hidden).warnings == ()
    assert plan(stream(), skip, column_transformations=(rule("id", "encrypt"),)).warnings == ()


def test_soft_needs_marks_of_the_source() -> None:
    """Said to who asks for it, not to every job of a deployment that is soft."""
    soft = MergeOptions(soft_deletes=True)
    [note] = plan(stream(), soft, deletes="soft").warnings
    assert "_ab_cdc_deleted_at" in note
    assert plan(stream(), soft).warnings == ()
    assert plan(stream(_ab_cdc_deleted_at=TIME), soft, deletes="soft").warnings == ()


def test_files_written_anew_for_the_readers_are_a_warning() -> None:
    """It costs; asked for by name, it is wanted."""
    anew = MergeOptions(delete_format="copy-on-write")
    assert "copy-on-write" in plan(stream(), anew, readers=("daft",)).warnings[0]
    assert plan(stream(), anew, delete_format="copy-on-write").warnings == ()


@pytest.mark.parametrize(
    ("wanted", "version", "readers", "words"),
    [
        ("vector", 2, None, "rows go by position-delete files"),
        ("position", 3, None, "rows go by deletion vectors."),
        ("position", 3, ("spark", "starrocks"), "deletion vectors; starrocks is not known to read them."),
        ("position", 1, None, "files are written anew"),
        ("position", 2, None, None),
        ("vector", 3, None, None),
        ("copy-on-write", 3, None, None),
        ("vector", None, None, None),
    ],
)
def test_a_table_that_exists_decides_with_its_version(
    wanted: Any, version: int | None, readers: tuple[str, ...] | None, words: str | None
) -> None:
    """The plan says where rows go otherwise than asked."""
    made = plan(stream(), MergeOptions(delete_format=wanted))
    notes = table_notes(request(readers=readers), made, {"users": version} if version else {})
    assert len(notes) == (words is not None)
    if words is not None:
        assert words in notes[0]
        assert notes[0].startswith("shop.users exists")
