"""Streams: acknowledged and built entries, durable single entries, queries and disk, in process (not over HTTP yet).

`python benchmarks/streams.py`, QUICK=1 for a shorter run of the same cases. One JSON line a case on standard output, a
table for people on standard error. Ratios are against what was measured in the same run: orjson.loads of each line of
the same data on one core, and append+fdatasync of the same bodies. The directory is made where TMPDIR says.
"""

import json
import logging
import os
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import structlog
from rich.console import Console
from rich.table import Table

from store_runtime.clock import SystemClock
from store_runtime.engine.entry_engine import Engine
from store_runtime.engine.limits import Limits
from store_runtime.errors import Overloaded
from store_runtime.streams.drivers.entry_engine import EntryEngineDriver
from store_runtime.streams.model import Window
from store_runtime.streams.store import Streams
from store_runtime.switch.driver import StoreMeta

QUICK = bool(os.environ.get("QUICK"))
ENTRIES = 100_000 if QUICK else 1_000_000
BATCH = 1000
WRITERS = 16
SINGLE_SECONDS = 2.0 if QUICK else 5.0
REPEATS = 7 if QUICK else 21
META = StoreMeta("benchmark", "benchmark", schema_version="1")
NEEDLE = "f" * 32


@dataclass(frozen=True)
class Case:
    """A line of output; `bar` is the ratio (or value, without a reference) that is asked for."""

    case: str
    value: float
    unit: str
    reference: str | None = None
    reference_value: float | None = None
    ratio: float | None = None
    bar: float | None = None
    holds: bool | None = None


