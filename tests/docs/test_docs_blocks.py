"""What can be checked of the pages without running anything: links, and blocks of data."""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import duckdb
import pytest
import sqlglot
import yaml

from airberg.api.ingest_body import ColumnTransformation
from airberg.keys.export import ENGINES, ExportedColumn, decrypting_sql
from airberg.settings import Settings, load_settings
from airberg.sources.registry import load_registry
from support.pages import READ_ENCRYPTED, ROOT, Block, Page, blocks, engine_of, pages

LANGUAGES = {"bash", "python", "text", "json", "env", "sql", "toml", "yaml", ""}
"""`bash` and `python` are run, `text` shows what they print, data is parsed; `` is a picture."""
NOT_SETTINGS = {
    "AIRBERG_BENCH_DIR": "benchmarks/recording.py",
    "AIRBERG_BIN": "src/airberg_airflow/operator.py",
    "AIRBERG_CHANGED_TABLES_FILE": "src/airberg/flows/changed_tables.py",
    "AIRBERG_ENV_FILE": "src/airberg/settings.py",
    "AIRBERG_NATIVE": "hatch_build.py",
    "AIRBERG_RECORDING": "benchmarks/recording.py",
    "AIRBERG_TASK_PROCESS": "src/airberg/cli/parent.py",
}
"""Variables that are no settings, and the file that reads each."""
VARIABLE = re.compile(r"\b(AIRBERG_[A-Z_]+[A-Z])\b")


def settings_variables() -> set[str]:
    """The variables of all settings."""
    found = set()
    for name, field in Settings.model_fields.items():
        inner = getattr(field.annotation, "model_fields", None)
        found |= {f"AIRBERG_{name}__{n}".upper() for n in inner} if inner else {f"AIRBERG_{name}".upper()}
    return found


# ---- links -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", pages(), ids=lambda p: p.name)
def test_links_lead_somewhere(page: Page) -> None:
    """Files exist and anchors are headings; no link leaves the repository."""
    for link in page.links:
        parts = urlsplit(link)
        if parts.scheme:
            assert parts.scheme == "https", link
            continue
        target = (page.path.parent / parts.path).resolve() if parts.path else page.path
        assert target.exists(), f"{page.name}: {link}"
        assert target.is_relative_to(ROOT), f"{page.name}: {link}"
        if parts.fragment:
            anchors = Page(target.relative_to(ROOT).as_posix()).anchors
            assert parts.fragment in anchors, f"{page.name}: {link} is none of {sorted(anchors)}"


def test_every_page_can_be_reached() -> None:
    """From the front page, by links."""
    reached, todo = set(), [ROOT / "README.md"]
    while todo:
        path = todo.pop()
        if path in reached or path.suffix != ".md":
            continue
        reached.add(path)
        page = Page(path.relative_to(ROOT).as_posix())
        todo += [(path.parent / urlsplit(x).path).resolve() for x in page.links if not urlsplit(x).scheme]
    assert {p.path for p in pages()} - reached == set()


def test_hosts_are_examples() -> None:
    """Nobody is sent to a host that was made up: addresses in blocks are loopback or example.com."""
    for block in blocks(*LANGUAGES):
        for host in re.findall(r"https?://([\w.-]+)", block.text):
            assert host in ("127.0.0.1", "example.com") or host.endswith(".example.com"), f"{block}: {host}"


# ---- blocks ----------------------------------------------------------------------------------------------


def test_languages() -> None:
    """Every block says what it is, so that none escapes these tests."""
    assert {str(b): b.language for p in pages() for b in p.blocks if b.language not in LANGUAGES} == {}


