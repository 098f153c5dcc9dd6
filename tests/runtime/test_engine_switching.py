"""The engine as a source and a target of a switch: blocks, marks, and what a crash leaves of them."""

from pathlib import Path

import pytest

from store_runtime.config.wire import Role
from store_runtime.engine.limits import BLOCK_ENTRIES
from store_runtime.engine.marks import block_key, config_key, parse_key
from store_runtime.errors import Fenced, InvalidInput
from store_runtime.streams.model import StreamConfig, Window
from store_runtime.switch.driver import DirtyMark, ExportItem
from tests.backends.test_streams_engine import EngineHarness
from tests.conformance.streams import META, lines

NAME = "a/ü"


@pytest.fixture
def source(tmp_path):
    made = EngineHarness(tmp_path / "source")
    yield made
    made.close()


@pytest.fixture
def target(tmp_path):
    made = EngineHarness(tmp_path / "target")
    yield made
    made.close()


def ingest(streams, count, name=NAME, first=0):
    streams.ingest(name, lines(*({"n": str(n), "m": "x" * 20} for n in range(first, first + count))))


def export(driver, limit=3) -> list[ExportItem]:
    items, cursor = [], None
    while True:
        page = driver.export(cursor, limit)
        items += page.items
        if (cursor := page.cursor) is None:
            return items


def entries(streams, name=NAME):
    return streams.find(name, Window(), limit=10_000).entries


def copy(source_driver, target_driver) -> None:
    """What the copier does: bulk, then marks until there are none."""
    for start in range(0, len(items := export(source_driver)), 2):
        target_driver.import_items(items[start : start + 2])
    drain(source_driver, target_driver)


def drain(source_driver, target_driver) -> None:
    while marks := source_driver.dirty_marks(2):
        target_driver.import_items(source_driver.read_items([mark.key for mark in marks]))
        for mark in marks:
            source_driver.clear_mark(mark)


@pytest.mark.parametrize("built", [False, True])
def test_a_copy_has_the_same_entries_and_keys(source, target, built):
    streams = source.streams()
    streams.configure("empty", StreamConfig(5, 6, ("x",)))
    ingest(streams, BLOCK_ENTRIES * 3 + 10)
    if built:
        source.build()
        ingest(streams, 100, first=5000)
    items = export(streams.driver)
    assert [item.key for item in items] == sorted(item.key for item in items)
    assert len(items) == 2 + 4
    copied = target.streams()
    for _ in range(2):
        copied.driver.import_items(items)
    assert entries(copied) == entries(streams)
    assert copied.streams() == streams.streams()
    assert export(copied.driver) == items
    ingest(copied, 1, first=9000)
    assert len({entry.key for entry in entries(copied)}) == len(entries(streams)) + 1


def test_importing_a_block_replaces_it_and_nothing_else(source, target):
    streams, copied = source.streams(), target.streams()
    ingest(streams, BLOCK_ENTRIES * 2 + 5)
    copied.driver.import_items(export(streams.driver))
    middle = block_key(NAME, 1)
    (item,) = streams.driver.read_items([middle])
    fewer = ExportItem(middle, {"entries": item.state["entries"][:10]})
    copied.driver.import_items([fewer])
    assert len(entries(copied)) == BLOCK_ENTRIES + 10 + 5
    assert copied.driver.read_items([middle]) == (fewer,)
    copied.driver.import_items([ExportItem(middle, None)])
    assert copied.driver.read_items([middle, block_key(NAME, 0)])[0].state is None
    target.close()
    copied = target.streams()
    assert len(entries(copied)) == BLOCK_ENTRIES + 5
    copied.driver.import_items([ExportItem(config_key(NAME), None)])
    assert copied.streams() == {}
    assert not target.files("segments/*/*")


