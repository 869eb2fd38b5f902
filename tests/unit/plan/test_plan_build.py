"""Planning: keys, transformations, names, warnings; everything wrong is found at once."""

from __future__ import annotations

from typing import Any

import pytest

from airberg.columns.types import BINARY, LONG, STRING, Decimal, Struct
from airberg.errors import InvalidRequest
from airberg.plan.model import (
    EncryptRule,
    HashRule,
    IngestRequest,
    JobPlan,
    MaskRule,
    TableRequest,
    Transformation,
    decode_plan,
    encode_plan,
)
from airberg.plan.planner import Connector, build_plan, merge_columns
from airberg.plan.transformations import all_columns, columns_as_builtins
from support.key_directory import keys_named

USERS: dict[str, Any] = {
    "name": "users",
    "json_schema": {
        "type": "object",
        "properties": {
            "id": {"type": "integer"},
            "email": {"type": ["null", "string"]},
            "amount": {"type": "number"},
            "tags": {"type": "object"},
            "updated_at": {"type": "string", "format": "date-time"},
            "address": {
                "type": "object",
                "properties": {"city": {"type": "string"}, "zip": {"type": "string"}},
            },
        },
    },
    "supported_sync_modes": ["full_refresh", "incremental"],
    "source_defined_cursor": True,
    "default_cursor_field": ["updated_at"],
    "source_defined_primary_key": [["id"]],
}
EVENTS: dict[str, Any] = {
    "name": "events",
    "json_schema": {"type": "object", "properties": {"id": {"type": "integer"}, "text": {"type": "string"}}},
    "supported_sync_modes": ["full_refresh"],
}


def plan(offered: list[dict[str, Any]] | None = None, **changes: Any) -> JobPlan:
    """Plan a request against some streams."""
    base: dict[str, Any] = {"name": "n", "source_name": "source-x", "schema_name": "shop", "mode": "append"}
    connector = Connector("source-x", "1.0", offered or [USERS], 1.0)
    keys = keys_named("default", "pii")
    return build_plan(IngestRequest(**(base | changes)), connector, keys)


def codes(error: pytest.ExceptionInfo[InvalidRequest]) -> list[tuple[str, str]]:
    """Pointer and code of each problem."""
    return [(p.pointer, p.code) for p in error.value.problems]


def rule(column: str, kind: str, **members: Any) -> Transformation:
    """One transformation."""
    return Transformation(column=column, transformation_type=kind, **members)


def test_order_is_drop_rename_cast_encrypt_whatever_the_list_says() -> None:
    """Several types on one column combine, in the contract's order."""
    made = plan(
        column_transformations=(
            rule("amount", "encrypt"),
            rule("amount", "cast", target_type="decimal(10,2)"),
            rule("amount", "rename", new_name="total"),
            rule("tags", "drop"),
        )
    )
    [users] = made.streams
    column = next(c for c in users.columns if c.source == "amount")
    assert (column.name, column.cast_to, column.type) == ("total", Decimal(10, 2), BINARY)
    assert column.encrypt is not None
    assert column.encrypt.aad == "shop.users.total"
    assert "tags" not in [c.source for c in users.columns]
    assert users.removed == ("tags",)
    assert users.protect_state


def test_nested_columns_are_reached_with_dots() -> None:
    """Rename and encrypt inside an object; the struct's type follows."""
    made = plan(
        column_transformations=(
            rule("address.city", "rename", new_name="town"),
            rule("address.zip", "encrypt", encryption_key_name="pii"),
        )
    )
    address = next(c for c in made.streams[0].columns if c.source == "address")
    assert isinstance(address.type, Struct)
    assert [(f.name, f.type) for f in address.type.fields] == [("town", STRING), ("zip", BINARY)]
    assert address.children[1].encrypt is not None
    assert address.children[1].encrypt.aad == "shop.users.address.zip"


def test_dropping_all_members_drops_the_object() -> None:
    """A struct without fields does not exist in Iceberg."""
    made = plan(column_transformations=(rule("address.city", "drop"), rule("address.zip", "drop")))
    assert "address" not in [c.name for c in made.streams[0].columns]


