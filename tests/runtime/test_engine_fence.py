"""The fence lock, and that the engine holds it from before a write reads the meta until it is acknowledged."""

import threading

import pytest

from store_runtime.config.wire import Role
from store_runtime.engine.disk import Disk
from store_runtime.engine.fence import FenceLock
from store_runtime.engine.limits import Limits
from store_runtime.streams.model import Window
from tests.backends.test_streams_engine import EngineHarness
from tests.conformance.streams import META

NOT_YET_SECONDS = 0.2
"""How long something that must not happen is given to happen."""


def test_exclusive_waits_for_all_shared_and_goes_before_new_ones():
    fence, order = FenceLock(), []
    fence.acquire_shared()
    fence.acquire_shared()

    def exclusive():
        with fence.exclusive():
            order.append("exclusive")

    def shared():
        with fence.shared():
            order.append("shared")

    first = threading.Thread(target=exclusive)
    first.start()
    first.join(NOT_YET_SECONDS)
    second = threading.Thread(target=shared)
    second.start()
    second.join(NOT_YET_SECONDS)
    fence.release_shared()
    first.join(NOT_YET_SECONDS)
    assert order == []
    fence.release_shared()
    first.join()
    second.join()
    assert order == ["exclusive", "shared"]


class SlowDisk(Disk):
    """A sync that ends when it is let."""

    def __init__(self) -> None:
        self.reached, self.go_on = threading.Event(), threading.Event()

    def sync(self, descriptor: int) -> None:
        self.reached.set()
        self.go_on.wait(30)
        super().sync(descriptor)


@pytest.fixture
def harness(tmp_path):
    made = EngineHarness(tmp_path / "entries")
    yield made
    made.close()


def test_a_fence_is_closed_only_when_the_last_write_is_acknowledged(harness):
    disk = SlowDisk()
    harness.options = {"limits": Limits(reserve_bytes=0), "disk": disk}
    streams = harness.streams()
    writer = threading.Thread(target=streams.ingest, args=("s", b'{"a":"1"}'))
    writer.start()
    assert disk.reached.wait(30)
    change = threading.Thread(target=streams.driver.change_meta, args=(META, META.changed(role=Role.FENCED)))
    change.start()
    change.join(NOT_YET_SECONDS)
    assert change.is_alive()
    assert streams.count("s", Window()) == 0, "not durable, so not visible"
    disk.go_on.set()
    change.join()
    writer.join()
    assert streams.driver.read_meta().role is Role.FENCED
    assert streams.count("s", Window()) == 1