def test_every_change_is_marked_and_a_copy_catches_up(source, target):
    streams, copied = source.streams(), target.streams()
    for name in (NAME, "purged", "deleted"):
        ingest(streams, 10, name)
    assert streams.driver.dirty_marks(10) == ()
    streams.driver.set_capture(True)
    copy(streams.driver, copied.driver)
    ingest(streams, BLOCK_ENTRIES, first=10)
    ingest(streams, 1, "new")
    streams.configure("configured", StreamConfig(7))
    streams.purge("purged")
    streams.delete("deleted")
    marked = {mark.key for mark in streams.driver.dirty_marks(100)}
    assert marked == {
        block_key(NAME, 0), block_key(NAME, 1), block_key("new", 0), config_key("new"), config_key("configured"),
        block_key("purged", 0), block_key("deleted", 0), config_key("deleted"),
    }  # fmt: skip
    source.build()
    drain(streams.driver, copied.driver)
    assert copied.streams() == streams.streams()
    for name in streams.streams():
        assert entries(copied, name) == entries(streams, name)


def test_a_mark_is_cleared_only_at_its_version_and_versions_never_come_twice(source):
    streams = source.streams()
    streams.driver.set_capture(True)
    seen = []
    for n in range(3):
        ingest(streams, 1, first=n)
        (mark,) = (mark for mark in streams.driver.dirty_marks(10) if mark.key == block_key(NAME, 0))
        seen.append(mark.version)
        assert not streams.driver.clear_mark(DirtyMark(mark.key, mark.version - 1))
    assert streams.driver.clear_mark(mark)
    assert not streams.driver.clear_mark(mark)
    source.build()
    streams.driver.set_capture(False)
    assert streams.driver.dirty_marks(10) == ()
    source.close()
    streams = source.streams()
    streams.driver.set_capture(True)
    ingest(streams, 1)
    seen += [mark.version for mark in streams.driver.dirty_marks(10)]
    assert len(set(seen)) == len(seen) and seen == sorted(seen)


@pytest.mark.parametrize("built", [False, True])
def test_marks_survive_a_restart(source, built):
    streams = source.streams()
    streams.driver.set_capture(True)
    ingest(streams, BLOCK_ENTRIES + 1)
    if built:
        source.build()
    before = streams.driver.dirty_marks(10)
    assert len(before) == 3
    source.close()
    assert source.streams().driver.dirty_marks(10) == before


def test_retention_rests_while_a_switch_captures(source):
    streams = source.streams()
    ingest(streams, 10)
    source.build()
    streams.driver.set_capture(True)
    streams.configure(NAME, StreamConfig(max_bytes=1))
    assert streams.count(NAME, Window()) == 0, "no query sees them"
    assert source.files("segments/*/*"), "but a copier does"
    assert len(export(streams.driver)[1].state["entries"]) == 10
    streams.driver.set_capture(False)
    assert streams.retain().evicted == 10
    assert not source.files("segments/*/*")


def test_roles(source):
    streams = source.streams()
    ingest(streams, 1)
    target_meta = META.changed(role=Role.TARGET)
    assert not streams.driver.change_meta(target_meta, META)
    assert streams.driver.change_meta(META, target_meta)
    with pytest.raises(Fenced):
        ingest(streams, 1)
    streams.driver.import_items(export(streams.driver))
    assert streams.driver.change_meta(target_meta, META.changed(role=Role.RETIRED, successor="b"))
    with pytest.raises(Fenced):
        streams.driver.import_items(export(streams.driver))
    source.close()
    assert source.open().read_meta().successor == "b"
    source.opened = None


def test_an_epoch_fences(source: EngineHarness):
    streams = source.streams()
    assert streams.driver.change_meta(META, META.changed(epoch=2))
    with pytest.raises(Fenced, match="epoch"):
        ingest(streams, 1)


@pytest.mark.parametrize("key", ["", "config", "entries/a", "entries/a/x", "config/%ff", "other/a"])
def test_keys_that_are_none(key):
    with pytest.raises(InvalidInput):
        parse_key(key)


def test_items_that_are_none(source: EngineHarness):
    driver = source.streams().driver
    with pytest.raises(InvalidInput, match="config/a"):
        driver.import_items([ExportItem("config/a", {"salt": "x"})])
    assert not Path(source.directory / "segments" / "1").exists()
