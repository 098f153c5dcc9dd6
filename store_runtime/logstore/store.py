"""The LogStore that callers use: validation, limits, batches, metrics and operation log, once for all backends."""

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from types import TracebackType
from typing import Any

import structlog
from prometheus_client import Counter, Histogram
from pydantic import ValidationError

from store_runtime.clock import Clock, now
from store_runtime.config.retention import LogRetention
from store_runtime.config.wire import RetainResult
from store_runtime.errors import Conflict, InvalidInput, NotFound, StoreError, TooLarge
from store_runtime.logstore import cursor as cursors
from store_runtime.logstore import retention as housekeeping
from store_runtime.logstore.driver import LogDriver, Position, Row, Selection, StoredLog, Sums
from store_runtime.logstore.model import (
    BATCH_MAX,
    PAGE_DEFAULT,
    PAGE_MAX,
    BatchResult,
    Filters,
    Order,
    Page,
    Rejected,
    RequestLog,
    RequestLogChange,
    Stats,
    is_utf8,
    microseconds,
)
from store_runtime.logstore.rows import revised, to_log, to_stored
from store_runtime.switch.driver import StoreMeta

INSERT_MAX = 1_000
INSERT_PAYLOAD_CHARS_MAX = 16 * 1024 * 1024
"""Of one transaction: long enough to be fast, short enough for others to get their turn, and to be held twice."""

OPERATION_SECONDS = Histogram(
    "storekeeper_logstore_operation_seconds",
    "Time of one call of a LogStore, failed ones included.",
    ["operation"],
    buckets=(0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 30),
)
ERRORS = Counter("storekeeper_logstore_errors_total", "Calls that failed.", ["operation", "code"])
CREATED = Counter("storekeeper_logstore_request_logs_created_total", "Request logs stored.")
REMOVED = Counter(
    "storekeeper_logstore_removed_total", "What retention removed: rows by age or size, payloads.", ["by"]
)


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
            if not self._insert([to_stored(log, now(self._clock))]):
                raise Conflict(f"there is a request log {log.id!r} already", field="id", code="AlreadyExists")

    def create_if_absent(self, log: RequestLog) -> bool:
        """Store one unless its id is there; says whether it was stored."""
        with self._operation("create_if_absent"):
            return bool(self._insert([to_stored(log, now(self._clock))]))

    def create_many(self, items: Sequence[RequestLog | dict[str, Any]]) -> BatchResult:
        """Store those that are valid and new; of two with one id the first counts. Dicts without an id get one.

        Stored in transactions of INSERT_MAX: after an error some may be, so send the same (with ids) again.
        """
        with self._operation("create_many", count=len(items)):
            if len(items) > BATCH_MAX:
                raise TooLarge(f"a batch has at most {BATCH_MAX} request logs, this one has {len(items)}")
            valid, rejected = self._sorted_out(items)
            distinct = {log.row["id"]: log for log in reversed(valid)}
            created = self._insert(list(distinct.values()))
            return BatchResult(created=created, existing=len(valid) - created, rejected=tuple(rejected))

    def update(self, id_: str, change: RequestLogChange) -> None:
        """Change the given fields; raises NotFound if there is no such id."""
        with self._operation("update", id=id_):
            if not change.model_fields_set:
                raise InvalidInput("the change is empty: give at least one field", field="body")
            if not _is_storable(id_) or not self.driver.update(id_, partial(revised, change=change)):
                raise _not_found(id_)

    def delete(self, ids: Sequence[str]) -> int:
        """Delete by id; how many there were."""
        with self._operation("delete", count=len(ids)):
            _require_page(len(ids), "ids")
            return self.driver.delete([id_ for id_ in ids if _is_storable(id_)])

    # -- read ---------------------------------------------------------------------------------------------------------

    def get(self, id_: str, *, payload: bool = True) -> RequestLog:
        """One by id; raises NotFound."""
        with self._operation("get", id=id_):
            found = self.driver.fetch([id_], payloads=payload).get(id_) if _is_storable(id_) else None
            if found is None:
                raise _not_found(id_)
            return to_log(found)

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
            after = None if cursor is None else cursors.decode(cursor, order)
            found = self.driver.search(_selection(filters), order, after, limit + 1)
            rows = found[:limit]
            resume = cursors.encode(_place(rows[-1]), order) if len(found) > limit else None
            return Page.model_construct(logs=tuple(to_log(StoredLog(row, None)) for row in rows), cursor=resume)

    def stats(self, filters: Filters | None = None) -> Stats:
        """Sums over all that match."""
        with self._operation("stats"):
            return _stats(self.driver.sums(_selection(filters)))

    # -- housekeeping -------------------------------------------------------------------------------------------------

    def retain(
        self, retention: LogRetention, *, dry_run: bool = False, told: Callable[[int], None] = lambda _: None
    ) -> RetainResult:
        """Let go what is too old, then payloads that are, then what is too much; `told` hears how much went so far."""
        with self._operation("retain"):
            limits = housekeeping.limits(retention, now(self._clock))
            if dry_run:
                gone = self.driver.departures(limits)
            else:
                gone = housekeeping.apply(self.driver, limits, told)
                for by, count in (("age", gone.expired), ("payload_age", gone.payloads), ("size", gone.evicted)):
                    REMOVED.labels(by).inc(count)
            return RetainResult(expired=gone.expired, evicted=gone.evicted, payloads=gone.payloads)

    # -- the store itself ---------------------------------------------------------------------------------------------

    @property
    def schema_version(self) -> str:
        return self.meta().schema_version

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

    def _sorted_out(self, items: Sequence[RequestLog | dict[str, Any]]) -> tuple[list[StoredLog], list[Rejected]]:
        valid, rejected = [], []
        stored_at = now(self._clock)
        for index, item in enumerate(items):
            try:
                valid.append(to_stored(item if isinstance(item, RequestLog) else _parsed(item), stored_at))
            except StoreError as error:
                rejected.append(_rejected(index, item, error))
        return valid, rejected

    def _insert(self, logs: Sequence[StoredLog]) -> int:
        total = 0
        for part in _parts(logs):
            created = len(self.driver.insert(part))
            CREATED.inc(created)
            total += created
        return total

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
        refused = isinstance(error, StoreError) and error.status < 500
        told = self._log.debug if refused else self._log.error
        told("store operation failed", operation=self._name, code=code, error=str(error), **self._fields)


