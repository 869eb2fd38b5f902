"""The job store's databases: migrations, races between processes, what is on the disk, outages."""

from __future__ import annotations

import base64
import stat
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import UUID

import psycopg
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from pydantic import SecretStr

from airberg.errors import ConfigurationFailed, Unavailable
from airberg.jobs.engine import Transactions, engine_of
from airberg.jobs.lifecycle import JOBS_PER_SHARD
from airberg.jobs.migrate import MIGRATIONS, pending, upgrade, upgrade_sql
from airberg.jobs.model import RunStatus
from airberg.jobs.open import open_engine, open_store
from airberg.jobs.sql import SqlJobStore
from airberg.jobs.tables import HEAD_REVISION, metadata
from airberg.keys import tables as key_tables
from airberg.keys.seal import Sealer
from airberg.settings import KeySettings, Settings
from support.job_race import ROUNDS, add_a_job, do_everything, migrate, race, take_the_lease
from support.jobs import NOON, a_job, a_run
from support.postgresql import Server

PLANTED = "planted-s3cret-4711"


def differences(url: str) -> list[object]:
    """How the database differs from the tables of the code."""
    engine = engine_of(url)
    try:
        with engine.connect() as c:
            context = MigrationContext.configure(c, opts={"compare_type": True})
            return list(compare_metadata(context, [metadata, key_tables.metadata]))
    finally:
        engine.dispose()


# ---- migrations ------------------------------------------------------------------------------------------


def test_migrations_make_the_tables_of_the_code(database_url: str) -> None:
    """From nothing, all migrations give exactly the tables that the code works with."""
    assert pending(database_url)
    upgrade(database_url)
    assert differences(database_url) == []
    assert not pending(database_url)
    upgrade(database_url)
    assert not pending(database_url)


def test_differences_are_seen(database_url: str) -> None:
    """The comparison above would notice a missing index and a missing column."""
    upgrade(database_url)
    engine = engine_of(database_url)
    with engine.begin() as c:
        c.execute(sa.text("DROP INDEX ix_jobs_page"))
        c.execute(sa.text("ALTER TABLE answers DROP COLUMN status"))
    engine.dispose()
    assert len(differences(database_url)) == 2


def test_the_sql_script_makes_the_same_tables(database_url: str) -> None:
    """The statements for people who run them by hand give the same schema, at the same revision."""
    script = upgrade_sql(database_url)
    engine = engine_of(database_url)
    with engine.begin() as c:
        for statement in script.split(";\n"):
            if statement.strip() and statement.strip() not in ("BEGIN", "COMMIT"):
                c.exec_driver_sql(statement)
    engine.dispose()
    assert differences(database_url) == []
    assert not pending(database_url)


def test_asking_creates_nothing(tmp_path: Path) -> None:
    """`pending` on a database that does not exist leaves it that way."""
    assert pending(f"sqlite:///{tmp_path / 'new' / 'airberg.db'}")
    assert list(tmp_path.iterdir()) == []


def test_the_head_revision_is_noted_in_the_code() -> None:
    """The revision that `open_store` compares with is Alembic's head."""
    assert ScriptDirectory(str(MIGRATIONS)).get_heads() == [HEAD_REVISION]


# ---- races between processes -----------------------------------------------------------------------------


def test_processes_may_migrate_at_once(database_url: str) -> None:
    """Four processes upgrade one empty database: all succeed, the schema is right."""
    assert race(migrate, database_url, "", 4) == ["upgraded"] * 4
    assert differences(database_url) == []


def test_one_process_gets_the_name_and_one_the_lease(database_url: str) -> None:
    """Four processes want one name: one stored, three conflicts. The same for its lease."""
    upgrade(database_url)
    told = race(add_a_job, database_url, "orders", 4)
    assert sorted(told)[1:] == ["name-taken"] * 3
    job_id = str(UUID(min(told).removeprefix("job ")))
    assert sorted(race(take_the_lease, database_url, job_id, 4)) == ["lease-held"] * 3 + ["token 1"]


