"""Random operations on the engine against a list in memory, with builds, restarts, purges and copies in between."""

import tempfile
from datetime import timedelta
from pathlib import Path

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from store_runtime.clock import ManualClock
from store_runtime.engine.entry_engine import Engine
from store_runtime.engine.limits import Limits
from store_runtime.errors import NotFound
from store_runtime.streams.drivers.entry_engine import EntryEngineDriver
from store_runtime.streams.model import StreamConfig, Window
from store_runtime.streams.store import Streams
from store_runtime.switch.driver import StoreMeta

META = StoreMeta("store-1", "owner-1", schema_version="1")
STREAMS = st.sampled_from(["a", "b/ü"])
TIMES = st.one_of(st.none(), st.integers(1_767_225_000, 1_767_226_400))
FIELDS = st.dictionaries(st.sampled_from(["l", "m", "n.o", "_rest"]), st.sampled_from(["x", "y", "ü", ""]), max_size=4)
SECOND = 1_000_000_000


class StreamsMachine(RuleBasedStateMachine):
    """`model`: for each stream the (time, fields) of its entries in the order of ingestion, and its greatest age."""

    @initialize()
    def open(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.clock = ManualClock()
        self.model: dict[str, list[tuple[int, dict[str, str]]]] = {}
        self.ages: dict[str, int] = {}
        self.streams = self._opened(Path(self.folder.name) / "entries")

    def _opened(self, directory: Path) -> Streams:
        Engine.create(directory)
        limits = Limits(reserve_bytes=0, wal_file_bytes=2000)
        driver = EntryEngineDriver(Engine(directory, epoch=1, clock=self.clock, limits=limits))
        driver.change_meta(None, META)
        return Streams(driver, self.clock)

    def teardown(self) -> None:
        if hasattr(self, "streams"):
            self.streams.close()
            self.folder.cleanup()

    @rule(stream=STREAMS, entries=st.lists(st.tuples(TIMES, FIELDS), min_size=1, max_size=30))
    def ingest(self, stream, entries) -> None:
        body = b"\n".join(
            msgspec.json.encode(fields if seconds is None else {"_time": seconds, **fields})
            for seconds, fields in entries
        )
        assert self.streams.ingest(stream, body).accepted == len(entries)
        now_ns = self.clock.now_ns()
        self.model.setdefault(stream, []).extend(
            (now_ns if seconds is None else seconds * SECOND, fields) for seconds, fields in entries
        )
        self.ages.setdefault(stream, 0)

    @rule(seconds=st.integers(0, 60))
    def wait(self, seconds) -> None:
        self.clock.advance(timedelta(seconds=seconds))

    @rule()
    def build(self) -> None:
        self.streams.driver.engine.settle()

    @rule()
    def reopen(self) -> None:
        directory = self.streams.driver.engine.state.paths.root
        self.streams.close()
        self.streams = self._opened(directory)

    @precondition(lambda self: self.model)
    @rule(data=st.data(), age=st.sampled_from([0, 30, 600]))
    def configure(self, data, age) -> None:
        stream = data.draw(st.sampled_from(sorted(self.model)))
        self._expire(stream)
        self.streams.configure(stream, StreamConfig(age * SECOND))
        self.ages[stream] = age
        self._expire(stream)
        self.streams.driver.engine.settle()
        self.streams.retain()

    def _expire(self, stream: str) -> None:
        """A segment may keep what is too old beside what is not, and a longer limit shows it again: so that the model
        need not know of segments, what is too old is removed before a limit changes."""
        if self.ages[stream]:
            since = self.clock.now_ns() - self.ages[stream] * SECOND
            self.model[stream] = [entry for entry in self.model[stream] if entry[0] >= since]
            self.streams.purge(stream)
            if self.model[stream]:
                body = b"\n".join(msgspec.json.encode({"_time": t, **fields}) for t, fields in self.model[stream])
                self.streams.ingest(stream, body)

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def purge(self, data) -> None:
        stream = data.draw(st.sampled_from(sorted(self.model)))
        self.streams.purge(stream)
        self.model[stream] = []

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def delete(self, data) -> None:
        stream = data.draw(st.sampled_from(sorted(self.model)))
        self.streams.delete(stream)
        del self.model[stream], self.ages[stream]

    @rule(limit=st.integers(1, 3))
    def copy_to_another_engine(self, limit) -> None:
        """Export and import, page by page and twice over: the copy answers the same, keys included."""
        with tempfile.TemporaryDirectory() as folder:
            copy = self._opened(Path(folder) / "copy")
            for _ in range(2):
                cursor = None
                while True:
                    page = self.streams.driver.export(cursor, limit)
                    copy.driver.import_items(page.items)
                    if (cursor := page.cursor) is None:
                        break
            assert copy.streams() == self.streams.streams()
            for stream in self.model:
                asked = {"window": Window(), "limit": 10_000}
                assert copy.find(stream, **asked) == self.streams.find(stream, **asked)
            copy.close()

    @rule(stream=STREAMS, begin=st.integers(1_767_225_000, 1_767_226_400), length=st.integers(0, 900),
          value=st.sampled_from([None, "x", ""]), ascending=st.booleans(), limit=st.integers(1, 20))  # fmt: skip
    def ask(self, stream, begin, length, value, ascending, limit) -> None:
        window = Window(begin * SECOND, (begin + length) * SECOND, {} if value is None else {"l": (value,)})
        if stream not in self.model:
            try:
                self.streams.count(stream, window)
            except NotFound:
                return
            raise AssertionError("an unknown stream answered")
        wanted = [
            (time_ns, fields)
            for time_ns, fields in self._expected(stream, ascending)
            if window.from_ns <= time_ns < window.to_ns and (value is None or fields.get("l") == value)
        ]
        assert self.streams.count(stream, window) == len(wanted)
        assert self._paged(stream, window, ascending, limit) == wanted

    @invariant()
    def everything_is_there(self) -> None:
        if not hasattr(self, "streams"):
            return
        assert set(self.streams.streams()) == set(self.model)
        for stream in self.model:
            for ascending in (False, True):
                assert self._paged(stream, Window(), ascending, limit=7) == self._expected(stream, ascending)

    def _paged(self, stream: str, window: Window, ascending: bool, limit: int) -> list[tuple[int, dict[str, str]]]:
        got, cursor = [], None
        while True:
            page = self.streams.find(stream, window, limit=limit, ascending=ascending, cursor=cursor)
            got += [(entry.position.time_ns, entry.fields) for entry in page.entries]
            cursor = page.cursor
            if cursor is None:
                return got
            assert len(got) <= len(self.model[stream]), "pages go on for ever"

    def _expected(self, stream: str, ascending: bool) -> list[tuple[int, dict[str, str]]]:
        since = self.clock.now_ns() - self.ages[stream] * SECOND if self.ages[stream] else 0
        alive = [entry for entry in self.model[stream] if entry[0] >= since]
        in_order = [entry for _, entry in sorted(enumerate(alive), key=lambda item: (item[1][0], item[0]))]
        return in_order if ascending else in_order[::-1]


TestStreamsAgainstAModel = StreamsMachine.TestCase
TestStreamsAgainstAModel.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
