"""How the Switchable contract writes and reads items of a RuntimeStore's driver: totals with their rings."""

from abc import abstractmethod

from store_runtime.clock import ManualClock
from store_runtime.runtimestore.driver import UsageDriver
from store_runtime.runtimestore.keys import usage_key
from tests.conformance.switchable import SwitchHarness


class UsageSwitchHarness(SwitchHarness):
    """An item is one metric; its value is its total."""

    def __init__(self) -> None:
        self.clock = ManualClock()

    @abstractmethod
    def open(self, backend: str, epoch: int = 1) -> UsageDriver: ...

    def write(self, driver: UsageDriver, name: str, value: int) -> None:
        delta = value - self.read(driver, name)
        driver.increment([(self.key(name), float(delta))], None, self.clock.now_ns())

    def read(self, driver: UsageDriver, name: str) -> int:
        return int(driver.totals([self.key(name)])[0])

    def key(self, name: str) -> str:
        return usage_key("p", name, "m")