def test_eight_processes_lose_nothing(database_url: str) -> None:
    """They add jobs, change one, start and end its runs: all of it is there, and in the audit log."""
    upgrade(database_url)
    store = SqlJobStore(engine_of(database_url), Sealer([bytes(32)]))
    shared = store.add_job(a_job("shared"), {"count": 0})
    told = race(do_everything, database_url, str(shared.id), 8)
    names = {f"{process}-{number}" for process in told for number in range(ROUNDS)}
    assert len(names) == 8 * ROUNDS, told
    living = store.jobs()
    assert {job.request.name for job in living} == names | {"shared"}
    assert all(count <= JOBS_PER_SHARD for count in Counter(job.shard for job in living).values())
    found = store.job(shared.id)
    assert sorted(found.request.tags) == sorted({*shared.request.tags, *names})
    assert (found.version, store.source_config(shared.id)) == (1 + len(names), {"count": len(names)})
    ended = store.runs(shared.id, limit=1_000)
    assert {run.flow_run_id for run in ended} == names
    assert {run.status for run in ended} == {RunStatus.COMPLETED}
    acts = Counter(entry.target for entry in store.audit.entries(limit=1_000))
    assert acts == dict.fromkeys(names, 3)
    store.close()


# ---- secrets ---------------------------------------------------------------------------------------------


def test_no_secret_is_on_the_disk_and_the_file_is_private(tmp_path: Path) -> None:
    """A planted value is in no file of the database; all files belong to their owner alone."""
    url = f"sqlite:///{tmp_path / 'airberg.db'}"
    upgrade(url)
    store = SqlJobStore(engine_of(url), Sealer([bytes(32)]))
    job = store.add_job(a_job(), {"token": PLANTED})
    files = list(tmp_path.iterdir())
    assert {f.name for f in files} >= {"airberg.db", "airberg.db-wal"}
    for file in files:
        assert PLANTED.encode() not in file.read_bytes(), file.name
        assert stat.S_IMODE(file.stat().st_mode) & 0o077 == 0, file.name
    assert str(job.id).replace("-", "").encode() in (tmp_path / "airberg.db-wal").read_bytes()
    store.close()


def test_a_sealed_configuration_opens_in_its_own_row_only(database_url: str) -> None:
    """Whoever can write to the database cannot give one job the secrets of another."""
    upgrade(database_url)
    store = SqlJobStore(engine_of(database_url), Sealer([bytes(32)]))
    one, two = store.add_job(a_job("one"), {"a": 1}), store.add_job(a_job("two"), {"a": 2})
    engine = engine_of(database_url)
    jobs = metadata.tables["jobs"]
    with engine.begin() as c:
        sealed = c.execute(sa.select(jobs.c.source_config).where(jobs.c.id == one.id)).scalar_one()
        c.execute(jobs.update().where(jobs.c.id == two.id).values(source_config=sealed))
    engine.dispose()
    with pytest.raises(ConfigurationFailed):
        store.source_config(two.id)
    assert store.source_config(one.id) == {"a": 1}
    store.close()


# ---- opening and outages ---------------------------------------------------------------------------------


def settings_for(tmp_path: Path, url: str | None = None) -> Settings:
    """Settings with a master key and a store."""
    key = SecretStr(base64.b64encode(bytes(32)).decode())
    return Settings(home=tmp_path, store_url=url, keys=KeySettings(master_key=key))


def test_open_store(tmp_path: Path) -> None:
    """The store of a home folder, once it is migrated; WAL and foreign keys are on."""
    settings = settings_for(tmp_path)
    with pytest.raises(ConfigurationFailed) as e:
        open_store(settings)
    assert e.value.code == "schema-out-of-date"
    assert "airberg db upgrade" in e.value.guidance
    assert list(tmp_path.iterdir()) == []
    upgrade(settings.database_url)
    store = open_store(settings)
    assert list(store.jobs()) == []
    store.close()
    engine = open_engine(settings)
    with engine.begin() as c:
        assert c.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert c.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
    engine.dispose()


def test_a_store_of_another_version_is_refused(database_url: str, tmp_path: Path) -> None:
    """An empty database and one of a later version are not worked with."""
    settings = settings_for(tmp_path, database_url)
    with pytest.raises(ConfigurationFailed, match=r"no tables|not there"):
        open_store(settings)
    upgrade(database_url)
    engine = engine_of(database_url)
    with engine.begin() as c:
        c.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(ConfigurationFailed, match="9999"):
        open_store(settings)


def test_a_server_that_does_not_answer_is_unavailable(tmp_path: Path) -> None:
    """Callers may retry, and the password is in no message."""
    url = f"postgresql://airberg:{PLANTED}@127.0.0.1:1/airberg"
    calls = (lambda: open_store(settings_for(tmp_path, url)), lambda: upgrade(url), lambda: pending(url))
    for number, call in enumerate(calls):
        with pytest.raises(Unavailable) as e:
            pytest.fail(f"call {number} returned {call()!r}")
        assert e.value.code == "store-unavailable"
        assert PLANTED not in repr(e.value) + e.value.sentence()
        assert e.value.__suppress_context__


