"""The entry engine as a backend of Streams: the contract, and what is particular to it: crashes, damage, full disks."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from store_runtime.clock import SystemClock
from store_runtime.engine.disk import Disk
from store_runtime.engine.entry_engine import Engine
from store_runtime.engine.limits import Limits
from store_runtime.errors import BackendUnreachable, Conflict, NotFound, OutOfSpace, Overloaded
from store_runtime.streams.drivers.entry_engine import EntryEngineDriver
from store_runtime.streams.model import StreamConfig, Window
from store_runtime.streams.store import Streams
from tests.conformance.streams import META, Harness, StreamsContract, all_keys, fields_of, lines

WRITER = Path(__file__).with_name("entry_writer.py")
ROOT = WRITER.parents[2]
LIMITS = Limits(reserve_bytes=0)


class EngineHarness(Harness):
    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.directory = directory
        self.options = {"limits": LIMITS}

    def open(self, **options) -> EntryEngineDriver:
        Engine.create(self.directory)
        driver = EntryEngineDriver(Engine(self.directory, clock=self.clock, epoch=1, **{**self.options, **options}))
        driver.change_meta(None, META)
        return driver

    def build(self) -> None:
        self.opened.engine.settle()

    @property
    def engine(self) -> Engine:
        return self.opened.engine

    def files(self, pattern: str) -> list[Path]:
        return sorted(self.directory.glob(pattern))


@pytest.fixture
def harness(tmp_path):
    made = EngineHarness(tmp_path / "entries")
    yield made
    made.close()


@pytest.fixture
def streams(harness):
    return harness.streams()


def eventually(condition, seconds=30.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


class TestEngineStreams(StreamsContract):
    pass


class TestRollingEngineStreams(StreamsContract):
    """The contract again, with a log file a few batches: reads span log files, segments and builds under way."""

    @pytest.fixture
    def harness(self, tmp_path):
        made = EngineHarness(tmp_path / "entries")
        made.options = {"limits": Limits(reserve_bytes=0, wal_file_bytes=1000)}
        yield made
        made.close()

    def test_size_evicts_the_oldest(self):
        """Not with unbuilt log of unknown length; the other run has it."""


# -- one process at a time, and reopening -----------------------------------------------------------------------------


def test_a_directory_is_one_process_s(harness, streams):
    with pytest.raises(Conflict, match="in use") as refused:
        Engine(harness.directory)
    assert refused.value.specific_code == "InUse"
    harness.close()
    harness.streams()


def test_no_entries_no_engine(tmp_path):
    with pytest.raises(NotFound, match="provision"):
        Engine(tmp_path)


def test_sequences_go_on_after_everything_was_dropped(harness, streams):
    streams.ingest("s", lines({"a": "1"}, {"a": "2"}))
    before = set(all_keys(streams, "s", limit=10))
    harness.build()
    streams.purge("s")
    harness.close()
    streams = harness.streams()
    streams.ingest("s", lines({"a": "1"}, {"a": "2"}))
    assert not before & set(all_keys(streams, "s", limit=10))


def test_an_old_log_file_is_built_by_itself(harness):
    harness.options = {"limits": Limits(reserve_bytes=0, wal_file_seconds=0.05)}
    streams = harness.streams()
    streams.ingest("s", lines({"a": "1"}))
    eventually(lambda: harness.files("segments/*/*.parquet") and not harness.files("wal/*"))
    assert fields_of(streams, "s") == [{"a": "1"}]


def test_a_built_log_file_is_not_built_twice(harness, streams):
    """Killed between the catalogue's transaction and the log file's end."""
    streams.ingest("s", lines({"a": "1"}))
    (log,) = harness.files("wal/*")
    kept = log.read_bytes()
    harness.build()
    harness.close()
    log.write_bytes(kept)
    streams = harness.streams()
    assert streams.count("s", Window()) == 1
    assert not log.exists()
    harness.build()
    assert streams.count("s", Window()) == 1


def test_leftovers_of_builds_that_were_cut_short_are_removed(harness, streams):
    streams.ingest("s", lines({"a": "1"}))
    harness.build()
    harness.close()
    (segment,) = harness.files("segments/*/*.parquet")
    for name in ("x.tmp", "000000000009-abc-1.parquet"):
        (segment.parent / name).write_bytes(segment.read_bytes())
    streams = harness.streams()
    assert harness.files("segments/*/*") == [segment]
    assert streams.count("s", Window()) == 1


# -- damage -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [1, 30, 65, 100])
def test_a_torn_end_of_the_log_is_cut(harness, streams, cut):
    streams.ingest("s", lines({"a": "1"}))
    (log,) = harness.files("wal/*")
    good = log.read_bytes()
    streams.ingest("s", lines({"a": "2" * 100}))
    torn = log.read_bytes()[:-cut]
    harness.close()
    log.write_bytes(torn)
    streams = harness.streams()
    assert fields_of(streams, "s") == [{"a": "1"}]
    assert log.stat().st_size == len(good)
    streams.ingest("s", lines({"a": "3"}))
    harness.build()
    assert [f["a"] for f in fields_of(streams, "s")] == ["3", "1"]


def test_a_flipped_bit_in_the_log_costs_one_batch_at_most(harness, streams):
    """Wherever the bit is: what is left is a part of what was written, unchanged, and the engine starts."""
    for n in range(4):
        streams.ingest("s", lines({"n": str(n), f"new{n}": "x"}))
    (log,) = harness.files("wal/*")
    whole = log.read_bytes()
    harness.close()
    wanted = [{"n": str(n), f"new{n}": "x"} for n in range(4)]
    for position in range(0, len(whole), 13):
        flipped = bytearray(whole)
        flipped[position] ^= 1 << (position % 8)
        log.write_bytes(flipped)
        for aside in harness.files("quarantine/*"):
            aside.unlink()
        streams = harness.streams()
        found = fields_of(streams, "s", ascending=True)
        harness.close()
        assert len(found) >= 3 and all(entry in wanted for entry in found), position
        assert len(found) == 4 or harness.files("quarantine/*") or log.stat().st_size < len(whole), position


def test_a_damaged_log_is_built_with_all_its_fields(harness, streams):
    for n in range(3):
        streams.ingest("s", lines({"n": str(n), f"new{n}": "x"}))
    (log,) = harness.files("wal/*")
    damaged = bytearray(log.read_bytes())
    harness.close()
    damaged[damaged.index(b'["n","new0","new1"]') + 3] ^= 1
    log.write_bytes(damaged)
    streams = harness.streams()
    for _ in range(2):
        found = fields_of(streams, "s", ascending=True)
        assert found == [{"n": str(n), f"new{n}": "x"} for n in range(3)]
        harness.build()
    assert harness.files("quarantine/*")


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "gone"])
def test_a_damaged_segment_is_put_aside_and_the_rest_is_served(harness, streams, damage):
    for n in range(2):
        streams.ingest("s", lines({"n": str(n)}))
        harness.build()
    harness.close()
    segment = harness.files("segments/*/*.parquet")[0]
    data = bytearray(segment.read_bytes())
    if damage == "flip":
        data[len(data) // 2] ^= 4
        segment.write_bytes(data)
    elif damage == "gone":
        segment.unlink()
    else:
        segment.write_bytes(data[:100] if damage == "cut" else b"")
    streams = harness.streams()
    assert [f["n"] for f in fields_of(streams, "s")] == ["1"]
    ((reason, sentence),) = streams.warnings()
    assert reason == "SegmentDamaged" and "1 entries" in sentence
    assert (harness.directory / "quarantine" / segment.name).exists() == (damage != "gone")
    harness.close()
    assert harness.streams().count("s", Window()) == 1


# -- disks that fail --------------------------------------------------------------------------------------------------


class FailingDisk(Disk):
    """Fails while told to."""

    def __init__(self) -> None:
        self.sync_error = self.write_error = 0
        self.short = False
        self.free = 2**60

    def write(self, descriptor, buffers):
        if self.short:
            super().write(descriptor, [bytes(buffers[0])[:10]])
        if self.write_error:
            raise OSError(self.write_error, os.strerror(self.write_error))
        return super().write(descriptor, buffers)

    def sync(self, descriptor):
        if self.sync_error:
            raise OSError(self.sync_error, os.strerror(self.sync_error))
        super().sync(descriptor)

    def free_bytes(self, directory):
        return self.free


@pytest.fixture
def disk(harness):
    made = FailingDisk()
    harness.options = {"limits": Limits(), "disk": made}
    return made


def test_after_a_failed_sync_nothing_was_acknowledged_and_the_file_is_not_trusted(harness, disk, streams):
    streams.ingest("s", lines({"n": "0"}))
    (log,) = harness.files("wal/*")
    disk.sync_error = errno.EIO
    with pytest.raises(BackendUnreachable, match="not"):
        streams.ingest("s", lines({"n": "1"}))
    assert [f["n"] for f in fields_of(streams, "s")] == ["0"]
    disk.sync_error = 0
    streams.ingest("s", lines({"n": "2"}))
    assert log not in harness.files("wal/*")[-1:], "the next batch is in another file"
    harness.build()
    harness.close()
    assert [f["n"] for f in fields_of(harness.streams(), "s")] == ["2", "0"]


@pytest.mark.parametrize("short", [False, True])
def test_a_full_disk_stops_writers_and_not_readers_and_heals(harness, disk, streams, short):
    streams.ingest("s", lines({"n": "0"}))
    disk.write_error, disk.short = errno.ENOSPC, short
    for _ in range(3):
        with pytest.raises(OutOfSpace):
            streams.ingest("s", lines({"n": "1"}))
    assert [f["n"] for f in fields_of(streams, "s")] == ["0"]
    disk.write_error, disk.short = 0, False
    streams.ingest("s", lines({"n": "2"}))
    harness.close()
    streams = harness.streams()
    assert [f["n"] for f in fields_of(streams, "s")] == ["2", "0"]


def test_writers_leave_a_reserve_for_building(harness, disk, streams):
    streams.ingest("s", lines({"n": "0"}))
    disk.free = 1000
    with pytest.raises(OutOfSpace, match="reserved"):
        streams.ingest("s", lines({"n": "1"}))
    harness.build()
    assert harness.files("segments/*/*.parquet")
    disk.free = 2**60
    streams.ingest("s", lines({"n": "2"}))


def test_a_real_full_disk(harness):
    """A file-size limit is the full disk one can have without being root: every write beyond it fails."""
    script = f"""
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from pathlib import Path
from tests.backends.test_streams_engine import EngineHarness
from tests.conformance.streams import lines
from store_runtime.errors import OutOfSpace
from store_runtime.streams.model import Window
harness = EngineHarness(Path({str(harness.directory)!r}))
streams = harness.streams()
streams.ingest("s", lines({{"n": "0"}}))
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
try:
    streams.ingest("s", lines(*({{"n": "x" * 1000}} for _ in range(200))))
