"""Dirty marks of the engine: which streams' configs and which blocks of entries were written since capture went on.

Item keys (docs/formats/keyspace.md): `config/<stream>` and `entries/<stream>/<block, 16 hex digits>`, the stream's name
percent-encoded, a block being BLOCK_ENTRIES consecutive sequences.
"""

from collections.abc import Iterable
from urllib.parse import quote, unquote

from store_runtime.engine.limits import BLOCK_ENTRIES
from store_runtime.errors import InvalidInput
from store_runtime.switch.driver import DirtyMark


def config_key(stream: str) -> str:
    return f"config/{quote(stream, safe='')}"


def block_key(stream: str, block: int) -> str:
    return f"entries/{quote(stream, safe='')}/{block:016x}"


def parse_key(key: str) -> tuple[str, int | None]:
    """(stream, block); the block is None for a config. Raises InvalidInput."""
    kind, _, rest = key.partition("/")
    name, _, block = rest.partition("/")
    try:
        if kind == "config" and name and not block:
            return unquote(name, errors="strict"), None
        if kind == "entries" and name:
            return unquote(name, errors="strict"), int(block, 16)
    except ValueError:
        pass
    raise InvalidInput(f"{key!r} is not the key of an item of a store of entries", field="key")


def blocks_of(first_sequence: int, last_sequence: int) -> range:
    return range(first_sequence // BLOCK_ENTRIES, last_sequence // BLOCK_ENTRIES + 1)


class Marks:
    """The marks in memory, and their version counter. Under the engine's lock.

    A batch's marks are durable by its frame, which carries their version, until its log file is built; from then on
    they are in the catalogue, as those of all other changes are from the start.
    """

    def __init__(self, marks: Iterable[DirtyMark], version: int) -> None:
        self._versions = {mark.key: mark.version for mark in marks}
        self.version = max([version, *self._versions.values()])

    def next_version(self) -> int:
        self.version += 1
        return self.version

    def set(self, keys: Iterable[str], version: int) -> list[DirtyMark]:
        """Mark keys with a version of `next_version` or of a replayed frame."""
        made = [DirtyMark(key, version) for key in keys]
        self._versions.update({mark.key: mark.version for mark in made})
        return made

    def first(self, limit: int) -> tuple[DirtyMark, ...]:
        return tuple(DirtyMark(key, self._versions[key]) for key in sorted(self._versions)[:limit])

    def those_of(self, keys: Iterable[str]) -> list[DirtyMark]:
        return [DirtyMark(key, self._versions[key]) for key in keys if key in self._versions]

    def clear(self, mark: DirtyMark) -> bool:
        if self._versions.get(mark.key) != mark.version:
            return False
        del self._versions[mark.key]
        return True

    def clear_all(self) -> None:
        self._versions = {}