def bodies() -> list[bytes]:
    """Access-log entries of 350 bytes: 11 fields, a message of random words, two ids, two hours of times."""
    source = random.Random(7)
    words = ["".join(source.choices("abcdefghijklmnop", k=source.randint(3, 9))) for _ in range(2000)]
    start = datetime(2026, 11, 21, 8, tzinfo=UTC)
    made = []
    for batch in range(ENTRIES // BATCH):
        lines = []
        for index in range(BATCH):
            number = batch * BATCH + index
            at = start + timedelta(seconds=7200 * number / ENTRIES)
            entry = {
                "_time": at.isoformat().replace("+00:00", "Z"),
                "level": source.choice(("info", "info", "info", "warn", "error")),
                "service": source.choice(("api", "auth", "cart", "search")),
                "method": source.choice(("GET", "POST")),
                "status": source.choice(("200", "200", "200", "404", "500")),
                "path": f"/{source.choice(words)}/{source.choice(words)}",
                "trace_id": NEEDLE if number == ENTRIES // 3 else f"{source.getrandbits(128):032x}",
                "request_id": f"{source.getrandbits(64):016x}",
                "pod": f"{source.choice(words)}-{source.randint(0, 20)}",
                "client_ip": f"10.{source.randint(0, 9)}.{source.randint(0, 255)}.{source.randint(0, 255)}",
                "message": " ".join(source.choices(words, k=11)),
            }
            lines.append(orjson.dumps(entry))
        made.append(b"\n".join(lines))
    return made


def opened(directory: Path) -> Streams:
    Engine.create(directory)
    driver = EntryEngineDriver(Engine(directory, epoch=1, limits=Limits()))
    driver.change_meta(None, META)
    return Streams(driver, SystemClock())


def written(streams: Streams, every: list[bytes]) -> tuple[float, list[float]]:
    """Seconds until all bodies are acknowledged to WRITERS threads, and the times of single acknowledgements."""
    rest, lock, times = list(reversed(every)), threading.Lock(), []

    def write() -> None:
        while True:
            with lock:
                if not rest:
                    return
                body = rest.pop()
            started = time.perf_counter()
            while True:
                try:
                    streams.ingest("app", body)
                    break
                except Overloaded:
                    time.sleep(0.05)
            times.append(time.perf_counter() - started)

    started = time.perf_counter()
    threads = [threading.Thread(target=write) for _ in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - started, times


def best_of(repeats: int, call: Callable[[], object]) -> float:
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return min(times)


def median_ms(call: Callable[[], object]) -> float:
    call()
    times = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return statistics.median(times) * 1000


def orjson_mb_per_second(every: list[bytes]) -> float:
    sample = every[:50]
    seconds = best_of(3, lambda: [orjson.loads(line) for body in sample for line in body.split(b"\n")])
    return sum(map(len, sample)) / seconds / 1e6


def synced_per_second(directory: Path, body: bytes) -> float:
    """Appends of one body with fdatasync, one after another."""
    with (directory / "append").open("wb", buffering=0) as file:

        def append() -> None:
            file.write(body)
            os.fdatasync(file.fileno())

        return 50 / best_of(3, lambda: [append() for _ in range(50)])


def ingest_cases(streams: Streams, every: list[bytes], orjson_rate: float) -> list[Case]:
    size = sum(map(len, every)) / 1e6
    started = time.perf_counter()
    acknowledged, times = written(streams, every)
    streams.driver.engine.settle(600)
    built = time.perf_counter() - started
    times.sort()
    name = "orjson.loads per line, one core"
    return [
        Case("ingest 1000 a batch, acknowledged", size / acknowledged, "MB/s", name, orjson_rate,
             size / acknowledged / orjson_rate),
        Case("ingest 1000 a batch, acknowledged and built", size / built, "MB/s", name, orjson_rate,
             size / built / orjson_rate, 0.36, size / built / orjson_rate >= 0.36),
        Case("ingest 1000 a batch, acknowledged and built", ENTRIES / built, "entries/s"),
        Case("acknowledgement p50, 16 writers", times[len(times) // 2] * 1000, "ms"),
        Case("acknowledgement p99, 16 writers", times[len(times) * 99 // 100] * 1000, "ms", bar=100.0,
             holds=times[len(times) * 99 // 100] <= 0.1),
        Case("disk an entry", streams.usage_bytes("app") / ENTRIES, "B", bar=62.0,
             holds=streams.usage_bytes("app") / ENTRIES <= 62),
    ]  # fmt: skip


def single_case(streams: Streams, directory: Path, line: bytes) -> Case:
    """Durable entries of 64 threads, one a call."""
    done, stop = [0] * 64, threading.Event()

    def write(index: int) -> None:
        while not stop.is_set():
            streams.ingest("single", line)
            done[index] += 1

    threads = [threading.Thread(target=write, args=(index,)) for index in range(64)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    time.sleep(SINGLE_SECONDS)
    stop.set()
    for thread in threads:
        thread.join()
    rate = sum(done) / (time.perf_counter() - started)
    alone = synced_per_second(directory, line)
    return Case("ingest 1 a call, 64 threads", rate, "entries/s", "append+fdatasync, one thread", alone, rate / alone)


def query_cases(streams: Streams) -> list[Case]:
    end = datetime(2026, 11, 21, 10, tzinfo=UTC)
    end_ns = int(end.timestamp()) * 10**9
    five_minutes = Window(end_ns - 300 * 10**9, end_ns)
    asked: list[tuple[str, Callable[[], object]]] = [
        ("newest 100 of all", lambda: streams.find("app", Window())),
        ("newest 100 of five minutes in the middle",
         lambda: streams.find("app", Window(end_ns - 3900 * 10**9, end_ns - 3600 * 10**9))),
        ("newest 100 of status=500", lambda: streams.find("app", Window(equal={"status": ("500",)}))),
        ("count of five minutes", lambda: streams.count("app", five_minutes)),
        ("count of status=500", lambda: streams.count("app", Window(equal={"status": ("500",)}))),
        ("look-up of a trace id", lambda: streams.find("app", Window(equal={"trace_id": (NEEDLE,)}))),
        ("count of all", lambda: streams.count("app", Window())),
    ]  # fmt: skip
    assert len(streams.find("app", Window(equal={"trace_id": (NEEDLE,)})).entries) == 1
    return [Case(f"{name}, {ENTRIES:,} entries", median_ms(call), "ms") for name, call in asked]


def main() -> int:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    every = bodies()
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        streams = opened(directory / "entries")
        orjson_rate = orjson_mb_per_second(every)
        streams.ingest("warm", every[0])
        streams.driver.engine.settle()
        cases = ingest_cases(streams, every, orjson_rate)
        cases += query_cases(streams)
        cases.append(single_case(streams, directory, every[0].split(b"\n")[0]))
        streams.close()
        started = time.perf_counter()
        opened(directory / "entries").close()
        cases.append(Case("open after a clean stop", (time.perf_counter() - started) * 1000, "ms"))
    report(cases)
    return 0


def report(cases: list[Case]) -> None:
    table = Table("case", "value", "unit", "beside it", "ratio", "bar", "holds")
    for case in cases:
        print(json.dumps(asdict(case)))
        beside = f"{case.reference_value:,.0f} ({case.reference})" if case.reference_value else ""
        ratio = f"{case.ratio:.2f}" if case.ratio else ""
        bar, holds = (f"{case.bar:g}" if case.bar else ""), ("" if case.holds is None else str(case.holds))
        table.add_row(case.case, f"{case.value:,.1f}", case.unit, beside, ratio, bar, holds)
    Console(stderr=True, width=150).print(table)


if __name__ == "__main__":
    sys.exit(main())
