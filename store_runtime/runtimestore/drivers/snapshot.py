"""A ledger as one file: what the file driver starts from instead of all the journals before it.

Written to a temporary file, synced and renamed, so a snapshot that has its name is whole. Format:
docs/formats/usage-journal.md.
"""

import os
from collections.abc import Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from store_runtime.errors import Corrupt, SchemaTooNew
from store_runtime.runtimestore.commands import Imported, MetaChanged
from store_runtime.runtimestore.drivers.frames import framed, frames
from store_runtime.runtimestore.ledger import Ledger
from store_runtime.runtimestore.rings import Level

FORMAT = 1
"""Version of journals and snapshots; what is newer is refused."""

_PAGE_ITEMS = 100
"""Items in one frame: at most 38 MB of the largest cache values."""


class Head(msgspec.Struct, frozen=True, tag="snapshot"):
    """First frame: what belongs to the store as a whole."""

    format: int
    generation: int
    levels: tuple[tuple[int, int], ...]
    meta: dict[str, Any] | None
    version: int
    dirty: dict[str, int]


class Items(msgspec.Struct, frozen=True, tag="items"):
    """Some items, as their export states."""

    items: tuple[tuple[str, dict[str, Any]], ...]


class Tail(msgspec.Struct, frozen=True, tag="end"):
    """Last frame: how many items came before it."""

    items: int


_DECODER = msgspec.msgpack.Decoder(Head | Items | Tail)


def write_snapshot(path: Path, generation: int, ledger: Ledger) -> None:
    """Put the ledger at `path`, wholly or not at all; the caller holds the lock, so nothing changes meanwhile."""
    temporary = path.with_suffix(".tmp")
    try:
        with temporary.open("wb") as file:
            for part in _parts(generation, ledger):
                file.write(framed(msgspec.msgpack.encode(part)))
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def _parts(generation: int, ledger: Ledger) -> Iterator[Head | Items | Tail]:
    meta = asdict(ledger.meta) if ledger.meta else None
    yield Head(FORMAT, generation, ledger.levels, meta, ledger.version, ledger.dirty)
    keys, count = ledger.keys(), 0
    while page := tuple((key, ledger.state(key) or {}) for key in islice(keys, _PAGE_ITEMS)):
        count += len(page)
        yield Items(page)
    yield Tail(count)


def read_snapshot(path: Path) -> Ledger:
    """The ledger in a snapshot; raises FileNotFoundError, SchemaTooNew or Corrupt."""
    parts = _decoded(path)
    head = next(parts, None)
    if not isinstance(head, Head):
        raise _damaged(path)
    require_known(head.format, path)
    ledger = Ledger([Level(*level) for level in head.levels])
    count = 0
    for part in parts:
        if isinstance(part, Items):
            ledger.apply(Imported(part.items))
            count += len(part.items)
    if part != Tail(count):
        raise _damaged(path)
    if head.meta:
        ledger.apply(MetaChanged(head.meta))
    ledger.version, ledger.dirty = head.version, dict(head.dirty)
    return ledger


def _decoded(path: Path) -> Iterator[Head | Items | Tail]:
    for _, payload in frames(path.read_bytes()):
        try:
            yield _DECODER.decode(payload)
        except msgspec.MsgspecError:
            raise _damaged(path) from None


def require_known(version: int, path: Path) -> None:
    """Raises SchemaTooNew if a newer version of the program wrote the file."""
    if version > FORMAT:
        raise SchemaTooNew(f"{path.name} has format {version}; this version reads up to {FORMAT}: use a newer runtime")


def _damaged(path: Path) -> Corrupt:
    return Corrupt(f"{path.name} is damaged; restore it from a backup, or remove the store's directory to start anew")


def sync_directory(directory: Path) -> None:
    """Make names that were created or renamed in `directory` durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
