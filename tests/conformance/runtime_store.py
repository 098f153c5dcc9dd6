"""The contract of a RuntimeStore as a suite that every backend runs; the cases C… are faults of the seed's backends.

A backend's test module gives a `harness` fixture; what a backend cannot do is declared in it.
"""

import math
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from store_runtime.clock import ManualClock
from store_runtime.config.runtime import Cache
from store_runtime.config.wire import Role
from store_runtime.errors import Conflict, Fenced, InvalidInput, TooLarge
from store_runtime.runtimestore.driver import UsageDriver
from store_runtime.runtimestore.keys import usage_key
from store_runtime.runtimestore.legacy import LegacyRuntimeStore
from store_runtime.runtimestore.model import CACHE_VALUE_BYTES_MAX, Increment, Usage, WindowQuery
from store_runtime.runtimestore.store import RuntimeStore
from store_runtime.switch.driver import StoreMeta

WINDOWS = (timedelta(minutes=1), timedelta(hours=1), timedelta(hours=24))
META = StoreMeta("store-1", "owner-1", epoch=1, schema_version="1")
BAD_AMOUNTS = (math.nan, math.inf, -math.inf, 1e300, "1", True, None)
_fresh = count()


class Harness(ABC):
    """Makes stores on one backend; `durable`: a store opened again has the same data; `shared`: two may be open."""

    durable: bool
    shared: bool

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.clock.advance(timedelta(milliseconds=123))

    @abstractmethod
    def driver(self, windows: tuple[timedelta, ...] = WINDOWS) -> UsageDriver:
        """A driver on this harness's data, claimed by META."""

    def store(self, *, windows: tuple[timedelta, ...] = WINDOWS, cache: Cache | None = None) -> RuntimeStore:
        return RuntimeStore(self.driver(windows), windows, cache or Cache(), self.clock)

    def wait(self, **duration: float) -> None:
        self.clock.advance(timedelta(**duration))


