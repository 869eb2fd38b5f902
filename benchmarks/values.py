"""Single columns of a million values: what a cast, a rename and an encryption take, on one core.

Each case is a stream of one column, without metadata columns. Its RECORD lines are read (`read_s`) and what
was taken is converted to Arrow batches of 10,000 rows (`convert_s`): a transformation is work of the latter,
and of the former where it needs the JSON text of its values.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal as Exact
from typing import Any

import msgspec
import pyarrow as pa

from airberg.columns.arrow import arrow_type
from airberg.columns.batch import BatchBuilder, PendingBatch
from airberg.columns.compiled import available
from airberg.columns.convert import plain_conversion
from airberg.columns.native import NativeBuilder, NativeReader
from airberg.columns.types import (
    BOOLEAN,
    DOUBLE,
    JSON,
    LONG,
    STRING,
    TIMESTAMPTZ,
    ColumnType,
    Decimal,
    Field,
)
from airberg.keys.arrays import decrypt_array
from airberg.keys.cipher import CipherShelf, ColumnCipher, canonical_text
from airberg.keys.memory import MemoryKeyStore
from airberg.plan.model import EncryptRule, StreamPlan, Transformation
from airberg.plan.protection import ProtectionContext
from airberg.plan.transformations import match_rules, plan_columns
from airberg.protocol.messages import Record, decode
from benchmarks.report import medians

BATCH_ROWS = 10_000
FEW = 100
PASSES = 3
STREAM = "bench"


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of values.

    Attributes:
        name: Its name.
        type: The type of the column.
        text: The JSON text of value number n.
        casts: Target types; every value can be cast to each.
    """

    name: str
    type: ColumnType
    text: Callable[[int], bytes]
    casts: tuple[str, ...]


def _mixed(n: int) -> int:
    return n * 2_654_435_761 % 2**32


def _moment(n: int) -> bytes:
    day, micro = n % 28 + 1, _mixed(n) % 1_000_000
    return b'"20%02d-%02d-%02dT%02d:%02d:%02d.%06dZ"' % (
        n % 25,
        n % 12 + 1,
        day,
        n % 24,
        n % 59,
        n % 61 % 60,
        micro,
    )


def _price(n: int) -> bytes:
    return b"%d.%02d" % (_mixed(n) % 100_000, n % 100)


def _object(n: int) -> bytes:
    return b'{"id": %d, "name": "user%d", "tags": ["a", "b"], "price": %b}' % (n, n, _price(n))


