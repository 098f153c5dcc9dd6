"""The memory driver: the contract, and what is particular to it: it is bounded."""

from datetime import timedelta

import pytest

from store_runtime.config.runtime import Cache
from store_runtime.errors import Overloaded, TooLarge
from store_runtime.runtimestore.drivers.memory import MemoryDriver
from store_runtime.runtimestore.model import Limits
from store_runtime.runtimestore.rings import levels_for
from store_runtime.runtimestore.store import RuntimeStore
from tests.conformance.runtime_store import META, WINDOWS, Harness, RuntimeStoreContract
from tests.conformance.switchable import SwitchableContract
from tests.conformance.usage_switching import UsageSwitchHarness


class MemoryHarness(Harness):
    durable = shared = False

    def driver(self, windows=WINDOWS, limits: Limits = Limits()):  # noqa: B008
        driver = MemoryDriver(levels_for(windows), limits)
        driver.change_meta(None, META)
        return driver

    def small(self, **limits: int) -> RuntimeStore:
        return RuntimeStore(self.driver(limits=Limits(**limits)), WINDOWS, Cache(), self.clock)


@pytest.fixture
def harness():
    return MemoryHarness()


class TestMemoryRuntimeStore(RuntimeStoreContract):
    pass


class MemorySwitchHarness(UsageSwitchHarness):
    durable = shared = False

    def open(self, backend: str, epoch: int = 1) -> MemoryDriver:
        return MemoryDriver(levels_for(WINDOWS), Limits(), epoch)


class TestMemorySwitchable(SwitchableContract):
    @pytest.fixture
    def switching(self):
        return MemorySwitchHarness()


def test_a_full_store_refuses_new_metrics_and_goes_on_with_old_ones(harness):
    store = harness.small(metrics_max=2)
    store.increment("p", "a", "m", 1)
    store.set_usage("p", "b", "m", 1)
    for write in (store.increment, store.set_usage):
        with pytest.raises(TooLarge, match="2 metrics"):
            write("p", "c", "m", 1)
    store.increment("p", "a", "m", 1)
    assert store.get_usage("p", "a", "m") == 2.0
    store.reset_usage("p", "b", "m")
    store.increment("p", "c", "m", 1)


def test_a_full_cache_refuses_new_entries_until_some_expire(harness):
    store = harness.small(cache_entries_max=200)
    for entry in range(200):
        store.cache_set("ns", str(entry), "v", 10)
    with pytest.raises(TooLarge, match="200 entries"):
        store.cache_set("ns", "new", "v", 10)
    store.cache_set("ns", "7", "w", 10)
    harness.clock.advance(timedelta(seconds=10))
    for entry in range(200):
        store.cache_set("ns", f"new {entry}", "v", 10)
    assert len(store.driver.export(None, 1000).items) == 200


def test_a_cache_is_bounded_in_bytes_too(harness):
    store = harness.small(cache_bytes_max=1000)
    store.cache_set("ns", "a", "ü" * 400, 10)
    with pytest.raises(TooLarge, match="1000"):
        store.cache_set("ns", "b", "x" * 201, 10)
    store.cache_set("ns", "a", "x" * 1000, 10)
    harness.clock.advance(timedelta(seconds=10))
    store.cache_set("ns", "b", "x" * 1000, 10)


def test_expired_items_go_with_later_writes(harness):
    store = harness.store()
    for entry in range(50):
        store.cache_set("ns", str(entry), "v", 10)
        store.increment("p", "k", "m", 1, op_id=str(entry))
    harness.clock.advance(timedelta(seconds=600))
    store.increment("p", "k", "m", 1)
    assert [item.key for item in store.driver.export(None, 1000).items] == ["u/p/k/m"]


def test_too_many_op_ids_are_overload_that_passes(harness):
    store = harness.small(op_ids_max=3)
    for op in range(3):
        store.increment("p", "k", "m", 1, op_id=str(op))
    harness.clock.advance(timedelta(seconds=590))
    with pytest.raises(Overloaded) as error:
        store.increment("p", "k", "m", 1, op_id="one more")
    assert error.value.retry_after == pytest.approx(10)
    assert store.increment("p", "k", "m", 1, op_id="1") is False
    harness.clock.advance(timedelta(seconds=10))
    store.increment("p", "k", "m", 1, op_id="one more")
    assert store.get_usage("p", "k", "m") == 4.0


def test_rewriting_one_entry_leaves_no_trail(harness):
    store = harness.store()
    for _ in range(5000):
        store.cache_set("ns", "k", "v", 3600)
    with store.driver._view() as ledger:
        assert len(ledger._expiring) < 2000
