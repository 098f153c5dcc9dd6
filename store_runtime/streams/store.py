"""The Streams that callers use: validation, defaults, limits, metrics and operation log, once for all backends."""

import time
from collections.abc import Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from types import TracebackType
from typing import Any

import structlog
from prometheus_client import Counter, Histogram

from store_runtime.clock import Clock
from store_runtime.config.wire import DeclaredStream, RetainResult, StreamOutcome, StreamSync, StreamSyncResult
from store_runtime.errors import BackendUnreachable, Conflict, InvalidInput, NotFound, StoreError
from store_runtime.streams.bodies import BodyKind, ndjson
from store_runtime.streams.cursor import pack_cursor, parse_cursor
from store_runtime.streams.driver import StreamDriver
from store_runtime.streams.guard import Checked, Guard, require_all
from store_runtime.streams.model import (
    CONDITION_VALUES_MAX,
    CONDITIONS_MAX,
    DISTINCT_VALUES_MAX,
    ENTRY_BYTES_MAX,
    INDEXED_FIELDS_MAX,
    PAGE_DEFAULT,
    PAGE_MAX,
    Entry,
    EntryPage,
    IngestReport,
    Position,
    StreamConfig,
    Window,
    require_field_name,
    require_stream_name,
)
from store_runtime.switch.driver import StoreMeta

ACKNOWLEDGED_SECONDS_MAX = 60.0
"""How long a writer waits for the disk before it is told that nobody knows."""

OPERATION_SECONDS = Histogram(
    "storekeeper_streams_operation_seconds",
    "Time of one call of Streams, failed ones included.",
    ["operation"],
    buckets=(0.0001, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5),
)
ERRORS = Counter("storekeeper_streams_errors_total", "Calls that failed.", ["operation", "code"])
ACCEPTED = Counter("storekeeper_streams_accepted_entries_total", "Entries that were acknowledged.")
REJECTED = Counter("storekeeper_streams_rejected_entries_total", "Entries that were not accepted.")
INGESTED_BYTES = Counter("storekeeper_streams_ingested_bytes_total", "Bytes of bodies, decompressed.")