def test_encrypted_merge_key_is_deterministic_and_said() -> None:
    """A merge key at random could never match; the plan shows which mode each column gets."""
    made = plan(
        mode="merge",
        merge=("email",),
        column_transformations=(rule("email", "encrypt"), rule("amount", "encrypt")),
    )
    modes = {
        c.source: (c.encrypt.mode, c.encrypt.aad)
        for _, c in all_columns(made.streams[0].columns)
        if c.encrypt
    }
    assert modes == {"email": ("deterministic", "default"), "amount": ("random", "shop.users.amount")}


def protections(made: JobPlan) -> dict[str, Any]:
    """How the columns of the first stream are protected, by their names in the source."""
    return {c.source: c.protection for _, c in all_columns(made.streams[0].columns) if c.protection}


def test_a_mode_may_be_asked_for() -> None:
    """Deterministic anywhere, with the key's name as associated data; random where nothing is compared."""
    made = plan(
        mode="merge",
        merge=("email",),
        column_transformations=(
            rule("email", "encrypt", encryption_mode="deterministic"),
            rule("amount", "encrypt", encryption_mode="deterministic", encryption_key_name="pii"),
            rule("address.zip", "encrypt", encryption_mode="random"),
        ),
    )
    assert protections(made) == {
        "email": EncryptRule(key_name="default", mode="deterministic", aad="default"),
        "amount": EncryptRule(key_name="pii", mode="deterministic", aad="pii"),
        "zip": EncryptRule(key_name="default", mode="random", aad="shop.users.address.zip"),
    }
    assert decode_plan(encode_plan(made)) == made


def test_hash_and_mask_are_planned() -> None:
    """Both become text; their defaults are the deployment's key, four characters and a star."""
    made = plan(
        column_transformations=(
            rule("id", "hash"),
            rule("email", "mask"),
            rule("address.zip", "mask", keep_last=0, mask_char="#"),
            rule("amount", "hash", encryption_key_name="pii"),
            rule("amount", "cast", target_type="decimal(10,2)"),
        )
    )
    assert protections(made) == {
        "id": HashRule(key_name="default"),
        "email": MaskRule(keep_last=4, mask_char="*"),
        "zip": MaskRule(keep_last=0, mask_char="#"),
        "amount": HashRule(key_name="pii"),
    }
    [users] = made.streams
    assert {str(c.type) for c in users.columns if c.protection} == {"string"}
    assert users.protect_state
    assert decode_plan(encode_plan(made)) == made
    shown = {c["column"]: c["transformations"] for c in columns_as_builtins(users.columns)}
    assert shown["id"] == {"hash": {"key_name": "default"}}
    assert shown["address.zip"] == {"mask": {"keep_last": 0, "mask_char": "#"}}
    assert shown["amount"]["cast"]["to"] == "decimal(10,2)"


def test_a_plan_of_before_there_were_hashes_can_be_read() -> None:
    """Stored plans lack the members that came later."""
    text = encode_plan(plan()).replace(',"hash":null,"mask":null', "")
    assert '"hash"' not in text
    assert decode_plan(text) == plan()


@pytest.mark.parametrize("first", ["encrypt", "hash", "mask"])
@pytest.mark.parametrize("second", ["encrypt", "hash", "mask"])
def test_a_column_is_protected_in_one_way(first: str, second: str) -> None:
    """Two of encrypt, hash and mask on one column contradict each other."""
    with pytest.raises(InvalidRequest) as e:
        plan(column_transformations=(rule("email", first), rule("email", second, stream="users")))
    assert codes(e) == [("/column_transformations/1", "conflicting-transformations")]


def test_what_is_compared_must_stay_comparable() -> None:
    """Random encryption and masks of merge keys and of what the table is arranged by, each with a way out."""
    with pytest.raises(InvalidRequest) as e:
        plan(
            mode="merge",
            merge=("id", "address.zip"),
            tables=(TableRequest(stream="users", partition_by=("bucket(4, email)",), sort_by=("amount",)),),
            column_transformations=(
                rule("id", "encrypt", encryption_mode="random"),
                rule("address.zip", "mask"),
                rule("email", "encrypt", encryption_mode="random"),
                rule("amount", "mask"),
            ),
        )
    assert codes(e) == [
        ("/column_transformations/0/encryption_mode", "mode-does-not-fit"),
        ("/column_transformations/1", "mask-does-not-fit"),
        ("/column_transformations/2/encryption_mode", "mode-does-not-fit"),
        ("/column_transformations/3", "mask-does-not-fit"),
    ]
    first, _, third, _ = e.value.problems
    assert '"id" of "users" is a merge key' in first.message
    assert "Ask for deterministic or leave encryption_mode out" in first.guidance
    assert "partitioned or sorted" in third.message


