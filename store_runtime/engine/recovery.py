"""What an engine does with its directory before it opens: cut torn log, forget leftovers, put damage aside.

Nothing here decides by itself that acknowledged entries may go: only bytes behind the last whole frame, files that the
catalogue says are built, and files that it never knew are removed. Everything found is logged and counted.
"""

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from store_runtime.engine.catalogue import Catalogue
from store_runtime.engine.disk import sync_directory
from store_runtime.engine.frames import NewerLog, NotALog, Scan, scan
from store_runtime.engine.metrics import DAMAGE, TORN_BYTES
from store_runtime.engine.segments import Segment
from store_runtime.engine.wal import WalFile
from store_runtime.errors import SchemaTooNew

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Paths:
    """Where an engine's files are."""

    root: Path

    @property
    def lock(self) -> Path:
        return self.root / "lock"

    @property
    def wal(self) -> Path:
        return self.root / "wal"

    @property
    def segments(self) -> Path:
        return self.root / "segments"

    @property
    def quarantine(self) -> Path:
        return self.root / "quarantine"

    def segment(self, segment: Segment) -> Path:
        return self.segments / str(segment.stream) / segment.file

    def create(self) -> None:
        for directory in (self.root, self.wal, self.segments, self.quarantine):
            directory.mkdir(parents=True, exist_ok=True)
        sync_directory(self.root)


def unbuilt_files(paths: Paths, catalogue: Catalogue) -> Iterator[tuple[WalFile, Scan, bytes]]:
    """Every log file that has to be built, oldest first, cut where it was torn; raises SchemaTooNew."""
    built = catalogue.built()
    for path in sorted(paths.wal.glob("*.wal")):
        if _number(path) in built:
            path.unlink()
            continue
        recovered = _recovered(paths, path)
        if recovered is not None:
            yield recovered
    sync_directory(paths.wal)
    catalogue.forget_built(built)


def next_number(paths: Paths, catalogue: Catalogue) -> int:
    """A number that no log file has or had."""
    there = [_number(path) for directory in (paths.wal, paths.quarantine) for path in directory.glob("*.wal")]
    return max([0, *there, *catalogue.built()]) + 1


def _number(path: Path) -> int:
    return int(path.name.split(".")[0]) if path.name.split(".")[0].isdigit() else 0


def _recovered(paths: Paths, path: Path) -> tuple[WalFile, Scan, bytes] | None:
    data = path.read_bytes()
    try:
        found = scan(data)
    except NewerLog as error:
        raise SchemaTooNew(f"{path} cannot be read: {error}. Use a newer runtime") from error
    except NotALog as error:
        if len(data) > 64:
            _put_aside(paths, path, f"no log file: {error}", "wal")
        else:  # killed while it was created: nothing was in it yet
            path.unlink()
        return None
    if found.damaged:
        _report_damage(paths, path, found)
    if found.torn_bytes:
        _cut(path, found)
    if not found.frames:
        path.unlink()
        return None
    file = WalFile(path, _number(path), found.good_end, found.created_ns)
    return file, found, data[: found.good_end]


def _report_damage(paths: Paths, path: Path, found: Scan) -> None:
    """Whole frames follow it: the file is built without the damage, and linked into quarantine for people."""
    lost = sum(end - start for start, end in found.damaged)
    _log.error("a log file is damaged in its middle; the rest of it is kept", file=path.name, bytes=lost)
    DAMAGE.labels("wal").inc()
    kept = paths.quarantine / path.name
    if not kept.exists():
        os.link(path, kept)


def _cut(path: Path, found: Scan) -> None:
    _log.warning("the end of a log file was torn off by a crash", file=path.name, bytes=found.torn_bytes)
    TORN_BYTES.inc(found.torn_bytes)
    with path.open("rb+") as file:
        file.truncate(found.good_end)
        os.fsync(file.fileno())


def _put_aside(paths: Paths, path: Path, reason: str, what: str) -> None:
    _log.error("a damaged file was put aside", file=path.name, reason=reason)
    DAMAGE.labels(what).inc()
    path.rename(paths.quarantine / path.name)
    sync_directory(paths.quarantine)


def put_aside(paths: Paths, catalogue: Catalogue, segment: Segment, reason: str) -> None:
    """Take a damaged segment out of the catalogue and of its directory: queries go on without it."""
    path = paths.segment(segment)
    if path.exists():
        _put_aside(paths, path, reason, "segment")
    else:
        _log.error("a segment is missing", file=segment.file, stream=segment.stream)
        DAMAGE.labels("segment").inc()
    catalogue.quarantine(segment, reason, time.time_ns())


def sound_segments(paths: Paths, catalogue: Catalogue, segments: Iterable[Segment]) -> list[Segment]:
    """Those whose files are there in their size; their checksums are verified when they are first read."""
    sound = []
    for segment in segments:
        try:
            size = paths.segment(segment).stat().st_size
        except OSError as error:
            put_aside(paths, catalogue, segment, f"cannot be read: {error.strerror}")
            continue
        if size == segment.bytes:
            sound.append(segment)
        else:
            put_aside(paths, catalogue, segment, f"has {size} bytes instead of {segment.bytes}")
    return sound


def remove_leftovers(paths: Paths, segments: Sequence[Segment]) -> None:
    """Files that no transaction ever knew: builds that were cut short, drops whose unlink was."""
    known = {paths.segment(segment) for segment in segments}
    for directory in paths.segments.iterdir():
        for path in directory.iterdir():
            if path not in known:
                _log.info("a leftover was removed", file=path.name)
                path.unlink()
        if not any(directory.iterdir()):
            directory.rmdir()
