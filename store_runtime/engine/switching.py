"""The switch's view of an engine: its meta, capture, dirty marks, export and import (store_runtime.switch.driver).

Items are the configs of streams and blocks of entries (marks). A block keeps its sequences wherever it goes, so an
entry has the same key on both sides. Importing a block replaces it: segments that hold a part are written anew.
"""

import secrets
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from store_runtime.config.wire import Role
from store_runtime.engine.catalogue import StreamRow
from store_runtime.engine.entry_engine import Engine
from store_runtime.engine.limits import BLOCK_ENTRIES, EXPORT_PAGE_BYTES
from store_runtime.engine.marks import block_key, config_key, parse_key
from store_runtime.engine.query import Found
from store_runtime.engine.rows import from_entries
from store_runtime.engine.segments import Segment, stream_directory, write
from store_runtime.engine.state import StreamState
from store_runtime.errors import Fenced, InvalidInput, NotFound
from store_runtime.switch.driver import DirtyMark, ExportItem, ExportPage, FenceClass, StoreMeta

_RUN_BLOCKS = 16
"""Blocks read at a time by an export: one pass over a part for each run, a few megabytes of entries."""
_SEGMENT_ROWS = 131_072
"""Rows of an imported segment, about what one log file makes."""


class _ConfigState(msgspec.Struct):
    """The state of a `config/…` item."""

    max_age_ns: int
    max_bytes: int
    indexed: tuple[str, ...]
    declared: bool
    salt: int


class _BlockState(msgspec.Struct):
    """The state of an `entries/…` item: [time_ns, sequence, fields] each."""

    entries: list[tuple[int, int, dict[str, str]]]


