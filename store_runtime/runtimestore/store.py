"""The RuntimeStore that callers use: validation, defaults, limits, metrics and operation log, once for all backends.

The contract of every call is here and in rings; how a backend keeps it is in its driver (see driver).
"""

import hashlib
import time
from collections.abc import Iterable, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Any

import structlog
from prometheus_client import Counter, Histogram

from store_runtime.clock import Clock
from store_runtime.config.runtime import Cache
from store_runtime.errors import Conflict, InvalidInput, NotFound, StoreError, TooLarge
from store_runtime.runtimestore import keys
from store_runtime.runtimestore.driver import UsageDriver
from store_runtime.runtimestore.model import (
    AMOUNT_MAX,
    BATCH_MAX,
    CACHE_TTL_SECONDS_MAX,
    CACHE_VALUE_BYTES_MAX,
    PAGE_MAX,
    Increment,
    Operation,
    Usage,
    UsagePage,
    WindowQuery,
)
from store_runtime.runtimestore.rings import level_index, levels_for
from store_runtime.switch.driver import StoreMeta

SCHEMA_VERSION = "1"
"""Of what memory and file keep; other backends will have their own migrations."""

OPERATION_SECONDS = Histogram(
    "storekeeper_runtimestore_operation_seconds",
    "Time of one call of a RuntimeStore, failed ones included.",
    ["operation"],
    buckets=(0.00001, 0.0001, 0.001, 0.005, 0.01, 0.05, 0.25, 1, 5),
)
ERRORS = Counter("storekeeper_runtimestore_errors_total", "Calls that failed.", ["operation", "code"])
CACHE_LOOKUPS = Counter("storekeeper_runtimestore_cache_lookups_total", "Cache look-ups.", ["result"])
_HITS, _MISSES = CACHE_LOOKUPS.labels("hit"), CACHE_LOOKUPS.labels("miss")


