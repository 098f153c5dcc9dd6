"""Request logs in any SQL database: the statements, once, over a Dialect.

Every write goes through the fence (identity.writing) and marks the ids it changed; rows are written in id order, so
that two batches that share ids cannot deadlock.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Select,
    and_,
    case,
    delete,
    func,
    literal,
    select,
    tuple_,
    update,
)

from store_runtime.errors import StoreError
from store_runtime.logstore.driver import Departures, Limits, Position, Row, Selection, StoredLog, Sums
from store_runtime.logstore.drivers import items
from store_runtime.logstore.drivers.dialect import Dialect
from store_runtime.logstore.drivers.identity import SqlIdentity
from store_runtime.logstore.model import Order, Status
from store_runtime.logstore.tables import (
    PAYLOAD_ROW_BYTES,
    ROW_BYTES,
    metadata,
    request_log,
    request_log_payload,
)
from store_runtime.switch.driver import DirtyMark, ExportItem, ExportPage, FenceClass, StoreMeta

IDS_MAX = 5_000
"""Of one statement: well below the parameters that the databases take (SQLite 32,766; PostgreSQL 65,535)."""
EXPORT_PAGE_BYTES = 8 * 1024 * 1024
"""Bytes of request logs after which a page of an export ends, however many items were asked for."""

_COLUMNS = [column for column in request_log.c if column.name != "bytes"]
_NAMES = [str(column.name) for column in _COLUMNS]
_ORDER = (request_log.c.timestamp, request_log.c.id)
_NEWEST_FIRST = tuple(column.desc() for column in _ORDER)


class SqlLogDriver:
    """`store_runtime.logstore.driver.LogDriver` in SQL."""

    fence_class = FenceClass.TRANSACTIONAL

    def __init__(
        self, dialect: Dialect, identity: SqlIdentity, admit: Callable[[StoreMeta | None], None] = lambda _: None
    ) -> None:
        """`admit` raises what speaks against using this database at all; asked until it once did not raise."""
        self._dialect, self._identity = dialect, identity
        self._admit = admit
        self._admitted = False

    # -- writing ------------------------------------------------------------------------------------------------------

    def insert(self, logs: Sequence[StoredLog]) -> set[str]:
        ordered = sorted(logs, key=lambda log: str(log.row["id"]))
        with self._writing() as (connection, meta):
            created = self._dialect.insert_absent(connection, request_log, [_sized(log) for log in ordered])
            self._insert_payloads(connection, [log for log in ordered if log.row["id"] in created])
            self._identity.mark(connection, meta, sorted(created))
        return created

    def update(self, id_: str, revise: Callable[[StoredLog], StoredLog]) -> bool:
        with self._writing() as (connection, meta):
            if not _locked(connection, [id_]):
                return False
            current = self._fetched(connection, [id_], payloads=True)[id_]
            new = revise(current)
            connection.execute(update(request_log).where(request_log.c.id == id_).values(_sized(new)))
            if new.payload != current.payload:
                connection.execute(delete(request_log_payload).where(request_log_payload.c.id == id_))
                self._insert_payloads(connection, [new])
            self._identity.mark(connection, meta, [id_])
        return True

    def delete(self, ids: Sequence[str]) -> int:
        with self._writing() as (connection, meta):
            return self._delete(connection, meta, ids)

    def remove_oldest(self, last: Position, limit: int) -> int:
        oldest = select(request_log.c.id).where(tuple_(*_ORDER) <= _at(last)).order_by(*_ORDER).limit(limit)
        with self._writing() as (connection, meta):
            return self._delete(connection, meta, list(connection.execute(oldest).scalars()))

    def remove_payloads(self, before: int, limit: int) -> int:
        payload = request_log_payload.c
        oldest = select(payload.id).where(payload.timestamp < before).order_by(payload.timestamp, payload.id)
        size = select(payload.bytes).where(payload.id == request_log.c.id).scalar_subquery()
        with self._writing() as (connection, meta):
            ids = _locked(connection, list(connection.execute(oldest.limit(limit)).scalars()))
            for part in _parts(ids):
                rows = update(request_log).where(request_log.c.id.in_(part))
                connection.execute(rows.values(bytes=request_log.c.bytes - func.coalesce(size, 0)))
                connection.execute(delete(request_log_payload).where(payload.id.in_(part)))
            self._identity.mark(connection, meta, ids)
        return len(ids)

    # -- reading ------------------------------------------------------------------------------------------------------

    def fetch(self, ids: Sequence[str], *, payloads: bool) -> dict[str, StoredLog]:
        with self._reading() as connection:
            return self._fetched(connection, ids, payloads=payloads)

    def search(self, selection: Selection, order: Order, after: Position | None, limit: int) -> list[Row]:
        statement = select(*_COLUMNS).where(*_where(selection)).limit(limit)
        newest = order is Order.NEWEST
        if after is not None:
            here = tuple_(*_ORDER)
            statement = statement.where(here < _at(after) if newest else here > _at(after))
        statement = statement.order_by(*(_NEWEST_FIRST if newest else _ORDER))
        with self._reading() as connection:
            return [_row(values) for values in connection.execute(statement)]

    def sums(self, selection: Selection) -> Sums:
        columns = request_log.c
        statement: Select[Any] = select(
            func.count(),
            *(func.coalesce(func.sum(case((columns.status == status, 1), else_=0)), 0) for status in _COUNTED),
            func.avg(columns.latency_ms),
            *(func.coalesce(func.sum(columns[name]), 0) for name in _SUMMED),
        ).where(*_where(selection))
        with self._reading() as connection:
            requests, successes, errors, latency, *sums = connection.execute(statement).one()
        prompt, completion, total, cost = sums
        latency = None if latency is None else float(latency)
        return Sums(
            requests, int(successes), int(errors), latency, int(prompt), int(completion), int(total), float(cost)
        )

    # -- retention ----------------------------------------------------------------------------------------------------

    def newest_surplus(self, max_bytes: int) -> Position | None:
        running = func.sum(request_log.c.bytes).over(order_by=_NEWEST_FIRST, rows=(None, 0)).label("running")
        rows = select(*_ORDER, running).subquery()
        newest = rows.c.timestamp.desc(), rows.c.id.desc()
        statement = select(rows.c.timestamp, rows.c.id).where(rows.c.running > max_bytes).order_by(*newest).limit(1)
        with self._reading() as connection:
            found = connection.execute(statement).one_or_none()
        return None if found is None else Position(found.timestamp, found.id)

    def departures(self, limits: Limits) -> Departures:
        with self._reading() as connection:
            expired = _count(connection, _before(request_log, limits.expire_before))
            payloads = _count(connection, _payloads_going(limits))
            evicted = _count(connection, _rows_going(limits, limits.max_bytes)) if limits.max_bytes is not None else 0
        return Departures(expired, payloads, evicted)

    def give_back_space(self) -> None:
        with self._errors():
            self._dialect.give_back_space()

    def make_room(self) -> bool:
        with self._errors():
            return self._dialect.make_room()

    # -- the switch ---------------------------------------------------------------------------------------------------

    def read_meta(self) -> StoreMeta | None:
        with self._connected() as connection:
            return self._identity.read(connection)

    def change_meta(self, expected: StoreMeta | None, new: StoreMeta) -> bool:
        with self._errors():
            return self._identity.change(expected, new)

    def set_capture(self, on: bool) -> None:
        with self._errors():
            self._identity.set_capture(on)

    def dirty_marks(self, limit: int) -> tuple[DirtyMark, ...]:
        with self._reading() as connection:
            return self._identity.marks(connection, limit)

    def clear_mark(self, mark: DirtyMark) -> bool:
        with self._errors():
            return self._identity.clear(mark)

    def export(self, cursor: str | None, limit: int) -> ExportPage:
        sizes = select(request_log.c.id, request_log.c.bytes).order_by(request_log.c.id).limit(limit)
        if cursor is not None:
            sizes = sizes.where(request_log.c.id > cursor)
        with self._reading() as connection:
            listed = [(row.id, row.bytes) for row in connection.execute(sizes)]
            ids = _within(listed, EXPORT_PAGE_BYTES)
            found = self._fetched(connection, ids, payloads=True)
        # One that was deleted in between is left out: its mark tells the copier.
        exported = tuple(items.to_item(id_, found[id_]) for id_ in ids if id_ in found)
        complete = len(ids) == len(listed) < limit
        return ExportPage(exported, None if complete else ids[-1])

    def read_items(self, keys: Sequence[str]) -> tuple[ExportItem, ...]:
        found = self.fetch(keys, payloads=True)
        return tuple(items.to_item(key, found.get(key)) for key in keys)

    def import_items(self, imported: Sequence[ExportItem]) -> None:
        logs = {item.key: items.to_log(item) for item in imported}
        keys = sorted(logs)
        rows = [log for key in keys if (log := logs[key]) is not None]
        with self._writing(importing=True) as (connection, meta):
            _delete_rows(connection, _locked(connection, keys))
            if rows:
                self._dialect.insert_many(connection, request_log, [_sized(log) for log in rows])
            self._insert_payloads(connection, rows)
            self._identity.mark(connection, meta, keys)

    # -- the store itself ---------------------------------------------------------------------------------------------

    def check(self) -> None:
        with self._reading() as connection:
            if (meta := self._identity.read(connection)) is not None:
                self._identity.require_owner(meta)

    def create_home(self) -> None:
        """The identity's tables, where they are not there yet."""
        with self._errors():
            self._identity.create()

    @contextmanager
    def migrating(self) -> Iterator[Connection]:
        """The transaction of a migration; see Dialect.begin_migration."""
        with self._errors(), self._dialect.begin_migration() as connection:
            yield connection

    def drop_home(self, *more_tables: str) -> None:
        """Every table of the store, and the identity last; nothing waits or reads on."""
        with self._errors(), self._dialect.begin_write() as connection:
            self._dialect.lock_exclusive(connection)
            metadata.drop_all(connection)
            for table in more_tables:
                connection.exec_driver_sql(f"DROP TABLE IF EXISTS {table}")
            self._identity.drop(connection)

    def close(self) -> None:
        self._dialect.engine.dispose()

    # -- inside a transaction -----------------------------------------------------------------------------------------

    @staticmethod
    def _fetched(connection: Connection, ids: Sequence[str], *, payloads: bool) -> dict[str, StoredLog]:
        texts: dict[str, str] = {}
        rows: dict[str, Row] = {}
        for part in _parts(ids):
            found = connection.execute(select(*_COLUMNS).where(request_log.c.id.in_(part)))
            rows |= {row["id"]: row for row in map(_row, found)}
            if payloads:
                table = request_log_payload
                stored = connection.execute(select(table.c.id, table.c.payload).where(table.c.id.in_(part)))
                texts |= {row.id: row.payload for row in stored}
        return {id_: StoredLog(row, texts.get(id_)) for id_, row in rows.items()}

    def _delete(self, connection: Connection, meta: StoreMeta, ids: Sequence[str]) -> int:
        gone = _locked(connection, ids)
        _delete_rows(connection, gone)
        self._identity.mark(connection, meta, gone)
        return len(gone)

    def _insert_payloads(self, connection: Connection, logs: Sequence[StoredLog]) -> None:
        rows = [_payload_row(log) for log in logs if log.payload is not None]
        if rows:
            self._dialect.insert_many(connection, request_log_payload, rows)

    @contextmanager
    def _writing(self, *, importing: bool = False) -> Iterator[tuple[Connection, StoreMeta]]:
        with self._errors(), self._identity.writing(importing=importing) as (connection, meta):
            self._require_admitted(meta)
            yield connection, meta

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with self._connected() as connection:
            if not self._admitted:
                self._require_admitted(self._identity.read(connection))
            yield connection

    def _require_admitted(self, meta: StoreMeta | None) -> None:
        if not self._admitted:
            self._admit(meta)
            self._admitted = True

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        with self._errors(), self._dialect.engine.connect() as connection:
            yield connection

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except StoreError:
            raise
        except Exception as error:
            raise self._dialect.translated(error) from error


