"""Request logs as items of a switch: SwitchHarness for any SQL backend."""

from abc import abstractmethod
from contextlib import closing

import pytest

from store_runtime.clock import ManualClock
from store_runtime.config.runtime import StoreIdentity
from store_runtime.errors import NotFound, OwnedByAnother
from store_runtime.logstore.drivers.dialect import Dialect
from store_runtime.logstore.drivers.identity import SqlIdentity
from store_runtime.logstore.drivers.sql import SqlLogDriver
from store_runtime.logstore.model import RequestLog, RequestLogChange
from store_runtime.logstore.opening import MIGRATIONS
from store_runtime.logstore.store import LogStore
from store_runtime.switch.ownership import release
from tests.conformance.log_store import START
from tests.conformance.switchable import STORE, SwitchableContract, SwitchHarness


class LogSwitchHarness(SwitchHarness):
    """A value is an item's `prompt_tokens`; its payload says it again."""

    durable = shared = True
    schema_version = "0001"

    def __init__(self) -> None:
        self.clock = ManualClock(START)

    @abstractmethod
    def dialect(self, backend: str) -> Dialect:
        """Of the database of that name, which is made when it is asked for first."""

    def open(self, backend: str, epoch: int = 1, store: StoreIdentity = STORE) -> SqlLogDriver:
        dialect = self.dialect(backend)
        driver = SqlLogDriver(dialect, SqlIdentity(dialect, store, epoch=epoch))
        driver.create_home()
        with driver.migrating() as connection:
            assert MIGRATIONS.upgrade(connection) == self.schema_version
        return driver

    def write(self, driver, name, value):
        store = LogStore(driver, self.clock)
        fields = {"prompt_tokens": value, "payload": {"value": value}}
        if not store.create_if_absent(RequestLog(id=name, timestamp=START, **fields)):
            store.update(name, RequestLogChange(**fields))

    def read(self, driver, name):
        try:
            found = LogStore(driver, self.clock).get(name)
        except NotFound:
            return 0
        assert found.payload == {"value": found.prompt_tokens}
        return found.prompt_tokens

    def key(self, name):
        return name


class LogSwitchableContract(SwitchableContract):
    """These drivers also refuse writes of an owner that lost its store."""

    def test_another_owner_is_refused_until_the_store_is_released(self, switching, driver):
        switching.write(driver, "a", 7)
        adopter = STORE.model_copy(update={"owner": "owner-2"})
        with closing(switching.open("source", store=adopter)) as other:
            with pytest.raises(OwnedByAnother, match="owner-1"):
                switching.claim(other, adopter)
            with pytest.raises(OwnedByAnother):
                switching.write(other, "a", 8)
            release(driver, STORE)
            switching.claim(other, adopter)
            assert switching.read(other, "a") == 7
            switching.write(other, "a", 9)
        with pytest.raises(OwnedByAnother):
            switching.write(driver, "a", 10)
        assert switching.read(driver, "a") == 9