class RuntimeStore:
    """Usage counters with windows, and a cache.

    A *metric* is named by (provider, key, metric): any Unicode text of 1 to 255 bytes each; two names never mean the
    same metric. It has a lifetime total and, for each configured window, a ring of buckets.

    - `increment_many` counts all its items or none. With an `op_id` it counts exactly once in the ten minutes after:
      a repetition returns False, the same op_id with other items raises Conflict (code OperationReused).
    - `window(…, seconds)`: `S(t−W, t] ≤ window ≤ S(t−W−w, t]`, where w is the bucket width of the finest configured
      window that is at least W long: a sixtieth of it. Never too little: also not with a clock that went back, with
      windows that were reconfigured, or after a refund (a negative delta), which is taken off only while it is in the
      window itself. Never below 0. A W longer than the longest configured window raises InvalidInput.
    - `set_usage` sets the lifetime total and nothing else, for ever; increments go on from it. Totals are not clamped.
    - Amounts are float64, at most 1e18; NaN and infinite ones raise InvalidInput. What is not known reads as 0.
    - A cached value is text, "" included; a miss is None. `ttl_seconds` 0 is no expiry, negative raises InvalidInput.
      Namespaces keep apart what is cached for different purposes; keys are hashed, so they may be long.

    Thread-safe. Every error is a StoreError.
    """

    schema_version = SCHEMA_VERSION

    def __init__(self, driver: UsageDriver, windows: Sequence[timedelta], cache: Cache, clock: Clock) -> None:
        self.driver = driver
        self._levels = levels_for(windows)
        self._cache = cache
        self._clock = clock
        self._log = structlog.get_logger(__name__).bind()

    # -- usage ----------------------------------------------------------------------------------------------------

    def get_usage(self, provider: str, key: str, metric: str) -> float:
        """The lifetime total, 0 for an unknown metric."""
        with self._operation("get_usage", provider=provider, key_id=key, metric=metric) as operation:
            return operation.value(self.driver.totals((keys.usage_key(provider, key, metric),))[0])

    def set_usage(self, provider: str, key: str, metric: str, value: float) -> None:
        """Set the lifetime total; windows stay as they are."""
        with self._operation("set_usage", provider=provider, key_id=key, metric=metric, value=value):
            self.driver.set_total(keys.usage_key(provider, key, metric), _amount(value, "value"), self._clock.now_ns())

    def increment(self, provider: str, key: str, metric: str, delta: float, *, op_id: str | None = None) -> bool:
        """Count `delta` of one metric; False if the op_id was counted before."""
        with self._operation("increment_usage", provider=provider, key_id=key, metric=metric, delta=delta):
            items = [(keys.usage_key(provider, key, metric), _amount(delta, "delta"))]
            return self.driver.increment(items, _operation(op_id, items), self._clock.now_ns())

    def increment_many(self, increments: Sequence[Increment], *, op_id: str | None = None) -> bool:
        """Count all of them or none; False if the op_id was counted before."""
        with self._operation("increment_many", count=len(increments)):
            _require_batch(increments, "increments")
            items = []
            for index, (provider, key, metric, delta) in enumerate(increments):
                try:
                    items.append((keys.usage_key(provider, key, metric), _amount(delta, "delta")))
                except StoreError as error:
                    raise _placed(error, f"increments[{index}]") from None
            return self.driver.increment(items, _operation(op_id, items), self._clock.now_ns())

    def window(self, provider: str, key: str, metric: str, seconds: float) -> float:
        """What was counted in the last `seconds`."""
        with self._operation(
            "get_usage_in_window", provider=provider, key_id=key, metric=metric, seconds=seconds
        ) as operation:
            query = (keys.usage_key(provider, key, metric), self._window_ns(seconds))
            return operation.value(self.driver.windows((query,), self._clock.now_ns())[0])

    def windows(self, queries: Sequence[WindowQuery]) -> list[float]:
        """Several windows as of the same moment, in the order asked."""
        with self._operation("windows", count=len(queries)):
            _require_batch(queries, "windows")
            asked = []
            for index, (provider, key, metric, seconds) in enumerate(queries):
                try:
                    asked.append((keys.usage_key(provider, key, metric), self._window_ns(seconds)))
                except StoreError as error:
                    raise _placed(error, f"windows[{index}]") from None
            return self.driver.windows(asked, self._clock.now_ns())

    def reset_usage(self, provider: str, key: str, metric: str) -> bool:
        """Forget a metric's total and windows; False if it was not known."""
        with self._operation("reset_usage", provider=provider, key_id=key, metric=metric):
            return self.driver.reset(keys.usage_key(provider, key, metric), self._clock.now_ns())

    def find_usage(
        self, provider: str | None = None, key_prefix: str = "", *, limit: int = 100, cursor: str | None = None
    ) -> UsagePage:
        """Totals in key order: of all metrics, of a provider, or of its keys that begin with `key_prefix`."""
        with self._operation("find_usage", provider=provider):
            if not 1 <= limit <= PAGE_MAX:
                raise InvalidInput(f"limit is 1 to {PAGE_MAX}, not {limit}", field="limit")
            prefix = keys.usage_prefix(provider, key_prefix)
            if cursor is not None and not cursor.startswith(prefix):
                raise InvalidInput("the cursor is of another query; start without one", field="cursor")
            found = self.driver.find_totals(prefix, cursor or "", limit)
            items = tuple(Usage(*keys.usage_names(key), total) for key, total in found)
            return UsagePage(items, found[-1][0] if len(found) == limit else None)

    # -- cache ----------------------------------------------------------------------------------------------------

    def cache_get(self, namespace: str, key: str) -> str | None:
        """The value, None on a miss (always, where the cache is off)."""
        with self._operation("get_cache", namespace=namespace):
            item_key = keys.cache_key(namespace, key)
            value = self.driver.cache_get(item_key, self._clock.now_ns()) if self._cache.enabled else None
            (_MISSES if value is None else _HITS).inc()
            return value

    def cache_set(self, namespace: str, key: str, value: str, ttl_seconds: float | None = None) -> None:
        """Keep a value for `ttl_seconds`: 0 for ever, None as configured. Raises Conflict where the cache is off."""
        with self._operation("set_cache", namespace=namespace):
            if not self._cache.enabled:
                raise Conflict("the cache of this store is off; set spec.cache.enabled", code="CacheDisabled")
            item_key = keys.cache_key(namespace, key)
            keys.utf8(value, "value", CACHE_VALUE_BYTES_MAX, empty=True)
            ttl_ns = self._ttl_ns(ttl_seconds)
            self.driver.cache_set(item_key, value, ttl_ns, self._clock.now_ns())

    def cache_delete(self, namespace: str, key: str) -> bool:
        """Forget a value; False if there was none."""
        with self._operation("delete_cache", namespace=namespace):
            return self.driver.cache_delete(keys.cache_key(namespace, key), self._clock.now_ns())

    # -- the store itself -----------------------------------------------------------------------------------------

    def meta(self) -> StoreMeta:
        """Who owns the data, its role and epoch."""
        meta = self.driver.read_meta()
        if meta is None:
            raise NotFound("this backend carries no store yet; provision it first")
        return meta

    def check_backend(self) -> None:
        """Raise what a call would raise now."""
        self.driver.check()

    def close(self) -> None:
        self.driver.close()

    def _operation(self, name: str, **fields: Any) -> "_OperationLog":
        return _OperationLog(self._log, name, fields)

    def _window_ns(self, seconds: float) -> int:
        if not _is_number(seconds) or not 0 < seconds <= AMOUNT_MAX:
            raise InvalidInput(f"seconds has to be a number above 0, not {seconds!r}", field="seconds")
        window_ns = max(1, round(seconds * 1e9))
        level_index(self._levels, window_ns)
        return window_ns

    def _ttl_ns(self, ttl_seconds: float | None) -> int:
        if ttl_seconds is None:
            return self._cache.ttl // timedelta(microseconds=1) * 1000
        if not _is_number(ttl_seconds) or not 0 <= ttl_seconds <= CACHE_TTL_SECONDS_MAX:
            raise InvalidInput(
                f"ttl_seconds is 0 (no expiry) to {CACHE_TTL_SECONDS_MAX:.0f}, not {ttl_seconds!r}", field="ttl_seconds"
            )
        return max(1, round(ttl_seconds * 1e9)) if ttl_seconds else 0