def test_a_hashed_column_may_be_compared() -> None:
    """As merge key, partition and sort key: equal values have equal hashes."""
    made = plan(
        mode="merge",
        merge=("email",),
        tables=(TableRequest(stream="users", partition_by=("bucket(4, id)",), sort_by=("email",)),),
        column_transformations=(rule("email", "hash"), rule("id", "hash"), rule("updated_at", "hash")),
    )
    [users] = made.streams
    assert merge_columns(users).key == (("email",),)
    assert merge_columns(users).cursor is None
    assert any("the one that arrives last wins" in w for w in made.warnings)
    assert [str(term) for term in users.partition_by] == ["bucket(4, id)"]


def test_bytes_have_no_characters_to_mask() -> None:
    """Unless a cast makes text of them."""
    offered = {
        **EVENTS,
        "json_schema": {"properties": {"b": {"type": "string", "contentEncoding": "base64"}}},
    }
    with pytest.raises(InvalidRequest) as e:
        plan([offered], column_transformations=(rule("b", "mask"),))
    assert codes(e) == [("/column_transformations/0", "mask-does-not-fit")]
    made = plan(
        [offered], column_transformations=(rule("b", "mask"), rule("b", "cast", target_type="string"))
    )
    assert protections(made) == {"b": MaskRule()}


@pytest.mark.parametrize("kind", ["encrypt", "hash"])
def test_keys_are_looked_for(kind: str) -> None:
    """A hash needs its key as an encryption does."""
    with pytest.raises(InvalidRequest) as e:
        plan(column_transformations=(rule("email", kind, encryption_key_name="nope"),))
    assert codes(e) == [("/column_transformations/0/encryption_key_name", "unknown-key")]


def test_merge_takes_the_primary_key_when_none_is_given() -> None:
    """Keys and cursor are found again under their table names."""
    made = plan(mode="merge", column_transformations=(rule("id", "rename", new_name="user_id"),))
    assert made.streams[0].merge_key == (("id",),)
    columns = merge_columns(made.streams[0])
    assert (columns.key, columns.cursor) == ((("user_id",),), ("updated_at",))


def test_merge_key_may_be_nested() -> None:
    """Keys are given with dots."""
    made = plan(mode="merge", merge=("address.zip", "id"))
    assert merge_columns(made.streams[0]).key == (("address", "zip"), ("id",))


def test_cursor_that_cannot_be_compared_is_a_warning() -> None:
    """A cursor at random gives no order; the last to arrive wins, and the plan says so."""
    made = plan(mode="merge", column_transformations=(rule("updated_at", "encrypt"),))
    assert merge_columns(made.streams[0]).cursor is None
    assert any("cursor" in w for w in made.warnings)


