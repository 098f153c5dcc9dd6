"""The LogStore that callers use: validation, limits, cursors, metrics and operation log, once for all backends."""

import base64
import json
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any
from uuid import uuid4

import structlog
from prometheus_client import Counter, Histogram
from pydantic import ValidationError

from store_runtime.clock import Clock, now
from store_runtime.config.retention import LogRetention
from store_runtime.config.wire import RetainResult
from store_runtime.errors import Conflict, InvalidInput, NotFound, StoreError, TooLarge
from store_runtime.logstore.driver import LogDriver, NewLog, Position, Row, Selection, Sums
from store_runtime.logstore.model import (
    BATCH_MAX,
    PAGE_DEFAULT,
    PAGE_MAX,
    PAYLOAD_BYTES_MAX,
    BatchResult,
    Filters,
    Order,
    Page,
    Rejected,
    RequestLog,
    RequestLogChange,
    Stats,
    microseconds,
    moment,
    written,
)
from store_runtime.switch.driver import StoreMeta

INSERT_MAX = 1_000
"""Request logs of one transaction: long enough to be fast, short enough for others to get their turn."""
RETAIN_BATCH = 1_000
"""Request logs that retention removes in one transaction."""
CURSOR_VERSION = 1

OPERATION_SECONDS = Histogram(
    "storekeeper_logstore_operation_seconds",
    "Time of one call of a LogStore, failed ones included.",
    ["operation"],
    buckets=(0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 30),
)
ERRORS = Counter("storekeeper_logstore_errors_total", "Calls that failed.", ["operation", "code"])
CREATED = Counter("storekeeper_logstore_request_logs_created_total", "Request logs stored.")
RETAINED = Counter("storekeeper_logstore_request_logs_removed_total", "Removed by retention.", ["by"])


