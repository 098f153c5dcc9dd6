"""Request logs on SQLite: the contract, and what is particular to a file: full disks, killed writers, damage, space."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from store_runtime.config.backends import LogBackend, LogBackendType, SqliteBackend
from store_runtime.config.retention import LogRetention
from store_runtime.errors import BackendUnreachable, Corrupt, NotFound, OutOfSpace, Overloaded
from store_runtime.logstore import opening
from store_runtime.logstore.drivers import reserve, sqlite
from store_runtime.logstore.drivers.sqlite import SqliteDialect
from tests.conformance.log_store import START, Harness, LogStoreContract, all_ids, at_once, document, new_log
from tests.conformance.log_switching import LogSwitchableContract, LogSwitchHarness

WRITER = Path(__file__).with_name("log_writer.py")


class SqliteHarness(Harness):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def backend(self) -> LogBackend:
        return LogBackend(type=LogBackendType.SQLITE, sqlite=SqliteBackend(path=str(self.path)))


@pytest.fixture
def harness(tmp_path):
    harness = SqliteHarness(tmp_path / "logs" / "logs.db")
    harness.prepare()
    return harness


@pytest.fixture
def store(harness):
    with closing(harness.open()) as opened:
        yield opened


class TestSqliteLogStore(LogStoreContract):
    pass


class SqliteSwitchHarness(LogSwitchHarness):
    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.directory = directory

    def dialect(self, backend):
        return SqliteDialect(self.directory / f"{backend}.db")


class TestSqliteSwitchable(LogSwitchableContract):
    @pytest.fixture
    def switching(self, tmp_path):
        return SqliteSwitchHarness(tmp_path)


def test_opening_makes_no_file(tmp_path):
    harness = SqliteHarness(tmp_path / "no" / "logs.db")
    for call in (harness.open, lambda: opening.migrate(harness.config())):
        with pytest.raises(NotFound):
            call()
    opening.release(harness.config())
    opening.destroy(harness.config())
    assert list(tmp_path.iterdir()) == []


def test_a_commit_is_on_disk_and_bytes_are_given_back(harness, store):
    with store.driver._dialect.engine.connect() as connection:
        pragmas = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous")]
        assert pragmas == ["wal", 2]
    for number in range(40):
        store.create(new_log(f"r{number}", START - timedelta(days=2), payload={"x": "x" * 250_000}))
    store.create(new_log("stays"))
    full = harness.path.stat().st_size
    assert full > 5_000_000
    assert store.retain(LogRetention(max_age=timedelta(days=1))).expired == 40
    store.close()
    files = [path for path in harness.path.parent.iterdir() if not path.name.endswith(reserve.SUFFIX)]
    assert sum(path.stat().st_size for path in files) < full / 10
    with closing(harness.open()) as again:
        assert all_ids(again) == ["stays"]


def test_space_is_given_back_while_others_read_and_write(harness, store, monkeypatch):
    """A reader in the middle of a transaction and writers all the time: nobody waits until somebody gives up."""
    monkeypatch.setattr(sqlite, "VACUUM_PAGES", 20)
    for number in range(60):
        store.create(new_log(f"old{number}", START - timedelta(days=2), payload={"x": "x" * 50_000}))
    stop = threading.Event()
    written: list[str] = []

    def write() -> None:
        while not stop.is_set():
            store.create(new_log(f"new{len(written)}", payload={"x": "x" * 5_000}))
            written.append(f"new{len(written)}")

    with store.driver._dialect.engine.connect() as reader:
        assert reader.exec_driver_sql("SELECT count(*) FROM request_log").scalar() == 60
        writer = threading.Thread(target=write)
        writer.start()
        try:
            at_once([lambda: store.retain(LogRetention(max_age=timedelta(days=1)))] * 2)
        finally:
            stop.set()
            writer.join(60)
        assert reader.exec_driver_sql("SELECT count(*) FROM request_log").scalar() == 60
    assert set(all_ids(store)) == set(written)


def test_a_file_without_auto_vacuum_is_served_too(tmp_path):
    """As somebody's tool leaves it after VACUUM; its free pages stay in the file."""
    harness = SqliteHarness(tmp_path / "logs.db")
    with closing(sqlite3.connect(harness.path)) as connection:
        connection.execute("PRAGMA auto_vacuum = NONE")
        connection.execute("CREATE TABLE somebody_elses (x)")
    harness.prepare()
    with closing(harness.open()) as store:
        store.create(new_log("a", START - timedelta(days=2), payload={"x": "x" * 500_000}))
        assert store.retain(LogRetention(max_age=timedelta(days=1))).expired == 1