class Streams:
    """Named streams of entries: flat records of text, each with a time.

    - A stream is made by its first entry, with default config, unless `auto_create` is off; reading never makes one.
    - An acknowledged entry is on disk, and in every answer from then on, as long as retention keeps it.
    - `_time` of an entry (RFC 3339, or a number since 1970) is its time; else that of ingestion.
    - Of a body with some bad entries the good ones are stored; with `strict`, or if all are bad, none.
    - The config of a declared stream is changed by `sync` alone: others get Conflict (code ManagedByResource).

    Thread-safe. Every error is a StoreError.
    """

    def __init__(
        self, driver: StreamDriver, clock: Clock, *, auto_create: bool = True, entry_bytes_max: int = ENTRY_BYTES_MAX
    ) -> None:
        self.driver = driver
        self._clock = clock
        self._auto_create = auto_create
        self._guard = Guard(entry_bytes_max)
        self._log = structlog.get_logger(__name__)

    # -- streams --------------------------------------------------------------------------------------------------

    def streams(self) -> dict[str, StreamConfig]:
        """Every stream's config, by name."""
        with self._operation("streams"):
            return self.driver.streams()

    def config(self, stream: str) -> StreamConfig:
        """Raises NotFound: reading a config does not make the stream."""
        with self._operation("get_config", stream=stream):
            return self._require(stream)

    def configure(self, stream: str, config: StreamConfig) -> StreamConfig:
        """Create or change a stream. Raises InvalidInput, Conflict (ManagedByResource)."""
        with self._operation("configure", stream=stream):
            require_stream_name(stream)
            _require_config(config)
            self._require_unmanaged(stream)
            self.driver.put_streams({stream: replace(config, declared=False)})
            self.driver.retain()
            return config

    def delete(self, stream: str) -> None:
        """Remove a stream with its entries and its config. Raises NotFound, Conflict (ManagedByResource)."""
        with self._operation("delete", stream=stream):
            self._require(stream)
            self._require_unmanaged(stream)
            self._delete(stream)

    def purge(self, stream: str) -> None:
        """Remove all entries, keep the config. Raises NotFound."""
        with self._operation("purge", stream=stream):
            self._require(stream)
            self.driver.purge_stream(stream)

    def sync(self, wanted: StreamSync) -> StreamSyncResult:
        """Make the declared streams these: others are declared no longer, those in `delete` go with their entries.

        A stream that cannot be as declared has a code in its outcome; the others are done.
        """
        with self._operation("sync", count=len(wanted.streams)):
            outcomes: list[StreamOutcome] = []
            configs: dict[str, StreamConfig] = {}
            for declared in wanted.streams:
                try:
                    require_stream_name(declared.name)
                    configs[declared.name] = _require_config(_declared(declared))
                    outcomes.append(StreamOutcome(name=declared.name))
                except InvalidInput as error:
                    outcomes.append(_outcome(declared.name, error))
            named = {declared.name for declared in wanted.streams}
            for name, config in self.driver.streams().items():
                if config.declared and name not in named:
                    configs[name] = replace(config, declared=False)
            self.driver.put_streams(configs)
            outcomes += [self._sync_delete(name) for name in wanted.delete if name not in named]
            self.driver.retain()
            return StreamSyncResult(outcomes=tuple(outcomes))

    def _sync_delete(self, name: str) -> StreamOutcome:
        """A stream that is gone already is as wanted."""
        with suppress(NotFound):
            self._delete(name)
        return StreamOutcome(name=name)

    def _delete(self, stream: str) -> None:
        self.driver.delete_stream(stream)
        self._guard.forget(stream)

    # -- writing --------------------------------------------------------------------------------------------------

    def ingest(
        self, stream: str, body: bytes, kind: BodyKind = BodyKind.NDJSON, *, strict: bool = False
    ) -> IngestReport:
        """Store a body's entries; when this returns they are on disk.

        Raises InvalidInput (all are bad, or one is and `strict`), NotFound (unknown, and not made by entries),
        Overloaded, OutOfSpace, Fenced, BackendUnreachable.
        """
        with self._operation("ingest", stream=stream, bytes=len(body)) as operation:
            checked = self._checked(stream, body, kind, strict)
            entries = 0
            if checked.batch is not None:
                self._append(stream, checked).result_within(ACKNOWLEDGED_SECONDS_MAX)
                entries = checked.batch.entries
            INGESTED_BYTES.inc(len(body))
            ACCEPTED.inc(entries)
            REJECTED.inc(checked.rejected)
            operation.note(accepted=entries, rejected=checked.rejected)
            return IngestReport(entries, checked.rejected, checked.reasons)

    def _checked(self, stream: str, body: bytes, kind: BodyKind, strict: bool) -> Checked:
        checked = self._guard.check(stream, ndjson(body, kind), self._clock.now_ns())
        if strict:
            require_all(checked)
        if checked.batch is None and checked.rejected:
            raise InvalidInput(
                f"none of the {checked.rejected} entries is accepted; {checked.reasons[0]}", field="body"
            )
        return checked

    def _append(self, stream: str, checked: Checked) -> "_Pending":
        """Into an existing stream, or a new one; once more if it is deleted at that moment."""
        assert checked.batch is not None
        for attempt in (1, 2):
            self._make(stream)
            try:
                return _Pending(self.driver.append(stream, checked.batch))
            except NotFound:
                if attempt == 2 or not self._auto_create:
                    raise
        raise AssertionError("unreachable")

    def _make(self, stream: str) -> None:
        if self.driver.config(stream) is not None:
            return
        if not self._auto_create:
            raise NotFound(
                f"there is no stream {stream!r}, and this store makes none by itself; declare it as a Stream resource, "
                "or set spec.entries.autoCreate of the LogStore",
                field="stream",
            )
        require_stream_name(stream)
        self.driver.put_streams({stream: StreamConfig()})

    # -- reading --------------------------------------------------------------------------------------------------

    def find(
        self,
        stream: str,
        window: Window,
        *,
        limit: int = PAGE_DEFAULT,
        ascending: bool = False,
        cursor: str | None = None,
    ) -> EntryPage:
        """Entries of a window, newest first unless `ascending`. Raises NotFound, InvalidInput."""
        with self._operation("find", stream=stream, limit=limit):
            _require_window(window)
            if not 1 <= limit <= PAGE_MAX:
                raise InvalidInput(f"limit is 1 to {PAGE_MAX}, not {limit}", field="limit")
            after = Position(*parse_cursor(cursor)) if cursor is not None else None
            entries = tuple(self.driver.find(stream, window, limit=limit, ascending=ascending, after=after))
            return EntryPage(entries, _next_cursor(entries) if len(entries) == limit else None)

    def count(self, stream: str, window: Window) -> int:
        """How many entries a window has."""
        with self._operation("count", stream=stream):
            _require_window(window)
            return self.driver.count(stream, window)

    def fields(self, stream: str) -> list[str]:
        """Names of the fields of what is kept, sorted."""
        with self._operation("fields", stream=stream):
            return self.driver.fields(stream)

    def indices(self, stream: str) -> Mapping[str, list[str]]:
        """The values of each indexed field, sorted, at most DISTINCT_VALUES_MAX of them."""
        with self._operation("indices", stream=stream):
            return self.driver.distinct(stream, self._require(stream).indexed_fields, DISTINCT_VALUES_MAX)

    def usage_bytes(self, stream: str) -> int:
        """Bytes on disk."""
        with self._operation("usage", stream=stream):
            return self.driver.usage_bytes(stream)

    # -- the store itself -----------------------------------------------------------------------------------------

    @property
    def schema_version(self) -> str:
        return self.meta().schema_version

    def retain(self, *, dry_run: bool = False) -> RetainResult:
        """Give back the space of what no query sees any more."""
        with self._operation("retain"):
            return self.driver.retain(dry_run=dry_run)

    def meta(self) -> StoreMeta:
        """Who owns the data, its role and epoch."""
        meta = self.driver.read_meta()
        if meta is None:
            raise NotFound("these entries carry no store yet; provision it first")
        return meta

    def warnings(self) -> list[tuple[str, str]]:
        """What wants a person: a CamelCase reason and a sentence each."""
        return self.driver.warnings()

    def check_backend(self) -> None:
        """Raise what a call would raise now."""
        self.driver.check()

    def close(self) -> None:
        self.driver.close()

    def _require(self, stream: str) -> StreamConfig:
        config = self.driver.config(stream)
        if config is None:
            raise NotFound(f"there is no stream {stream!r}; its first entry or a PUT of its config makes it")
        return config

    def _require_unmanaged(self, stream: str) -> None:
        config = self.driver.config(stream)
        if config is not None and config.declared:
            raise Conflict(
                f"the stream {stream!r} is declared by a Stream resource; change that one, or delete its entries only",
                code="ManagedByResource",
            )

    def _operation(self, name: str, **fields: Any) -> "_OperationLog":
        return _OperationLog(self._log, name, fields)


