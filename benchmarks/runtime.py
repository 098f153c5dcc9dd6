"""Usage counters: increments and windows in memory, durable increments in files beside append+fdatasync.

`python benchmarks/runtime.py`, QUICK=1 for a shorter run of the same cases. One JSON line a case on standard output, a
table for people on standard error; ratios are against what was measured beside it in the same run. Durable increments
need a disk: the directory is made where TMPDIR says.
"""

import json
import logging
import multiprocessing
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import structlog
from rich.console import Console
from rich.table import Table

from store_runtime.clock import SystemClock
from store_runtime.config.runtime import DEFAULT_WINDOWS, Cache
from store_runtime.runtimestore.commands import Incremented
from store_runtime.runtimestore.drivers.file import FileDriver
from store_runtime.runtimestore.drivers.journal import encode, frame_of
from store_runtime.runtimestore.drivers.memory import MemoryDriver
from store_runtime.runtimestore.model import Increment, Limits, WindowQuery
from store_runtime.runtimestore.rings import levels_for
from store_runtime.runtimestore.store import RuntimeStore
from store_runtime.switch.driver import StoreMeta

QUICK = bool(os.environ.get("QUICK"))
SECONDS = 0.7 if QUICK else 3.0
BATCHES = (1, 100)
META = StoreMeta("benchmark", "benchmark", schema_version="1")


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


def compared(case: str, value: float, unit: str, reference: str, reference_value: float, bar: float) -> Case:
    ratio = value / reference_value
    return Case(case, value, unit, reference, reference_value, ratio, bar, ratio >= bar)


def rate(call: Callable[[], object], seconds: float = SECONDS) -> float:
    """Calls a second of one thread."""
    for _ in range(10):
        call()
    done, started = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - started) < seconds:
        for _ in range(10):
            call()
        done += 10
    return done / elapsed


def store_on(driver: MemoryDriver | FileDriver) -> RuntimeStore:
    driver.change_meta(None, META)
    return RuntimeStore(driver, DEFAULT_WINDOWS, Cache(), SystemClock())


def memory_cases() -> list[Case]:
    store = store_on(MemoryDriver(levels_for(DEFAULT_WINDOWS), Limits()))
    five = [Increment("openai", "key1", metric, 1.0) for metric in ("req", "in", "out", "tokens", "errors")]
    asked = [WindowQuery("openai", "key1", "req", seconds) for seconds in (60, 3600, 86_400)]
    single = rate(lambda: store.increment("openai", "key1", "req", 1.0))
    many = rate(lambda: store.increment_many(five))
    plain: dict[str, float] = {"total": 0.0}
    lock = threading.Lock()
    baseline = rate(partial(add_locked, plain, lock))
    windows = rate(lambda: store.windows(asked))
    return [
        Case(
            "memory: increment, 1 metric, 3 levels",
            single,
            "calls/s",
            "dict += under a lock",
            baseline,
            single / baseline,
        ),
        Case("memory: increment_many, 5 metrics", many * 5, "increments/s"),
        Case("memory: windows, 3 of one metric", windows * 3, "windows/s"),
        Case("memory: bytes a metric, 3 levels", bytes_a_metric(), "bytes"),
    ]


def add_locked(totals: dict[str, float], lock: threading.Lock) -> None:
    with lock:
        totals["total"] += 1.0


def bytes_a_metric() -> float:
    """Resident memory of 20,000 metrics in use, over their number."""
    import tracemalloc

    tracemalloc.start()
    store = store_on(MemoryDriver(levels_for(DEFAULT_WINDOWS), Limits()))
    before = tracemalloc.get_traced_memory()[0]
    for key in range(20_000):
        store.increment("openai", f"key{key}", "req", 1.0)
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return held / 20_000


def increments_of(batch: int) -> list[Increment]:
    return [Increment("openai", f"key{number}", "req", 1.0) for number in range(batch)]


def count_durably(directory: str, batch: int, seconds: float) -> float:
    """Increments a second that one process has acknowledged."""
    quiet()
    driver = FileDriver(Path(directory), Limits())
    store = RuntimeStore(driver, DEFAULT_WINDOWS, Cache(), SystemClock())
    items = increments_of(batch)
    done = rate(lambda: store.increment_many(items), seconds) * batch
    store.close()
    return done


def append_durably(directory: str, batch: int, seconds: float) -> float:
    """The same batches as bytes, appended to one file and synced, by one process; no lock, nothing read."""
    frame = journal_frame(batch)
    file = os.open(Path(directory) / "reference", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def write() -> None:
        os.write(file, frame)
        os.fdatasync(file)

    done = rate(write, seconds) * batch
    os.close(file)
    return done


def journal_frame(batch: int) -> bytes:
    items = tuple((f"u/openai/{item.key}/req", item.delta) for item in increments_of(batch))
    return frame_of([encode(Incremented(time.time_ns(), items))])


def file_cases() -> list[Case]:
    context = multiprocessing.get_context("spawn")
    cases = []
    for processes in (1, 8):
        for batch in BATCHES:
            with tempfile.TemporaryDirectory() as directory, context.Pool(processes) as pool:
                FileDriver.create(Path(directory), levels_for(DEFAULT_WINDOWS))
                store_on(FileDriver(Path(directory), Limits())).close()
                arguments = [(directory, batch, SECONDS)] * processes
                reference = sum(pool.starmap(append_durably, arguments, chunksize=1))
                ours = sum(pool.starmap(count_durably, arguments, chunksize=1))
            name = f"file: durable increments, {processes} processes, batches of {batch}"
            cases.append(compared(name, ours, "increments/s", "append+fdatasync", reference, 0.3))
    return cases


def file_threads_case() -> Case:
    """One process with 32 threads, as the server has: they share syncs, which single appends cannot."""
    with tempfile.TemporaryDirectory() as directory:
        FileDriver.create(Path(directory), levels_for(DEFAULT_WINDOWS))
        store = store_on(FileDriver(Path(directory), Limits()))
        reference = append_durably(directory, 1, SECONDS)
        rates: list[float] = []
        work = partial(store.increment, "openai", "key1", "req", 1.0)
        threads = [threading.Thread(target=lambda: rates.append(rate(work))) for _ in range(32)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        store.close()
    name = "file: durable increments, 32 threads of one process, single"
    return compared(name, sum(rates), "increments/s", "append+fdatasync, one thread", reference, 0.3)


def quiet() -> None:
    """The operation log as a server has it by default."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))


def table_of(cases: list[Case]) -> Table:
    table = Table("case", "value", "unit", "reference", "ratio", "bar", "holds")
    for case in cases:
        reference = f"{case.reference} {case.reference_value:,.0f}" if case.reference else ""
        ratio = f"{case.ratio:.2f}" if case.ratio is not None else ""
        holds = {None: "", True: "yes", False: "NO"}[case.holds]
        table.add_row(case.case, f"{case.value:,.0f}", case.unit, reference, ratio, str(case.bar or ""), holds)
    return table


def main() -> None:
    quiet()
    cases = [*memory_cases(), *file_cases(), file_threads_case()]
    for case in cases:
        print(json.dumps(asdict(case)))
    Console(stderr=True, width=160).print(table_of(cases))


if __name__ == "__main__":
    sys.exit(main())
