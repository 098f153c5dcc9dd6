"""From a config to a LogStore: the only module that knows which driver a backend's type means.

`provision`, `migrate`, `release` and `destroy` are what jobs call; all of them can be repeated.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog
from sqlalchemy import Connection, inspect, text

from store_runtime.clock import Clock
from store_runtime.config.backends import LogBackendType
from store_runtime.config.runtime import LogStoreConfig
from store_runtime.config.wire import Role
from store_runtime.errors import BackendUnreachable, Conflict, Fenced, NotFound, StoreError
from store_runtime.logstore.drivers.dialect import Dialect
from store_runtime.logstore.drivers.identity import SqlIdentity
from store_runtime.logstore.drivers.sql import SqlLogDriver
from store_runtime.logstore.store import LogStore
from store_runtime.logstore.tables import identity, metadata
from store_runtime.migrations import runner
from store_runtime.switch import ownership
from store_runtime.switch.driver import StoreMeta

SCHEMA = "logstore"
MIGRATION_LOCK = 0x53746F7265000002
"""«Store», 2: held while a migration runs."""
JOB_STATEMENT_SECONDS = 6 * 3600
"""A migration of a large table takes its time."""
SQLITE_SUFFIXES = ("", "-wal", "-shm")

log = structlog.get_logger(__name__)


def open_store(config: LogStoreConfig, clock: Clock) -> LogStore:
    """Open for serving: nothing is created or migrated.

    Raises NotFound, OwnedByAnother, Fenced (a later epoch), SchemaTooNew. A network database that does not answer is no
    error here: every write checks the owner again, and calls say BackendUnreachable until it is back.
    """
    store = LogStore(_driver(config), clock)
    try:
        _verify(store, config)
    except BackendUnreachable as error:
        if config.backend.type is LogBackendType.SQLITE:
            store.close()
            raise
        log.warning("the database does not answer yet; serving begins without it", error=error.message)
    except StoreError:
        store.close()
        raise
    return store


def provision(config: LogStoreConfig) -> StoreMeta:
    """Create the identity's tables (and, for SQLite, the file) and claim the database."""
    if config.backend.sqlite is not None:
        Path(config.backend.sqlite.path).parent.mkdir(parents=True, exist_ok=True)
    with _job(config) as (driver, sql_identity, _):
        if driver.read_meta() is None:
            with driver._errors():
                sql_identity.create()
        return ownership.claim(driver, config.store, epoch=config.epoch, schema_version="")


def migrate(config: LogStoreConfig) -> str:
    """Bring the schema to the newest version; returns it."""
    with _job(config) as (driver, sql_identity, dialect):
        meta = _owned(driver, sql_identity)
        with driver._errors(), dialect.begin_write() as connection:
            _lock(connection)
            version = runner.upgrade(SCHEMA, connection, lambda revision: log.info("migrating", revision=revision))
        if meta.schema_version != version and not driver.change_meta(meta, meta.changed(schema_version=version)):
            raise Conflict("the store's identity changed while it was migrated; run it again")
        return version


def release(config: LogStoreConfig) -> None:
    """Mark the data as free to be adopted; nothing where there is nothing of ours."""
    if _is_absent(config):
        return
    with _job(config) as (driver, _, _dialect):
        ownership.release(driver, config.store)


def destroy(config: LogStoreConfig) -> None:
    """Remove the data, if it carries our id and our owner."""
    if _is_absent(config):
        return
    with _job(config) as (driver, _, dialect):
        meta = driver.read_meta()
        if meta is None or (meta.store_id, meta.owner) != (config.store.id, config.store.owner):
            return
        if config.backend.sqlite is None:
            with driver._errors(), dialect.begin_write() as connection:
                dialect.lock_exclusive(connection)
                _drop(connection)
    if config.backend.sqlite is not None:
        for suffix in SQLITE_SUFFIXES:
            Path(config.backend.sqlite.path + suffix).unlink(missing_ok=True)


def _driver(config: LogStoreConfig) -> SqlLogDriver:
    sql_identity = SqlIdentity(
        dialect := _dialect(config), store_id=config.store.id, owner=config.store.owner, epoch=config.epoch
    )
    return SqlLogDriver(dialect, sql_identity)


@contextmanager
def _job(config: LogStoreConfig) -> Iterator[tuple[SqlLogDriver, SqlIdentity, Dialect]]:
    """A driver for a job; its connections are closed however the job ends."""
    dialect = _dialect(config, statement_seconds=JOB_STATEMENT_SECONDS)
    sql_identity = SqlIdentity(dialect, store_id=config.store.id, owner=config.store.owner, epoch=None)
    driver = SqlLogDriver(dialect, sql_identity)
    try:
        yield driver, sql_identity, dialect
    finally:
        driver.close()


def _dialect(config: LogStoreConfig, **options: int) -> Dialect:
    """Drivers are imported here: each brings its database's client."""
    if config.backend.sqlite is not None:
        from store_runtime.logstore.drivers.sqlite import SqliteDialect

        return SqliteDialect(Path(config.backend.sqlite.path))
    from store_runtime.logstore.drivers.postgres import PostgresDialect

    assert config.backend.postgres is not None, "the config's members were validated"
    name = f"storekeeper {config.store.namespace}/{config.store.name}"
    return PostgresDialect(config.backend.postgres, name=name, **options)


def _is_absent(config: LogStoreConfig) -> bool:
    """Whether there is no SQLite file: to open it would make one."""
    return config.backend.sqlite is not None and not Path(config.backend.sqlite.path).is_file()


def _verify(store: LogStore, config: LogStoreConfig) -> None:
    if _is_absent(config):
        raise NotFound("there is no database file yet; run the provision and migrate jobs")
    driver: SqlLogDriver = store.driver  # type: ignore[assignment]
    driver.check()
    meta = store.meta()
    if meta.role is Role.RELEASED:
        raise Fenced("the store was released; provision it again to take it back")
    if meta.epoch > config.epoch:
        raise Fenced(f"the data is at epoch {meta.epoch}, this config is of epoch {config.epoch}")
    runner.require_known(SCHEMA, meta.schema_version)
    if not meta.schema_version:
        raise NotFound("the schema is not there yet; run the migrate job")


def _owned(driver: SqlLogDriver, sql_identity: SqlIdentity) -> StoreMeta:
    meta = driver.read_meta()
    if meta is None:
        raise NotFound("this database carries no store yet; run the provision job first")
    sql_identity.require_owner(meta)
    return meta


def _lock(connection: Connection) -> None:
    """Fail fast if another migration runs, and say who it is. SQLite's BEGIN IMMEDIATE is that lock already."""
    if connection.dialect.name != "postgresql":
        return
    if connection.execute(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK}).scalar_one():
        return
    holder = connection.execute(
        text(
            "SELECT a.pid, a.application_name, a.client_addr, a.xact_start FROM pg_locks l JOIN pg_stat_activity a "
            "USING (pid) WHERE l.locktype = 'advisory' AND l.granted AND (l.classid::bigint << 32) + l.objid = :key"
        ),
        {"key": MIGRATION_LOCK},
    ).first()
    who = f"pid {holder.pid} ({holder.application_name}, since {holder.xact_start})" if holder else "somebody"
    raise Conflict(f"another migration of this database is running: {who}; it is tried again", code="MigrationLocked")


def _drop(connection: Connection) -> None:
    metadata.drop_all(connection)
    if inspect(connection).has_table(runner.VERSION_TABLE):
        connection.execute(text(f"DROP TABLE {runner.VERSION_TABLE}"))
    identity.drop_all(connection)