def test_what_is_no_database_or_damaged_says_so(harness, store):
    store.create_many([new_log(f"r{number}", payload={"x": "x" * 3000}) for number in range(200)])
    store.close()
    whole = harness.path.read_bytes()
    harness.path.write_bytes(b"not a database, certainly" * 1000)
    with pytest.raises(Corrupt, match=r"logs\.db"):
        harness.open()
    harness.path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(Corrupt), closing(harness.open()) as damaged:
        all_ids(damaged)
        for number in range(200):
            damaged.get(f"r{number}")
    harness.path.write_bytes(whole)
    with closing(harness.open()) as again:
        assert len(all_ids(again)) == 200


def test_a_path_that_cannot_be_opened_says_so(tmp_path):
    harness = SqliteHarness(tmp_path / "logs.db")
    harness.path.mkdir()
    with pytest.raises(BackendUnreachable, match=r"logs\.db"):
        opening.provision(harness.config())
    (tmp_path / "file").write_text("")
    below_a_file = SqliteHarness(tmp_path / "file" / "logs.db")
    with pytest.raises(BackendUnreachable, match="file"):
        opening.provision(below_a_file.config())


def test_a_writer_of_another_process_is_waited_for_and_not_for_ever(harness, monkeypatch):
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.05)
    with closing(harness.open()) as store, closing(sqlite3.connect(harness.path)) as other:
        other.isolation_level = None
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Overloaded):
            store.create(new_log("a"))
        assert all_ids(store) == []
        other.execute("ROLLBACK")
        store.create(new_log("a"))


def test_a_new_connection_waits_for_no_writer(harness, monkeypatch):
    """A store may be opened and read, also for the first time, while a job or another process writes for long."""
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.05)
    with closing(sqlite3.connect(harness.path)) as other:
        other.isolation_level = None
        other.execute("BEGIN IMMEDIATE")
        with closing(harness.open()) as store:
            assert all_ids(store) == []


# -- killed and full ----------------------------------------------------------------------------------------------


def run_writer(path: Path, name: str, *arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, str(WRITER), str(path), name, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def test_a_killed_writer_loses_nothing_acknowledged(harness):
    """kill -9 in full flight, again and again; batches are there wholly or not at all, and can be sent again."""
    for attempt in range(4):
        writer = run_writer(harness.path, f"w{attempt}")
        acknowledged = [json.loads(writer.stdout.readline()) for _ in range(5 + 7 * attempt)]
        writer.send_signal(signal.SIGKILL)
        acknowledged += [json.loads(line) for line in writer.stdout.read().split("\n")[:-1]]
        writer.wait()
        with closing(harness.open()) as store:
            found = set(all_ids(store, limit=1000))
            ids = {id_ for batch in acknowledged for id_ in batch}
            assert ids <= found
            mine = [id_ for id_ in found if id_.startswith(f"w{attempt}-")]
            assert len(mine) % len(acknowledged[0]) == 0
            for id_ in acknowledged[-1]:
                assert store.get(id_).payload["of"] == id_
            again = store.create_many([document(id_) for id_ in sorted(ids)])
            assert (again.created, again.existing) == (0, len(ids))
        with closing(sqlite3.connect(harness.path)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_a_full_disk_refuses_writers_and_readers_go_on(harness):
    """RLIMIT_FSIZE in a process of its own."""
    with closing(harness.open()) as store:
        store.create(new_log("before", payload={"x": 1}))
    writer = run_writer(harness.path, "w", "--file-bytes-max=600000")
    output, _ = writer.communicate(timeout=60)
    *batches, refused = [json.loads(line) for line in output.splitlines()]
    assert writer.returncode == 0
    assert refused == {"code": "OutOfSpace", "readable": True}
    with closing(harness.open()) as store:
        found = set(all_ids(store, limit=1000))
        assert {id_ for batch in batches for id_ in batch} | {"before"} == found
        store.create(new_log("after"))


@pytest.fixture
def small_volume(tmp_path):
    """A file system of 24 MiB."""
    folder = tmp_path / "volume"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small file system takes root")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_full_volume_recovers_by_retention(small_volume):
    harness = SqliteHarness(small_volume / "logs.db")
    harness.prepare()
    with closing(harness.open()) as store:
        stored = []
        with pytest.raises(OutOfSpace, match="full"):
            for number in range(1000):
                ids = [f"r{number:04}-{item}" for item in range(10)]
                time = START - timedelta(minutes=1000 - number)
                store.create_many([new_log(id_, time, payload={"x": "x" * 5000}) for id_ in ids])
                stored += ids
        assert set(all_ids(store, limit=1000)) == set(stored)
        assert store.get(stored[0]).payload == {"x": "x" * 5000}
        result = store.retain(LogRetention(max_size=1_000_000))
        assert result.evicted > 100
        store.create(new_log("after", payload={"x": "x" * 5000}))
        assert len(all_ids(store, limit=1000)) == len(stored) - result.evicted + 1
        assert reserve.RESERVE_BYTES in [path.stat().st_size for path in small_volume.iterdir()]
