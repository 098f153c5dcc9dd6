"""Brings a SQL store's schema to the newest version: Alembic, in one transaction, under a lock that fails fast.

A failed migration rolls back and closes its connection; the error names the revision and what to do. Revision ids are
the schema versions that `_store_meta` and a status show.
"""

from collections.abc import Callable
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection

from store_runtime.errors import SchemaTooNew, StoreError

VERSION_TABLE = "_store_schema"


class MigrationFailed(StoreError):
    """A migration did not go through; the database is as it was before."""

    code = "MigrationFailed"


def scripts(store: str) -> Config:
    """Alembic's configuration for one store's migrations."""
    config = Config()
    folder = str(Path(__file__).parent / store).replace("%", "%%")
    config.set_main_option("script_location", folder)
    config.set_main_option("path_separator", "os")
    return config


def newest(store: str) -> str:
    """The schema version that this code works with."""
    return str(ScriptDirectory.from_config(scripts(store)).get_current_head())


def current(connection: Connection) -> str:
    """The schema version of the database; empty before the first migration."""
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    return context.get_current_revision() or ""


def require_known(store: str, version: str) -> None:
    """Raise SchemaTooNew for a version that this code has never heard of."""
    if not version:
        return
    try:
        ScriptDirectory.from_config(scripts(store)).get_revision(version)
    except CommandError as error:
        raise SchemaTooNew(
            f"the schema has version {version}, this code knows up to {newest(store)}; run a newer version of it"
        ) from error


def upgrade(store: str, connection: Connection, told: Callable[[str], None] = lambda _: None) -> str:
    """Run what is missing inside the connection's transaction; returns the version. The caller holds the lock."""
    before = current(connection)
    require_known(store, before)
    config = scripts(store)
    config.attributes["connection"] = connection
    running: list[str] = []

    def starting(revision: str) -> None:
        running[:] = [revision]
        told(revision)

    config.attributes["starting"] = starting
    try:
        command.upgrade(config, "head")
    except StoreError:
        raise
    except Exception as error:
        which = running[0] if running else "(none)"
        raise MigrationFailed(
            f"migration {which} failed and was rolled back, the schema is still at version {before or 'none'}: "
            f"{str(error).strip().splitlines()[0][:300]}; correct the cause, it is tried again"
        ) from error
    return current(connection)