class LogStore:
    """The record of every request that a gateway handled.

    - A write that returned is committed. An id is created once: creating it again changes nothing, so a caller that got
      no answer sends the same again.
    - `search` and `stats` take start_time ≤ timestamp < end_time, to the microsecond. What is created while a caller
      pages neither repeats nor hides rows: a cursor names the last row seen.
    - What cannot be understood is refused (InvalidInput names the field), never ignored.

    Thread-safe. Every error is a StoreError.
    """

    def __init__(self, driver: LogDriver, clock: Clock) -> None:
        self.driver = driver
        self._clock = clock
        self._log = structlog.get_logger(__name__).bind()

    # -- write --------------------------------------------------------------------------------------------------------

    def create(self, log: RequestLog) -> None:
        """Store one; raises Conflict (code AlreadyExists) if its id is there."""
        with self._operation("create"):
            if not self.driver.insert([self._new(log)]):
                raise Conflict(f"there is a request log {log.id!r} already", field="id", code="AlreadyExists")
            CREATED.inc()

    def create_if_absent(self, log: RequestLog) -> bool:
        """Store one unless its id is there; says whether it was stored."""
        with self._operation("create_if_absent"):
            created = bool(self.driver.insert([self._new(log)]))
            CREATED.inc(created)
            return created

    def create_many(self, items: Sequence[RequestLog | dict[str, Any]]) -> BatchResult:
        """Store those that are valid and new; of two with one id the first counts. Dicts without an id get one."""
        with self._operation("create_many", count=len(items)):
            if len(items) > BATCH_MAX:
                raise TooLarge(f"a batch has at most {BATCH_MAX} request logs, this one has {len(items)}")
            valid: dict[str, NewLog] = {}
            rejected, doubles = [], 0
            for index, item in enumerate(items):
                try:
                    log = self._new(item if isinstance(item, RequestLog) else _parsed(item))
                except StoreError as error:
                    rejected.append(_rejected(index, item, error))
                    continue
                doubles += log.row["id"] in valid
                valid.setdefault(log.row["id"], log)
            created = self._inserted(list(valid.values()))
            return BatchResult(created=created, existing=len(valid) - created + doubles, rejected=tuple(rejected))

    def update(self, id_: str, change: RequestLogChange) -> None:
        """Change the given fields; raises NotFound if there is no such id."""
        with self._operation("update", id=id_):
            fields = change.model_dump(exclude_unset=True)
            payload = fields.pop("payload", None)
            if not fields and payload is None:
                raise InvalidInput("the change is empty: give at least one field")
            if not self.driver.update(id_, _columns(fields), payload and json.loads(_payload_text(payload))):
                raise _not_found(id_)

    def delete(self, ids: Sequence[str]) -> int:
        """Delete by id; how many there were."""
        with self._operation("delete", count=len(ids)):
            _require_page(len(ids), "ids")
            return self.driver.delete(ids)

    # -- read ---------------------------------------------------------------------------------------------------------

    def get(self, id_: str, *, payload: bool = True) -> RequestLog:
        """One by id; raises NotFound."""
        with self._operation("get", id=id_):
            found = self.driver.fetch([id_], payloads=payload).get(id_)
            if found is None:
                raise _not_found(id_)
            return _read(found.row, found.payload)

    def search(
        self,
        filters: Filters | None = None,
        *,
        order: Order = Order.NEWEST,
        limit: int = PAGE_DEFAULT,
        cursor: str | None = None,
    ) -> Page:
        """A page without payloads, by (timestamp, id)."""
        with self._operation("search"):
            _require_page(limit, "limit")
            after = None if cursor is None else _position(cursor, order)
            rows = self.driver.search(_selection(filters), order, after, limit)
            last = rows[-1] if len(rows) == limit else None
            return Page(
                logs=tuple(_read(row, None) for row in rows), cursor=None if last is None else _cursor(last, order)
            )

    def stats(self, filters: Filters | None = None) -> Stats:
        """Sums over all that match."""
        with self._operation("stats"):
            return _stats(self.driver.sums(_selection(filters)))

    # -- housekeeping -------------------------------------------------------------------------------------------------

    def retain(
        self, retention: LogRetention, *, dry_run: bool = False, told: Callable[[int], None] = lambda _: None
    ) -> RetainResult:
        """Let go what is too old or too much, in bounded transactions; `told` hears how many went so far.

        `maxSize` counts the bytes of rows and payloads, without indexes and free pages: the same on every backend.
        """
        with self._operation("retain"):
            if dry_run:
                return self._would_go(retention)
            expired = self._expire(retention, told)
            evicted = self._evict(retention.max_size, told) if retention.max_size else 0
            payloads = self._drop_payloads(retention)
            if expired or evicted or payloads:
                self.driver.give_back_space()
            for by, count in (("age", expired), ("size", evicted), ("payload_age", payloads)):
                RETAINED.labels(by).inc(count)
            return RetainResult(expired=expired, evicted=evicted, payloads=payloads)

    def _would_go(self, retention: LogRetention) -> RetainResult:
        expired = payloads = 0
        if retention.max_age:
            expired = self.driver.count_before(self._before(retention.max_age), payloads=False)
        if retention.payload_max_age:
            payloads = self.driver.count_before(self._before(retention.payload_max_age), payloads=True)
        surplus = self.driver.stored_bytes() - retention.max_size if retention.max_size else 0
        evicted = len(self._surplus(surplus, limit=BATCH_MAX)) if surplus > 0 else 0
        return RetainResult(expired=expired, evicted=max(0, evicted - expired), payloads=payloads)

    def _expire(self, retention: LogRetention, told: Callable[[int], None]) -> int:
        if not retention.max_age:
            return 0
        before, total = self._before(retention.max_age), 0
        while ids := [id_ for id_, _ in self.driver.oldest(before, RETAIN_BATCH)]:
            total += self.driver.delete(ids)
            told(total)
        return total

    def _evict(self, max_bytes: int, told: Callable[[int], None]) -> int:
        surplus, total = self.driver.stored_bytes() - max_bytes, 0
        while surplus > 0 and (victims := self._surplus(surplus, limit=RETAIN_BATCH)):
            total += self.driver.delete([id_ for id_, _ in victims])
            surplus -= sum(size for _, size in victims)
            told(total)
        return total

    def _surplus(self, surplus: int, *, limit: int) -> list[tuple[str, int]]:
        """The fewest of the oldest whose bytes add up to the surplus."""
        victims = []
        for id_, size in self.driver.oldest(None, limit):
            if surplus <= 0:
                break
            victims.append((id_, size))
            surplus -= size
        return victims

    def _drop_payloads(self, retention: LogRetention) -> int:
        if not retention.payload_max_age:
            return 0
        before, total = self._before(retention.payload_max_age), 0
        while gone := self.driver.drop_payloads(before, RETAIN_BATCH):
            total += gone
        return total

    def _before(self, age: Any) -> int:
        return microseconds(now(self._clock) - age)

    # -- the store itself ---------------------------------------------------------------------------------------------

    @property
    def schema_version(self) -> str:
        return self.driver.schema_version()

    def meta(self) -> StoreMeta:
        """Who owns the data, its role and epoch."""
        meta = self.driver.read_meta()
        if meta is None:
            raise NotFound("this database carries no store yet; provision it first")
        return meta

    def check_backend(self) -> None:
        """Raise what a call would raise now."""
        self.driver.check()

    def close(self) -> None:
        self.driver.close()

    # -- details ------------------------------------------------------------------------------------------------------

    def _new(self, log: RequestLog) -> NewLog:
        fields = log.model_dump()
        payload = fields.pop("payload")
        fields["created_at"] = log.created_at or now(self._clock)
        if log.total_tokens is None and (log.prompt_tokens is not None or log.completion_tokens is not None):
            fields["total_tokens"] = (log.prompt_tokens or 0) + (log.completion_tokens or 0)
        return NewLog(_columns(fields), None if payload is None else _payload_text(payload))

    def _inserted(self, logs: Sequence[NewLog]) -> int:
        parts = (logs[at : at + INSERT_MAX] for at in range(0, len(logs), INSERT_MAX))
        created = sum(len(self.driver.insert(part)) for part in parts)
        CREATED.inc(created)
        return created

    def _operation(self, name: str, **fields: Any) -> "_OperationLog":
        return _OperationLog(self._log, name, fields)