_COUNTED = (Status.SUCCESS.value, Status.ERROR.value)
_SUMMED = ("prompt_tokens", "completion_tokens", "total_tokens", "cost")


def _where(selection: Selection) -> Iterator[ColumnElement[bool]]:
    columns = request_log.c
    if selection.start is not None:
        yield columns.timestamp >= selection.start
    if selection.end is not None:
        yield columns.timestamp < selection.end
    lists = {"id": selection.ids, "provider": selection.providers, "model": selection.models}
    for name, values in (lists | {"status": selection.statuses}).items():
        if values:
            yield columns[name].in_(values)


def _count(connection: Connection, rows: Select[Any]) -> int:
    return int(connection.execute(select(func.count()).select_from(rows.subquery())).scalar_one())


def _before(table: Any, moment: int | None) -> Select[Any]:
    """The ids of rows before a time; none of them without one."""
    return select(table.c.id).where(table.c.timestamp < moment if moment is not None else literal(False))


def _payloads_going(limits: Limits) -> Select[Any]:
    """Payloads that go by themselves, not with their rows."""
    going = _before(request_log_payload, limits.payloads_before)
    if limits.expire_before is not None:
        going = going.where(request_log_payload.c.timestamp >= limits.expire_before)
    return going


def _rows_going(limits: Limits, max_bytes: int) -> Select[Any]:
    """Rows that go by size from what is left after expiry, without the payloads that go."""
    payload = request_log_payload
    size: Any = request_log.c.bytes
    joined: Any = request_log
    if limits.payloads_before is not None:
        goes = and_(payload.c.id == request_log.c.id, payload.c.timestamp < limits.payloads_before)
        joined = request_log.outerjoin(payload, goes)
        size = size - func.coalesce(payload.c.bytes, 0)
    running = func.sum(size).over(order_by=_NEWEST_FIRST, rows=(None, 0)).label("running")
    left = select(request_log.c.id, running).select_from(joined)
    if limits.expire_before is not None:
        left = left.where(request_log.c.timestamp >= limits.expire_before)
    rows = left.subquery()
    return select(rows.c.id).where(rows.c.running > max_bytes)


