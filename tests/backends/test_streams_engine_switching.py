"""The Switchable contract on the entry engine: an item is a stream's first block, its value that of its last entry."""

from pathlib import Path

import msgspec
import pytest

from store_runtime.clock import ManualClock
from store_runtime.engine.entry_engine import Engine
from store_runtime.engine.limits import Limits
from store_runtime.engine.marks import block_key
from store_runtime.streams.drivers.entry_engine import EntryEngineDriver
from store_runtime.streams.model import EntryBatch, StreamConfig
from tests.conformance.switchable import SwitchableContract, SwitchHarness


class EngineSwitchHarness(SwitchHarness):
    """`wal_file_bytes`: small ones make builds go on between the steps of a case."""

    durable, shared = True, False

    def __init__(self, directory: Path, wal_file_bytes: int) -> None:
        self.directory = directory
        self.limits = Limits(reserve_bytes=0, wal_file_bytes=wal_file_bytes)
        self.clock = ManualClock()

    def open(self, backend: str, epoch: int = 1) -> EntryEngineDriver:
        directory = self.directory / backend
        Engine.create(directory)
        return EntryEngineDriver(Engine(directory, epoch=epoch, clock=self.clock, limits=self.limits))

    def write(self, driver: EntryEngineDriver, name: str, value: int) -> None:
        if driver.config(name) is None:
            driver.put_streams({name: StreamConfig()})
        now_ns = self.clock.now_ns()
        body = msgspec.json.encode({"v": str(value)})
        driver.append(name, EntryBatch(("v",), 1, now_ns, now_ns, b"", body)).result()

    def read(self, driver: EntryEngineDriver, name: str) -> int:
        (item,) = driver.read_items([self.key(name)])
        return int(item.state["entries"][-1][2]["v"]) if item.state else 0

    def key(self, name: str) -> str:
        return block_key(name, 0)


class TestEngineSwitching(SwitchableContract):
    @pytest.fixture(params=[1 << 20, 2000])
    def switching(self, tmp_path, request) -> EngineSwitchHarness:
        return EngineSwitchHarness(tmp_path, request.param)