class _OperationLog:
    """Times a call, counts its error, and logs it; never a payload."""

    def __init__(self, log: Any, name: str, fields: dict[str, Any]) -> None:
        self._log, self._name, self._fields = log, name, fields

    def __enter__(self) -> None:
        self._began = time.perf_counter()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        OPERATION_SECONDS.labels(self._name).observe(time.perf_counter() - self._began)
        if error is None:
            self._log.debug("store operation", operation=self._name, **self._fields)
            return
        code = error.specific_code if isinstance(error, StoreError) else "InternalError"
        ERRORS.labels(self._name, code).inc()
        told = self._log.info if isinstance(error, StoreError) and error.status < 500 else self._log.error
        told("store operation failed", operation=self._name, code=code, error=str(error), **self._fields)


def _parsed(item: Any) -> RequestLog:
    if not isinstance(item, dict):
        raise InvalidInput("a request log is a JSON object")
    try:
        return RequestLog.model_validate({"id": str(uuid4())} | item)
    except ValidationError as error:
        raise invalid(error) from error


def invalid(error: ValidationError) -> InvalidInput:
    """The first thing that is wrong, by the name of its field."""
    first = error.errors(include_input=False)[0]
    field = ".".join(str(part) for part in first["loc"])
    return InvalidInput(f"{field}: {first['msg']}", field=field)


def _rejected(index: int, item: Any, error: StoreError) -> Rejected:
    id_ = item.get("id") if isinstance(item, dict) else getattr(item, "id", None)
    return Rejected(
        index=index, id=id_ if isinstance(id_, str) else None, code=error.specific_code, message=error.message
    )


def _payload_text(payload: dict[str, Any]) -> str:
    try:
        text = written(payload)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"payload cannot be written as JSON: {error}", field="payload") from error
    if len(text.encode()) > PAYLOAD_BYTES_MAX:
        raise TooLarge(f"a payload has at most {PAYLOAD_BYTES_MAX} bytes", field="payload")
    return text


def _columns(fields: dict[str, Any]) -> Row:
    """Fields as columns: times in microseconds, JSON as text."""
    row = dict(fields)
    for name in ("timestamp", "created_at"):
        if row.get(name) is not None:
            row[name] = microseconds(row[name])
    if row.get("metadata") is not None:
        row["metadata"] = written(row["metadata"])
    if row.get("status") is not None:
        row["status"] = row["status"].value
    return row


def _read(row: Row, payload: str | None) -> RequestLog:
    """A row as it was given. Stored data is trusted: it was validated when it came in."""
    fields = dict(row)
    fields["timestamp"], fields["created_at"] = moment(row["timestamp"]), moment(row["created_at"])
    fields["metadata"] = None if row["metadata"] is None else json.loads(row["metadata"])
    fields["payload"] = None if payload is None else json.loads(payload)
    return RequestLog.model_construct(**fields)


def _selection(filters: Filters | None) -> Selection:
    if filters is None:
        return Selection()
    start, end = filters.start_time, filters.end_time
    if start is not None and end is not None and start > end:
        raise InvalidInput("start_time is after end_time", field="start_time")
    return Selection(
        start=None if start is None else microseconds(start),
        end=None if end is None else microseconds(end),
        ids=filters.ids,
        providers=filters.providers,
        models=filters.models,
        statuses=tuple(status.value for status in filters.statuses),
    )


def _cursor(row: Row, order: Order) -> str:
    text = json.dumps([CURSOR_VERSION, order.value, row["timestamp"], row["id"]])
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _position(cursor: str, order: Order) -> Position:
    try:
        version, of, timestamp, id_ = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if version != CURSOR_VERSION or not isinstance(timestamp, int) or not isinstance(id_, str):
            raise ValueError(cursor)
    except (ValueError, TypeError) as error:
        raise InvalidInput("the cursor is not one of this store; start without one", field="cursor") from error
    if of != order.value:
        raise InvalidInput(f"the cursor is of order {of}, not {order.value}; keep the order", field="cursor")
    return Position(timestamp, id_)


def _stats(sums: Sums) -> Stats:
    answered = sums.successes + sums.errors
    return Stats(
        total_requests=sums.requests,
        success_rate=100 * sums.successes / answered if answered else None,
        average_latency_ms=sums.average_latency_ms,
        prompt_tokens=sums.prompt_tokens,
        completion_tokens=sums.completion_tokens,
        total_tokens=sums.total_tokens,
        total_cost=sums.cost,
    )


def _require_page(count: int, field: str) -> None:
    if not 1 <= count <= PAGE_MAX:
        raise InvalidInput(f"{field}: 1 to {PAGE_MAX}, not {count}", field=field)


def _not_found(id_: str) -> NotFound:
    return NotFound(f"there is no request log {id_!r}", field="id")