except OutOfSpace:
    print("full")
assert streams.count("s", Window()) == 1
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
streams.ingest("s", lines({{"n": "2"}}))
print(streams.count("s", Window()))
harness.close()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert [line for line in done.stdout.splitlines() if line in ("full", "1", "2")] == ["full", "2"], done.stderr
    assert [f["n"] for f in fields_of(harness.streams(), "s")] == ["2", "0"]


# -- builders that fail -----------------------------------------------------------------------------------------------


def builders_of(process: int) -> list[int]:
    children = Path(f"/proc/{process}/task").glob("*/children")
    found = {int(child) for listed in children for child in listed.read_text().split()}
    return [c for c in found if b"store_runtime.engine.builder" in Path(f"/proc/{c}/cmdline").read_bytes()]


def test_a_killed_builder_is_replaced(harness, streams):
    streams.ingest("s", lines({"n": "0"}))
    harness.build()
    (builder,) = builders_of(os.getpid())
    os.kill(builder, signal.SIGKILL)
    streams.ingest("s", lines({"n": "1"}))
    harness.build()
    assert builders_of(os.getpid()) not in ([], [builder])
    assert [f["n"] for f in fields_of(streams, "s")] == ["1", "0"]


@pytest.mark.parametrize("program", ["import sys; sys.exit(3)", "import time; time.sleep(600)", "print('nonsense')"])
def test_what_cannot_be_built_is_kept_served_and_reported(harness, program):
    harness.options = {
        "limits": Limits(reserve_bytes=0, wal_file_bytes=100, build_seconds_max=0.3),
        "builder": (sys.executable, "-c", program),
    }
    streams = harness.streams()
    for n in range(3):
        streams.ingest("s", lines({"n": str(n)}))
    eventually(streams.warnings)
    assert {reason for reason, _ in streams.warnings()} == {"LogNotBuilt"}
    assert [f["n"] for f in fields_of(streams, "s")] == ["2", "1", "0"]
    harness.close()
    harness.options = {"limits": LIMITS}
    streams = harness.streams()
    harness.build()
    assert [f["n"] for f in fields_of(streams, "s")] == ["2", "1", "0"]
    assert streams.warnings() == []


