"""What a log file holds, by stream: the reading that recovery and builders share."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

import msgspec

from store_runtime.engine.frames import Frame, Kind, Scan, columns_of
from store_runtime.engine.rows import RESERVED, REST

_Keys = msgspec.json.Decoder(dict[str, msgspec.Raw])
_TIME_KEY = "_time"


@dataclass(slots=True)
class Replayed:
    """The batches of one stream in a log file, in order, and all columns that they use."""

    columns: tuple[str, ...] = ()
    frames: list[Frame] = field(default_factory=list)


def by_stream(scan: Scan, data: bytes, wanted: Collection[int] | None = None) -> dict[int, Replayed]:
    """Batches by stream. Where damage may have cost a columns frame, the columns are read off the entries."""
    found: dict[int, Replayed] = {}
    for frame in scan.frames:
        stream = frame.header.stream
        if wanted is not None and stream not in wanted:
            continue
        replayed = found.setdefault(stream, Replayed())
        if frame.header.kind == Kind.COLUMNS:
            replayed.columns = union(replayed.columns, columns_of(frame.body(data)))
        elif frame.header.kind == Kind.BATCH:
            replayed.frames.append(frame)
            if scan.damaged:
                replayed.columns = union(replayed.columns, _columns_in(frame.body(data)))
    return found


def union(columns: tuple[str, ...], more: Iterable[str]) -> tuple[str, ...]:
    """Both, each once, in the order of their first appearance."""
    return tuple(dict.fromkeys((*columns, *more)))


def _columns_in(body: bytes) -> list[str]:
    names = dict.fromkeys(name for entry in _Keys.decode_lines(body) for name in entry)
    return [name for name in names if name == REST or (name not in RESERVED and name != _TIME_KEY)]
