"""The keyed queue: an asyncio dispatcher over `Schedule`, and a bounded pool of threads that do the work.

The work is synchronous (the Kubernetes client is). However slow it is, at most `concurrency` run at once, and never two
of one key.
"""

import asyncio
import random
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

import structlog

from storekeeper.handlers.schedule import Schedule, Taken
from storekeeper.metrics import Metrics
from storekeeper.reconcile import NotDone

IDLE_SECONDS = 60.0
"""The dispatcher looks at its schedule at least this often, due or not."""

K = TypeVar("K", bound=Hashable)
log = structlog.get_logger(__name__)


class Workers(Generic[K]):
    """`work(key)` returns the seconds until it wants the key again, or None; what it raises is a failure.

    NotDone is an expected one; anything else is a bug, logged with its stack, and retried all the same.
    """

    def __init__(
        self,
        work: Callable[[K], float | None],
        *,
        concurrency: int,
        metrics: Metrics,
        rand: Callable[[], float] = random.random,
    ) -> None:
        self._work = work
        self._concurrency = concurrency
        self._metrics = metrics
        self._schedule: Schedule[K] = Schedule(rand)
        self._pool = ThreadPoolExecutor(concurrency, thread_name_prefix="reconcile")
        self._woken = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()

    def add(self, key: K, delay: float = 0.0) -> None:
        """From the loop's own thread."""
        self._metrics.queue_adds.inc()
        self._schedule.add(key, self._loop.time(), delay)
        self._woken.set()

    def add_from_thread(self, key: K, delay: float = 0.0) -> None:
        self._loop.call_soon_threadsafe(self.add, key, delay)

    async def run(self) -> None:
        """Until cancelled; what runs then is waited for by `drain`."""
        while True:
            self._woken.clear()
            self._dispatch()
            due = self._schedule.next_due()
            if due is None or self._schedule.running() >= self._concurrency:
                seconds = IDLE_SECONDS
            else:
                seconds = min(max(0.0, due - self._loop.time()), IDLE_SECONDS)
            self._metrics.queue_depth.set(self._schedule.depth(self._loop.time()))
            try:
                async with asyncio.timeout(seconds):
                    await self._woken.wait()
            except TimeoutError:
                continue

    async def drain(self, seconds: float) -> bool:
        """Wait for what is under way; False if it does not end in time."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
        self._pool.shutdown(wait=False, cancel_futures=True)
        return not self._tasks

    def _dispatch(self) -> None:
        while self._schedule.running() < self._concurrency and (taken := self._schedule.take(self._loop.time())):
            task = self._loop.create_task(self._one(taken))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _one(self, taken: Taken[K]) -> None:
        self._metrics.queue_seconds.observe(taken.waited_seconds)
        try:
            after = await self._loop.run_in_executor(self._pool, self._work, taken.key)
        except NotDone as failure:
            self._failed(taken.key, str(failure), failure.retry_after or 0.0)
        except Exception as failure:
            log.exception("reconcile broke", key=str(taken.key))
            self._failed(taken.key, str(failure), 0.0)
        else:
            self._schedule.finish(taken.key, self._loop.time(), after)
        finally:
            self._woken.set()

    def _failed(self, key: K, why: str, at_least: float) -> None:
        self._metrics.queue_retries.inc()
        delay = self._schedule.fail(key, self._loop.time(), at_least)
        log.warning("will be tried again", key=str(key), why=why, seconds=round(delay, 1))
