"""The contract of Switchable as a suite that every driver runs: who owns the data, fence, capture, export, import.

A backend's test module subclasses SwitchableContract with a `switching` fixture that gives its SwitchHarness.
"""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from itertools import pairwise
from typing import Protocol

import pytest

from store_runtime.config.runtime import StoreIdentity
from store_runtime.config.wire import Role
from store_runtime.errors import Fenced, InvalidInput, OwnedByAnother
from store_runtime.switch.driver import DirtyMark, ExportItem, ExportPage, StoreMeta, Switchable
from store_runtime.switch.ownership import claim, release
from tests.conformance.concurrent_writers import WAIT_SECONDS, WRITERS, WriteLog, writers

STORE = StoreIdentity(id="store-1", namespace="team", name="store", owner="owner-1")
ROUNDS = 10


class Driver(Switchable, Protocol):
    def close(self) -> None: ...


class SwitchHarness(ABC):
    """Opens one kind of driver. `durable`: opened again it has the same data; `shared`: two may be open at once."""

    durable: bool
    shared: bool
    schema_version = "1"

    @abstractmethod
    def open(self, backend: str, epoch: int = 1) -> Driver:
        """A driver on the backend of that name, which is empty and carries no store until somebody claims it."""

    @abstractmethod
    def write(self, driver: Driver, name: str, value: int) -> None:
        """Write `value`, above 0, as the item `name` has it; returns once it is acknowledged."""

    @abstractmethod
    def read(self, driver: Driver, name: str) -> int:
        """The item's value, 0 if there is none."""

    @abstractmethod
    def key(self, name: str) -> str:
        """The item's key in exports and marks. Writing it for the first time may make other items, too."""

    def claimed(self, backend: str, epoch: int = 1) -> Driver:
        driver = self.open(backend, epoch)
        self.claim(driver, STORE, epoch)
        return driver

    def claim(self, driver: Driver, store: StoreIdentity, epoch: int = 1) -> StoreMeta:
        return claim(driver, store, epoch=epoch, schema_version=self.schema_version)


