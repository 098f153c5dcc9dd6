"""The contract of Streams as a suite that every backend runs. A backend's test module gives a `harness` fixture.

What can be read must not depend on how far a backend is with it: tests that read take the fixture `streams`, whose
`settled` brings what was written to the stage of the run (just acknowledged; built; opened again).
"""

import gzip
import json
import re
import threading
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from store_runtime.clock import ManualClock
from store_runtime.config.wire import DeclaredStream, Role, StreamSync
from store_runtime.errors import Conflict, Fenced, InvalidInput, NotFound
from store_runtime.streams.bodies import BodyKind, decompressed
from store_runtime.streams.driver import StreamDriver
from store_runtime.streams.model import STREAM_NAME_BYTES_MAX, StreamConfig, Window
from store_runtime.streams.store import Streams
from store_runtime.switch.driver import StoreMeta

META = StoreMeta("store-1", "owner-1", epoch=1, schema_version="1")
SECOND = 1_000_000_000
ODD_NAMES = ("a", "a/b", "a%2Fb", "..", "ü🎉 名", "x" * STREAM_NAME_BYTES_MAX, "'; DROP TABLE streams; --")
KEY = re.compile(r"^\d{20}:[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$")


class Harness(ABC):
    """Makes Streams on one backend, one at a time."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.opened: StreamDriver | None = None

    @abstractmethod
    def open(self) -> StreamDriver:
        """A driver on this harness's data, claimed by META."""

    @abstractmethod
    def build(self) -> None:
        """Bring everything acknowledged into its final form."""

    def streams(self, **options: object) -> Streams:
        self.opened = self.open()
        return Streams(self.opened, self.clock, **options)

    def close(self) -> None:
        if self.opened is not None:
            self.opened.close()
            self.opened = None

    def wait(self, **duration: float) -> None:
        self.clock.advance(timedelta(**duration))


class Stage:
    """Streams in which reading happens at one stage of writing."""

    def __init__(self, harness: Harness, stage: str) -> None:
        self.harness = harness
        self.stage = stage
        self.streams = harness.streams()

    def settled(self) -> Streams:
        if self.stage in ("built", "built and reopened"):
            self.harness.build()
        if self.stage.endswith("reopened"):
            self.harness.close()
            self.streams = self.harness.streams()
        return self.streams


def lines(*entries: dict) -> bytes:
    return b"\n".join(json.dumps(entry).encode() for entry in entries)


def fields_of(streams: Streams, stream: str, window: Window | None = None, **options) -> list[dict]:
    return [entry.fields for entry in streams.find(stream, window or Window(), **options).entries]


def all_keys(streams: Streams, stream: str, *, limit: int, ascending: bool = False) -> list[str]:
    keys, cursor = [], None
    while True:
        page = streams.find(stream, Window(), limit=limit, ascending=ascending, cursor=cursor)
        keys += [entry.key for entry in page.entries]
        cursor = page.cursor
        if cursor is None:
            return keys


