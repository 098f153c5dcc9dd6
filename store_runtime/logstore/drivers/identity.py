"""The store's identity in a SQL database: `_store_meta`, the fence and the dirty marks, in every backend's own terms.

Rules in store_runtime.switch.driver. The fence lock comes first and the meta is read in a second statement: read
before the lock, it could be of the past by the time of the write.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from sqlalchemy import Connection, Row, delete, inspect, select, update

from store_runtime.config.wire import Role
from store_runtime.errors import Fenced, NotFound, OwnedByAnother, SchemaTooNew
from store_runtime.logstore.drivers.dialect import Dialect
from store_runtime.logstore.tables import META_FORMAT, identity, store_mark, store_mark_version, store_meta
from store_runtime.switch.driver import DirtyMark, StoreMeta


class SqlIdentity:
    """Who owns the database, and whether it may be written."""

    def __init__(self, dialect: Dialect, *, store_id: str | None, owner: str | None, epoch: int | None) -> None:
        """With None the respective fact is not checked (for jobs that establish it)."""
        self._dialect = dialect
        self._store_id, self._owner, self._epoch = store_id, owner, epoch

    def create(self) -> None:
        """The tables of the identity; safe to run by several at once."""
        with self._dialect.begin_write() as connection:
            self._dialect.lock_exclusive(connection)
            identity.create_all(connection)

    @staticmethod
    def read(connection: Connection) -> StoreMeta | None:
        if not inspect(connection).has_table(store_meta.name):
            return None
        row = connection.execute(select(store_meta)).one_or_none()
        return None if row is None else _meta(row)

    def change(self, expected: StoreMeta | None, new: StoreMeta) -> bool:
        """Compare-and-set, alone."""
        with self._dialect.begin_write() as connection:
            self._dialect.lock_exclusive(connection)
            if self.read(connection) != expected:
                return False
            connection.execute(delete(store_meta))
            connection.execute(store_meta.insert(), {"only": 1, "format": META_FORMAT, **_columns(new)})
            if not new.capture:
                connection.execute(delete(store_mark))
            return True

    def set_capture(self, on: bool) -> None:
        with self._dialect.begin_write() as connection:
            self._dialect.lock_exclusive(connection)
            connection.execute(update(store_meta).values(capture=on))
            if not on:
                connection.execute(delete(store_mark))

    # -- writing ----------------------------------------------------------------------------------------------------

    @contextmanager
    def writing(self, *, importing: bool = False) -> Iterator[tuple[Connection, StoreMeta]]:
        """A write transaction that passed the fence."""
        with self._dialect.begin_write() as connection:
            self._dialect.lock_shared(connection)
            meta = self.read(connection)
            if meta is None:
                raise NotFound("this database carries no store (yet); provision it first")
            self._require(meta, importing=importing)
            yield connection, meta

    def _require(self, meta: StoreMeta, *, importing: bool) -> None:
        self.require_owner(meta)
        allowed = (Role.ACTIVE, Role.TARGET) if importing else (Role.ACTIVE,)
        if meta.role not in allowed:
            raise Fenced(f"the store is {meta.role} and takes no writes now; try again")
        if self._epoch is not None and meta.epoch != self._epoch:
            raise Fenced(f"the store is at epoch {meta.epoch}, this process was opened for {self._epoch}")

    def require_owner(self, meta: StoreMeta) -> None:
        if self._store_id is not None and meta.store_id != self._store_id:
            raise OwnedByAnother(f"this database belongs to the store {meta.store_id}, not to {self._store_id}")
        if self._owner is not None and meta.owner != self._owner:
            raise OwnedByAnother(f"this database belongs to the resource {meta.owner}, not to {self._owner}")

    # -- marks --------------------------------------------------------------------------------------------------------

    def mark(self, connection: Connection, meta: StoreMeta, keys: Sequence[str]) -> None:
        """Remember keys as dirty, if capture is on. Last in a transaction: the counter is locked until its end."""
        if not meta.capture or not keys:
            return
        last = self._versions(connection, len(keys))
        rows = [{"key": key, "version": last - number} for number, key in enumerate(sorted(set(keys)))]
        statement = self._dialect.insert(store_mark)
        upsert = statement.on_conflict_do_update(index_elements=["key"], set_={"version": statement.excluded.version})
        connection.execute(upsert, rows)

    @staticmethod
    def _versions(connection: Connection, count: int) -> int:
        """Reserve `count` versions and return the last; the counter only ever rises."""
        bumped = update(store_mark_version).values(version=store_mark_version.c.version + count)
        last = connection.execute(bumped.returning(store_mark_version.c.version)).scalar_one_or_none()
        if last is not None:
            return int(last)
        connection.execute(store_mark_version.insert(), {"only": 1, "version": count})
        return count

    @staticmethod
    def marks(connection: Connection, limit: int) -> tuple[DirtyMark, ...]:
        rows = connection.execute(select(store_mark).order_by(store_mark.c.key).limit(limit))
        return tuple(DirtyMark(row.key, row.version) for row in rows)

    def clear(self, mark: DirtyMark) -> bool:
        with self._dialect.begin_write() as connection:
            matches = (store_mark.c.key == mark.key) & (store_mark.c.version == mark.version)
            return bool(connection.execute(delete(store_mark).where(matches)).rowcount == 1)


def _meta(row: Row[tuple[object, ...]]) -> StoreMeta:
    found = row._mapping
    if int(found["format"]) > META_FORMAT:
        raise SchemaTooNew(f"_store_meta has format {found['format']}, this version knows {META_FORMAT}")
    return StoreMeta(
        store_id=found["store_id"],
        owner=found["owner"],
        role=Role(found["role"]),
        epoch=found["epoch"],
        capture=bool(found["capture"]),
        schema_version=found["schema_version"],
        successor=found["successor"],
        migration_id=found["migration_id"],
    )


def _columns(meta: StoreMeta) -> dict[str, object]:
    return {
        "store_id": meta.store_id,
        "owner": meta.owner,
        "role": meta.role.value,
        "epoch": meta.epoch,
        "capture": meta.capture,
        "schema_version": meta.schema_version,
        "successor": meta.successor,
        "migration_id": meta.migration_id,
    }
