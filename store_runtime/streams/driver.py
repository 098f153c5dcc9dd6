"""What a backend of Streams has to do: the driver protocol, its contract as prose.

Drivers get what the portable class validated: names, batches, windows.

 1. *Durable*: when the future of `append` resolves, the whole batch is on disk, or nothing of it will ever be seen. One
    that failed was not acknowledged; after a crash it is there as a whole or not at all.
 2. *Visible at once*: a query that begins after an acknowledgement sees the batch, in each stage of being built.
 3. *Keys* of entries never change, also not by a restart or a switch; no two entries have the same.
 4. *Order* is by (time, sequence). Pages that go on behind a position have no entry twice, whatever is ingested.
 5. *Retention* is exact in every answer from the moment it is configured: entries older than `max_age_ns` are in none;
    `max_bytes` counts what is on disk and evicts the oldest. `retain` gives the space back.
 6. *Fence*: rules of store_runtime.switch.driver for every write.
 7. *Errors*: StoreError only. OutOfSpace and Overloaded say that nothing was stored; reads go on.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Protocol

from store_runtime.config.wire import RetainResult
from store_runtime.streams.model import Entry, EntryBatch, Position, StreamConfig, Window
from store_runtime.switch.driver import Switchable


class StreamDriver(Switchable, Protocol):
    """One backend's streams. What is asked of an unknown stream raises NotFound."""

    def streams(self) -> dict[str, StreamConfig]:
        """Every stream, by name."""
        ...

    def config(self, stream: str) -> StreamConfig | None:
        """None: there is no such stream."""
        ...

    def put_streams(self, configs: Mapping[str, StreamConfig]) -> None:
        """Create or change streams, durably; one that is as wanted already costs nothing."""
        ...

    def delete_stream(self, stream: str) -> None:
        """Remove entries and config. A stream of that name made later has nothing of it."""
        ...

    def purge_stream(self, stream: str) -> None:
        """Remove all entries that were acknowledged before, keep the config."""
        ...

    def append(self, stream: str, batch: EntryBatch) -> "Future[None]":
        """Resolves when the batch is durable and visible. Raises Overloaded, Fenced at once."""
        ...

    def find(
        self, stream: str, window: Window, *, limit: int, ascending: bool, after: Position | None
    ) -> Sequence[Entry]:
        """Up to `limit` entries in order, those behind `after` in that order."""
        ...

    def count(self, stream: str, window: Window) -> int:
        """How many entries."""
        ...

    def fields(self, stream: str) -> list[str]:
        """Names of the fields of what is kept, sorted."""
        ...

    def distinct(self, stream: str, fields: tuple[str, ...], limit: int) -> Mapping[str, list[str]]:
        """Each field's values, sorted; of at most `limit` of them."""
        ...

    def usage_bytes(self, stream: str) -> int:
        """Bytes on disk, what is not built yet included."""
        ...

    def retain(self, *, dry_run: bool = False) -> RetainResult:
        """Drop what no query sees any more."""
        ...

    def warnings(self) -> list[tuple[str, str]]:
        """What wants a person (damaged data put aside, log that cannot be built): a CamelCase reason, a sentence."""
        ...

    def check(self) -> None:
        """Raise BackendUnreachable (or what else is wrong) if calls could not be served now."""
        ...

    def close(self) -> None:
        """Let go of files and processes; idempotent."""
        ...