def test_append_of_a_full_copy_is_a_warning() -> None:
    """The plan says that each run adds everything again."""
    assert "events" in plan([EVENTS]).warnings[0]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"mode": "merge", "merge": ("nope",)}, [("/merge", "unknown-merge-key")]),
        ({"mode": "merge", "merge": ("tags",)}, [("/merge", "unfit-merge-key")]),
        ({"mode": "merge", "merge": ("address",)}, [("/merge", "unfit-merge-key")]),
        (
            {"column_transformations": (rule("nope", "encrypt"),)},
            [("/column_transformations/0/column", "unknown-column")],
        ),
        (
            {"column_transformations": (rule("tags.x", "drop"),)},
            [("/column_transformations/0/column", "unknown-column")],
        ),
        (
            {"column_transformations": (rule("id", "drop", stream="orders"),)},
            [("/column_transformations/0/stream", "unknown-stream")],
        ),
        (
            {"column_transformations": (rule("id", "cast"),)},
            [("/column_transformations/0/target_type", "missing-target-type")],
        ),
        (
            {"column_transformations": (rule("id", "cast", target_type="strin"),)},
            [("/column_transformations/0/target_type", "unknown-target-type")],
        ),
        (
            {"column_transformations": (rule("address", "cast", target_type="int"),)},
            [("/column_transformations/0/target_type", "impossible-cast")],
        ),
        (
            {"column_transformations": (rule("id", "rename"),)},
            [("/column_transformations/0/new_name", "missing-new-name")],
        ),
        (
            {"column_transformations": (rule("id", "encrypt", encryption_key_name="nope"),)},
            [("/column_transformations/0/encryption_key_name", "unknown-key")],
        ),
        (
            {"column_transformations": (rule("id", "drop"), rule("id", "drop"))},
            [("/column_transformations/1", "conflicting-transformations")],
        ),
        (
            {"column_transformations": (rule("address", "encrypt"), rule("address.zip", "drop"))},
            [("/column_transformations/1", "overlapping-transformations")],
        ),
        (
            {"column_transformations": (rule("id", "rename", new_name="Email"),)},
            [("/column_transformations/0/new_name", "column-name-collision")],
        ),
        (
            {"column_transformations": (rule("address.city", "rename", new_name="zip"),)},
            [("/column_transformations/0/new_name", "column-name-collision")],
        ),
        (
            {"column_transformations": (rule("id", "rename", new_name="_airbyte_meta"),)},
            [("/column_transformations/0/new_name", "reserved-column-name")],
        ),
        (
            {"mode": "merge", "column_transformations": (rule("id", "drop"),)},
            [("/column_transformations/0", "merge-key-lost")],
        ),
        (
            {
                "mode": "merge",
                "merge": ("address.zip",),
                "column_transformations": (rule("address", "encrypt"),),
            },
            [("/column_transformations/0", "merge-key-lost")],
        ),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    """Each wrong field is pointed at with a stable code."""
    with pytest.raises(InvalidRequest) as error:
        plan(**changes)
    assert codes(error) == expected


def test_streams_without_primary_key_are_all_named() -> None:
    """One problem names every stream that cannot be merged."""
    with pytest.raises(InvalidRequest) as error:
        plan([USERS, EVENTS, EVENTS | {"name": "logs"}], mode="merge")
    assert codes(error) == [("/merge", "no-primary-key")]
    assert "events, logs" in error.value.problems[0].message


def test_all_problems_at_once() -> None:
    """Not only the first."""
    with pytest.raises(InvalidRequest) as error:
        plan(
            mode="merge",
            merge=("nope",),
            streams=("users", "orders"),
            column_transformations=(rule("zzz", "drop"), rule("id", "cast", target_type="int8")),
        )
    assert {code for _, code in codes(error)} == {
        "unknown-merge-key",
        "unknown-stream",
        "unknown-column",
        "unknown-target-type",
    }


def test_transformation_without_stream_reaches_every_stream_that_has_the_column() -> None:
    """Streams that lack the column are left as they are."""
    made = plan([USERS, EVENTS], column_transformations=(rule("id", "cast", target_type="string"),))
    assert [s.columns[0].type for s in made.streams] == [STRING, STRING]
    made = plan([USERS, EVENTS], column_transformations=(rule("text", "drop"),))
    assert [c.name for c in made.streams[1].columns] == ["id"]
    assert made.streams[0].columns[0].type == LONG


def test_reserved_names_are_free_without_metadata_columns() -> None:
    """With add_ingestion_metadata off there is nothing to collide with."""
    made = plan(
        add_ingestion_metadata=False,
        column_transformations=(rule("id", "rename", new_name="_airbyte_meta"),),
    )
    assert made.streams[0].columns[0].name == "_airbyte_meta"


def test_deletion_mark_cannot_be_dropped_in_merge_mode() -> None:
    """Without it deletes of a CDC source would be lost silently."""
    schema = USERS["json_schema"] | {
        "properties": USERS["json_schema"]["properties"] | {"_ab_cdc_deleted_at": {"type": "string"}}
    }
    stream = USERS | {"json_schema": schema}
    with pytest.raises(InvalidRequest) as error:
        plan([stream], mode="merge", column_transformations=(rule("_ab_cdc_deleted_at", "drop"),))
    assert codes(error) == [("/column_transformations/0", "deletion-mark-lost")]
    assert merge_columns(plan([stream], mode="merge").streams[0]).deleted_at == ("_ab_cdc_deleted_at",)


def test_plan_survives_its_json() -> None:
    """What is stored is what was planned."""
    made = plan(mode="merge", column_transformations=(rule("amount", "encrypt"), rule("address.zip", "drop")))
    assert decode_plan(encode_plan(made)) == made
