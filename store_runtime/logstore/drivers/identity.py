"""The store's identity in a SQL database: `_store_meta`, the fence and the dirty marks, in every backend's own terms.

Rules in store_runtime.switch.driver. The fence lock comes first and the meta is read in a second statement: read
before the lock, it could be of the past by the time of the write.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from sqlalchemy import Connection, Row, delete, inspect, select, update

from store_runtime.config.runtime import StoreIdentity
from store_runtime.config.wire import Role
from store_runtime.errors import Fenced, NotFound, OwnedByAnother, SchemaTooNew
from store_runtime.logstore.drivers.dialect import Dialect
from store_runtime.logstore.tables import META_FORMAT, identity, store_mark, store_meta
from store_runtime.switch.driver import DirtyMark, StoreMeta


class SqlIdentity:
    """Who owns the database, and whether it may be written."""

    def __init__(self, dialect: Dialect, store: StoreIdentity, *, epoch: int | None) -> None:
        """`epoch` is not checked if it is None (for jobs)."""
        self._dialect = dialect
        self._store, self._epoch = store, epoch
        self._has_home = False

    def create(self) -> None:
        """The tables of the identity; safe to run again, and by several at once."""
        with self._dialect.begin_write() as connection:
            self._dialect.lock_exclusive(connection)
            self._dialect.create_versions(connection)
            identity.create_all(connection)

    def drop(self, connection: Connection) -> None:
        identity.drop_all(connection)
        self._dialect.drop_versions(connection)
        self._has_home = False

    def read(self, connection: Connection) -> StoreMeta | None:
        if not self._has_home:  # looked up once: that the table is there is asked before every write
            self._has_home = inspect(connection).has_table(store_meta.name)
        row = connection.execute(select(store_meta)).one_or_none() if self._has_home else None
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
            if self.read(connection) is None:
                raise _no_store()
            connection.execute(update(store_meta).values(capture=on))
            if not on:
                connection.execute(delete(store_mark))

    # -- writing ------------------------------------------------------------------------------------------------------

    @contextmanager
    def writing(self, *, importing: bool = False) -> Iterator[tuple[Connection, StoreMeta]]:
        """A write transaction that passed the fence."""
        with self._dialect.begin_write() as connection:
            self._dialect.lock_shared(connection)
            meta = self.read(connection)
            if meta is None:
                raise Fenced("this database carries no store (yet) and takes no writes; provision it first")
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
        """Raise OwnedByAnother unless the data carries our id and our owner."""
        if meta.store_id != self._store.id:
            raise OwnedByAnother(f"this database belongs to the store {meta.store_id}, not to {self._store.id}")
        if meta.owner != self._store.owner:
            raise OwnedByAnother(f"this database belongs to the resource {meta.owner}, not to {self._store.owner}")

    # -- marks --------------------------------------------------------------------------------------------------------

    def mark(self, connection: Connection, meta: StoreMeta, keys: Sequence[str]) -> None:
        """Remember keys as dirty, if capture is on; in key order, so that two writers cannot deadlock."""
        if not meta.capture or not keys:
            return
        distinct = sorted(set(keys))
        versions = self._dialect.next_versions(connection, len(distinct))
        rows = [{"key": key, "version": version} for key, version in zip(distinct, versions, strict=True)]
        statement = self._dialect.insert(store_mark)
        upsert = statement.on_conflict_do_update(index_elements=["key"], set_={"version": statement.excluded.version})
        connection.execute(upsert, rows)

    @staticmethod
    def marks(connection: Connection, limit: int) -> tuple[DirtyMark, ...]:
        rows = connection.execute(select(store_mark).order_by(store_mark.c.key).limit(limit))
        return tuple(DirtyMark(row.key, row.version) for row in rows)

    def clear(self, mark: DirtyMark) -> bool:
        with self._dialect.begin_write() as connection:
            matches = (store_mark.c.key == mark.key) & (store_mark.c.version == mark.version)
            return bool(connection.execute(delete(store_mark).where(matches)).rowcount == 1)


def _no_store() -> NotFound:
    return NotFound("this database carries no store yet; provision it first")


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
