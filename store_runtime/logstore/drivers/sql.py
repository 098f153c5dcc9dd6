"""Request logs in any SQL database: the statements, once, over a Dialect.

Every write goes through the fence (identity.writing) and marks the ids it changed; rows are written in id order, so
that two batches that share ids cannot deadlock.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, case, delete, func, literal, select, tuple_, update

from store_runtime.errors import StoreError
from store_runtime.logstore.driver import NewLog, Position, Row, Selection, Sums
from store_runtime.logstore.drivers.dialect import Dialect
from store_runtime.logstore.drivers.identity import SqlIdentity
from store_runtime.logstore.model import Order, Status, written
from store_runtime.logstore.tables import request_log, request_log_payload
from store_runtime.switch.driver import DirtyMark, ExportItem, ExportPage, FenceClass, StoreMeta

IDS_MAX = 5_000
"""Of one statement: well below the parameters that the databases take (SQLite 32,766; PostgreSQL 65,535)."""

_COLUMNS = [column for column in request_log.c if column.name != "bytes"]
_ORDER = (request_log.c.timestamp, request_log.c.id)


class SqlLogDriver:
    """`store_runtime.logstore.driver.LogDriver` in SQL."""

    fence_class = FenceClass.TRANSACTIONAL

    def __init__(self, dialect: Dialect, identity: SqlIdentity) -> None:
        self._dialect, self._identity = dialect, identity

    # -- writing ----------------------------------------------------------------------------------------------------

    def insert(self, logs: Sequence[NewLog]) -> set[str]:
        ordered = sorted(logs, key=lambda log: str(log.row["id"]))
        rows = [{**log.row, "bytes": _bytes(log.row, log.payload)} for log in ordered]
        with self._writing() as (connection, meta):
            statement = self._dialect.insert(request_log).on_conflict_do_nothing(index_elements=["id"])
            created = set(connection.execute(statement.returning(request_log.c.id), rows).scalars())
            payloads = [_payload_row(log) for log in ordered if log.payload is not None and log.row["id"] in created]
            if payloads:
                connection.execute(request_log_payload.insert(), payloads)
            self._identity.mark(connection, meta, sorted(created))
        return created

    def update(self, id_: str, changes: Row, payload: dict[str, Any] | None) -> bool:
        with self._writing() as (connection, meta):
            current = self._locked(connection, id_)
            if current is None:
                return False
            row = current.row | changes
            text = current.payload if payload is None else _merged(current.payload, payload)
            connection.execute(
                update(request_log).where(request_log.c.id == id_).values(**changes, bytes=_bytes(row, text))
            )
            if payload is not None:
                self._put_payload(connection, NewLog(row, text))
            self._identity.mark(connection, meta, [id_])
        return True

    def delete(self, ids: Sequence[str]) -> int:
        with self._writing() as (connection, meta):
            gone = [id_ for part in _parts(ids) for id_ in self._deleted(connection, part)]
            self._identity.mark(connection, meta, gone)
        return len(gone)

    def drop_payloads(self, before: int, limit: int) -> int:
        table = request_log_payload
        with self._writing() as (connection, meta):
            old = select(table.c.id).where(table.c.timestamp < before).order_by(table.c.timestamp).limit(limit)
            ids = list(connection.execute(old).scalars())
            for part in _parts(ids):
                sizes = select(func.length(table.c.payload)).where(table.c.id == request_log.c.id).scalar_subquery()
                smaller = update(request_log).where(request_log.c.id.in_(part))
                connection.execute(smaller.values(bytes=request_log.c.bytes - func.coalesce(sizes, 0)))
                connection.execute(delete(table).where(table.c.id.in_(part)))
            self._identity.mark(connection, meta, ids)
        return len(ids)

    # -- reading ----------------------------------------------------------------------------------------------------

    def fetch(self, ids: Sequence[str], *, payloads: bool) -> dict[str, NewLog]:
        with self._reading() as connection:
            return self._fetched(connection, ids, payloads=payloads)

    def search(self, selection: Selection, order: Order, after: Position | None, limit: int) -> list[Row]:
        statement = select(*_COLUMNS).where(*_where(selection)).limit(limit)
        newest = order is Order.NEWEST
        if after is not None:
            here, last = tuple_(*_ORDER), tuple_(literal(after.timestamp), literal(after.id))
            statement = statement.where(here < last if newest else here > last)
        statement = statement.order_by(*((column.desc() if newest else column.asc()) for column in _ORDER))
        with self._reading() as connection:
            return [dict(row) for row in connection.execute(statement).mappings()]

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

    def oldest(self, before: int | None, limit: int) -> list[tuple[str, int]]:
        statement = select(request_log.c.id, request_log.c.bytes).order_by(*_ORDER).limit(limit)
        if before is not None:
            statement = statement.where(request_log.c.timestamp < before)
        with self._reading() as connection:
            return [(row.id, row.bytes) for row in connection.execute(statement)]

    def count_before(self, before: int, *, payloads: bool) -> int:
        table = request_log_payload if payloads else request_log
        with self._reading() as connection:
            found = connection.execute(select(func.count()).select_from(table).where(table.c.timestamp < before))
            return int(found.scalar_one())

    def stored_bytes(self) -> int:
        with self._reading() as connection:
            return int(connection.execute(select(func.coalesce(func.sum(request_log.c.bytes), 0))).scalar_one())

    def give_back_space(self) -> None:
        with self._errors():
            self._dialect.give_back_space()

    # -- the switch ---------------------------------------------------------------------------------------------------

    def read_meta(self) -> StoreMeta | None:
        with self._reading() as connection:
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
        statement = select(request_log.c.id).order_by(request_log.c.id).limit(limit)
        if cursor is not None:
            statement = statement.where(request_log.c.id > cursor)
        with self._reading() as connection:
            ids = list(connection.execute(statement).scalars())
            found = self._fetched(connection, ids, payloads=True)
        items = tuple(_exported(id_, found.get(id_)) for id_ in ids)
        return ExportPage(items, ids[-1] if len(ids) == limit else None)

    def read_items(self, keys: Sequence[str]) -> tuple[ExportItem, ...]:
        found = self.fetch(keys, payloads=True)
        return tuple(_exported(key, found.get(key)) for key in keys)

    def import_items(self, items: Sequence[ExportItem]) -> None:
        with self._writing(importing=True) as (connection, meta):
            for part in _parts([item.key for item in items]):
                self._deleted(connection, part)
            logs = [_imported(item.state) for item in items if item.state is not None]
            if logs:
                connection.execute(
                    request_log.insert(), [{**log.row, "bytes": _bytes(log.row, log.payload)} for log in logs]
                )
            payloads = [_payload_row(log) for log in logs if log.payload is not None]
            if payloads:
                connection.execute(request_log_payload.insert(), payloads)
            self._identity.mark(connection, meta, [item.key for item in items])

    # -- the store itself ---------------------------------------------------------------------------------------------

    def schema_version(self) -> str:
        meta = self.read_meta()
        return "" if meta is None else meta.schema_version

    def check(self) -> None:
        with self._reading() as connection:
            meta = self._identity.read(connection)
        if meta is not None:
            self._identity.require_owner(meta)

    def close(self) -> None:
        self._dialect.engine.dispose()

    # -- inside a transaction -----------------------------------------------------------------------------------------

    def _fetched(self, connection: Connection, ids: Sequence[str], *, payloads: bool) -> dict[str, NewLog]:
        texts: dict[str, str] = {}
        rows: dict[str, Row] = {}
        for part in _parts(ids):
            found = connection.execute(select(*_COLUMNS).where(request_log.c.id.in_(part))).mappings()
            rows |= {row["id"]: dict(row) for row in found}
            if payloads:
                table = request_log_payload
                stored = connection.execute(select(table.c.id, table.c.payload).where(table.c.id.in_(part)))
                texts |= {row.id: row.payload for row in stored}
        return {id_: NewLog(row, texts.get(id_)) for id_, row in rows.items()}

    def _locked(self, connection: Connection, id_: str) -> NewLog | None:
        """A row that nobody else changes until the transaction ends."""
        statement = select(request_log.c.id).where(request_log.c.id == id_).with_for_update()
        if connection.execute(statement).one_or_none() is None:
            return None
        return self._fetched(connection, [id_], payloads=True)[id_]

    def _put_payload(self, connection: Connection, log: NewLog) -> None:
        statement = self._dialect.insert(request_log_payload)
        upsert = statement.on_conflict_do_update(index_elements=["id"], set_={"payload": statement.excluded.payload})
        connection.execute(upsert, [_payload_row(log)])

    @staticmethod
    def _deleted(connection: Connection, ids: Sequence[str]) -> list[str]:
        connection.execute(delete(request_log_payload).where(request_log_payload.c.id.in_(ids)))
        gone = delete(request_log).where(request_log.c.id.in_(ids)).returning(request_log.c.id)
        return list(connection.execute(gone).scalars())

    @contextmanager
    def _writing(self, *, importing: bool = False) -> Iterator[tuple[Connection, StoreMeta]]:
        with self._errors(), self._identity.writing(importing=importing) as opened:
            yield opened

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
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


def _parts(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (ids[at : at + IDS_MAX] for at in range(0, len(ids), IDS_MAX))


def _bytes(row: Row, payload: str | None) -> int:
    """What retention by size counts: 8 a number, the characters of texts."""
    fixed = sum(len(value) if isinstance(value, str) else 8 for value in row.values() if value is not None)
    return fixed + (len(payload) if payload else 0)


def _payload_row(log: NewLog) -> Row:
    return {"id": log.row["id"], "timestamp": log.row["timestamp"], "payload": log.payload}


def _merged(text: str | None, parts: dict[str, Any]) -> str:
    return written((json.loads(text) if text else {}) | parts)


def _exported(key: str, log: NewLog | None) -> ExportItem:
    return ExportItem(key, None if log is None else {"row": log.row, "payload": log.payload})


def _imported(state: dict[str, Any]) -> NewLog:
    return NewLog({column.name: state["row"].get(column.name) for column in _COLUMNS}, state["payload"])
