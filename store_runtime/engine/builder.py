"""A builder process: turns sealed log files into segments, one request at a time.

Requests are JSON lines on standard input, replies JSON lines on standard output. The server keeps the catalogue; a
builder only makes files. It ends when its input ends, or when its parent dies, whichever comes first.
"""

import ctypes
import errno
import os
import signal
import sys
from pathlib import Path
from typing import BinaryIO

import msgspec

from store_runtime.engine.frames import scan
from store_runtime.engine.replay import Replayed, by_stream
from store_runtime.engine.rows import table
from store_runtime.engine.segments import Segment, stream_directory, write

NICENESS = 5
"""Building gives way to answering: what waits for it is durable already."""
_PR_SET_PDEATHSIG = 1


class BuildStream(msgspec.Struct):
    """A stream as a builder has to know it; batches before `after` were purged."""

    name: str
    indexed: tuple[str, ...]
    after: int


class BuildRequest(msgspec.Struct):
    """Build `wal` into segments whose names begin with `prefix` (never used before) below `directory`."""

    wal: str
    number: int
    directory: str
    prefix: str
    streams: dict[int, BuildStream]


class BuildReply(msgspec.Struct):
    """The segments made, or what went wrong."""

    segments: tuple[Segment, ...] = ()
    error: str = ""
    full: bool = False


def build(request: BuildRequest) -> BuildReply:
    """Every whole batch of a log file in segments that are on disk. Raises OSError, rows.Unreadable."""
    data = Path(request.wal).read_bytes()
    found = by_stream(scan(data), data, request.streams)
    segments = []
    for stream, replayed in sorted(found.items()):
        segment = _build_stream(request, stream, replayed, data)
        if segment is not None:
            segments.append(segment)
    return BuildReply(tuple(segments))


def _build_stream(request: BuildRequest, stream: int, replayed: Replayed, data: bytes) -> Segment | None:
    asked = request.streams[stream]
    frames = [frame for frame in replayed.frames if frame.header.first_sequence >= asked.after]
    if not frames:
        return None
    rows = table([(f.header, f.times(data), f.body(data)) for f in frames], replayed.columns)
    path = stream_directory(Path(request.directory), stream) / f"{request.prefix}-{stream}.parquet"
    return write(rows, path, stream=stream, name=asked.name, wal=request.number, indexed=asked.indexed)


def serve(requests: BinaryIO, replies: BinaryIO) -> None:
    """Answer until the input ends."""
    for line in requests:
        try:
            reply = build(msgspec.json.decode(line, type=BuildRequest))
        except Exception as error:
            full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
            reply = BuildReply(error=f"{type(error).__name__}: {error}"[:500], full=full)
        replies.write(msgspec.json.encode(reply) + b"\n")
        replies.flush()


def main() -> None:
    """Die with the parent, also when that is killed while a build is under way."""
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(NICENESS)
    serve(sys.stdin.buffer, sys.stdout.buffer)


if __name__ == "__main__":
    main()
