"""The file driver: the contract, and what is particular to it: many processes, killed writers, full disks, damage."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from store_runtime.clock import SystemClock
from store_runtime.config.runtime import Cache
from store_runtime.config.wire import Role
from store_runtime.errors import BackendUnreachable, Corrupt, NotFound, SchemaTooNew
from store_runtime.runtimestore.drivers.file import FileDriver
from store_runtime.runtimestore.drivers.frames import frames
from store_runtime.runtimestore.drivers.journal import Opened, encode, frame_of
from store_runtime.runtimestore.model import Increment, Limits
from store_runtime.runtimestore.rings import levels_for
from store_runtime.runtimestore.store import RuntimeStore
from tests.conformance.runtime_store import META, WINDOWS, Harness, RuntimeStoreContract
from tests.conformance.switchable import SwitchableContract
from tests.conformance.usage_switching import UsageSwitchHarness

WRITER = Path(__file__).with_name("usage_file_writer.py")


class FileHarness(Harness):
    durable = shared = True

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.directory = directory

    def driver(self, windows=WINDOWS, **options):
        FileDriver.create(self.directory, levels_for(windows))
        driver = FileDriver(self.directory, Limits(), **options)
        driver.change_meta(None, META)
        driver.set_levels(levels_for(windows))
        return driver

    def rotating(self) -> RuntimeStore:
        """A store whose journals are sealed after a few kilobytes."""
        return RuntimeStore(self.driver(journal_bytes_max=2000), WINDOWS, Cache(), self.clock)

    def journal(self) -> Path:
        return max(self.directory.glob("journal-*"))


@pytest.fixture
def harness(tmp_path):
    return FileHarness(tmp_path / "store")


@pytest.fixture
def store(harness):
    opened = harness.store()
    yield opened
    opened.close()


class TestFileRuntimeStore(RuntimeStoreContract):
    pass


class TestRotatingFileRuntimeStore(RuntimeStoreContract):
    """The contract again, with a new generation every few writes."""

    @pytest.fixture
    def harness(self, tmp_path):
        harness = FileHarness(tmp_path / "store")
        make = harness.driver
        harness.driver = lambda windows=WINDOWS: make(windows, journal_bytes_max=300)
        return harness


class FileSwitchHarness(UsageSwitchHarness):
    durable = shared = True

    def __init__(self, directory: Path, **options: int) -> None:
        super().__init__()
        self.directory = directory
        self.options = options

    def open(self, backend: str, epoch: int = 1) -> FileDriver:
        FileDriver.create(self.directory / backend, levels_for(WINDOWS))
        return FileDriver(self.directory / backend, Limits(), epoch, **self.options)


class TestFileSwitchable(SwitchableContract):
    @pytest.fixture
    def switching(self, tmp_path):
        return FileSwitchHarness(tmp_path)


class TestRotatingFileSwitchable(SwitchableContract):
    """The contract again, with a new generation every few writes."""

    @pytest.fixture
    def switching(self, tmp_path):
        return FileSwitchHarness(tmp_path, journal_bytes_max=1000)


def run_writer(directory: Path, *arguments: str, **options) -> subprocess.Popen[str]:
    command = [sys.executable, str(WRITER), str(directory), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, **options)


def test_eight_processes_counting_one_key_are_exact(harness, store):
    writers = [run_writer(harness.directory, f"w{number}", "300") for number in range(8)]
    for writer in writers:
        writer.communicate(timeout=120)
        assert writer.returncode == 0
    assert store.get_usage("p", "all", "m") == 8 * 300.0
    assert {store.get_usage("p", f"w{number}", "m") for number in range(8)} == {300.0}


def test_a_killed_writer_loses_nothing_acknowledged_and_doubles_nothing(harness):
    """Killed in full flight, again and again, with journals being sealed all the time; retries carry their op_id."""
    store = RuntimeStore(harness.driver(), WINDOWS, Cache(), SystemClock())
    for attempt in range(6):
        name = f"w{attempt}"
        writer = run_writer(harness.directory, name, "1000000", "--threads=4", "--journal-bytes-max=20000")
        acknowledged = [int(writer.stdout.readline()) for _ in range(60 + 37 * attempt)]
        writer.send_signal(signal.SIGKILL)
        acknowledged += [int(line) for line in writer.stdout.read().split("\n")[:-1]]
        writer.wait()
        counted = store.get_usage("p", name, "m")
        assert len(acknowledged) <= counted <= len(acknowledged) + 4
        for number in acknowledged:
            assert store.increment_many(increments(name), op_id=f"{name}-{number}") is False
        for number in range(max(acknowledged) + 10):
            store.increment_many(increments(name), op_id=f"{name}-{number}")
        assert store.get_usage("p", name, "m") == max(acknowledged) + 10
    total = sum(store.get_usage("p", f"w{attempt}", "m") for attempt in range(6))
    assert store.get_usage("p", "all", "m") == total
    assert store.window("p", "all", "m", 86_400) == total
    store.close()
    reopened = harness.store()
    assert reopened.get_usage("p", "all", "m") == total
    reopened.close()


def increments(name: str) -> list[Increment]:
    return [Increment("p", name, "m", 1), Increment("p", "all", "m", 1)]


def test_a_torn_end_is_cut_off_and_reported(harness, store):
    store.increment("p", "k", "m", 1)
    whole = harness.journal().stat().st_size
    store.increment("p", "k", "m", 1)
    store.close()
    journal = harness.journal()
    frame = journal.read_bytes()[whole:]
    for torn in (frame[:-1], frame[:5], b"\0" * 100):
        journal.write_bytes(journal.read_bytes()[:whole] + torn)
        again = harness.store()
        assert again.driver.torn_bytes == len(torn)
        assert again.get_usage("p", "k", "m") == 1.0
        again.close()
        assert journal.stat().st_size == whole
    again = harness.store()
    again.increment("p", "k", "m", 1)
    assert again.get_usage("p", "k", "m") == 2.0
    again.close()


def test_a_reader_ignores_what_is_half_written(harness, store):
    store.increment("p", "k", "m", 1)
    journal = harness.journal()
    size = journal.stat().st_size
    with journal.open("ab") as file:
        file.write(b"\x40\x00\x00\x00half a record")
    assert store.get_usage("p", "k", "m") == 1.0
    store.increment("p", "k", "m", 1)
    assert store.get_usage("p", "k", "m") == 2.0
    assert b"half a record" not in journal.read_bytes()[size:]


def test_damage_before_good_records_is_not_cut_off_but_told(harness, store):
    for _ in range(3):
        store.increment("p", "k", "m", 1)
    store.close()
    journal = harness.journal()
    data = bytearray(journal.read_bytes())
    data[-len(data) // 2] ^= 1
    journal.write_bytes(data)
    with pytest.raises(Corrupt, match=journal.name):
        harness.store()
    assert journal.read_bytes() == data


def test_a_newer_format_is_refused(harness, store):
    store.close()
    harness.journal().write_bytes(frame_of([encode(Opened(2, 1, levels_for(WINDOWS)))]))
    with pytest.raises(SchemaTooNew, match="format 2"):
        harness.store()


def test_sealed_journals_become_snapshots_and_others_follow(harness):
    store, other = harness.rotating(), harness.rotating()
    lagging = harness.rotating()
    for number in range(300):
        store.increment("p", f"k{number % 7}", "m", 1, op_id=str(number))
        other.cache_set("ns", f"k{number % 5}", str(number), 0)
    assert lagging.find_usage() == store.find_usage() == other.find_usage()
    assert lagging.cache_get("ns", "k4") == "299"
    assert lagging.driver.export(None, 1000) == store.driver.export(None, 1000)
    names = sorted(path.name for path in harness.directory.iterdir())
    generation = harness.journal().name[len("journal-") : -len(".log")]
    assert int(generation) > 3
    assert names == [f"journal-{generation}.log", "lock", f"snapshot-{generation}.bin"]
    for opened in (store, other, lagging):
        opened.close()


def test_marks_and_versions_survive_a_new_generation(harness):
    store = harness.rotating()
    store.driver.set_capture(True)
    for number in range(200):
        store.increment("p", f"k{number % 3}", "m", 1)
    marks = store.driver.dirty_marks(10)
    assert [mark.version for mark in marks] == [199, 200, 198]
    store.close()
    again = harness.rotating()
    assert again.driver.dirty_marks(10) == marks
    again.driver.set_capture(False)
    again.driver.set_capture(True)
    again.increment("p", "k0", "m", 1)
    assert [mark.version for mark in again.driver.dirty_marks(10)] == [201]
    again.close()


@pytest.mark.parametrize("step", ["create_journal", "write_snapshot", "Replica._remove_before"])
def test_a_new_generation_may_be_killed_at_every_step(harness, monkeypatch, step):
    """Each thing that a rotation does, in turn, is what the process dies at."""
    store = harness.rotating()
    for _ in range(10):
        store.increment("p", "k", "m", 1)

    def die(*_arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"store_runtime.runtimestore.drivers.replica.{step}", die)
    counted = 10.0
    with pytest.raises(KeyboardInterrupt):
        for _ in range(30):
            counted += 1  # the one that is interrupted was in the journal before
            store.increment("p", "k", "m", 1)
    monkeypatch.undo()
    os.close(store.driver._lock_file)  # as the end of a process does; nothing is closed in order
    again = harness.rotating()
    assert again.get_usage("p", "k", "m") == counted
    for _ in range(40):
        again.increment("p", "k", "m", 1)
    assert again.get_usage("p", "k", "m") == counted + 40
    again.close()
    final = harness.store()
    assert final.window("p", "k", "m", 60) == counted + 40
    final.close()


def test_a_full_disk_refuses_writers_and_readers_go_on(harness, store):
    """RLIMIT_FSIZE in a process of its own: the write comes back short, the next fails, as on a full disk."""
    store.increment("p", "full", "m", 1)
    size = harness.journal().stat().st_size
    writer = run_writer(harness.directory, "full", "100", f"--file-bytes-max={size + 250}")
    written, _ = writer.communicate(timeout=60)
    outcome = json.loads(written.splitlines()[-1])
    acknowledged = len(written.splitlines()) - 1
    assert outcome == {"error": "OutOfSpace", "counted": acknowledged + 1.0, "then": "OutOfSpace"}
    assert 0 < acknowledged < 10
    data = harness.journal().read_bytes()
    assert [end for end, _ in frames(data)][-1] == len(data)
    assert store.get_usage("p", "full", "m") == acknowledged + 1.0
    assert store.increment("p", "full", "m", 1) is True
    store.close()
    again = harness.store()
    assert again.driver.torn_bytes == 0
    assert again.get_usage("p", "full", "m") == acknowledged + 2.0
    again.close()


def test_a_snapshot_that_cannot_be_written_stops_nobody(harness, monkeypatch):
    store = harness.rotating()

    def fail(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("store_runtime.runtimestore.drivers.replica.write_snapshot", fail)
    for _ in range(100):
        store.increment("p", "k", "m", 1)
    monkeypatch.undo()
    assert len(list(harness.directory.glob("journal-*"))) > 2
    store.close()
    again = harness.rotating()
    for _ in range(100):
        again.increment("p", "k", "m", 1)
    assert again.get_usage("p", "k", "m") == 200.0
    assert len(list(harness.directory.glob("journal-*"))) == 1
    again.close()


def test_a_failed_sync_is_never_taken_for_success(harness, store, monkeypatch):
    def fail(_file: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fail)
    with pytest.raises(BackendUnreachable, match="not known"):
        store.increment("p", "k", "m", 1)
    monkeypatch.undo()
    for call in (
        store.check_backend,
        lambda: store.increment("p", "k", "m", 1),
        lambda: store.get_usage("p", "k", "m"),
    ):
        with pytest.raises(BackendUnreachable, match="restart"):
            call()


def eventually(condition, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.001)


@contextmanager
def queued_together(store, monkeypatch, writers: int):
    """Start that many threads so that all but the first wait in the queue, and become one batch; yields the syncs."""
    synced, sync = [], os.fdatasync
    gate = threading.Event()

    def slow(file: int) -> None:
        synced.append(file)
        gate.wait(30)
        sync(file)

    def start(call) -> None:
        threads = [threading.Thread(target=call) for _ in range(writers)]
        threads[0].start()
        eventually(lambda: synced)
        for thread in threads[1:]:
            thread.start()
        eventually(lambda: len(store.driver._queue) == writers - 1)
        gate.set()
        for thread in threads:
            thread.join()

    monkeypatch.setattr(os, "fdatasync", slow)
    yield start, synced
    monkeypatch.undo()


def test_concurrent_writers_of_a_process_share_syncs(harness, store, monkeypatch):
    with queued_together(store, monkeypatch, 20) as (start, synced):
        start(lambda: store.increment("p", "k", "m", 1))
    assert store.get_usage("p", "k", "m") == 20.0
    assert len(synced) == 2


def test_an_op_id_twice_in_one_batch_counts_once(harness, store, monkeypatch):
    outcomes: list[bool] = []
    operations = iter(["first", *["same"] * 9])
    with queued_together(store, monkeypatch, 10) as (start, _):
        start(lambda: outcomes.append(store.increment("p", "k", "m", 1, op_id=next(operations))))
    assert sorted(outcomes) == [False] * 8 + [True] * 2
    assert store.get_usage("p", "k", "m") == 2.0


def test_a_process_of_an_older_epoch_writes_no_more(harness, store):
    meta = store.meta()
    old = RuntimeStore(FileDriver(harness.directory, Limits(), 1), WINDOWS, Cache(), harness.clock)
    old.increment("p", "k", "m", 1)
    assert store.driver.change_meta(meta, meta.changed(epoch=2, role=Role.ACTIVE))
    with pytest.raises(Exception, match="epoch 2"):
        old.increment("p", "k", "m", 1)
    assert store.get_usage("p", "k", "m") == 1.0
    old.close()


def test_other_windows_keep_what_was_counted(harness, store):
    store.increment("p", "k", "m", 5)
    harness.wait(seconds=20)
    store.increment("p", "k", "m", 3)
    store.close()
    windows = (timedelta(seconds=30), timedelta(minutes=10))
    changed = harness.store(windows=windows)
    assert changed.window("p", "k", "m", 30) == 8.0
    assert changed.window("p", "k", "m", 600) == 8.0
    harness.wait(seconds=12)
    assert changed.window("p", "k", "m", 30) == 3.0
    changed.close()
    again = harness.store(windows=windows)
    assert again.window("p", "k", "m", 30) == 3.0
    again.close()


def test_files_removed_under_a_runtime_are_noticed(harness, store):
    store.increment("p", "k", "m", 1)
    for path in harness.directory.iterdir():
        path.unlink()
    for call in (store.check_backend, lambda: store.increment("p", "k", "m", 1)):
        with pytest.raises(BackendUnreachable, match="removed"):
            call()
    with pytest.raises(NotFound, match="provision"):
        FileDriver(harness.directory, Limits())


def test_stored_format(harness):
    """A journal as documented in docs/formats/usage-journal.md: a change here is a new format."""
    store = harness.store(windows=(timedelta(minutes=1),))
    store.increment("openai", "key/1", "req", 2.0, op_id="op")
    store.set_usage("openai", "key/1", "req", 9)
    store.cache_set("ns", "k", "v", 1)
    store.cache_delete("ns", "k")
    store.close()
    data = harness.journal().read_bytes()
    records = [record for _, payload in frames(data) for record in msgspec.msgpack.decode(payload)]
    cached = "c/ns/8254c329a92850f6d539dd376f4816ee2764517da5e0235514af433164480d7a"
    op = "o/037aeaeaf4bbf26ddabe7256a8294dc52da48d575a1247b5c2598c47de7aebab"
    at_ns = 1_767_225_600_123_000_000
    assert records == [
        ["journal", 1, 1, [[1_000_000_000, 61]]],
        ["meta", asdict(META)],
        ["increment", at_ns, [["u/openai/key%2F1/req", 2.0]], op, "f60545df3a5fef15", at_ns + 600_000_000_000],
        ["total", "u/openai/key%2F1/req", 9.0],
        ["cache", cached, "v", at_ns + 1_000_000_000],
        ["forget", [cached]],
    ]
    first = data[: next(frames(data))[0]]
    assert first.hex() == "180000009eff11f2dd0000000194a76a6f75726e616c01019192ce3b9aca003d"
    assert harness.journal().name == "journal-0000000001.log"