KINDS = (
    Kind("string", STRING, lambda n: b'"user%d.%d@example.com"' % (_mixed(n), n), ("binary",)),
    Kind("digits", STRING, lambda n: b'"%d"' % _mixed(n), ("long", "double", "decimal(18,2)")),
    Kind(
        "int64",
        LONG,
        lambda n: b"%d" % (_mixed(n) * 1_009 + n),
        ("string", "json", "double", "decimal(18,2)", "timestamp"),
    ),
    Kind("timestamp", TIMESTAMPTZ, _moment, ("string", "json", "date", "long", "timestamp_ntz")),
    Kind("small", LONG, lambda n: b"%d" % (_mixed(n) % 100), ("int", "short", "byte", "boolean")),
    Kind("small_text", STRING, lambda n: b'"%d"' % (_mixed(n) % 100), ("int", "short", "byte")),
    Kind("price", DOUBLE, _price, ("string", "json", "long", "float", "decimal(18,1)", "timestamp")),
    Kind("amount", Decimal(18, 2), _price, ("string", "decimal(18,1)", "double")),
    Kind("price_text", STRING, lambda n: b'"%b"' % _price(n), ("long", "double", "decimal(18,1)")),
    Kind("moment_text", STRING, _moment, ("timestamp", "timestamp_ntz", "date")),
    Kind("day_text", STRING, lambda n: _moment(n)[:11] + b'"', ("date", "timestamp")),
    Kind("clock_text", STRING, lambda n: b'"' + _moment(n)[12:-2] + b'"', ("time",)),
    Kind("flag", BOOLEAN, lambda n: (b"true", b"false")[n % 2], ("string", "int", "double")),
    Kind("flag_text", STRING, lambda n: (b'"Yes"', b'"no"')[n % 2], ("boolean",)),
    Kind("object", JSON, _object, ("string", "json")),
    Kind("object_text", STRING, lambda n: json.dumps(_object(n).decode()).encode(), ("json",)),
)
ENCRYPTED = ("string", "int64", "timestamp")


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of values with one transformation.

    Attributes:
        name: What is done.
        distinct: How many values there are; None for as many as rows.
    """

    kind: Kind
    name: str
    asked: tuple[Transformation, ...] = ()
    deterministic: bool = False
    distinct: int | None = None


def cases() -> Iterator[Case]:
    """All of them, by kind."""

    def asked(how: str, **more: str) -> tuple[Transformation, ...]:
        return (Transformation(column="value", transformation_type=how, **more),)  # type: ignore[arg-type]

    for kind in KINDS:
        if kind.name in ENCRYPTED:
            yield Case(kind, "untouched")
            yield Case(kind, "rename", asked("rename", new_name="renamed"))
        for target in kind.casts:
            yield Case(kind, f"cast_{target.partition('(')[0]}", asked("cast", target_type=target))
        if kind.name in ENCRYPTED:
            encrypt = asked("encrypt")
            yield Case(kind, "encrypt_random", encrypt)
            yield Case(kind, "encrypt_deterministic", encrypt, deterministic=True)
            yield Case(kind, "encrypt_deterministic_few_values", encrypt, deterministic=True, distinct=FEW)
            yield Case(kind, "hash", asked("hash"))
            yield Case(kind, "mask", asked("mask"))


def stream_plan(case: Case) -> StreamPlan:
    """The plan, as it would be made of a request."""
    fields = (Field("value", case.kind.type),)
    rules = match_rules(case.asked, {STREAM: fields}, {STREAM: STREAM}, "default", lambda _: None, [])
    fixed = frozenset({("value",)}) if case.deterministic else frozenset[tuple[str, ...]]()
    return StreamPlan(
        name=STREAM,
        table=STREAM,
        sync_mode="full_refresh",
        mode="append",
        columns=plan_columns(fields, rules[STREAM], ProtectionContext(f"bench.{STREAM}", fixed)),
        catalog_stream={},
    )


class Values:
    """The values of a case in RECORD lines, and what has to come out of them."""

    def __init__(self, case: Case, rows: int) -> None:
        count = case.distinct or rows
        self.texts = [case.kind.text(n % count) for n in range(rows)]
        line = (
            b'{"type":"RECORD","record":{"stream":"bench","data":{"value":%b},"emitted_at":1767225600000}}\n'
        )
        self.blocks = [
            b"".join(line % text for text in self.texts[first : first + BATCH_ROWS])
            for first in range(0, rows, BATCH_ROWS)
        ]


def convert(
    plan: StreamPlan, values: Values, shelf: CipherShelf
) -> tuple[dict[str, float], list[pa.Array], int]:
    """CPU seconds of reading and of converting, the arrays, and how many values became null."""
    options: dict[str, Any] = {"add_metadata": False, "sync_id": 1, "generation_id": 1}
    feed, builder = _reader(plan, options | {"cipher_for": shelf.cipher_for})
    read = converting = 0.0
    made: list[pa.Array] = []
    for block in values.blocks:
        begun = time.process_time()
        pending = feed(block)
        taken = time.process_time()
        made.append(pending.batch().column(0))
        converting += time.process_time() - taken
        read += taken - begun
    return {"read_s": read, "convert_s": converting}, made, builder.values_nulled


def _reader(
    plan: StreamPlan, options: dict[str, Any]
) -> tuple[Callable[[bytes], PendingBatch], NativeBuilder | BatchBuilder]:
    if available():
        builder = NativeBuilder(plan, **options)
        reader = NativeReader({plan.state_key: builder})

        def feed(block: bytes) -> PendingBatch:
            assert reader.feed(block, 0).position == len(block)
            return builder.take()

        return feed, builder
    plain = BatchBuilder(plan, **options)

    def feed_lines(block: bytes) -> PendingBatch:
        for number, line in enumerate(block.splitlines(), 1):
            record = decode(line, number)
            assert isinstance(record, Record)
            plain.add(record.data, record.emitted_at)
        return plain.take()

    return feed_lines, plain


def measure(case: Case, rows: int, passes: int) -> dict[str, Any]:
    """The figures of a case; `equal` says whether every value came out as it must."""
    plan, values = stream_plan(case), Values(case, rows)
    keys = MemoryKeyStore()
    keys.create("default")
    runs: list[dict[str, Any]] = []
    equal = True
    rule = plan.columns[0].encrypt
    for number in range(passes):
        seconds, made, nulled = convert(plan, values, CipherShelf(keys))
        if number == 0 and rule is None:
            equal = nulled == 0 and sum(len(array) - array.null_count for array in made) == rows
            if plan.columns[0].cast_to is not None:
                cast_seconds, single = _cast_by_value(plan, values.texts[:BATCH_ROWS])
                equal = equal and single.equals(made[0])
        elif number == 0 and rule is not None:
            texts = _texts(plan, values)
            equal = nulled == 0 and _decrypted(rule, made, keys) == texts
            seconds_each = _one_by_one(CipherShelf(keys).cipher_for(rule), texts)
        runs.append({name: taken * 1e9 / rows for name, taken in seconds.items()})
    median = medians(runs)
    shown = {
        "rows": rows,
        "values_per_s": round(1e9 / (median["read_s"] + median["convert_s"])),
        "read_ns": median["read_s"],
        "convert_ns": median["convert_s"],
        "equal": equal,
    }
    if rule is not None:
        shown["one_by_one_ns"] = round(seconds_each * 1e9 / rows, 3)
    if plan.columns[0].cast_to is not None:
        by_value_ns = cast_seconds * 1e9 / min(rows, BATCH_ROWS)
        shown["by_value_ns"] = round(by_value_ns, 3)
        shown["by_value_values_per_s"] = round(1e9 / (median["read_s"] + by_value_ns))
    return shown


def _cast_by_value(plan: StreamPlan, texts: list[bytes]) -> tuple[float, pa.Array]:
    """CPU seconds of casting each value by itself, the way without the compiled casts, and the array."""
    (column,) = plan.columns
    convert_value = plain_conversion(column)
    begun = time.process_time()
    values = msgspec.json.Decoder(list[Any], float_hook=Exact).decode(b"[" + b",".join(texts) + b"]")
    made = pa.array([convert_value(value) for value in values], arrow_type(column.type))
    return time.process_time() - begun, made


def _texts(plan: StreamPlan, values: Values) -> list[bytes]:
    """The plaintexts that an encrypted column must have."""
    kind = Kind("", plan.columns[0].source_type, values.texts.__getitem__, ())
    _, plain, _ = convert(stream_plan(Case(kind, "")), values, CipherShelf(MemoryKeyStore()))
    return [canonical_text(value) for array in plain for value in array.to_pylist()]


def _decrypted(rule: EncryptRule, made: list[pa.Array], keys: MemoryKeyStore) -> list[bytes]:
    versions = keys.versions(rule.key_name)
    opened = (decrypt_array(versions, array, rule.aad.encode()) for array in made)
    return [value for array in opened for value in array.to_pylist()]


def _one_by_one(cipher: ColumnCipher, texts: list[bytes]) -> float:
    """CPU seconds of `cryptography`, called for each value: what is done without the compiled cipher."""
    encrypt = cipher.encrypt_value
    begun = time.process_time()
    for text in texts:
        encrypt(text)
    return time.process_time() - begun
