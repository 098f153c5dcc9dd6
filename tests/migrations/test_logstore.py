"""Migrations of request logs: what they amount to, running twice or at once, failing, and versions nobody knows."""

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection

from store_runtime.errors import Conflict, NotFound, SchemaTooNew
from store_runtime.logstore import opening
from store_runtime.logstore.drivers.sql import SqlLogDriver
from store_runtime.logstore.tables import identity, metadata
from store_runtime.migrations import runner
from store_runtime.migrations.runner import VERSION_TABLE, MigrationFailed, Migrations
from tests.backends.conftest import postgres_database as postgres_database
from tests.backends.conftest import postgres_server as postgres_server
from tests.backends.test_log_store_postgres import PostgresHarness
from tests.backends.test_log_store_sqlite import SqliteHarness
from tests.conformance.log_store import Harness, all_ids, new_log

NEWEST = "0001"
FILE_NAME = re.compile(r"(\d{4})_(pre|post)(_[a-z0-9]+)+\.py")


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.server)])
def harness(request: pytest.FixtureRequest, tmp_path: Path) -> Harness:
    """Not provisioned yet."""
    if request.param == "sqlite":
        return SqliteHarness(tmp_path / "logs.db")
    return PostgresHarness(request.getfixturevalue("postgres_database").backend())


@pytest.fixture
def driver(harness: Harness) -> Iterator[SqlLogDriver]:
    """As a job has it."""
    opening.provision(harness.config())
    with opening._job(harness.config()) as opened:
        yield opened


# -- what they are ------------------------------------------------------------------------------------------------


def test_file_names_say_number_phase_and_purpose():
    scripts = opening.MIGRATIONS.scripts()
    files = sorted(path for path in Path(scripts.versions).iterdir() if path.suffix == ".py")
    numbers = [match[1] for path in files if (match := FILE_NAME.fullmatch(path.name))]
    assert numbers == [f"{number:04}" for number in range(1, len(files) + 1)]
    revisions = [script.revision for script in scripts.walk_revisions()][::-1]
    assert revisions == numbers
    assert len(scripts.get_heads()) == 1
    assert opening.MIGRATIONS.newest == revisions[-1] == NEWEST


def test_migrations_amount_to_the_tables(harness, driver):
    """By Alembic's comparison, and by what the database itself says of every column and index."""
    opening.migrate(harness.config())
    with driver._dialect.engine.connect() as connection:
        options = {"compare_type": True, "compare_server_default": True, "include_object": is_data}
        context = MigrationContext.configure(connection, opts=options | {"version_table": VERSION_TABLE})
        assert compare_metadata(context, metadata) == []
        migrated = schema_of(connection)
    driver.close()
    opening.destroy(harness.config())
    opening.provision(harness.config())
    with driver._dialect.begin_write() as connection:
        metadata.create_all(connection)
        assert schema_of(connection) == migrated
    assert {"request_log", "request_log_payload", "request_log_by_time"} <= {line.split()[0] for line in migrated}


def is_data(thing: Any, name: str | None, kind: str, *_: object) -> bool:
    return kind != "table" or name not in {*identity.tables, "_store_mark_version"}


def schema_of(connection: Connection) -> set[str]:
    """Every table, column with its type, collation and nullability, and every index, as the database describes it."""
    if connection.dialect.name == "sqlite":
        rows = connection.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")
        found = {f"{row[0]} {' '.join(row[1].split())}" for row in rows}
    else:
        columns = connection.exec_driver_sql(
            "SELECT table_name, column_name, data_type, character_maximum_length, collation_name, is_nullable, "
            "column_default FROM information_schema.columns WHERE table_schema = 'public'"
        )
        indexes = connection.exec_driver_sql("SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'")
        found = {" ".join(str(value) for value in row) for row in [*columns, *indexes]}
    return {line for line in found if not line.startswith((VERSION_TABLE, f"{VERSION_TABLE}_pkc"))}


# -- running ------------------------------------------------------------------------------------------------------


def test_migrating_again_changes_nothing(harness, driver):
    assert opening.migrate(harness.config()) == NEWEST
    with closing(harness.open()) as store:
        store.create(new_log("a"))
        assert store.schema_version == NEWEST
    with driver._dialect.engine.connect() as connection:
        before = schema_of(connection)
    assert opening.migrate(harness.config()) == NEWEST
    with driver._dialect.engine.connect() as connection:
        assert (schema_of(connection), runner.current(connection)) == (before, NEWEST)
    with closing(harness.open()) as store:
        assert all_ids(store) == ["a"]


def test_what_is_not_provisioned_is_not_migrated(harness):
    with pytest.raises(NotFound, match="provision"):
        opening.migrate(harness.config())


def test_a_migration_killed_before_it_told_the_meta_is_finished_by_the_next(harness, driver):
    with driver.migrating() as connection:
        opening.MIGRATIONS.upgrade(connection)
    assert driver.read_meta().schema_version == ""
    with pytest.raises(NotFound, match="migrate"):
        harness.open()
    assert opening.migrate(harness.config()) == NEWEST
    with closing(harness.open()) as store:
        assert store.meta().schema_version == NEWEST