def _at(position: Position) -> Any:
    return tuple_(literal(position.timestamp, BigInteger), literal(position.id, request_log.c.id.type))


def _row(values: Any) -> Row:
    return dict(zip(_NAMES, values, strict=True))


def _locked(connection: Connection, ids: Sequence[str]) -> list[str]:
    """Those of `ids` that exist, in order; their rows stay as they are until the transaction ends.

    Every write locks rows in this order before it touches their payloads, so no two wait for each other.
    """
    found: list[str] = []
    for part in _parts(sorted(set(ids))):
        rows = select(request_log.c.id).where(request_log.c.id.in_(part)).order_by(request_log.c.id)
        found += connection.execute(rows.with_for_update()).scalars()
    return found


def _delete_rows(connection: Connection, ids: Sequence[str]) -> None:
    for part in _parts(ids):
        for table in (request_log, request_log_payload):
            connection.execute(delete(table).where(table.c.id.in_(part)))


def _parts(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (ids[at : at + IDS_MAX] for at in range(0, len(ids), IDS_MAX))


def _within(listed: Sequence[tuple[str, int]], bytes_max: int) -> list[str]:
    """As many of the first as fit; one does, however large."""
    ids: list[str] = []
    left = bytes_max
    for id_, size in listed:
        left -= size
        if ids and left < 0:
            break
        ids.append(id_)
    return ids


def _sized(log: StoredLog) -> Row:
    values = (len(value.encode()) if isinstance(value, str) else 8 for value in log.row.values() if value is not None)
    return {**log.row, "bytes": ROW_BYTES + sum(values) + _payload_bytes(log.payload)}


def _payload_bytes(payload: str | None) -> int:
    return 0 if payload is None else PAYLOAD_ROW_BYTES + len(payload.encode())


def _payload_row(log: StoredLog) -> Row:
    row = {"id": log.row["id"], "timestamp": log.row["timestamp"]}
    return row | {"bytes": _payload_bytes(log.payload), "payload": log.payload}