class SwitchableContract:
    """Subclass it with a `switching` fixture."""

    @pytest.fixture
    def empty(self, switching: SwitchHarness) -> Iterator[Driver]:
        with closing(switching.open("source")) as driver:
            yield driver

    @pytest.fixture
    def driver(self, switching: SwitchHarness, empty: Driver) -> Driver:
        switching.claim(empty, STORE)
        return empty

    # -- ownership ------------------------------------------------------------------------------------------------

    def test_a_new_backend_carries_no_store_and_takes_no_write(self, switching, empty):
        assert empty.read_meta() is None
        with pytest.raises(Fenced):
            switching.write(empty, "a", 1)
        assert empty.export(None, 10) == ExportPage((), None)
        assert empty.change_meta(StoreMeta("store-1", "owner-1"), StoreMeta("store-1", "owner-2")) is False
        assert empty.read_meta() is None

    def test_a_claim_takes_an_empty_backend_and_can_be_repeated(self, switching, empty):
        meta = switching.claim(empty, STORE)
        assert meta == empty.read_meta()
        assert (meta.store_id, meta.owner, meta.role, meta.epoch) == ("store-1", "owner-1", Role.ACTIVE, 1)
        assert (meta.capture, meta.schema_version) == (False, switching.schema_version)
        assert switching.claim(empty, STORE) == meta

    def test_of_many_claims_at_once_one_wins(self, empty):
        metas = [StoreMeta(f"store-{number}", "owner") for number in range(8)]
        won: list[StoreMeta] = []
        in_threads([lambda meta=meta: won.append(meta) if empty.change_meta(None, meta) else None for meta in metas])
        assert won == [empty.read_meta()]

    def test_what_belongs_to_another_store_is_refused(self, switching, driver):
        before = driver.read_meta()
        with pytest.raises(OwnedByAnother, match="store-1"):
            switching.claim(driver, STORE.model_copy(update={"id": "store-2"}))
        assert driver.read_meta() == before

    def test_another_owner_is_refused_until_the_store_is_released(self, switching, driver):
        switching.write(driver, "a", 7)
        adopter = STORE.model_copy(update={"owner": "owner-2"})
        with pytest.raises(OwnedByAnother, match="owner-1"):
            switching.claim(driver, adopter)
        for _ in range(2):
            release(driver, STORE)
        assert driver.read_meta().role is Role.RELEASED
        with pytest.raises(Fenced):
            switching.write(driver, "a", 8)
        adopted = switching.claim(driver, adopter)
        assert adopted == driver.read_meta()
        assert (adopted.owner, adopted.role) == ("owner-2", Role.ACTIVE)
        assert switching.read(driver, "a") == 7
        switching.write(driver, "a", 9)

    def test_meta_changes_only_from_what_was_expected(self, driver):
        meta = driver.read_meta()
        for wrong in (None, meta.changed(epoch=7), meta.changed(owner="x"), meta.changed(role=Role.TARGET)):
            assert driver.change_meta(wrong, meta.changed(migration_id="m")) is False
            assert driver.read_meta() == meta
        new = meta.changed(role=Role.RETIRED, capture=True, successor="s-2", migration_id="m-1", schema_version="9")
        assert driver.change_meta(meta, new) is True
        assert driver.read_meta() == new
        assert driver.change_meta(meta, new) is False

    # -- fence ----------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("role", [role for role in Role if role is not Role.ACTIVE])
    def test_a_store_that_is_not_active_refuses_writes_and_reads_on(self, switching, driver, role):
        switching.write(driver, "a", 1)
        before = everything(driver)
        with changed_meta(driver, role=role):
            for name in ("a", "new"):
                with pytest.raises(Fenced):
                    switching.write(driver, name, 2)
            assert switching.read(driver, "a") == 1
            assert driver.read_items([switching.key("a")]) == (before[switching.key("a")],)
            assert everything(driver) == before
        switching.write(driver, "a", 3)
        assert switching.read(driver, "a") == 3

    def test_an_epoch_that_moved_on_refuses_writes(self, switching, driver):
        switching.write(driver, "a", 1)
        before = everything(driver)
        meta = driver.read_meta()
        assert driver.change_meta(meta, meta.changed(epoch=2))
        with pytest.raises(Fenced):
            switching.write(driver, "a", 2)
        assert everything(driver) == before
        assert switching.read(driver, "a") == 1
        if not switching.durable:
            return
        driver.close()
        with closing(switching.open("source", epoch=2)) as next_one:
            switching.write(next_one, "a", 3)
            assert switching.read(next_one, "a") == 3

    def test_a_fence_holds_for_every_process(self, switching, driver):
        if not switching.shared:
            return
        switching.write(driver, "a", 1)
        with closing(switching.open("source")) as other:
            switching.write(other, "a", 2)
            with changed_meta(driver, role=Role.FENCED):
                with pytest.raises(Fenced):
                    switching.write(other, "a", 3)
                assert switching.read(other, "a") == 2
            driver.set_capture(True)
            switching.write(other, "a", 4)
            assert mark_of(driver, switching.key("a")) == mark_of(other, switching.key("a")) is not None

    # -- capture --------------------------------------------------------------------------------------------------

    def test_without_capture_nothing_is_marked(self, switching, driver):
        switching.write(driver, "a", 1)
        assert driver.dirty_marks(10) == ()
        driver.set_capture(True)
        assert driver.read_meta().capture is True
        assert driver.dirty_marks(10) == ()
        switching.write(driver, "b", 1)
        driver.set_capture(False)
        assert driver.read_meta().capture is False
        assert driver.dirty_marks(10) == ()
        switching.write(driver, "a", 2)
        assert driver.dirty_marks(10) == ()

    def test_each_write_marks_its_key_once_with_a_version_that_rises(self, switching, driver):
        switching.write(driver, "a", 1)
        switching.write(driver, "b", 1)
        driver.set_capture(True)
        versions = []
        for value, name in enumerate(["a", "b", "a", "a", "b"], 2):
            switching.write(driver, name, value)
            versions.append(mark_of(driver, switching.key(name)).version)
        assert versions == sorted(set(versions))
        marks = driver.dirty_marks(100)
        assert [mark.key for mark in marks] == sorted({switching.key("a"), switching.key("b")})
        assert driver.dirty_marks(1) == marks[:1]

    def test_a_mark_is_cleared_only_at_its_version(self, switching, driver):
        driver.set_capture(True)
        switching.write(driver, "a", 1)
        key = switching.key("a")
        stale = mark_of(driver, key)
        switching.write(driver, "a", 2)
        mark = mark_of(driver, key)
        for wrong in (stale, DirtyMark(key, mark.version + 1), DirtyMark(switching.key("b"), mark.version)):
            assert driver.clear_mark(wrong) is False
        assert mark_of(driver, key) == mark
        assert driver.clear_mark(mark) is True
        assert driver.clear_mark(mark) is False
        assert mark_of(driver, key) is None

    def test_versions_are_never_used_again(self, switching, driver):
        driver.set_capture(True)
        switching.write(driver, "a", 1)
        stale = mark_of(driver, switching.key("a"))
        highest = max(mark.version for mark in driver.dirty_marks(100))
        for _ in range(2):
            driver.set_capture(False)
            driver.set_capture(True)
            switching.write(driver, "a", 1 + highest)
            mark = mark_of(driver, switching.key("a"))
            assert mark.version > highest
            highest = mark.version
        assert driver.clear_mark(stale) is False
        assert driver.clear_mark(mark) is True
        driver.set_capture(False)
        if switching.durable:
            driver.close()
            with closing(switching.open("source")) as again:
                again.set_capture(True)
                switching.write(again, "a", 2 + highest)
                assert mark_of(again, switching.key("a")).version > highest

    def test_marks_stay_and_can_be_cleared_while_fenced(self, switching, driver):
        driver.set_capture(True)
        switching.write(driver, "a", 1)
        switching.write(driver, "b", 1)
        marks = driver.dirty_marks(100)
        with changed_meta(driver, role=Role.FENCED):
            with pytest.raises(Fenced):
                switching.write(driver, "c", 1)
            assert driver.dirty_marks(100) == marks
            assert driver.clear_mark(marks[0]) is True
        assert driver.dirty_marks(100) == marks[1:]

    def test_meta_capture_and_marks_last(self, switching, driver):
        if not switching.durable:
            return
        driver.set_capture(True)
        switching.write(driver, "a", 1)
        switching.write(driver, "b", 2)
        meta, marks, items = driver.read_meta(), driver.dirty_marks(100), everything(driver)
        driver.close()
        with closing(switching.open("source")) as again:
            assert (again.read_meta(), again.dirty_marks(100), everything(again)) == (meta, marks, items)
            assert again.clear_mark(mark_of(again, switching.key("a"))) is True
            switching.write(again, "b", 3)
            assert mark_of(again, switching.key("b")).version > max(mark.version for mark in marks)

    # -- export and import ----------------------------------------------------------------------------------------

    @pytest.mark.parametrize("limit", [1, 2, 5, 1000])
    def test_an_export_is_complete_in_key_order_and_resumes(self, switching, driver, limit):
        names = [f"n{number}" for number in (3, 1, 4, 15, 9, 2, 6)]
        for value, name in enumerate(names, 1):
            switching.write(driver, name, value)
        pages = list(pages_of(driver, limit))
        assert all(len(page.items) <= limit for page in pages)
        keys = [item.key for page in pages for item in page.items]
        assert keys == sorted(set(keys))
        assert {switching.key(name) for name in names} <= set(keys)
        items = [item for page in pages for item in page.items]
        assert driver.read_items(keys) == tuple(items)
        for page, following in pairwise(pages):
            assert driver.export(page.cursor, limit) == following

    def test_an_export_misses_nothing_that_was_there_all_the_time(self, switching, driver):
        names = [f"n{number}" for number in range(1, 9)]
        for name in names:
            switching.write(driver, name, 1)
        found, cursor, later = [], None, iter(range(100))
        while True:
            page = driver.export(cursor, 3)
            found += [item.key for item in page.items]
            switching.write(driver, f"later{next(later)}", 1)
            cursor = page.cursor
            if cursor is None:
                break
        assert found == sorted(set(found))
        assert {switching.key(name) for name in names} <= set(found)

    def test_items_are_read_in_the_order_asked_and_absent_ones_are_none(self, switching, driver):
        switching.write(driver, "a", 1)
        switching.write(driver, "b", 2)
        keys = [switching.key(name) for name in ("b", "no", "a", "b")]
        items = driver.read_items(keys)
        assert [item.key for item in items] == keys
        assert [item.state is None for item in items] == [False, True, False, False]
        assert items[0] == items[3] != items[2]
        assert driver.read_items([]) == ()

    def test_what_is_imported_equals_what_was_exported(self, switching, driver):
        for value in range(1, 12):
            switching.write(driver, f"n{value % 5}", value)
        with target_of(switching) as target:
            for _ in range(2):
                for page in pages_of(driver, 3):
                    target.import_items(page.items)
                assert everything(target) == everything(driver)
            meta = target.read_meta()
            assert target.change_meta(meta, meta.changed(role=Role.ACTIVE))
            assert [switching.read(target, f"n{number}") for number in range(5)] == [10, 11, 7, 8, 9]
            switching.write(target, "n0", 12)
            assert switching.read(target, "n0") == 12

    def test_an_import_replaces_and_deletes(self, switching, driver):
        for name in ("a", "b"):
            switching.write(driver, name, 1)
        with target_of(switching) as target:
            target.import_items(tuple(everything(driver).values()))
            switching.write(driver, "a", 5)
            changed = driver.read_items([switching.key("a")])
            gone = ExportItem(switching.key("b"), None)
            for _ in range(2):
                target.import_items([*changed, gone, ExportItem(switching.key("never"), None)])
                assert target.read_items([switching.key("a"), gone.key]) == (*changed, gone)
            assert (switching.read(target, "a"), switching.read(target, "b")) == (5, 0)
            assert gone.key not in everything(target)
            target.import_items([])

    def test_an_import_lasts(self, switching, driver):
        if not switching.durable:
            return
        switching.write(driver, "a", 1)
        with target_of(switching) as target:
            target.import_items(tuple(everything(driver).values()))
        with closing(switching.open("target")) as again:
            assert everything(again) == everything(driver)

    @pytest.mark.parametrize("role", [Role.FENCED, Role.RETIRED, Role.RELEASED])
    def test_an_import_is_refused_where_nothing_may_change(self, switching, driver, role):
        switching.write(driver, "a", 1)
        (item,) = driver.read_items([switching.key("a")])
        with target_of(switching, role) as target:
            with pytest.raises(Fenced):
                target.import_items([item])
            assert everything(target) == {}

    def test_a_target_takes_no_write(self, switching):
        with target_of(switching) as target:
            with pytest.raises(Fenced):
                switching.write(target, "a", 1)
            assert everything(target) == {}

    def test_what_is_no_item_is_refused_whole(self, switching, driver):
        """An import that fails has done nothing, and does not fail the store for what comes after it."""
        switching.write(driver, "a", 1)
        (item,) = driver.read_items([switching.key("a")])
        strange = ExportItem(switching.key("b"), {"no such": ["thing"]})
        with target_of(switching) as target:
            for bad in (strange, ExportItem("no kind of item", {}), ExportItem("", None)):
                with pytest.raises(InvalidInput):
                    target.import_items([item, bad])
                assert everything(target) == {}
            target.import_items([item])
        if switching.durable:
            with closing(switching.open("target")) as again:
                assert switching.read(again, "a") == 1

    # -- while it is written to -----------------------------------------------------------------------------------

    def test_once_capture_is_on_no_acknowledged_write_is_missing(self, switching, driver):
        """A write is in an export begun after set_capture(True) returned, or marked; one begun after it is marked."""
        with writing(switching, driver) as log:
            for _ in range(ROUNDS):
                log.wait_for(10)
                driver.set_capture(True)
                log.mark_moment()
                exported = set(everything(driver))
                log.wait_for(10)
                with log.paused():
                    marked = {mark.key for mark in driver.dirty_marks(1_000_000)}
                    acknowledged = {switching.key(name) for name in log.acknowledged}
                    later = {switching.key(name) for name in log.after_moment}
                    assert later
                    assert later <= marked
                    assert acknowledged <= marked | exported
                    driver.set_capture(False)
        assert not log.refused

    def test_once_fenced_no_write_is_acknowledged(self, switching, driver):
        with writing(switching, driver) as log:
            for _ in range(ROUNDS):
                log.wait_for(10)
                meta = driver.read_meta()
                assert driver.change_meta(meta, meta.changed(role=Role.FENCED))
                log.mark_moment()
                at_fence = everything(driver)
                log.wait_for(2 * WRITERS, refused=True)
                with log.paused():
                    assert not log.after_moment
                    assert {switching.key(name) for name in log.acknowledged} <= set(at_fence)
                    assert everything(driver) == at_fence
                    assert driver.change_meta(meta.changed(role=Role.FENCED), meta)

    def test_a_switch_under_load_loses_nothing(self, switching, driver):
        """Capture, copy, drain, fence, drain: the target equals the source and has every acknowledged write."""
        with target_of(switching) as target:
            with writing(switching, driver) as log:
                log.wait_for(20)
                driver.set_capture(True)
                for page in pages_of(driver, 50):
                    target.import_items(page.items)
                log.wait_for(20)
                drain(driver, target)
                meta = driver.read_meta()
                assert driver.change_meta(meta, meta.changed(role=Role.FENCED))
                drain(driver, target, until_empty=True)
                log.wait_for(WRITERS, refused=True)
            assert driver.dirty_marks(10) == ()
            copied = everything(target)
            source = everything(driver)
            assert {key: item for key, item in copied.items() if source.get(key) != item} == {}
            assert set(copied) == set(source)
            assert {switching.key(name) for name in log.acknowledged} <= set(copied)