class StreamsContract:
    """Subclass it with a `harness` fixture."""

    @pytest.fixture(params=["acknowledged", "reopened", "built", "built and reopened"])
    def stage(self, harness, request):
        made = Stage(harness, request.param)
        yield made
        harness.close()

    @pytest.fixture
    def streams(self, harness):
        yield harness.streams()
        harness.close()

    # -- entries --------------------------------------------------------------------------------------------------

    def test_what_was_acknowledged_is_read(self, stage):
        report = stage.streams.ingest("s", lines({"level": "info", "m": "a"}, {"level": "error", "m": 'ü🎉\n"\\'}))
        assert report == (2, 0, ())
        assert fields_of(stage.settled(), "s") == [{"level": "error", "m": 'ü🎉\n"\\'}, {"level": "info", "m": "a"}]

    def test_newest_first_by_event_time_and_back_filled_entries_in_their_place(self, stage):
        for second in (30, 10, 20):
            stage.streams.ingest("s", lines({"_time": 1_700_000_000 + second, "n": str(second)}))
        streams = stage.settled()
        assert [f["n"] for f in fields_of(streams, "s")] == ["30", "20", "10"]
        assert [f["n"] for f in fields_of(streams, "s", ascending=True)] == ["10", "20", "30"]
        assert [f["n"] for f in fields_of(streams, "s", limit=1)] == ["30"]

    def test_entries_of_one_moment_are_in_the_order_of_their_ingestion(self, stage):
        for part in range(3):
            stage.streams.ingest("s", lines(*({"n": f"{part}{n}"} for n in range(3))))
            stage.harness.build()
        streams = stage.settled()
        wanted = [f"{part}{n}" for part in range(3) for n in range(3)]
        assert [f["n"] for f in fields_of(streams, "s", limit=2)] == wanted[:-3:-1]
        assert [f["n"] for f in fields_of(streams, "s", limit=4, ascending=True)] == wanted[:4]
        assert len(set(all_keys(streams, "s", limit=2))) == 9

    def test_a_window_includes_its_begin_and_excludes_its_end(self, stage):
        stage.streams.ingest("s", lines(*({"_time": 10**18 + n, "n": str(n)} for n in range(5))))
        streams, window = stage.settled(), Window(10**18 + 1, 10**18 + 3)
        assert [f["n"] for f in fields_of(streams, "s", window)] == ["2", "1"]
        assert streams.count("s", window) == 2
        assert streams.count("s", Window()) == 5
        assert streams.count("s", Window(10**18 + 1, 10**18 + 1)) == 0

    def test_the_time_of_an_entry(self, stage):
        stage.harness.wait(seconds=5)
        now_ns = stage.harness.clock.now_ns()
        body = [
            ({"_time": "2026-11-21T10:00:00.123456789Z"}, 1_795_255_200_123_456_789),
            ({"_time": "2026-11-21T12:00:00+02:00"}, 1_795_255_200_000_000_000),
            ({"_time": 1_795_255_201}, 1_795_255_201_000_000_000),
            ({"_time": 1_795_255_201.25}, 1_795_255_201_250_000_000),
            ({"_time": 1_795_255_202_001}, 1_795_255_202_001_000_000),
            ({"_time": 1_795_255_202_001_002}, 1_795_255_202_001_002_000),
            ({"_time": 1_795_255_202_001_002_003}, 1_795_255_202_001_002_003),
            ({"_time": "1795255203"}, 1_795_255_203_000_000_000),
            ({"_time": None}, now_ns),
            ({}, now_ns),
        ]
        stage.streams.ingest("s", lines(*({**entry, "n": str(n)} for n, (entry, _) in enumerate(body))))
        found = stage.settled().find("s", Window()).entries
        assert {e.fields["n"]: e.position.time_ns for e in found} == {str(n): at for n, (_, at) in enumerate(body)}
        assert all("_time" not in entry.fields for entry in found)

    def test_nested_objects_flatten_and_values_keep_their_json_text(self, stage):
        body = b"""
            {"a": {"b": {"c": "x"}, "n": 1.50}, "list": [1, {"y":2}], "t": true, "no": null, "empty": {}, "big": 1e999}
            {"a.b.c": "y"}"""
        stage.streams.ingest("s", body)
        streams = stage.settled()
        assert fields_of(streams, "s") == [
            {"a.b.c": "y"},
            {"a.b.c": "x", "a.n": "1.50", "list": '[1, {"y":2}]', "t": "true", "empty": "{}", "big": "1e999"},
        ]
        assert streams.fields("s") == ["a.b.c", "a.n", "big", "empty", "list", "t"]

    def test_of_equal_keys_the_first_counts_on_every_path(self, stage):
        stage.streams.ingest("s", b'{"a": "1", "b": "1"}')
        stage.streams.ingest("s", b'{"a":"1","a":"2"}\n{"b":"1","a":"1"}')
        stage.streams.ingest("s", b'{"a": 1, "a": 2}\n{"_time": 5, "_time": 6, "a": "old"}')
        entries = stage.settled().find("s", Window(), ascending=True).entries
        assert [entry.fields for entry in entries] == [
            {"a": "old"}, {"a": "1", "b": "1"}, {"a": "1"}, {"b": "1", "a": "1"}, {"a": "1"},
        ]  # fmt: skip
        assert entries[0].position.time_ns == 5 * SECOND

    def test_more_fields_than_columns_and_names_like_ours(self, stage):
        wide = {f"field-{n:03}": str(n) for n in range(205)}
        odd = {"_rest": "r", "_t": "t", "_seq": "s", "": "empty", "q\"'\\.$[0]": "odd", "n\n\0": "control", "f0": "f"}
        stage.streams.ingest("odd", lines(odd))
        stage.streams.ingest("s", lines(wide, odd, {"field-204": "z"}))
        streams = stage.settled()
        assert fields_of(streams, "odd") == [odd]
        assert fields_of(streams, "s") == [{"field-204": "z"}, odd, wide]
        assert streams.fields("s") == sorted({*wide, *odd})
        assert fields_of(streams, "s", Window(equal={"field-204": ("z", "y")})) == [{"field-204": "z"}]
        assert fields_of(streams, "s", Window(equal={"_rest": ("r",)})) == [odd]
        assert streams.count("s", Window(equal={"field-204": ("204",), "field-003": ("3",)})) == 1

    def test_conditions_are_exact_or_within_a_field_and_and_between_fields(self, stage):
        stage.streams.ingest("s", lines({"l": "a", "x": "1"}, {"l": "b", "x": "1"}, {"l": "a", "x": "2"}, {"y": "a"}))
        streams = stage.settled()
        assert fields_of(streams, "s", Window(equal={"l": ("a",)})) == [{"l": "a", "x": "2"}, {"l": "a", "x": "1"}]
        assert streams.count("s", Window(equal={"l": ("a", "b"), "x": ("1",)})) == 2
        assert streams.count("s", Window(equal={"l": ("A",)})) == 0
        assert streams.count("s", Window(equal={"unknown": ("a",)})) == 0

    def test_keys_are_the_seeds_and_stay(self, stage):
        stage.streams.ingest("s", lines(*({"n": str(n)} for n in range(50))))
        before = all_keys(stage.streams, "s", limit=7)
        assert len(set(before)) == 50
        assert all(KEY.match(key) for key in before)
        assert int(before[0].partition(":")[0]) == stage.harness.clock.now_ns() // 1_000_000
        assert all_keys(stage.settled(), "s", limit=50) == before

    @pytest.mark.parametrize("ascending", [False, True])
    def test_pages_have_each_entry_once_whatever_is_ingested(self, stage, ascending):
        for part in range(3):
            body = lines(*({"_time": 100 + n // 4, "n": f"{part}-{n}"} for n in range(20)))
            stage.streams.ingest("s", body)
        streams = stage.settled()
        wanted = all_keys(streams, "s", limit=1000, ascending=ascending)
        got, cursor = [], None
        while True:
            page = streams.find("s", Window(), limit=7, ascending=ascending, cursor=cursor)
            got += [entry.key for entry in page.entries]
            cursor = page.cursor
            if cursor is None:
                break
            streams.ingest("s", lines({"_time": 90 if ascending else 110, "n": "new"}))
        assert [key for key in got if key in set(wanted)] == wanted
        assert len(set(got)) == len(got)

    def test_distinct_values_of_indexed_fields(self, stage):
        stage.streams.configure("s", StreamConfig(indexed_fields=("level", "nowhere")))
        stage.streams.ingest("s", lines({"level": "b"}, {"level": "a"}, {"level": "b", "x": "1"}))
        assert stage.settled().indices("s") == {"level": ["a", "b"], "nowhere": []}

    def test_streams_do_not_mix(self, stage):
        for name in ODD_NAMES:
            stage.streams.ingest(name, lines({"name": name}))
        streams = stage.settled()
        assert set(streams.streams()) == set(ODD_NAMES)
        for name in ODD_NAMES:
            assert fields_of(streams, name) == [{"name": name}]

    def test_an_entry_without_fields_is_one(self, stage):
        stage.streams.ingest("s", b"{}\n{}")
        streams = stage.settled()
        assert fields_of(streams, "s") == [{}, {}]
        assert streams.count("s", Window()) == 2

    def test_writers_at_the_same_time_all_count(self, stage):
        def write(writer):
            for n in range(10):
                stage.streams.ingest(f"s{writer % 2}", lines({"w": str(writer), "n": str(n)}, {"w": "extra"}))

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(write, range(8)))
        streams = stage.settled()
        assert [streams.count(name, Window()) for name in ("s0", "s1")] == [80, 80]
        for writer in range(8):
            found = fields_of(streams, f"s{writer % 2}", Window(equal={"w": (str(writer),)}), ascending=True)
            assert [f["n"] for f in found] == [str(n) for n in range(10)]

    # -- bodies ---------------------------------------------------------------------------------------------------

    def test_forms_of_a_body(self, streams):
        streams.ingest("json", b'{"records": [{"a": "1"}, {"a":\n"2"}]}', BodyKind.JSON)
        streams.ingest("json", b'[{"a": "3"}]', BodyKind.JSON)
        streams.ingest("json", b'{"a": "4"}\n{"a": "5"}', BodyKind.JSON)
        assert [f["a"] for f in fields_of(streams, "json", ascending=True)] == ["1", "2", "3", "4", "5"]
        streams.ingest("text", b'one\r\n\n  two \nlast {"a"} \xff', BodyKind.TEXT)
        assert [f["content"] for f in fields_of(streams, "text", ascending=True)] == ["one", "two", 'last {"a"} \ufffd']
        assert decompressed(gzip.compress(b"a") + gzip.compress(b"b"), "gzip", 10) == b"ab"

    def test_bad_entries_are_rejected_one_by_one(self, streams):
        body = (
            b'{"a":"1"}\nnonsense\n\n[1]\n{"a":"2"}{"b":"3"}\n{"a":"\\ud800"}\n{"a":"\xff"}\n{"_time":"x"}\n{"a":"9"}'
        )
        report = streams.ingest("s", body)
        assert (report.accepted, report.rejected) == (2, 6)
        assert [reason.partition(":")[0] for reason in report.reasons] == [f"line {n}" for n in (2, 4, 5, 6, 7, 8)]
        assert [f["a"] for f in fields_of(streams, "s", ascending=True)] == ["1", "9"]

    def test_strict_refuses_the_whole_body_and_so_does_one_that_is_all_bad(self, streams):
        streams.ingest("s", b'{"a":"1"}')
        with pytest.raises(InvalidInput, match="line 2"):
            streams.ingest("s", b'{"a":"2"}\nx', strict=True)
        with pytest.raises(InvalidInput, match="none of the 2"):
            streams.ingest("s", b"x\ny")
        assert streams.count("s", Window()) == 1

    def test_limits_of_an_entry(self, harness):
        streams = harness.streams(entry_bytes_max=1000)
        report = streams.ingest("s", lines({"a": "x" * 1000}, {"a": "y"}))
        assert report.rejected == 1 and "1000" in report.reasons[0]
        report = streams.ingest("s", lines({"n" * 2000: ""}, {"a": "y"}))
        assert (report.accepted, report.rejected) == (1, 1)
        harness.close()

    # -- streams --------------------------------------------------------------------------------------------------

    def test_the_first_entry_makes_a_stream_and_reading_does_not(self, streams):
        for read in (streams.config, streams.fields, streams.indices, streams.usage_bytes):
            with pytest.raises(NotFound):
                read("s")
        with pytest.raises(NotFound):
            streams.find("s", Window())
        streams.ingest("s", b'{"a":"1"}')
        assert streams.config("s") == StreamConfig()

    def test_without_auto_create_only_known_streams_take_entries(self, harness):
        streams = harness.streams(auto_create=False)
        with pytest.raises(NotFound, match="autoCreate"):
            streams.ingest("s", b'{"a":"1"}')
        streams.configure("s", StreamConfig())
        assert streams.ingest("s", b'{"a":"1"}').accepted == 1
        harness.close()

    @pytest.mark.parametrize("name", ["", "a\nb", "a\0", "x" * (STREAM_NAME_BYTES_MAX + 1)])
    def test_names_that_are_none(self, streams, name):
        with pytest.raises(InvalidInput):
            streams.ingest(name, b'{"a":"1"}')
        with pytest.raises(InvalidInput):
            streams.configure(name, StreamConfig())
        assert streams.streams() == {}

    def test_a_deleted_stream_leaves_nothing_to_the_next_of_its_name(self, stage):
        stage.streams.configure("s", StreamConfig(max_age_ns=10**15, indexed_fields=("a",)))
        stage.streams.ingest("s", b'{"a":"1"}')
        stage.settled().delete("s")
        assert stage.settled().streams() == {}
        stage.streams.ingest("s", b'{"b":"2"}')
        streams = stage.settled()
        assert fields_of(streams, "s") == [{"b": "2"}]
        assert streams.config("s") == StreamConfig()
        with pytest.raises(NotFound):
            streams.delete("other")

    def test_a_purge_keeps_the_config_and_what_comes_after(self, stage):
        config = StreamConfig(indexed_fields=("a",))
        stage.streams.configure("s", config)
        stage.streams.ingest("s", b'{"a":"1"}')
        stage.settled().purge("s")
        stage.streams.ingest("s", b'{"a":"2"}')
        streams = stage.settled()
        assert fields_of(streams, "s") == [{"a": "2"}]
        assert streams.config("s") == config

    def test_sync_makes_the_declared_streams(self, stage):
        streams = stage.streams
        streams.ingest("mine", b'{"a":"1"}')
        declared = DeclaredStream(name="d", max_age=timedelta(minutes=5), max_size=1 << 30, indexed_fields=("level",))
        result = streams.sync(StreamSync(streams=(declared, DeclaredStream(name="e"), DeclaredStream(name="bad\n"))))
        assert [(outcome.name, outcome.code) for outcome in result.outcomes] == [
            ("d", ""), ("e", ""), ("bad\n", "InvalidInput"),
        ]  # fmt: skip
        wanted = StreamConfig(300 * SECOND, 1 << 30, ("level",), declared=True)
        streams = stage.settled()
        assert streams.config("d") == wanted
        for write in (lambda: streams.configure("d", StreamConfig()), lambda: streams.delete("d")):
            with pytest.raises(Conflict) as refused:
                write()
            assert refused.value.specific_code == "ManagedByResource"
        streams.ingest("d", b'{"a":"1"}')
        streams.ingest("e", b'{"a":"1"}')
        streams.sync(StreamSync(delete=("e", "gone")))
        assert streams.config("d") == StreamConfig(300 * SECOND, 1 << 30, ("level",), declared=False)
        assert set(streams.streams()) == {"d", "mine"}
        assert streams.count("d", Window()) == 1

    def test_configs_that_are_none(self, streams):
        for config in (StreamConfig(-1), StreamConfig(0, -1), StreamConfig(indexed_fields=("",))):
            with pytest.raises(InvalidInput):
                streams.configure("s", config)
        assert streams.streams() == {}

    # -- retention ------------------------------------------------------------------------------------------------

    def test_age_is_exact_at_once_and_retroactive(self, stage):
        streams, harness = stage.streams, stage.harness
        for n in range(4):
            streams.ingest("s", lines({"n": str(n)}))
            harness.wait(seconds=10)
        streams = stage.settled()
        streams.configure("s", StreamConfig(max_age_ns=25 * SECOND))
        assert [f["n"] for f in fields_of(streams, "s")] == ["3", "2"]
        assert streams.count("s", Window()) == 2
        harness.wait(seconds=5)
        assert streams.count("s", Window()) == 2, "an entry as old as the limit is kept"
        harness.clock.advance(timedelta(microseconds=1))
        assert streams.count("s", Window()) == 1
        harness.wait(seconds=60)
        assert streams.fields("s") == []
        harness.build()
        streams.retain()
        assert streams.usage_bytes("s") == 0
        streams.configure("s", StreamConfig())
        assert streams.count("s", Window()) == 0

    def test_size_evicts_the_oldest(self, harness, streams):
        for n in range(4):
            streams.ingest("s", lines(*({"n": str(n), "m": f"{n}-{i * 7919 % 10007}"} for i in range(500))))
            harness.build()
            harness.wait(seconds=1)
        used = streams.usage_bytes("s")
        assert streams.retain(dry_run=True).segments == 0
        streams.configure("s", StreamConfig(max_bytes=used * 6 // 10))
        assert {f["n"] for f in fields_of(streams, "s", limit=1000)} == {"3", "2"}
        assert streams.usage_bytes("s") <= used * 6 // 10
        assert streams.count("s", Window()) == 1000

    # -- fence ----------------------------------------------------------------------------------------------------

    def test_a_fenced_store_reads_and_does_not_write(self, streams):
        streams.ingest("s", b'{"a":"1"}')
        assert streams.driver.change_meta(META, META.changed(role=Role.FENCED))
        for write in (
            lambda: streams.ingest("s", b'{"a":"2"}'),
            lambda: streams.configure("s", StreamConfig(1)),
            lambda: streams.delete("s"),
            lambda: streams.purge("s"),
        ):
            with pytest.raises(Fenced):
                write()
        assert streams.count("s", Window()) == 1

    def test_a_fence_waits_for_the_writes_under_way(self, streams):
        acknowledged, refused = [], threading.Event()

        def write():
            while not refused.is_set():
                try:
                    acknowledged.append(streams.ingest("s", b'{"a":"1"}'))
                except Fenced:
                    refused.set()

        writers = [threading.Thread(target=write) for _ in range(4)]
        for writer in writers:
            writer.start()
        while len(acknowledged) < 20:
            pass
        assert streams.driver.change_meta(META, META.changed(role=Role.FENCED))
        stored = streams.count("s", Window())
        for writer in writers:
            writer.join()
        assert streams.count("s", Window()) == stored == len(acknowledged)
