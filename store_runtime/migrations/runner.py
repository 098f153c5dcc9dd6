"""Brings a SQL store's schema to the newest version: Alembic, in one transaction, under a lock that fails fast.

A failed migration rolls back and closes its connection; the error names the revision and what to do. Revision ids are
the schema versions that `_store_meta` and a status show. Scripts are run on the connection that the caller hands over,
so Alembic's own env.py, which is there to find one, is not needed.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection

from store_runtime.errors import SchemaTooNew, StoreError

VERSION_TABLE = "_store_schema"
SAID_CHARS_MAX = 300


class MigrationFailed(StoreError):
    """A migration did not go through; the database is as it was before."""

    code = "MigrationFailed"


class Migrations:
    """The migrations of one store: Alembic's scripts in the folder `versions` of a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def scripts(self) -> ScriptDirectory:
        """Read anew each time: it is asked for once a process, and only by some."""
        return ScriptDirectory(str(self._folder))

    @property
    def newest(self) -> str:
        """The schema version that this code works with."""
        return str(self.scripts().get_current_head())

    def require_known(self, version: str) -> None:
        """Raise SchemaTooNew for a version that this code has never heard of; empty is before the first."""
        if not version:
            return
        try:
            self.scripts().get_revision(version)
        except CommandError as error:
            raise SchemaTooNew(
                f"the schema has version {version}, this code knows up to {self.newest}; run a newer version of it"
            ) from error

    def upgrade(self, connection: Connection, told: Callable[[str], None] = lambda _: None) -> str:
        """Run what is missing inside the connection's transaction; returns the version. The caller holds the lock.

        `told` hears each revision before it runs. Raises SchemaTooNew, MigrationFailed.
        """
        before = current(connection)
        running = "(its scripts)"

        def steps(heads: Any, _context: MigrationContext) -> Iterator[Any]:
            nonlocal running
            for step in self.scripts()._upgrade_revs("head", heads):
                running = step.revision.revision
                told(running)
                yield step

        self.require_known(before)
        try:
            context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE, "fn": steps})
            with Operations.context(context):
                context.run_migrations()
        except Exception as error:
            raise MigrationFailed(
                f"migration {running} failed and was rolled back, the schema is still at version {before or 'none'}: "
                f"{_first_line(error)}; correct the cause, it is tried again"
            ) from error
        return current(connection)


def current(connection: Connection) -> str:
    """The schema version of the database; empty before the first migration."""
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    return context.get_current_revision() or ""


def _first_line(error: Exception) -> str:
    said = str(error).strip() or type(error).__name__
    return said.splitlines()[0][:SAID_CHARS_MAX]