# -- what the cases are made of -----------------------------------------------------------------------------------


@contextmanager
def writing(switching: SwitchHarness, driver: Driver) -> Iterator[WriteLog]:
    """Writers, half of them by a driver of their own where there can be two."""
    other = switching.open("source") if switching.shared else driver
    try:
        with writers(*(partial(write_one, switching, through) for through in (driver, other))) as log:
            yield log
    finally:
        if other is not driver:
            other.close()


def write_one(switching: SwitchHarness, driver: Driver, name: str) -> None:
    switching.write(driver, name, 1)


def drain(source: Driver, target: Driver, *, until_empty: bool = False) -> None:
    """Copy what is marked as it is now, once, or until no mark is left (nothing writes any more)."""
    while marks := source.dirty_marks(50):
        target.import_items(source.read_items([mark.key for mark in marks]))
        cleared = [source.clear_mark(mark) for mark in marks]
        if not until_empty:
            return
        assert all(cleared)


@contextmanager
def target_of(switching: SwitchHarness, role: Role = Role.TARGET) -> Iterator[Driver]:
    """A second, empty backend, claimed by the same store, in another role."""
    with closing(switching.claimed("target")) as target:
        meta = target.read_meta()
        assert meta
        assert target.change_meta(meta, meta.changed(role=role))
        yield target


@contextmanager
def changed_meta(driver: Driver, **changes: object) -> Iterator[None]:
    meta = driver.read_meta()
    assert meta
    assert driver.change_meta(meta, meta.changed(**changes))
    yield
    assert driver.change_meta(meta.changed(**changes), meta)


def pages_of(driver: Driver, limit: int) -> Iterator[ExportPage]:
    page = driver.export(None, limit)
    yield page
    while page.cursor is not None:
        page = driver.export(page.cursor, limit)
        yield page


def everything(driver: Driver) -> dict[str, ExportItem]:
    return {item.key: item for page in pages_of(driver, 100) for item in page.items}


def mark_of(driver: Driver, key: str) -> DirtyMark | None:
    marks = [mark for mark in driver.dirty_marks(1000) if mark.key == key]
    assert len(marks) <= 1
    return marks[0] if marks else None


def in_threads(calls: Sequence[Callable[[], object]]) -> None:
    """Call all of them at the same moment; wait for them."""
    ready = threading.Barrier(len(calls))

    def run(call: Callable[[], object]) -> None:
        ready.wait(WAIT_SECONDS)
        call()

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_SECONDS)