@pytest.mark.parametrize("block", blocks("env"), ids=str)
def test_settings_parse(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each variable is a setting (or one of the few others), and the values are accepted together."""
    lines = [line for line in block.text.splitlines() if line and not line.startswith("#")]
    variables = dict(line.split("=", 1) for line in lines)
    assert len(variables) == len(lines)
    ours = {name for name in variables if not name.startswith("AIRFLOW__")}
    assert ours <= settings_variables() | NOT_SETTINGS.keys()
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    loaded = load_settings().model_dump(mode="json")
    for name in ours - NOT_SETTINGS.keys():
        value: object = loaded
        for part in name.removeprefix("AIRBERG_").lower().split("__"):
            assert isinstance(value, dict)
            value = value[part]
        assert value is not None, name


def test_variables_in_prose_exist() -> None:
    """A setting that is named anywhere is one."""
    known = settings_variables() | NOT_SETTINGS.keys() | {"AIRBERG_DOES_NOT_END"}
    for page in pages():
        assert set(VARIABLE.findall(page.text)) <= known, page.name
    for variable, reader in NOT_SETTINGS.items():
        assert variable in (ROOT / reader).read_text()


@pytest.mark.parametrize("block", blocks("json"), ids=str)
def test_json(block: Block) -> None:
    """It parses; a single column transformation is one that the API takes."""
    value = json.loads(block.text)
    if "transformation_type" in value:
        ColumnTransformation.model_validate(value)


@pytest.mark.parametrize("block", blocks("toml"), ids=str)
def test_connectors_file(block: Block, tmp_path: Path) -> None:
    """The registry takes it."""
    (tmp_path / "connectors.toml").write_text(block.text)
    registry = load_registry(Settings(home=tmp_path))
    for name, body in tomllib.loads(block.text)["connectors"].items():
        if "manifest" in body:
            (tmp_path / body["manifest"]).write_text("spec: {}")
        assert registry.find(name).category == "own"


def is_manifest(block: Block) -> bool:
    """It is a connector's; tests/integration/sources runs it."""
    return yaml.safe_load(block.text).get("type") == "DeclarativeSource"


def is_lineage(block: Block) -> bool:
    """Whether it is a configuration of OpenLineage's client."""
    return block.page == "docs/how-to/openlineage.md"


def is_scrape(block: Block) -> bool:
    """It is for Prometheus."""
    return "scrape_configs" in yaml.safe_load(block.text)


@pytest.mark.parametrize("block", [b for b in blocks("yaml") if is_scrape(b)], ids=str)
def test_scrapes(block: Block) -> None:
    """Prometheus's default path is ours, and it sends the token as a bearer token."""
    [scrape] = yaml.safe_load(block.text)["scrape_configs"]
    assert scrape.keys() == {"job_name", "authorization", "static_configs"}
    assert scrape["authorization"].keys() == {"credentials_file"}  # of type Bearer, unless it says otherwise


@pytest.mark.parametrize("block", [b for b in blocks("yaml") if is_lineage(b)], ids=str)
def test_configuration_of_openlineage(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client takes it, and has the transports that it names."""
    from airberg.governance.openlineage.client import open_lineage_sink

    text = block.text.replace("/var/log/airberg", str(tmp_path))
    (tmp_path / "openlineage.yml").write_text(text)
    monkeypatch.chdir(tmp_path)
    transport = open_lineage_sink(Settings())._client.transport
    assert transport.kind == yaml.safe_load(text)["transport"]["type"]
    assert {t.name for t in transport.transports} == {"marquez", "archive"}


@pytest.mark.parametrize(
    "block",
    [b for b in blocks("yaml") if not (is_manifest(b) or is_scrape(b) or is_lineage(b))],
    ids=str,
)
def test_datahub_recipe(block: Block) -> None:
    """DataHub's own models take the configuration of source and sink."""
    from datahub.emitter.rest_emitter import DatahubRestEmitter
    from datahub.ingestion.source.file import FileSourceConfig

    recipe = yaml.safe_load(block.text)
    assert (recipe["source"]["type"], recipe["sink"]["type"]) == ("file", "datahub-rest")
    assert (
        FileSourceConfig.model_validate(recipe["source"]["config"]).path == recipe["source"]["config"]["path"]
    )
    assert DatahubRestEmitter(recipe["sink"]["config"]["server"])


@pytest.mark.parametrize("block", blocks("sql"), ids=str)
def test_sql_parses(block: Block) -> None:
    """DuckDB's parser, or one for the engine that the block is for, finds one statement."""
    engine = engine_of(block)
    if engine is None:
        assert len(duckdb.connect().extract_statements(block.text)) == 1
    else:
        [tree] = sqlglot.parse(block.text, read=engine)
        assert isinstance(tree, sqlglot.exp.Select)


# ---- SQL for engines ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FirstVersion:
    """What a query has to know of the only version of a key."""

    version: int = 1
    key_id: int = 5


def test_sql_for_engines_is_what_the_export_prints() -> None:
    """Of every engine whose SQL can be exported, the one block; DuckDB's is in the exported module."""
    email = ExportedColumn(("quickstart", "users"), ("email",), "quickstart.users.email", "string")
    shown = {engine_of(block): block.text for block in Page(READ_ENCRYPTED).blocks if block.language == "sql"}
    assert shown.keys() == set(ENGINES) - {"duckdb"}
    for engine in shown:
        assert engine is not None
        exported = decrypting_sql(engine, email, "default", [FirstVersion()])
        query = [line for line in exported.splitlines() if not line.startswith("--")]
        assert shown[engine].splitlines() == query


def test_engines_that_are_said_to_have_run_are_those_that_do() -> None:
    """In the versions that are locked."""
    locked = "".join((ROOT / "requirements" / name).read_text() for name in ("engines.txt", "spark.txt"))
    versions = [row[1] for row in Page(READ_ENCRYPTED).table("What was run") if row[1]]
    assert [v.split()[0] for v in versions] == ["chdb-core", "duckdb", "tink", "pyspark"]
    for version in versions:
        name, number = version.split()
        assert re.search(rf"^{name}=={re.escape(number)}\b", locked, re.MULTILINE), version
