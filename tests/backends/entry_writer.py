"""A process that ingests until it is killed, and prints the ids of each batch after it was acknowledged."""

import json
import logging
import sys
import threading
from itertools import count
from pathlib import Path

import structlog

from store_runtime.clock import SystemClock
from store_runtime.engine.entry_engine import Engine
from store_runtime.engine.limits import Limits
from store_runtime.streams.drivers.entry_engine import EntryEngineDriver
from store_runtime.streams.store import Streams
from tests.conformance.streams import META


def write(streams: Streams, name: str, lock: threading.Lock) -> None:
    for number in count():
        ids = [f"{name}-{number}-{index}" for index in range(20)]
        streams.ingest(f"stream-{name[-1]}", b"\n".join(json.dumps({"id": i, "n": str(number)}).encode() for i in ids))
        with lock:
            sys.stdout.write(json.dumps(ids) + "\n")
            sys.stdout.flush()


def main(directory: Path, round_name: str) -> None:
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    Engine.create(directory)
    limits = Limits(reserve_bytes=0, wal_file_bytes=20_000)
    driver = EntryEngineDriver(Engine(directory, epoch=1, limits=limits))
    driver.change_meta(None, META)
    streams = Streams(driver, SystemClock())
    lock = threading.Lock()
    for writer in range(4):
        threading.Thread(target=write, args=(streams, f"r{round_name}-w{writer}", lock), daemon=True).start()
    threading.Event().wait()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
