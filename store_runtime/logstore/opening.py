"""From a config to a LogStore: the only module that knows which driver a backend's type means.

`provision`, `migrate`, `release` and `destroy` are what jobs call; all of them can be repeated.
"""

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from store_runtime.clock import Clock
from store_runtime.config.backends import LogBackendType
from store_runtime.config.runtime import LogStoreConfig
from store_runtime.config.wire import Role
from store_runtime.errors import BackendUnreachable, Conflict, Fenced, NotFound, OutOfSpace, OwnedByAnother, StoreError
from store_runtime.logstore.drivers.dialect import Dialect
from store_runtime.logstore.drivers.identity import SqlIdentity
from store_runtime.logstore.drivers.sql import SqlLogDriver
from store_runtime.logstore.store import LogStore
from store_runtime.migrations import runner
from store_runtime.switch import ownership
from store_runtime.switch.driver import StoreMeta

MIGRATIONS = runner.Migrations(Path(runner.__file__).parent / "logstore")
JOB_STATEMENT_SECONDS = 6 * 3600
"""A migration of a large table takes its time."""

log = structlog.get_logger(__name__)


def open_store(config: LogStoreConfig, clock: Clock) -> LogStore:
    """Open for serving: nothing is created or migrated.

    Raises NotFound, OwnedByAnother, Conflict (Released), Fenced (a later epoch), SchemaTooNew. A database on the
    network that does not answer is no error here: it is asked all this when it is back, and until then calls raise
    BackendUnreachable.
    """
    if _is_absent(config):
        raise NotFound("there is no database file yet; run the provision and migrate jobs")
    store = LogStore(_driver(config, config.epoch, admit=partial(_require_servable, config)), clock)
    try:
        store.check_backend()
    except BackendUnreachable as error:
        if config.backend.type is LogBackendType.SQLITE:
            store.close()
            raise
        log.warning("the database does not answer yet; serving begins without it", error=error.message)
    except BaseException:
        store.close()
        raise
    return store


def provision(config: LogStoreConfig) -> StoreMeta:
    """Create the identity's tables (and, for SQLite, the file) and claim the database."""
    _make_directory(config)
    with _job(config) as driver:
        if driver.read_meta() is None:
            driver.create_home()
        return ownership.claim(driver, config.store, epoch=config.epoch, schema_version="")


def migrate(config: LogStoreConfig) -> str:
    """Bring the schema to the newest version; returns it. Raises Conflict (MigrationLocked), MigrationFailed."""
    if _is_absent(config):
        raise NotFound("there is no database file yet; run the provision job first")
    with _job(config) as driver:
        meta = _owned(driver, config)
        with driver.migrating() as connection:
            version = MIGRATIONS.upgrade(connection, lambda revision: log.info("migrating", revision=revision))
        if meta.schema_version != version and not driver.change_meta(meta, meta.changed(schema_version=version)):
            raise Conflict("the store's identity changed while it was migrated; run it again")
        return version


def release(config: LogStoreConfig) -> None:
    """Mark the data as free to be adopted; nothing where there is nothing of ours."""
    if _is_absent(config):
        return
    with _job(config) as driver:
        ownership.release(driver, config.store)


def destroy(config: LogStoreConfig) -> None:
    """Remove the data that carries our id and our owner; nothing where there is none of ours."""
    if _is_absent(config):
        return
    with _job(config) as driver:
        meta = driver.read_meta()
        if meta is not None and (meta.store_id, meta.owner) != (config.store.id, config.store.owner):
            log.warning("the data stays: it belongs to another", store=meta.store_id, owner=meta.owner)
            return
        if meta is not None:
            driver.drop_home(runner.VERSION_TABLE)
    if config.backend.sqlite is not None:
        from store_runtime.logstore.drivers.sqlite import SUFFIXES

        for suffix in reversed(SUFFIXES):  # the database itself last: killed before, there is something to run again on
            Path(config.backend.sqlite.path + suffix).unlink(missing_ok=True)


def _driver(config: LogStoreConfig, epoch: int | None, **options: Any) -> SqlLogDriver:
    dialect = _dialect(config, job=epoch is None)
    return SqlLogDriver(dialect, SqlIdentity(dialect, config.store, epoch=epoch), **options)


@contextmanager
def _job(config: LogStoreConfig) -> Iterator[SqlLogDriver]:
    """A driver for a job; its connections are closed however the job ends."""
    driver = _driver(config, epoch=None)
    try:
        yield driver
    finally:
        driver.close()


def _dialect(config: LogStoreConfig, *, job: bool) -> Dialect:
    """Imported here: each brings its database's client."""
    if config.backend.sqlite is not None:
        from store_runtime.logstore.drivers.sqlite import SqliteDialect

        return SqliteDialect(Path(config.backend.sqlite.path))
    from store_runtime.logstore.drivers.postgres import STATEMENT_SECONDS, PostgresDialect

    assert config.backend.postgres is not None, "the config's members were validated"
    name = f"storekeeper {config.store.namespace}/{config.store.name}"
    seconds = JOB_STATEMENT_SECONDS if job else STATEMENT_SECONDS
    return PostgresDialect(config.backend.postgres, name=name, statement_seconds=seconds)


def _make_directory(config: LogStoreConfig) -> None:
    if config.backend.sqlite is None:
        return
    directory = Path(config.backend.sqlite.path).parent
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        kind: Callable[[str], StoreError] = OutOfSpace if error.errno == errno.ENOSPC else BackendUnreachable
        raise kind(f"cannot make the directory {directory}: {error.strerror}") from error


def _is_absent(config: LogStoreConfig) -> bool:
    """Whether there is no SQLite file: to open it would make one."""
    return config.backend.sqlite is not None and not Path(config.backend.sqlite.path).is_file()


def _require_servable(config: LogStoreConfig, meta: StoreMeta | None) -> None:
    meta = _require_ours(config, meta)
    if meta.role is Role.RELEASED:
        raise Conflict(f"the store {meta.store_id} was released; adopt it with spec.adoptStoreID", code="Released")
    if meta.epoch > config.epoch:
        raise Fenced(f"the data is of epoch {meta.epoch} and this runtime of {config.epoch}: a newer one serves it")
    if not meta.schema_version:
        raise NotFound("the schema is not there yet; run the migrate job")
    MIGRATIONS.require_known(meta.schema_version)


def _owned(driver: SqlLogDriver, config: LogStoreConfig) -> StoreMeta:
    return _require_ours(config, driver.read_meta())


def _require_ours(config: LogStoreConfig, meta: StoreMeta | None) -> StoreMeta:
    if meta is None:
        raise NotFound("this database carries no store yet; run the provision job first")
    if (meta.store_id, meta.owner) != (config.store.id, config.store.owner):
        raise OwnedByAnother(
            f"this database belongs to the store {meta.store_id} of resource {meta.owner}, "
            f"not to {config.store.id} of {config.store.owner}"
        )
    return meta