def test_a_locked_database_is_unavailable(tmp_path: Path) -> None:
    """A writer that never finishes leads to `Unavailable`; readers are not disturbed by it."""
    url = f"sqlite:///{tmp_path / 'airberg.db'}?timeout=0.05"
    upgrade(url)
    store = SqlJobStore(engine_of(url), Sealer([bytes(32)]))
    other = engine_of(url)
    with other.begin():
        with pytest.raises(Unavailable, match="SQLITE_BUSY"):
            store.add_job(a_job(), {})
        assert list(store.jobs()) == []
    store.add_job(a_job(), {})
    store.close()
    other.dispose()


def test_writers_of_one_process_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On SQLite a writer whose turn has not come holds no connection, and does not wait for ever."""
    url = f"sqlite:///{tmp_path / 'turns.db'}"
    upgrade(url)
    engine, same = engine_of(url), engine_of(url)
    first, second = Transactions(engine), Transactions(same)

    def write(transactions: Transactions) -> None:
        with transactions.write() as c:
            c.execute(sa.text("UPDATE flows_state SET version = version || 'x'"))

    with ThreadPoolExecutor(1) as other, monkeypatch.context() as patched:
        patched.setattr("airberg.jobs.engine.BUSY_TIMEOUT_S", 0.01)
        with first.write(), pytest.raises(Unavailable) as e:
            other.submit(write, second).result()
        assert e.value.code == "store-unavailable"
        assert same.pool.checkedin() == 0  # type: ignore[attr-defined]
    with pytest.raises(Unavailable), first.write() as c:
        c.execute(sa.text("UPDATE no_table SET version = 'a failure gives the turn back'"))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, [first, second] * 20))
    with second.read() as c:
        assert str(c.execute(sa.text("SELECT version FROM flows_state")).scalar()).endswith("x" * 40)
    engine.dispose()
    same.dispose()


def test_a_restarted_server_costs_no_failure(postgresql_server: Server) -> None:
    """Connections that the server closed while they were idle are replaced unseen."""
    upgrade(postgresql_server.url)
    store = SqlJobStore(engine_of(postgresql_server.url), Sealer([bytes(32)]))
    version = store.flows_version()
    with psycopg.connect(f"{postgresql_server.connect} dbname=postgres", autocommit=True) as c:
        closed = c.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'airberg'"
        ).fetchall()
    assert closed
    assert store.flows_version() == version
    store.close()


@pytest.mark.parametrize(
    "url",
    [
        "nonsense",
        "mysql://u:planted-s3cret-4711@h/d",
        "sqlite://",
        "sqlite:///:memory:",
        "postgresql://h:x/d",
    ],
)
def test_urls_of_no_store_are_refused(url: str) -> None:
    """A wrong setting is told without showing it: it may hold a password."""
    with pytest.raises(ConfigurationFailed) as e:
        engine_of(url)
    assert e.value.code == "bad-store-url"
    assert PLANTED not in e.value.sentence()


def test_a_change_waits_for_the_one_before_it(postgresql_server: Server) -> None:
    """Reading a job to change it locks it: two starts of one flow run at once make one run."""
    upgrade(postgresql_server.url)
    store = SqlJobStore(engine_of(postgresql_server.url), Sealer([bytes(32)]))
    job = store.add_job(a_job("waits"), {})
    rival = a_run(job.id, "r")
    with (
        psycopg.connect(f"{postgresql_server.connect} dbname=airberg") as slow,
        psycopg.connect(f"{postgresql_server.connect} dbname=airberg", autocommit=True) as watch,
        ThreadPoolExecutor(1) as pool,
    ):
        slow.execute("SELECT 1 FROM jobs WHERE id = %s FOR UPDATE", [job.id])
        slow.execute(
            "INSERT INTO runs (id, job_id, flow_run_id, status, attempt, report, created_at)"
            " VALUES (%s, %s, 'r', 'queued', 0, '{}', %s)",
            [rival.id, job.id, rival.created_at],
        )
        starting = pool.submit(store.start_run, job.id, "r", 1, NOON)
        deadline = time.monotonic() + 30
        while not watch.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchall():
            assert time.monotonic() < deadline, "start_run waits for nobody"
            threading.Event().wait(0.02)
        slow.commit()
        assert starting.result(timeout=30).id == rival.id
    store.delete_job(job.id, NOON)
    store.close()
