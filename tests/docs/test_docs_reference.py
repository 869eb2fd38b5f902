"""The reference says what the code does: generated pages, error codes, types, names, changes of schemas."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType
from typing import get_args

import pytest

from airberg.api.problems import problem_response
from airberg.columns.far_dates import MAX_DAYS, MAX_MICROS, FarDate, FarTimestamp
from airberg.columns.json_schema import column_type
from airberg.columns.metadata import METADATA_FIELDS
from airberg.columns.targets import TARGET_TYPES
from airberg.columns.types import (
    Decimal,
    Field,
    PrimitiveName,
    stored_type,
)
from airberg.errors import ConfigurationFailed, Problem, RunError
from airberg.flows.doctor.model import CHECKS
from airberg.lake.schema import PromotedColumn, iceberg_schema, schema_changes
from airberg.lake.steps import Step
from airberg.plan.apart import MAX_NAME_BYTES
from airberg.plan.layout import TRANSFORMS, fitting_transforms
from airberg.plan.model import IngestRequest
from airberg.plan.names import table_name
from airberg.plan.planner import Connector, build_plan
from airberg.plan.transformations import all_columns
from airberg.sources.registry import ConnectorRegistry
from support.cast_examples import cast_outcome, code, parsed_type, shown
from support.error_codes import codes_by_file, codes_of_requests
from support.key_directory import keys_named
from support.pages import ROOT, Page

ERRORS = Page("docs/reference/errors.md")
TYPES = Page("docs/reference/types.md")
TABLES = Page("docs/reference/tables.md")
EXACTLY_ONCE = Page("docs/explanation/exactly-once.md")


def written_by_script() -> dict[Path, str]:
    """What `scripts/write_reference.py` would write."""
    spec = importlib.util.spec_from_file_location("write_reference", ROOT / "scripts" / "write_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module: ModuleType = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: dict[Path, str] = module.pages()
    return found


WRITTEN = ["settings.md", "cli.md", "openapi.json", "api.md"]


@pytest.fixture(scope="module")
def written() -> dict[str, str]:
    """Name → text of the generated pages."""
    return {path.name: text for path, text in written_by_script().items()}


@pytest.mark.parametrize("name", WRITTEN)
def test_generated_pages_are_current(written: dict[str, str], name: str) -> None:
    """`python scripts/write_reference.py` would change nothing."""
    assert (ROOT / "docs" / "reference" / name).read_text() == written[name]
    assert sorted(written) == sorted(WRITTEN)


def test_references_of_the_openapi_document_lead_somewhere(written: dict[str, str]) -> None:
    """Every `$ref` is a component, and every component is used."""
    components = json.loads(written["openapi.json"])["components"]
    used = set(re.findall(r'"\$ref": "#/components/([\w/.-]+)"', written["openapi.json"]))
    del components["securitySchemes"]  # are named, not referred to
    assert used == {f"{kind}/{name}" for kind, found in components.items() for name in found}
    assert written["openapi.json"].count('"$ref"') == written["openapi.json"].count('"#/components/')


# ---- errors ----------------------------------------------------------------------------------------------


def codes_of(heading: str) -> set[str]:
    """The codes in the first column of a table."""
    return {code for row in ERRORS.table(heading) for code in re.findall(r"`([a-z-]+)`", row[0])}


SECTIONS = (
    "Codes of the ingest call",
    "Codes of changes and lists",
    "Codes of answers",
    "Codes of states",
    "Codes of a run",
    "Codes of reading",
    "Codes of the deployment",
)


def test_every_code_is_explained_and_exists() -> None:
    """The codes of the source and those of the page are the same."""
    in_source = set().union(*codes_by_file().values())
    on_page = set().union(*map(codes_of, SECTIONS))
    assert in_source - on_page == set(), "not on the page"
    assert on_page - in_source == set(), "not in the source"


def test_codes_of_the_ingest_call() -> None:
    """All that a body can be told is in the table of the call, and the table has nothing else."""
    elsewhere = {"invalid-key-name"}  # of keys
    elsewhere |= {"not-encrypted", "bad-condition"}  # of `airberg.read_table`
    read = codes_by_file()
    of_connectors = ("sources/spec.py", "sources/spec_problems.py", "sources/preflight.py")
    by_connector = set().union(*(read[name] for name in of_connectors))
    of_keys = {"unknown-key", "key-not-allowed", "key-disabled", "key-destroyed"}  # as the key store says
    of_states = codes_of("Codes of states") - {"unknown-stream"}
    wanted = (codes_of_requests() | by_connector | of_keys) - elsewhere - of_states - {"preflight-timeout"}
    assert codes_of("Codes of the ingest call") | codes_of("Codes of changes and lists") == wanted


def test_the_example_is_what_the_service_answers() -> None:
    """The whole document, member by member."""
    [block] = [b for b in ERRORS.blocks if b.language == "json"]
    shown = json.loads(block.text)
    found = Problem(**shown["errors"][0])
    answer = problem_response(422, "invalid-request", found.message, guidance=found.guidance, errors=[found])
    assert json.loads(bytes(answer.body)) == shown


def test_exit_codes() -> None:
    """Those of the error tree, and 0."""
    kinds = [RunError, *RunError.__subclasses__()]
    assert {int(row[0]) for row in ERRORS.table("How a run ends")} == {0} | {k.exit_code for k in kinds}


def test_steps_of_a_checkpoint() -> None:
    """Those of the code, in their order; the first table of the section is that of the steps."""
    assert [code(row[0]) for row in EXACTLY_ONCE.table("How it is tested")] == [*Step]


# ---- partitions ------------------------------------------------------------------------------------------


def test_what_transforms_fit() -> None:
    """The table of expressions says of every type what the planner says."""
    fits: dict[str, set[str]] = {}
    for expressions, types in Page("docs/reference/ingest.md").table("Expressions of `tables`"):
        for transform in re.findall(r"`(\w+)\(", expressions):
            fits[transform] = set(re.findall(r"`(\w+)`", types))
    assert set(fits) == set(TRANSFORMS)
    del fits["void"], fits["identity"]  # in words
    kinds = [*get_args(PrimitiveName), "decimal", "json"]
    for transform, listed in fits.items():
        wanted = {
            kind
            for kind in kinds
            if transform
            in fitting_transforms(Decimal(9, 2) if kind == "decimal" else parsed_type(kind), partition=True)
        }
        assert listed == wanted, transform


# ---- types -----------------------------------------------------------------------------------------------


def test_types_of_schemas() -> None:
    """Each schema of the page becomes the type that it says."""
    rows = TYPES.table("From JSON schema to a column")
    assert len(rows) > 20
    for schema, column in rows:
        assert str(column_type(json.loads(code(schema)))) == code(column), schema


def test_targets_of_casts() -> None:
    """All names there are, with the type that the table gets."""
    listed = set()
    for names, column in TYPES.table("Targets of casts"):
        for name in re.findall(r"`([^`]+)`", names):
            listed.add(name)
            if "(" not in name:
                stored = column.split(", range")[0]
                assert str(stored_type(TARGET_TYPES[name])) == code(stored)
    assert listed == set(TARGET_TYPES) | {"decimal(p)", "decimal(p,s)"}


def test_dates_of_any_year() -> None:
    """Each value of the page becomes what it says."""
    rows = TYPES.table("Dates BC, and after 9999")
    assert len(rows) > 5
    for value, declared, becomes in rows:
        assert shown(*cast_outcome(parsed_type(declared), None, code(value))) == code(becomes), value


def test_limits_of_dates() -> None:
    """The first and the last year of dates and timestamps."""
    rows = {row[0]: row[1].replace(",", "") for row in TYPES.table("Limits")}
    for kind, low, high in [
        ("`date`", FarDate(-MAX_DAYS), FarDate(MAX_DAYS)),
        ("`timestamp`, `timestamptz`", FarTimestamp(-MAX_MICROS), FarTimestamp(MAX_MICROS)),
    ]:
        first, last = (int(str(n)[: str(n).index("-", 1)]) for n in (low, high))
        assert rows[kind].startswith(f"{1 - first} BC to {last}")


def test_values_that_do_not_fit() -> None:
    """Each is rejected for the reason that the page gives."""
    for value, declared, target, reason in TYPES.table("Values that do not fit"):
        found = cast_outcome(parsed_type(declared), code(target) or None, code(value))
        assert found == (None, code(reason)), value


def test_values_that_fit_in_another_form() -> None:
    """The second table of that section."""
    prose = TYPES.prose.partition("What is read without loss")[2]
    rows = [
        [c.strip() for c in line.split("|")[1:-1]] for line in prose.splitlines() if line.startswith("| `")
    ]
    assert len(rows) > 5
    for value, declared, becomes in rows:
        assert shown(*cast_outcome(parsed_type(declared), None, code(value))) == code(becomes), value


# ---- tables ----------------------------------------------------------------------------------------------


def test_names_of_tables() -> None:
    """Each example."""
    for stream, namespace, table in TABLES.table("Names"):
        assert table_name(code(stream), code(namespace) or None) == code(table)


def test_names_of_columns() -> None:
    """Each example that has a name."""
    number = {"type": "integer"}
    members = {"type": "object", "properties": {"B": number}}
    properties = {"order by": number, "Id": number, "id": number, "a.b": number, "a": members}
    schema = {"properties": properties | {"_airbyte_meta": number, "": number}}
    request = IngestRequest(name="n", source_name="source-x", schema_name="shop", mode="append")
    connector = Connector("source-x", "1", [{"name": "s", "json_schema": schema}], 0.0)
    made = build_plan(request, connector, keys_named("default"))
    named = {c.source: c.name for _, c in all_columns(made.streams[0].columns)}
    checked = set()
    for source, _, column in TABLES.table("Names of columns"):
        if column.startswith(("`_` in", "what fits")):
            continue
        name = "" if source == "the empty name" else code(source.split(" in ")[0])
        assert named[name] == code(column)
        checked.add(name)
    assert checked == set(named) - {"a"}
    assert str(MAX_NAME_BYTES) in TABLES.text


def test_metadata_columns() -> None:
    """Names and types, in their order."""
    listed = [(code(row[0]), code(row[1])) for row in TABLES.table("Metadata columns")]
    assert listed == [(f.name, str(f.type)) for f in METADATA_FIELDS]


def outcome(present: str, wanted: str) -> str:
    """What happens to a column, in the words of the page."""
    schema = iceberg_schema([Field("c", parsed_type(present))] if present else [])
    try:
        changes = schema_changes(schema, [Field("c", parsed_type(wanted))] if wanted else [])
    except ConfigurationFailed:
        return "refused"
    if not changes:
        return "fits as it is" if wanted else "stays, null from then on"
    return "widened" if isinstance(changes[0], PromotedColumn) else "added"


def test_changes_of_schemas() -> None:
    """Each row of the table, against the code that compares."""
    for present, wanted, happens in TABLES.table("Changes of the schema"):
        assert outcome(present, wanted) == happens, f"{present} to {wanted}"


# ---- other claims ----------------------------------------------------------------------------------------


def test_number_of_connectors() -> None:
    """The front page counts them."""
    assert f"{len(ConnectorRegistry().entries())} connectors" in Page("README.md").text


def test_the_doctors_checks_are_listed() -> None:
    """All of them, in their order, with what each means."""
    rows = Page("docs/reference/doctor.md").table("What the doctor looks at")
    assert [(name.strip("`"), meaning) for name, meaning in rows] == list(CHECKS.items())


def test_the_wheel_has_what_airflow_needs(tmp_path: Path) -> None:
    """The package that Airflow gets is in our wheel, with the locks of the environments."""
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    [wheel] = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = ("columns/_records", "columns/_casts", "lake/_keys", "keys/_cipher")
    assert {f"airberg/{name}.abi3.so" for name in modules} <= names
    wanted = {"bundle", "child", "dags", "doctor", "flow_files", "job_ids", "operator", "sender", "upkeep"}
    assert {f"airberg_airflow/{name}.py" for name in wanted} <= names
    assert {"airberg/stack/requirements/airflow.txt", "airberg/stack/requirements/pyairbyte.txt"} <= names