class _Pending:
    """A batch on its way to the disk."""

    def __init__(self, done: "Future[Any]") -> None:
        self._done = done

    def result_within(self, seconds: float) -> None:
        try:
            self._done.result(seconds)
        except FutureTimeout as error:
            raise BackendUnreachable(
                f"the disk did not answer within {seconds:.0f} s; whether these entries are stored is not known"
            ) from error


class _OperationLog:
    """Times a call, counts its failure, and writes the operation log: DEBUG when it went well, ERROR when the store
    failed; never what is in entries."""

    __slots__ = ("_fields", "_log", "_name", "_started")

    def __init__(self, log: Any, name: str, fields: dict[str, Any]) -> None:
        self._log, self._name, self._fields = log, name, fields

    def __enter__(self) -> "_OperationLog":
        self._started = time.perf_counter()
        return self

    def note(self, **fields: Any) -> None:
        """Add results to the log."""
        self._fields.update(fields)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        OPERATION_SECONDS.labels(self._name).observe(time.perf_counter() - self._started)
        if error is None:
            self._log.debug("store operation", operation=self._name, **self._fields)
            return
        code = error.specific_code if isinstance(error, StoreError) else "InternalError"
        ERRORS.labels(self._name, code).inc()
        refused = isinstance(error, StoreError) and error.status < 500
        report = self._log.debug if refused else self._log.error
        report("store operation failed", operation=self._name, code=code, error=str(error), **self._fields)


def _next_cursor(entries: tuple[Entry, ...]) -> str:
    return pack_cursor(*entries[-1].position)


def _require_window(window: Window) -> None:
    if window.from_ns > window.to_ns:
        raise InvalidInput("from has to be before to", field="from")
    if len(window.equal) > CONDITIONS_MAX:
        raise InvalidInput(f"at most {CONDITIONS_MAX} fields may have conditions", field="indexing")
    for field, values in window.equal.items():
        if not 1 <= len(values) <= CONDITION_VALUES_MAX:
            raise InvalidInput(f"{field!r} needs 1 to {CONDITION_VALUES_MAX} values", field="indexing")


def _require_config(config: StreamConfig) -> StreamConfig:
    if config.max_age_ns < 0:
        raise InvalidInput("ttl is 0 (for ever) or a number of seconds", field="ttl")
    if config.max_bytes < 0:
        raise InvalidInput("size is 0 (unlimited) or a number of mebibytes", field="size")
    if len(config.indexed_fields) > INDEXED_FIELDS_MAX:
        raise InvalidInput(f"at most {INDEXED_FIELDS_MAX} fields can be indexed", field="indexed_fields")
    for name in config.indexed_fields:
        require_field_name(name, "indexed_fields")
    return replace(config, indexed_fields=tuple(dict.fromkeys(config.indexed_fields)))


def _declared(stream: DeclaredStream) -> StreamConfig:
    max_age_ns = stream.max_age // timedelta(microseconds=1) * 1000
    return StreamConfig(max_age_ns, stream.max_size, stream.indexed_fields, declared=True)


def _outcome(name: str, error: StoreError) -> StreamOutcome:
    return StreamOutcome(name=name, code=error.specific_code, message=error.message)
