"""What each kind consists of: the one place that tells a LogStore from a RuntimeStore, for the jobs and the server.

A LogStore with entries is two stores, the request logs and the entry engine, that live and move together.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Protocol

from store_runtime.clock import Clock
from store_runtime.config.runtime import LogStoreConfig, RuntimeStoreConfig
from store_runtime.switch.driver import StoreMeta, Switchable

Config = LogStoreConfig | RuntimeStoreConfig


class Store(Protocol):
    """What every portable store class has."""

    driver: Any  # a Switchable, and what the store's own driver protocol adds

    @property
    def schema_version(self) -> str: ...

    def meta(self) -> StoreMeta: ...

    def check_backend(self) -> None: ...

    def close(self) -> None: ...


class Opening(Protocol):
    """A store package's `opening` module: the only one that knows which driver a config means."""

    def open_store(self, config: Any, clock: Clock) -> Any: ...

    def provision(self, config: Any) -> StoreMeta: ...

    def migrate(self, config: Any) -> str: ...

    def release(self, config: Any) -> None: ...

    def destroy(self, config: Any) -> None: ...


@dataclass(frozen=True, slots=True)
class Runtime:
    """A config and its opened stores: `store` is the kind's own, `streams` those that a LogStore hosts."""

    config: Config
    store: Any
    streams: Any | None = None

    @property
    def stores(self) -> Sequence[Store]:
        return (self.store,) if self.streams is None else (self.store, self.streams)

    @property
    def drivers(self) -> Sequence[Switchable]:
        return [store.driver for store in self.stores]

    def close(self) -> None:
        """Close every store, also when closing one fails."""
        with ExitStack() as stack:
            for store in self.stores:
                stack.callback(store.close)


def openings(config: Config) -> Sequence[Opening]:
    """The opening modules of a config's stores, the kind's own first. Imported here: each brings heavy libraries."""
    if isinstance(config, RuntimeStoreConfig):
        from store_runtime.runtimestore import opening as usage

        return (usage,)
    from store_runtime.logstore import opening as logs

    if config.entries is None:
        return (logs,)
    from store_runtime.streams import opening as streams

    return (logs, streams)


def open_runtime(config: Config, clock: Clock) -> Runtime:
    """Open for serving: nothing is created or migrated. Raises what the stores' `open_store` raises."""
    with ExitStack() as stack:
        stores = []
        for opening in openings(config):
            store = opening.open_store(config, clock)
            stack.callback(store.close)
            stores.append(store)
        stack.pop_all()
    return Runtime(config, *stores)