def _parts(logs: Sequence[StoredLog]) -> Iterator[list[StoredLog]]:
    part: list[StoredLog] = []
    chars = 0
    for log in logs:
        size = len(log.payload or "")
        if part and (len(part) == INSERT_MAX or chars + size > INSERT_PAYLOAD_CHARS_MAX):
            yield part
            part, chars = [], 0
        part.append(log)
        chars += size
    if part:
        yield part


def _parsed(item: Any) -> RequestLog:
    if not isinstance(item, dict):
        raise InvalidInput("a request log is a JSON object")
    try:
        return RequestLog.model_validate(item)
    except ValidationError as error:
        raise invalid(error) from error


def invalid(error: ValidationError) -> InvalidInput:
    """The first thing that is wrong, by the name of its field."""
    first = error.errors(include_input=False, include_url=False)[0]
    field = ".".join(str(part) for part in first["loc"]).encode(errors="backslashreplace").decode()
    return InvalidInput(f"{field}: {first['msg']}", field=field)


def _rejected(index: int, item: Any, error: StoreError) -> Rejected:
    id_ = item.get("id") if isinstance(item, dict) else getattr(item, "id", None)
    return Rejected(
        index=index, id=id_ if isinstance(id_, str) else None, code=error.specific_code, message=error.message
    )


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


def _place(row: Row) -> Position:
    return Position(row["timestamp"], row["id"])


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


def _is_storable(id_: str) -> bool:
    """Whether a row may have this id: what no database takes is in none."""
    return "\0" not in id_ and is_utf8(id_)


def _require_page(count: int, field: str) -> None:
    if not 1 <= count <= PAGE_MAX:
        raise InvalidInput(f"{field}: 1 to {PAGE_MAX}, not {count}", field=field)


def _not_found(id_: str) -> NotFound:
    return NotFound(f"there is no request log {id_!r}", field="id")
