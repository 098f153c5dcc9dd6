"""The entry engine as a driver of Streams: names and shapes of one in those of the other, nothing more."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from store_runtime.config.wire import RetainResult
from store_runtime.engine.catalogue import StreamRow
from store_runtime.engine.entry_engine import Engine
from store_runtime.engine.keys import entry_key
from store_runtime.engine.query import Selection
from store_runtime.engine.switching import EngineSwitch
from store_runtime.engine.wal import Batch
from store_runtime.streams.model import Entry, EntryBatch, Position, StreamConfig, Window


class EntryEngineDriver(EngineSwitch):
    """StreamDriver over an opened engine, which it closes. Fence class PROCESS."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self.engine = engine

    def streams(self) -> dict[str, StreamConfig]:
        return {row.name: _config(row) for row in self.engine.streams()}

    def config(self, stream: str) -> StreamConfig | None:
        row = self.engine.find_stream(stream)
        return None if row is None else _config(row)

    def put_streams(self, configs: Mapping[str, StreamConfig]) -> None:
        self.engine.put_streams(
            StreamRow(0, name, config.max_age_ns, config.max_bytes, config.indexed_fields, config.declared)
            for name, config in configs.items()
        )

    def delete_stream(self, stream: str) -> None:
        self.engine.delete_stream(stream)

    def purge_stream(self, stream: str) -> None:
        self.engine.purge_stream(stream)

    def append(self, stream: str, batch: EntryBatch) -> "Future[Any]":
        return self.engine.append(stream, Batch(*batch))

    def find(
        self, stream: str, window: Window, *, limit: int, ascending: bool, after: Position | None
    ) -> Sequence[Entry]:
        salt = self.engine.stream(stream).salt
        found = self.engine.reader.find(stream, _selection(window), limit=limit, ascending=ascending, after=after)
        return [
            Entry(entry_key(time_ns, sequence, salt), Position(time_ns, sequence), fields)
            for time_ns, sequence, fields in found
        ]

    def count(self, stream: str, window: Window) -> int:
        return self.engine.reader.count(stream, _selection(window))

    def fields(self, stream: str) -> list[str]:
        return self.engine.reader.names(stream)

    def distinct(self, stream: str, fields: tuple[str, ...], limit: int) -> Mapping[str, list[str]]:
        return self.engine.reader.distinct(stream, fields, limit)

    def usage_bytes(self, stream: str) -> int:
        return self.engine.usage_bytes(stream)

    def retain(self, *, dry_run: bool = False) -> RetainResult:
        dropped = self.engine.retain(dry_run=dry_run)
        entries = dropped.expired_rows, dropped.evicted_rows
        return RetainResult(expired=entries[0], evicted=entries[1], segments=dropped.segments)

    def warnings(self) -> list[tuple[str, str]]:
        return self.engine.warnings()

    def check(self) -> None:
        self.engine.check()

    def close(self) -> None:
        self.engine.close()


def _config(row: StreamRow) -> StreamConfig:
    return StreamConfig(row.max_age_ns, row.max_bytes, row.indexed, row.declared)


def _selection(window: Window) -> Selection:
    return Selection(window.from_ns, window.to_ns, window.equal)
