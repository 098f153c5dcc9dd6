"""Showing log files: their ends, and then what is added to them."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from storekeeper.adapters.processes.container import last_lines

POLL_SECONDS = 0.2
CHUNK_BYTES = 64 * 1024


def show(paths: Sequence[Path], *, lines: int, follow: bool, write: Callable[[str], None]) -> None:
    """The last lines of each file under its name; with `follow` until interrupted."""
    offsets = {}
    for path in paths:
        offsets[path] = path.stat().st_size if path.exists() else 0
        if len(paths) > 1:
            write(f"==> {path.parent.name}/{path.stem} <==\n")
        for line in last_lines(path, lines):
            write(f"{line}\n")
    try:
        while follow:
            if sum(_more(path, offsets, write) for path in paths) == 0:
                time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        return


def _more(path: Path, offsets: dict[Path, int], write: Callable[[str], None]) -> bool:
    """Write what was added since the offset; a file that became shorter was put aside and is read from its start."""
    if not path.exists():
        return False
    if path.stat().st_size < offsets[path]:
        offsets[path] = 0
    with path.open("rb") as file:
        file.seek(offsets[path])
        added = file.read(CHUNK_BYTES)
    offsets[path] += len(added)
    if added:
        write(added.decode(errors="replace"))
    return bool(added)
