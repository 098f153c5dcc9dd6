"""From the event loop to the stores: blocking calls run in a bounded pool of threads behind a bounded queue.

When the queue is full the caller is told at once to come back (Overloaded, 429), instead of waiting without a limit.
"""

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import ParamSpec, TypeVar
from weakref import WeakSet

from store_runtime.errors import Overloaded

THREADS = 32
"""They mostly wait for fsync or the database, and writers that wait together are committed together."""
QUEUE_MAX = 512
"""Calls that wait for a thread: at a millisecond each, about 16 ms of waiting; more than that is not a burst."""

P = ParamSpec("P")
T = TypeVar("T")
_offloaders: "WeakSet[Offloader]" = WeakSet()


class Offloader:
    """A pool of threads with a limit on what is under way. Used from one event loop."""

    def __init__(self, threads: int, queue_max: int, name: str) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._limit = threads + queue_max
        self._under_way = 0
        _offloaders.add(self)

    async def run(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `fn` returns or raises; Overloaded when too much is under way.

        A call whose request was cancelled still counts until its thread is done with it.
        """
        if self._under_way >= self._limit:
            raise Overloaded(f"{self._limit} calls are under way already; try again in a second")
        loop = asyncio.get_running_loop()
        call = partial(contextvars.copy_context().run, fn, *args, **kwargs)
        future = self._pool.submit(call)
        self._under_way += 1
        future.add_done_callback(lambda _: self._over(loop))
        return await asyncio.wrap_future(future)

    def _over(self, loop: asyncio.AbstractEventLoop) -> None:
        """From the call's thread; a loop that is gone has cut the call off and counts no more."""
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(self._count_down)

    def _count_down(self) -> None:
        self._under_way -= 1

    @property
    def under_way(self) -> int:
        """Calls that a thread works on or that wait for one."""
        return self._under_way

    def close(self) -> None:
        """Wait for the calls under way; the ones that no thread has begun are given up."""
        self._pool.shutdown(wait=True, cancel_futures=True)


_calls = Offloader(THREADS, QUEUE_MAX, "store")


async def offload(fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a blocking call of a store; see Offloader.run."""
    return await _calls.run(fn, *args, **kwargs)


def calls_under_way() -> int:
    """Of all pools; above 0 after the event loop's end: calls that were cut off, whose threads would hold the exit."""
    return sum(offloader.under_way for offloader in _offloaders)