class EngineSwitch:
    """Implements Switchable over an engine; the fence class is PROCESS, as one process has the directory."""

    fence_class = FenceClass.PROCESS

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._state = engine.state

    # -- meta and marks -------------------------------------------------------------------------------------------

    def read_meta(self) -> StoreMeta | None:
        return self._state.meta

    def change_meta(self, expected: StoreMeta | None, new: StoreMeta) -> bool:
        state = self._state
        with state.fence.exclusive(), state.changes:
            if state.meta != expected:
                return False
            self._write_meta(new)
            return True

    def set_capture(self, on: bool) -> None:
        state = self._state
        with state.fence.exclusive(), state.changes:
            if state.meta is None:
                raise NotFound("these entries carry no store yet; provision it first")
            self._write_meta(state.meta.changed(capture=on))

    def _write_meta(self, new: StoreMeta) -> None:
        """The marks go when capture does, the version counter stays."""
        state = self._state
        if state.capturing and not new.capture:
            with state.lock:
                version = state.marks.version
                state.marks.clear_all()
            state.catalogue.clear_marks(version, new)
        else:
            state.catalogue.write_meta(new)
        state.meta = new

    def dirty_marks(self, limit: int) -> tuple[DirtyMark, ...]:
        with self._state.changes, self._state.lock:  # a change marks before it shows: its mark is for nobody until then
            return self._state.marks.first(limit)

    def clear_mark(self, mark: DirtyMark) -> bool:
        """After a crash a mark of a batch that was not built may be back: it is copied once more, which is harmless."""
        with self._state.changes:
            with self._state.lock:
                cleared = self._state.marks.clear(mark)
            if cleared:
                self._state.catalogue.clear_mark(mark)
            return cleared

    # -- reading --------------------------------------------------------------------------------------------------

    def export(self, cursor: str | None, limit: int) -> ExportPage:
        items: list[ExportItem] = []
        size = 0
        for item, item_bytes in self._items(cursor):
            if len(items) == limit or size > EXPORT_PAGE_BYTES:
                return ExportPage(tuple(items), items[-1].key)
            items.append(item)
            size += item_bytes
        return ExportPage(tuple(items), None)

    def _items(self, cursor: str | None) -> Iterator[tuple[ExportItem, int]]:
        """Every item behind the cursor in key order, with about its size."""
        rows = sorted(self._engine.streams(), key=lambda row: config_key(row.name))
        for row in rows:
            if cursor is None or config_key(row.name) > cursor:
                yield ExportItem(config_key(row.name), _config_state(row)), 300
        for row in rows:
            yield from self._blocks(row.name, cursor)

    def _blocks(self, stream: str, cursor: str | None) -> Iterator[tuple[ExportItem, int]]:
        try:
            blocks = [b for b in self._present_blocks(stream) if cursor is None or block_key(stream, b) > cursor]
            while blocks:
                run = [block for block in blocks[:_RUN_BLOCKS] if block < blocks[0] + _RUN_BLOCKS]
                blocks = blocks[len(run) :]
                for block, entries in sorted(self._read_blocks(stream, run[0], run[-1]).items()):
                    size = sum(40 + sum(len(k) + len(v) for k, v in entry.fields.items()) for entry in entries)
                    yield ExportItem(block_key(stream, block), _block_state(entries)), size
        except NotFound:
            return  # deleted meanwhile: its dirty marks say so

    def _present_blocks(self, stream: str) -> list[int]:
        with self._state.lock:
            return self._state.named(stream).blocks()

    def _read_blocks(self, stream: str, first: int, last: int) -> dict[int, list[Found]]:
        blocks: dict[int, list[Found]] = {}
        bounds = first * BLOCK_ENTRIES, (last + 1) * BLOCK_ENTRIES - 1
        for entry in self._engine.reader.entries_between(stream, *bounds):
            blocks.setdefault(entry.sequence // BLOCK_ENTRIES, []).append(entry)
        return blocks

    def read_items(self, keys: Sequence[str]) -> tuple[ExportItem, ...]:
        return tuple(ExportItem(key, self._read_item(key)) for key in keys)

    def _read_item(self, key: str) -> dict[str, Any] | None:
        stream, block = parse_key(key)
        try:
            if block is None:
                return _config_state(self._engine.stream(stream))
            entries = self._read_blocks(stream, block, block).get(block)
        except NotFound:
            return None
        return None if entries is None else _block_state(entries)

    # -- importing ------------------------------------------------------------------------------------------------

    def import_items(self, items: Sequence[ExportItem]) -> None:
        """Configs first, then all blocks in one transaction. Killed in between: the same import again completes it."""
        configs, blocks = _parsed(items)
        state = self._state
        with state.fence.exclusive():
            self._require_importable()
            if any(name in state.by_name and state.by_name[name].tail.chunks for name in blocks):
                self._engine.settle()
            with state.changes:
                self._import_configs(configs)
                self._import_blocks(blocks)

    def _require_importable(self) -> None:
        meta = self._state.meta
        if meta is None or meta.role not in (Role.TARGET, Role.ACTIVE):
            raise Fenced("entries are only imported into a store whose role is target or active")

    def _import_configs(self, configs: dict[str, _ConfigState | None]) -> None:
        state = self._state
        for name, config in configs.items():
            found = state.by_name.get(name)
            if config is None:
                if found is not None:
                    self._engine.remove_stream(name)
                continue
            named = StreamRow(0, name, **msgspec.structs.asdict(config))
            if found is None:
                self._engine.create_stream(named)
            elif _config_state(found.row) != _config_state(named):
                row = msgspec.structs.replace(found.current_row(), **msgspec.structs.asdict(config))
                state.catalogue.update_streams([row], state.mark([config_key(name)]))
                with state.lock:
                    found.row = row

    def _import_blocks(self, blocks: dict[str, dict[int, list[Found]]]) -> None:
        state = self._state
        removed: list[Segment] = []
        added: list[Segment] = []
        keys: list[str] = []
        for name, replaced in blocks.items():
            if name not in state.by_name:
                if not any(replaced.values()):
                    continue
                self._engine.create_stream(StreamRow(0, name))
            old, new = self._rewritten(state.by_name[name], replaced)
            removed += old
            added += new
            keys += [block_key(name, block) for block in replaced]
        rows = self._raised(added)
        state.catalogue.replace_segments(removed, added, rows, state.mark(keys))
        self._show(removed, added)

    def _rewritten(self, found: StreamState, replaced: dict[int, list[Found]]) -> tuple[list[Segment], list[Segment]]:
        """The segments that hold a part of these blocks, and new ones with the blocks as they should be."""
        old = [s for s in found.segments if any(_overlaps(s, block) for block in replaced)]
        entries = [entry for block in replaced.values() for entry in block]
        for segment in old:
            kept = self._engine.reader.entries_between(
                found.row.name, segment.first_sequence, segment.last_sequence, only=segment
            )
            entries += [entry for entry in kept if entry.sequence // BLOCK_ENTRIES not in replaced]
        entries.sort(key=lambda entry: (entry.time_ns, entry.sequence))
        runs = [entries[start : start + _SEGMENT_ROWS] for start in range(0, len(entries), _SEGMENT_ROWS)]
        return old, [self._write(found.row, run) for run in runs]

    def _write(self, row: StreamRow, entries: Sequence[Found]) -> Segment:
        directory = stream_directory(self._state.paths.segments, row.id)
        path = directory / f"import-{secrets.token_hex(8)}-{row.id}.parquet"
        return write(from_entries(entries), path, stream=row.id, name=row.name, wal=0, indexed=row.indexed)

    def _raised(self, added: Iterable[Segment]) -> list[StreamRow]:
        """The rows of streams that got sequences beyond their own: theirs go on behind them."""
        rows: dict[int, StreamRow] = {}
        for segment in added:
            found = self._state.by_id[segment.stream]
            found.next_sequence = max(found.next_sequence, segment.last_sequence + 1)
            rows[segment.stream] = found.current_row()
        return list(rows.values())

    def _show(self, removed: Sequence[Segment], added: Sequence[Segment]) -> None:
        state = self._state
        gone = {segment.file for segment in removed}
        with state.lock:
            for number in {segment.stream for segment in (*removed, *added)}:
                found = state.by_id[number]
                kept = [segment for segment in found.segments if segment.file not in gone]
                found.segments = kept + [segment for segment in added if segment.stream == number]
        self._engine.unlink(removed)


def _overlaps(segment: Segment, block: int) -> bool:
    return segment.overlaps(block * BLOCK_ENTRIES, (block + 1) * BLOCK_ENTRIES - 1)


def _config_state(row: StreamRow) -> dict[str, Any]:
    named = _ConfigState(row.max_age_ns, row.max_bytes, row.indexed, row.declared, row.salt)
    return {**msgspec.structs.asdict(named), "indexed": list(row.indexed)}


def _block_state(entries: Sequence[Found]) -> dict[str, Any]:
    return {"entries": [[entry.time_ns, entry.sequence, entry.fields] for entry in entries]}


def _parsed(
    items: Sequence[ExportItem],
) -> tuple[dict[str, _ConfigState | None], dict[str, dict[int, list[Found]]]]:
    """Configs by stream, and entries by stream and block; raises InvalidInput that names the key."""
    configs: dict[str, _ConfigState | None] = {}
    blocks: dict[str, dict[int, list[Found]]] = {}
    for item in items:
        stream, block = parse_key(item.key)
        try:
            if block is None:
                configs[stream] = None if item.state is None else msgspec.convert(item.state, _ConfigState)
            else:
                entries = [] if item.state is None else msgspec.convert(item.state, _BlockState).entries
                blocks.setdefault(stream, {})[block] = [Found(*entry) for entry in entries]
        except msgspec.ValidationError as error:
            raise InvalidInput(f"the state of {item.key} is not one: {error}", field=item.key) from error
    return configs, blocks