class RuntimeStoreContract:
    """Subclass it with a `harness` fixture."""

    @pytest.fixture
    def store(self, harness: Harness) -> Iterator[RuntimeStore]:
        opened = harness.store()
        yield opened
        opened.close()

    # -- usage ----------------------------------------------------------------------------------------------------

    def test_increments_add_up_and_unknown_metrics_are_zero(self, store):
        assert store.get_usage("openai", "k1", "req") == 0.0
        assert store.window("openai", "k1", "req", 60) == 0.0
        assert store.increment("openai", "k1", "req", 2) is True
        store.increment("openai", "k1", "req", 0.5)
        assert store.get_usage("openai", "k1", "req") == 2.5
        assert store.window("openai", "k1", "req", 60) == 2.5
        assert store.get_usage("openai", "k1", "tokens") == 0.0

    @settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        steps=st.lists(st.tuples(st.integers(0, 40_000), st.integers(1, 100)), max_size=12),
        later_ms=st.integers(0, 70_000),
        seconds=st.one_of(st.just(60), st.just(3600), st.floats(0.5, 86_400)),
    )
    def test_c1_a_window_is_what_was_counted_in_it_and_at_most_one_bucket_more(
        self, harness, store, steps, later_ms, seconds
    ):
        key, log = f"c1-{next(_fresh)}", []
        for step_ms, delta in steps:
            harness.wait(milliseconds=step_ms)
            store.increment("p", key, "m", delta)
            log.append((harness.clock.now_ns(), delta))
        harness.wait(milliseconds=later_ms)
        since_ns = harness.clock.now_ns() - round(seconds * 1e9)
        width_ns = next(w for w in WINDOWS if w.total_seconds() >= seconds).total_seconds() * 1e9 / 60
        answer = store.window("p", key, "m", seconds)
        assert sum(delta for at_ns, delta in log if at_ns > since_ns) <= answer
        assert answer <= sum(delta for at_ns, delta in log if at_ns > since_ns - width_ns)

    def test_c1_a_window_is_not_the_lifetime_total(self, harness, store):
        store.increment("p", "k", "m", 5)
        harness.wait(seconds=62)
        assert store.window("p", "k", "m", 60) == 0.0
        assert store.window("p", "k", "m", 3600) == 5.0
        assert store.get_usage("p", "k", "m") == 5.0

    def test_c2_a_thousand_increments_in_one_second_are_a_thousand(self, store):
        for _ in range(10):
            store.increment_many([Increment("p", "k", "m", 1)] * 100)
        assert store.window("p", "k", "m", 60) == 1000.0

    def test_c2_increments_from_many_threads_all_count(self, store):
        threads = [
            threading.Thread(target=lambda: [store.increment("p", "k", "m", 1) for _ in range(50)]) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert store.get_usage("p", "k", "m") == 400.0
        assert store.window("p", "k", "m", 60) == 400.0

    def test_c3_a_window_may_be_longer_than_an_hour(self, harness, store):
        store.increment("p", "k", "m", 7)
        harness.wait(hours=23)
        assert store.window("p", "k", "m", 3600) == 0.0
        assert store.window("p", "k", "m", 86_400) == 7.0

    def test_c4_setting_a_total_leaves_windows_alone_and_lasts(self, harness, store):
        store.increment("p", "k", "m", 3)
        store.set_usage("p", "k", "m", 100)
        assert store.get_usage("p", "k", "m") == 100.0
        assert store.window("p", "k", "m", 60) == 3.0
        harness.wait(days=400)
        assert store.get_usage("p", "k", "m") == 100.0

    def test_c5_increments_go_on_from_a_total_that_was_set(self, harness, store):
        store.set_usage("p", "k", "m", 100)
        harness.wait(days=1)
        store.increment("p", "k", "m", 1)
        harness.wait(days=1)
        assert store.get_usage("p", "k", "m") == 101.0

    def test_c6_a_metric_takes_the_same_room_whatever_the_traffic(self, harness, store):
        for _ in range(400):
            store.increment("p", "k", "m", 1)
            harness.wait(minutes=13)
        (item,) = store.driver.read_items([usage_key("p", "k", "m")])
        assert item.state["total"] == 400.0
        assert all(len(level["buckets"]) <= level["slots"] == 61 for level in item.state["levels"])

    def test_c7_a_batch_counts_wholly_or_not_at_all(self, store):
        store.increment_many([Increment("p", "k", "req", 1), Increment("p", "k", "tokens", 150)])
        with pytest.raises(InvalidInput) as error:
            store.increment_many([Increment("p", "k", "req", 1), Increment("p", "k", "tokens", math.nan)])
        assert error.value.field == "increments[1].delta"
        with pytest.raises(InvalidInput, match="empty"):
            store.increment_many([])
        with pytest.raises(TooLarge):
            store.increment_many([Increment("p", "k", "req", 1)] * 1001)
        queries = [WindowQuery("p", "k", "req", 60), WindowQuery("p", "x", "m", 60), WindowQuery("p", "k", "tokens", 1)]
        assert store.windows(queries) == [1.0, 0.0, 150.0]

    def test_c9_names_are_never_confused(self, store):
        names = [
            ("a", "b:c", "m"), ("a:b", "c", "m"), ("a", "b", "c:m"), ("a/b", "c", "m"), ("a", "b/c", "m"),
            ("a%2Fb", "c", "m"),
            ("a#b", "c", "m"), ("a|b", "c", "m"), ("*", "?", "[a-z]"), ("a b", "c\n", "m\0"), ("ä", "日本", "🎉"),
            ("a", "b", "M"), (".", "..", " "), ("'; DROP TABLE x; --", "{}", "$m.x"),
        ]  # fmt: skip
        for amount, name in enumerate(names, 1):
            store.increment(*name, amount)
        for amount, name in enumerate(names, 1):
            assert store.get_usage(*name) == amount
            assert store.window(*name, 60) == amount
        assert len(store.find_usage(limit=1000).items) == len(names)

    def test_c9_names_have_a_limit_that_is_told(self, store):
        store.increment("p", "ü" * 127, "m", 1)
        with pytest.raises(TooLarge) as error:
            store.increment("p", "ü" * 128, "m", 1)
        assert error.value.field == "key"
        for bad in ("", "\ud800", 7):
            with pytest.raises(InvalidInput):
                store.increment("p", "k", bad, 1)

    def test_c14_small_amounts_are_not_rounded_away(self, store):
        for _ in range(1000):
            store.increment("p", "k", "cost", 1e-7)
        assert store.get_usage("p", "k", "cost") == pytest.approx(1e-4, rel=1e-9)
        assert store.window("p", "k", "cost", 60) == pytest.approx(1e-4, rel=1e-9)
        store.set_usage("p", "k", "cost", 0.1 + 0.2)
        assert store.get_usage("p", "k", "cost") == 0.1 + 0.2

    @pytest.mark.parametrize("bad", BAD_AMOUNTS, ids=repr)
    def test_c19_what_is_no_amount_is_refused(self, store, bad):
        for call in (store.increment, store.set_usage):
            with pytest.raises(InvalidInput):
                call("p", "k", "m", bad)
        with pytest.raises(InvalidInput):
            store.window("p", "k", "m", bad)
        assert store.get_usage("p", "k", "m") == 0.0

    def test_c19_refunds_lower_the_total_and_a_window_never_below_zero(self, harness, store):
        store.increment("p", "k", "m", 10)
        store.increment("p", "k", "m", -4)
        assert store.window("p", "k", "m", 60) == 6.0
        harness.wait(seconds=59)
        store.increment("p", "k", "m", -5)
        harness.wait(seconds=2)
        assert store.window("p", "k", "m", 60) == 0.0
        assert store.get_usage("p", "k", "m") == 1.0
        store.increment("p", "k", "m", -5)
        assert store.get_usage("p", "k", "m") == -4.0

    def test_a_window_longer_than_any_configured_names_the_longest(self, store):
        for seconds in (86_401, 1e9):
            with pytest.raises(InvalidInput, match="86400") as error:
                store.window("p", "k", "m", seconds)
            assert error.value.field == "seconds"
        for seconds in (0, -1, math.nan):
            with pytest.raises(InvalidInput):
                store.windows([WindowQuery("p", "k", "m", seconds)])

    def test_a_clock_that_goes_back_loses_nothing(self, harness, store):
        store.increment("p", "k", "m", 1)
        harness.wait(seconds=-2)
        store.increment("p", "k", "m", 1)
        assert store.window("p", "k", "m", 60) == 2.0
        harness.wait(hours=-30)
        store.increment("p", "k", "m", 1)
        assert store.windows([WindowQuery("p", "k", "m", s) for s in (60, 3600, 86_400)]) == [3.0, 3.0, 3.0]

    def test_totals_are_listed_in_key_order_and_pages(self, store):
        for key in range(7):
            store.set_usage("openai", f"k{key}", "req", key)
        store.set_usage("open", "k0", "req", 1)
        store.set_usage("zeta/ü", "k0", "req", 2)
        store.cache_set("ns", "k", "v")
        store.increment("openai", "other", "req", 1, op_id="op")
        page = store.find_usage("openai", "k", limit=4)
        rest = store.find_usage("openai", "k", limit=4, cursor=page.cursor)
        assert [usage.key for usage in (*page.items, *rest.items)] == [f"k{key}" for key in range(7)]
        assert page.items[3] == Usage("openai", "k3", "req", 3.0)
        assert rest.cursor is None
        assert [usage.provider for usage in store.find_usage(limit=1000).items][-1] == "zeta/ü"
        for bad in ({"limit": 0}, {"limit": 1001}, {"cursor": "u/x"}):
            with pytest.raises(InvalidInput):
                store.find_usage("openai", "k", **bad)

    def test_reset_forgets_total_and_windows(self, store):
        store.increment("p", "k", "m", 5)
        assert store.reset_usage("p", "k", "m") is True
        assert store.reset_usage("p", "k", "m") is False
        assert store.get_usage("p", "k", "m") == 0.0
        assert store.window("p", "k", "m", 60) == 0.0
        assert store.find_usage().items == ()

    # -- exactly once ---------------------------------------------------------------------------------------------

    def test_an_op_id_counts_once_within_ten_minutes(self, harness, store):
        for wait_seconds, counts in ((0, True), (1, False), (598, False), (2, True), (1, False)):
            harness.wait(seconds=wait_seconds)
            assert store.increment("p", "k", "m", 1, op_id="op-1") is counts
        assert store.get_usage("p", "k", "m") == 2.0

    def test_an_op_id_is_for_one_operation(self, store):
        store.increment_many([Increment("p", "k", "m", 1)], op_id="op")
        with pytest.raises(Conflict) as error:
            store.increment_many([Increment("p", "k", "m", 2)], op_id="op")
        assert error.value.specific_code == "OperationReused"
        for bad in ("", "x" * 256):
            with pytest.raises((InvalidInput, TooLarge)):
                store.increment("p", "k", "m", 1, op_id=bad)
        assert store.get_usage("p", "k", "m") == 1.0

    def test_an_op_id_sent_by_many_at_once_counts_once(self, store):
        results: list[bool] = []
        threads = [
            threading.Thread(target=lambda: results.append(store.increment("p", "k", "m", 1, op_id="same")))
            for _ in range(16)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(results) == [False] * 15 + [True]
        assert store.get_usage("p", "k", "m") == 1.0

    # -- cache ----------------------------------------------------------------------------------------------------

    def test_c8_an_empty_value_is_a_value_and_a_miss_is_none(self, store):
        assert store.cache_get("ns", "k") is None
        store.cache_set("ns", "k", "")
        assert store.cache_get("ns", "k") == ""
        assert store.cache_delete("ns", "k") is True
        assert store.cache_delete("ns", "k") is False
        assert store.cache_get("ns", "k") is None

    def test_c8_ttl_zero_is_for_ever_and_negative_is_refused(self, harness, store):
        store.cache_set("ns", "forever", "v", 0)
        store.cache_set("ns", "second", "v", 1)
        store.cache_set("ns", "configured", "v")
        harness.wait(milliseconds=999)
        assert store.cache_get("ns", "second") == "v"
        harness.wait(milliseconds=1)
        assert store.cache_get("ns", "second") is None
        assert store.cache_delete("ns", "second") is False
        harness.wait(seconds=8)
        assert store.cache_get("ns", "configured") == "v"
        harness.wait(seconds=1)
        assert store.cache_get("ns", "configured") is None
        harness.wait(days=3000)
        assert store.cache_get("ns", "forever") == "v"
        for bad in (-1, -0.001, math.nan, math.inf, 1e12):
            with pytest.raises(InvalidInput) as error:
                store.cache_set("ns", "forever", "w", bad)
            assert error.value.field == "ttl_seconds"
        assert store.cache_get("ns", "forever") == "v"

    def test_c8_writing_again_replaces_value_and_expiry(self, harness, store):
        store.cache_set("ns", "k", "old", 1)
        store.cache_set("ns", "k", "new", 100)
        harness.wait(seconds=50)
        store.cache_set("ns", "other", "x", 100)
        assert store.cache_get("ns", "k") == "new"

    @pytest.mark.parametrize("key", ["", "x" * 300, "nul\0", "😀" * 5000, "a/b?c#d%2F", " "], ids=lambda k: repr(k[:8]))
    def test_c10_any_text_is_a_cache_key(self, store, key):
        store.cache_set("ns", key, "v" + key, 0)
        assert store.cache_get("ns", key) == "v" + key
        assert store.cache_get("ns", key + " ") is None

    def test_c10_a_value_has_a_limit_that_is_told(self, store):
        store.cache_set("ns", "k", "x" * CACHE_VALUE_BYTES_MAX, 0)
        assert len(store.cache_get("ns", "k")) == CACHE_VALUE_BYTES_MAX
        with pytest.raises(TooLarge) as error:
            store.cache_set("ns", "k", "ü" * CACHE_VALUE_BYTES_MAX, 0)
        assert error.value.field == "value"

    def test_c11_namespaces_do_not_see_each_other(self, store):
        store.cache_set("answers", "config", "an answer", 0)
        store.cache_set("settings", "config", "a secret", 0)
        assert store.cache_get("answers", "config") == "an answer"
        assert store.cache_get("answers/config", "") is None
        store.cache_delete("answers", "config")
        assert store.cache_get("settings", "config") == "a secret"

    def test_a_cache_that_is_off_misses_and_refuses(self, harness):
        store = harness.store(cache=Cache(enabled=False))
        assert store.cache_get("ns", "k") is None
        with pytest.raises(Conflict) as error:
            store.cache_set("ns", "k", "v")
        assert error.value.specific_code == "CacheDisabled"
        store.close()

    # -- the seed's methods ---------------------------------------------------------------------------------------

    def test_the_six_methods_of_the_seed(self, harness, store):
        legacy = LegacyRuntimeStore(store)
        legacy.set_usage("openai", "key1", "req", 45.0)
        legacy.increment_usage("openai", "key1", "req", 1.0)
        assert legacy.get_usage("openai", "key1", "req") == 46.0
        assert legacy.get_usage_in_window("openai", "key1", "req", 60) == 1.0
        assert legacy.get_cache("prompt") is None
        legacy.set_cache("prompt", "answer", 10)
        assert legacy.get_cache("prompt") == "answer"
        harness.wait(seconds=10)
        assert legacy.get_cache("prompt") is None

    # -- durability and sharing -----------------------------------------------------------------------------------

    def test_what_was_acknowledged_is_there_after_reopening(self, harness):
        if not harness.durable:
            return
        store = harness.store()
        store.increment("p", "k", "m", 5, op_id="op")
        store.increment("p", "k", "m", -2)
        store.set_usage("p", "k2", "m", 9)
        store.cache_set("ns", "k", "v", 60)
        store.cache_set("ns", "short", "v", 1)
        store.close()
        harness.wait(seconds=30)
        again = harness.store()
        assert again.window("p", "k", "m", 60) == 3.0
        assert again.get_usage("p", "k2", "m") == 9.0
        assert again.increment("p", "k", "m", 5, op_id="op") is False
        assert again.cache_get("ns", "k") == "v"
        assert again.cache_get("ns", "short") is None
        harness.wait(seconds=30)
        assert again.cache_get("ns", "k") is None
        again.close()

    def test_c20_two_runtimes_on_one_backend_see_each_other(self, harness, store):
        if not harness.shared:
            return
        other = harness.store()
        store.increment("p", "k", "m", 1, op_id="op")
        assert other.get_usage("p", "k", "m") == 1.0
        assert other.increment("p", "k", "m", 1, op_id="op") is False
        other.increment("p", "k", "m", 1)
        assert store.window("p", "k", "m", 60) == 2.0
        other.cache_set("ns", "k", "v")
        assert store.cache_get("ns", "k") == "v"
        other.close()

    # -- switch: what is particular to this store; the rest is tests/conformance/switchable.py ----------------------

    def test_a_fenced_store_reads_and_takes_no_write(self, store):
        store.increment("p", "k", "m", 1)
        store.cache_set("ns", "k", "v", 0)
        with changed_role(store, Role.FENCED):
            for write in writes(store):
                with pytest.raises(Fenced):
                    write()
            assert store.get_usage("p", "k", "m") == 1.0
            assert store.cache_get("ns", "k") == "v"
        store.increment("p", "k", "m", 1)
        assert store.get_usage("p", "k", "m") == 2.0

    def test_every_write_marks_the_items_it_changed(self, store):
        store.driver.set_capture(True)
        marked = []
        for write in writes(store):
            before = {mark.key: mark.version for mark in store.driver.dirty_marks(100)}
            write()
            after = {mark.key: mark.version for mark in store.driver.dirty_marks(100)}
            marked.append(sorted(key[:2] for key in after if after[key] != before.get(key)))
        assert marked == [["o/", "u/"], ["u/"], ["u/"], ["c/"], ["c/"]]

    def test_a_mark_written_again_is_not_cleared(self, store):
        store.driver.set_capture(True)
        store.increment("p", "k", "m", 1)
        (stale,) = store.driver.dirty_marks(10)
        store.increment("p", "k", "m", 1)
        (mark,) = store.driver.dirty_marks(10)
        assert (mark.key, mark.version > stale.version) == (stale.key, True)
        assert store.driver.clear_mark(stale) is False
        assert store.driver.clear_mark(mark) is True
        assert store.driver.dirty_marks(10) == ()
        meta = store.meta()
        assert store.driver.change_meta(meta.changed(epoch=7), meta.changed(epoch=8)) is False
        assert store.meta() == meta

    def test_a_target_takes_imports_and_no_writes(self, store):
        store.increment("p", "k", "m", 1)
        page = store.driver.export(None, 10)
        with changed_role(store, Role.TARGET):
            store.driver.import_items(page.items)
            with pytest.raises(Fenced):
                store.increment("p", "k", "m", 1)
        with changed_role(store, Role.FENCED), pytest.raises(Fenced):
            store.driver.import_items(page.items)
        assert store.get_usage("p", "k", "m") == 1.0

    def test_an_export_carries_windows_caches_and_op_ids(self, harness, store):
        store.increment("p", "k", "m", 5, op_id="op")
        store.increment("p", "k", "m", -2)
        store.cache_set("ns", "k", "v", 60)
        page = store.driver.export(None, 100)
        assert [item.key[:2] for item in page.items] == ["c/", "o/", "u/"]
        for usage in store.find_usage().items:
            store.reset_usage(*usage[:3])
        store.driver.import_items([replace(item, state=None) for item in page.items])
        assert store.driver.export(None, 100).items == ()
        for _ in range(2):
            store.driver.import_items(page.items)
        assert store.driver.export(None, 100).items == page.items
        assert store.window("p", "k", "m", 60) == 3.0
        assert store.increment("p", "k", "m", 5, op_id="op") is False
        harness.wait(seconds=59)
        assert store.cache_get("ns", "k") == "v"
        harness.wait(seconds=1)
        assert store.cache_get("ns", "k") is None


def writes(store: RuntimeStore):
    """One of each kind of write, in an order in which each changes something."""
    yield lambda: store.increment("p", "w", "m", 1, op_id="w")
    yield lambda: store.set_usage("p", "w", "m", 5)
    yield lambda: store.reset_usage("p", "w", "m")
    yield lambda: store.cache_set("ns", "w", "v", 0)
    yield lambda: store.cache_delete("ns", "w")


@contextmanager
def changed_role(store: RuntimeStore, role: Role):
    meta = store.meta()
    assert store.driver.change_meta(meta, meta.changed(role=role))
    yield
    assert store.driver.change_meta(meta.changed(role=role), meta)