def test_a_log_that_is_not_built_pushes_back(harness):
    harness.options = {
        "limits": Limits(reserve_bytes=0, wal_file_bytes=1000, unbuilt_bytes_max=5000),
        "builder": (sys.executable, "-c", "import time; time.sleep(600)"),
    }
    streams = harness.streams()
    with pytest.raises(Overloaded) as refused:
        for _ in range(100):
            streams.ingest("s", lines({"n": "x" * 500}))
    assert refused.value.retry_after > 0
    assert streams.count("s", Window()) < 20


def test_builders_end_with_their_server(harness):
    child = subprocess.Popen(
        [sys.executable, WRITER, harness.directory, "2"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        deadline = time.monotonic() + 30
        while not (builders := builders_of(child.pid)):
            assert time.monotonic() < deadline
            child.stdout.readline()
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
    eventually(lambda: not any(Path(f"/proc/{builder}").exists() for builder in builders))


# -- crashes ----------------------------------------------------------------------------------------------------------


def test_killed_at_any_moment_nothing_acknowledged_is_lost_or_doubled(harness):
    """A process with four writers and small log files is killed over and over, on the same directory."""
    acknowledged: list[str] = []
    for round_number in range(6):
        child = subprocess.Popen(
            [sys.executable, WRITER, harness.directory, str(round_number)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        target = 15 + 67 * round_number % 200
        for _, line in zip(range(target), child.stdout, strict=False):
            acknowledged += json.loads(line)
        child.kill()
        rest, _ = child.communicate()
        acknowledged += [name for line in rest.splitlines() if line.endswith("]") for name in json.loads(line)]
    streams = Streams(harness.open(), SystemClock())
    harness.opened = streams.driver
    for _ in range(2):
        found = [entry for stream in streams.streams() for entry in ids(streams, stream)]
        assert len(found) == len(set(found)), "doubled"
        assert set(acknowledged) <= set(found), "lost"
        harness.build()
    assert len(acknowledged) > 1000


def ids(streams: Streams, stream: str) -> list[str]:
    found, cursor = [], None
    while True:
        page = streams.find(stream, Window(), limit=10_000, cursor=cursor)
        found += [entry.fields["id"] for entry in page.entries]
        if (cursor := page.cursor) is None:
            return found


# -- retention while others read --------------------------------------------------------------------------------------


def test_reading_goes_on_while_segments_are_dropped_and_built(harness):
    harness.options = {"limits": Limits(reserve_bytes=0, wal_file_bytes=2000)}
    streams = harness.streams()
    streams.ingest("keep", lines(*({"n": str(n)} for n in range(100))))
    stop, failures = threading.Event(), []

    def read():
        while not stop.is_set():
            try:
                assert streams.count("keep", Window(equal={"n": ("7",)})) == 1
                assert len(fields_of(streams, "drop", limit=1000)) <= 1000
            except Exception as error:
                failures.append(error)
                return

    streams.ingest("drop", lines({"n": "0"}))
    reader = threading.Thread(target=read)
    reader.start()
    for n in range(40):
        streams.ingest("drop", lines(*({"n": f"{n}-{i}"} for i in range(40))))
        if n % 10 == 9:
            streams.configure("drop", StreamConfig(max_bytes=1 + n))
            streams.configure("drop", StreamConfig())
    stop.set()
    reader.join()
    assert failures == []