class _OperationLog:
    """Times a call, counts its failure, and writes the operation log: DEBUG when it went well, ERROR when the store
    failed, never a cached value."""

    __slots__ = ("_fields", "_log", "_name", "_started")

    def __init__(self, log: Any, name: str, fields: dict[str, Any]) -> None:
        self._log, self._name, self._fields = log, name, fields

    def __enter__(self) -> "_OperationLog":
        self._started = time.perf_counter()
        return self

    def value(self, value: float) -> float:
        """Note a result for the log."""
        self._fields["value"] = value
        return value

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _observe(self._name, time.perf_counter() - self._started)
        if error is None:
            self._log.debug("store operation", operation=self._name, **self._fields)
            return
        code = error.specific_code if isinstance(error, StoreError) else "InternalError"
        ERRORS.labels(self._name, code).inc()
        refused = isinstance(error, StoreError) and error.status < 500
        report = self._log.debug if refused else self._log.error
        report("store operation failed", operation=self._name, code=code, error=str(error), **self._fields)


_observers: dict[str, Any] = {}


def _observe(operation: str, seconds: float) -> None:
    observer = _observers.get(operation)
    if observer is None:
        observer = _observers[operation] = OPERATION_SECONDS.labels(operation)
    observer.observe(seconds)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _amount(value: float, field: str) -> float:
    if not _is_number(value) or not -AMOUNT_MAX <= value <= AMOUNT_MAX:
        raise InvalidInput(f"{field} has to be a number from -1e18 to 1e18, not {value!r}", field=field)
    return float(value)


def _operation(op_id: str | None, items: Iterable[tuple[str, float]]) -> Operation | None:
    if op_id is None:
        return None
    content = hashlib.blake2b(repr(items).encode(), digest_size=8).hexdigest()
    return Operation(keys.operation_key(op_id), content)


def _require_batch(items: Sequence[object], field: str) -> None:
    if not items:
        raise InvalidInput(f"{field} is empty", field=field)
    if len(items) > BATCH_MAX:
        raise TooLarge(f"{field} has {len(items)} items; the limit is {BATCH_MAX} a call", field=field)


def _placed(error: StoreError, place: str) -> StoreError:
    """The error, telling where in a batch it is."""
    error.field = f"{place}.{error.field}"
    error.message = f"{place}: {error.message}"
    error.args = (error.message,)
    return error