def test_a_schema_of_a_later_version_is_left_alone(harness, driver):
    opening.migrate(harness.config())
    meta = driver.read_meta()
    assert driver.change_meta(meta, meta.changed(schema_version="9999"))
    with pytest.raises(SchemaTooNew, match=f"9999.*{NEWEST}"):
        harness.open()
    assert driver.change_meta(meta.changed(schema_version="9999"), meta)
    with driver._dialect.begin_write() as connection:
        connection.exec_driver_sql(f"UPDATE {VERSION_TABLE} SET version_num = '9999'")
    with pytest.raises(SchemaTooNew, match="9999"):
        opening.migrate(harness.config())
    with driver._dialect.engine.connect() as connection:
        assert runner.current(connection) == "9999"


# -- failing ------------------------------------------------------------------------------------------------------

GOOD = """
from alembic import op

revision, down_revision = "0001", None


def upgrade():
    op.execute("CREATE TABLE good (id TEXT)")
"""
BAD = """
from alembic import op

revision, down_revision = "0002", "0001"


def upgrade():
    op.execute("CREATE TABLE half (id TEXT)")
    op.execute("INSERT INTO half VALUES ('kept?')")
    op.execute("THIS IS NO STATEMENT")
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Migrations of a test's own, in place of those of request logs."""
    made = tmp_path / "scripts"
    (made / "versions").mkdir(parents=True)
    (made / "versions" / "0001_pre_good.py").write_text(GOOD)
    monkeypatch.setattr(opening, "MIGRATIONS", Migrations(made))
    return made


def test_a_migration_that_fails_leaves_everything_as_it_was(harness, driver, folder):
    opening.migrate(harness.config())
    bad = folder / "versions" / "0002_pre_bad.py"
    bad.write_text(BAD)
    before = state_of(driver)
    for _ in range(2):
        with pytest.raises(MigrationFailed) as error:
            opening.migrate(harness.config())
        assert "migration 0002" in error.value.message
        assert "version 0001" in error.value.message
        assert error.value.code == "MigrationFailed"
    assert state_of(driver) == before
    assert driver.read_meta().schema_version == "0001"
    driver.close()
    assert_nobody_is_connected(harness)
    bad.write_text(BAD.replace('    op.execute("THIS IS NO STATEMENT")\n', ""))
    assert opening.migrate(harness.config()) == "0002"


def test_a_first_migration_that_fails_leaves_no_table(harness, driver, folder):
    (folder / "versions" / "0001_pre_good.py").write_text(BAD.replace('"0002", "0001"', '"0001", None'))
    before = state_of(driver)
    with pytest.raises(MigrationFailed, match="version none"):
        opening.migrate(harness.config())
    assert state_of(driver) == before


def test_a_script_that_cannot_be_read_is_named(harness, driver, folder):
    (folder / "versions" / "0002_pre_bad.py").write_text("this is no Python")
    with pytest.raises(MigrationFailed):
        opening.migrate(harness.config())
    driver.close()
    assert_nobody_is_connected(harness)


def state_of(driver: SqlLogDriver) -> tuple[set[str], str]:
    with driver._dialect.engine.connect() as connection:
        return schema_of(connection), runner.current(connection)


def assert_nobody_is_connected(harness: Harness) -> None:
    """SQLite: the file can be had alone. PostgreSQL: the server lists no session of ours."""
    if isinstance(harness, SqliteHarness):
        engine = sqlalchemy.create_engine(f"sqlite:///{harness.path}", connect_args={"timeout": 0})
        with engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA locking_mode = EXCLUSIVE")
            connection.exec_driver_sql("BEGIN EXCLUSIVE")
        engine.dispose()
        return
    with opening._job(harness.config()) as probe, probe._dialect.engine.connect() as connection:
        others = sqlalchemy.text(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        poll(lambda: connection.execute(others).scalar_one() == 0)


def poll(done: Callable[[], bool]) -> None:
    """A session takes a moment to end after its client has gone."""
    for _ in range(200):
        if done():
            return
        threading.Event().wait(0.05)
    pytest.fail("it did not come to an end")


# -- two at once --------------------------------------------------------------------------------------------------


def test_of_two_migrations_at_once_the_second_fails_at_once_and_names_the_first(harness, driver):
    with driver.migrating() as connection:
        opening.MIGRATIONS.upgrade(connection)
        with pytest.raises(Conflict) as error:
            opening.migrate(harness.config())
        assert error.value.specific_code == "MigrationLocked"
        assert "pid" in error.value.message
    assert opening.migrate(harness.config()) == NEWEST


def test_a_migration_waits_for_no_writer_and_no_reader_for_long(harness, driver):
    """A store that serves goes on while the migration that changes nothing runs."""
    opening.migrate(harness.config())
    with closing(harness.open()) as store:
        for number in range(3):
            store.create(new_log(str(number)))
            opening.migrate(harness.config())
        assert len(all_ids(store)) == 3
