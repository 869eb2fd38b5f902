"""What is merged into what, and by whom."""

from __future__ import annotations

from dataclasses import dataclass, replace

from benchmarks.merging.rows import Sums, changed_ids, replaced_ids, sums, table_ids

AIRBERG = ("airberg_position", "airberg_vector", "airberg_copy_on_write")
PYICEBERG, DLT, DLT_MERGED = "pyiceberg_upsert", "dlt_upsert", "dlt_upsert_merged_table"
QUICK_DIVISOR = 250


@dataclass(frozen=True, slots=True)
class Case:
    """A merge of changed rows into a table.

    Attributes:
        name: In the result.
        title: For readers.
        rows: Of the table before the merge.
        replaced: Changed rows whose keys are in the table, spread evenly over all of it.
        new: Changed rows whose keys are not.
        key: Names of the key columns.
        contenders: Who merges; where it would take many minutes, the slow ones are left out.
    """

    name: str
    title: str
    rows: int
    replaced: int
    new: int
    key: tuple[str, ...]
    contenders: tuple[str, ...]

    @property
    def changed(self) -> int:
        """Rows to merge."""
        return self.replaced + self.new

    @property
    def table_ids(self) -> str:
        """SQL: ids of the table's rows."""
        return table_ids(self.rows)

    @property
    def changed_ids(self) -> str:
        """SQL: ids of the rows to merge."""
        return changed_ids(self.rows, self.replaced, self.new)

    @property
    def replaced_ids(self) -> str:
        """SQL: ids of the table's rows that are replaced."""
        return replaced_ids(self.rows, self.replaced)

    def expected(self, before: Sums) -> Sums:
        """What the table holds when version 1 of the changed rows was merged into it."""
        return before - sums(self.replaced_ids, 0) + sums(self.changed_ids, 1)

    def smaller(self) -> Case:
        """The quick form."""
        by = QUICK_DIVISOR
        return replace(
            self,
            rows=self.rows // by,
            replaced=max(1, self.replaced // by),
            new=max(1, self.new // by) if self.new else 0,
        )


def _case(
    name: str, title: str, rows: int, replaced: int, new: int, *key: str, by: tuple[str, ...] = AIRBERG
) -> Case:
    return Case(name, title, rows, replaced, new, key, by)


CASES = (
    _case(
        "25k_200k",
        "25,000 keys, a fifth of them new, into 200,000 rows",
        *(200_000, 20_000, 5_000, "id"),
        by=(*AIRBERG, PYICEBERG, DLT, DLT_MERGED),
    ),
    _case(
        "composite_1k_20k",
        "1,000 composite keys (tenant, number), half of them new, into 20,000 rows",
        *(20_000, 500, 500, "tenant", "number"),
        by=(*AIRBERG, PYICEBERG),
    ),
    _case(
        "1pct_2m",
        "1 % of 2,000,000 rows",
        *(2_000_000, 20_000, 0, "id"),
        by=(*AIRBERG, PYICEBERG),
    ),
    _case("10pct_2m", "10 % of 2,000,000 rows", 2_000_000, 200_000, 0, "id"),
    _case("50pct_2m", "50 % of 2,000,000 rows", 2_000_000, 1_000_000, 0, "id"),
    _case(
        "composite_100k_2m",
        "100,000 composite keys (tenant, number), half of them new, into 2,000,000 rows",
        *(2_000_000, 50_000, 50_000, "tenant", "number"),
    ),
    _case(
        "uuid_100k_2m",
        "100,000 keys that are random text, half of them new, into 2,000,000 rows",
        *(2_000_000, 50_000, 50_000, "uuid"),
        by=(*AIRBERG, PYICEBERG),
    ),
    _case(
        "100k_5m",
        "100,000 keys, half of them new, into 5,000,000 rows",
        *(5_000_000, 50_000, 50_000, "id"),
        by=(*AIRBERG, PYICEBERG),
    ),
    _case(
        "100k_50m",
        "100,000 keys, half of them new, into 50,000,000 rows",
        *(50_000_000, 50_000, 50_000, "id"),
        by=AIRBERG[:1],
    ),
)
