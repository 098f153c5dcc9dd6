"""The schedule by a manual clock, and the workers over it on a real event loop."""

import asyncio
import threading
from collections.abc import Callable

import pytest

from storekeeper.handlers.schedule import BACKOFF_FIRST_SECONDS, BACKOFF_MAX_SECONDS, JITTER, Schedule
from storekeeper.handlers.workers import Workers
from storekeeper.metrics import Metrics
from storekeeper.reconcile import NotDone


def schedule(random: Callable[[], float] = lambda: 0.0) -> Schedule[str]:
    return Schedule(random)


def taken(queue: Schedule[str], now: float) -> list[str]:
    keys = []
    while (found := queue.take(now)) is not None:
        keys.append(found.key)
    return keys


def test_a_key_is_taken_once_however_often_it_was_added() -> None:
    queue = schedule()
    for _ in range(5):
        queue.add("a", now=0.0)
    queue.add("b", now=0.0)
    assert taken(queue, 0.0) == ["a", "b"]


def test_a_key_that_runs_waits_for_its_end() -> None:
    queue = schedule()
    queue.add("a", now=0.0)
    assert taken(queue, 0.0) == ["a"]
    queue.add("a", now=1.0)
    assert taken(queue, 1.0) == []
    queue.finish("a", now=2.0, again_after=None)
    assert taken(queue, 2.0) == ["a"]


def test_the_earliest_wish_stands() -> None:
    queue = schedule()
    queue.add("a", now=0.0, delay=60.0)
    queue.add("a", now=0.0, delay=5.0)
    queue.add("a", now=0.0, delay=30.0)
    assert queue.next_due() == 5.0
    assert taken(queue, 4.9) == []
    assert taken(queue, 5.0) == ["a"]
    queue.finish("a", now=5.0, again_after=None)
    assert queue.next_due() is None


def test_an_event_brings_a_delayed_key_forward_and_it_is_not_taken_twice() -> None:
    queue = schedule()
    queue.add("a", now=0.0)
    taken(queue, 0.0)
    queue.finish("a", now=0.0, again_after=60.0)
    queue.add("a", now=1.0)
    assert taken(queue, 1.0) == ["a"]
    queue.finish("a", now=1.0, again_after=None)
    assert taken(queue, 100.0) == []


def test_failures_back_off_exponentially_up_to_a_limit_and_success_forgets_them() -> None:
    queue = schedule()
    delays = []
    now = 0.0
    for _ in range(12):
        queue.add("a", now)
        queue.take(now)
        delays.append(queue.fail("a", now))
        now += delays[-1]
        assert taken(queue, now - 0.001) == []
        assert taken(queue, now) == ["a"]
        queue.fail("a", now)  # leave it waiting again; only the odd ones are looked at
        now += BACKOFF_MAX_SECONDS * 2
        queue.take(now)
        queue.finish("a", now, None) if len(delays) == 6 else queue.fail("a", now)
        now += BACKOFF_MAX_SECONDS * 2
    assert delays[0] == BACKOFF_FIRST_SECONDS
    assert delays[1] == BACKOFF_FIRST_SECONDS * 8
    assert delays[5] == BACKOFF_MAX_SECONDS
    assert delays[6] == BACKOFF_FIRST_SECONDS


def test_jitter_lengthens_and_a_server_that_asks_for_patience_is_obeyed() -> None:
    assert schedule(lambda: 1.0).fail("a", now=0.0) == BACKOFF_FIRST_SECONDS * (1 + JITTER)
    assert schedule().fail("a", now=0.0, at_least=17.0) == 17.0


def test_one_failing_key_does_not_hold_up_another() -> None:
    queue = schedule()
    queue.add("bad", now=0.0)
    queue.add("good", now=0.0)
    assert taken(queue, 0.0) == ["bad", "good"]
    queue.fail("bad", now=0.0)
    queue.finish("good", now=0.0, again_after=0.1)
    assert taken(queue, 0.2) == ["good"]


def test_depth_counts_what_is_due() -> None:
    queue = schedule()
    queue.add("a", now=0.0)
    queue.add("b", now=0.0, delay=10.0)
    assert (queue.depth(0.0), queue.depth(10.0)) == (1, 2)
    queue.take(0.0)
    assert (queue.depth(0.0), queue.running()) == (0, 1)


class Recorder:
    """Work that notes what ran beside what."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.running: list[str] = []
        self.most = 0
        self.overlapped = False
        self.done: list[str] = []
        self.gate = threading.Semaphore(0)

    def __call__(self, key: str) -> float | None:
        with self.lock:
            self.overlapped |= key in self.running
            self.running.append(key)
            self.most = max(self.most, len(self.running))
        self.gate.acquire(timeout=5.0)
        with self.lock:
            self.running.remove(key)
            self.done.append(key)
        return None


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10.0):
        while not condition():  # noqa: ASYNC110 — what is waited for is set by threads
            await asyncio.sleep(0.005)


@pytest.mark.asyncio
async def test_workers_are_bounded_and_never_run_a_key_beside_itself() -> None:
    work, metrics = Recorder(), Metrics()
    workers: Workers[str] = Workers(work, concurrency=3, metrics=metrics)
    running = asyncio.create_task(workers.run())
    for key in "abcdef":
        workers.add(key)
    await until(lambda: len(work.running) == 3)
    workers.add("a")  # while it runs
    for _ in range(7):
        work.gate.release()
    await until(lambda: len(work.done) == 7)
    running.cancel()
    assert sorted(work.done) == ["a", "a", "b", "c", "d", "e", "f"]
    assert work.most == 3
    assert not work.overlapped
    assert metrics.registry.get_sample_value("storekeeper_workqueue_adds_total") == 7


@pytest.mark.asyncio
@pytest.mark.parametrize("error", [NotDone("the API said no"), ZeroDivisionError("a bug")])
async def test_work_that_fails_is_tried_again(error: Exception) -> None:
    calls: list[str] = []

    def work(key: str) -> float | None:
        calls.append(key)
        if len(calls) == 1:
            raise error
        return None

    metrics = Metrics()
    workers: Workers[str] = Workers(work, concurrency=1, metrics=metrics, rand=lambda: 0.0)
    running = asyncio.create_task(workers.run())
    workers.add("a")
    await until(lambda: len(calls) == 2)
    running.cancel()
    assert metrics.registry.get_sample_value("storekeeper_workqueue_retries_total") == 1


@pytest.mark.asyncio
async def test_draining_waits_for_what_is_under_way() -> None:
    work = Recorder()
    workers: Workers[str] = Workers(work, concurrency=1, metrics=Metrics())
    running = asyncio.create_task(workers.run())
    workers.add("a")
    await until(lambda: work.running == ["a"])
    running.cancel()
    assert not await workers.drain(0.01)
    work.gate.release()
    assert await workers.drain(5.0)
    assert work.done == ["a"]
