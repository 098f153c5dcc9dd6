"""Threads that write to a store while a test fences it or captures its writes, and a log of each write's end."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from store_runtime.errors import Fenced

WAIT_SECONDS = 30
WRITERS = 4
PAUSE_SECONDS_MAX = 0.004
"""Between two writes of a thread; random (from a fixed seed), so that writers do not fall in step with the test."""
ATTEMPTS_AHEAD = 60
"""Writes that are tried after the test waited for some: a store must not grow faster than a test can export it."""


@dataclass
class WriteLog:
    """What writers did: names acknowledged, those of them begun after a moment, and how many were refused."""

    acknowledged: list[str] = field(default_factory=list)
    after_moment: list[str] = field(default_factory=list)
    refused: int = 0
    errors: list[BaseException] = field(default_factory=list)
    stopped: bool = False
    _attempts: int = 0
    _attempts_allowed: int = ATTEMPTS_AHEAD
    _moment_passed: bool = False
    _holding: bool = False
    _under_way: int = 0
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def attempt(self, write: Callable[[str], None], name: str) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self.stopped or self._may_write())
            self._attempts += 1
            self._under_way += 1
            after = self._moment_passed
        try:
            write(name)
        except Fenced:
            with self._changed:
                self.refused += 1
        else:
            with self._changed:
                self.acknowledged.append(name)
                if after:
                    self.after_moment.append(name)
        finally:
            with self._changed:
                self._under_way -= 1
                self._changed.notify_all()

    def _may_write(self) -> bool:
        return not self._holding and self._attempts < self._attempts_allowed

    def wait_for(self, count: int, *, refused: bool = False) -> None:
        """Until that many more writes were acknowledged, or refused."""

        def done() -> int:
            return self.refused if refused else len(self.acknowledged)

        with self._changed:
            enough = done() + count
            self._attempts_allowed = self._attempts + ATTEMPTS_AHEAD
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: done() >= enough or self.errors, WAIT_SECONDS)
        assert not self.errors

    def stop(self) -> None:
        with self._changed:
            self.stopped = True
            self._changed.notify_all()

    def mark_moment(self) -> None:
        with self._changed:
            self._moment_passed = True

    @contextmanager
    def paused(self) -> Iterator[None]:
        """No write is under way; what began after the moment is forgotten afterwards."""
        with self._changed:
            self._holding = True
            assert self._changed.wait_for(lambda: not self._under_way, WAIT_SECONDS)
        try:
            yield
        finally:
            with self._changed:
                self._holding = self._moment_passed = False
                self.after_moment.clear()
                self._changed.notify_all()


Write = Callable[[str], None]


@contextmanager
def writers(*writes: Write) -> Iterator[WriteLog]:
    """WRITERS threads that each write one fresh item after the other, through each of `writes` in turn."""
    log = WriteLog()

    def run(number: int) -> None:
        written, pauses = 0, random.Random(number)
        try:
            while not log.stopped:
                written += 1
                time.sleep(pauses.uniform(0, PAUSE_SECONDS_MAX))
                log.attempt(writes[number % len(writes)], f"w{number}-{written}")
        except BaseException as error:
            log.errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(WRITERS)]
    for thread in threads:
        thread.start()
    try:
        yield log
    finally:
        log.stop()
        for thread in threads:
            thread.join(WAIT_SECONDS)
    assert not log.errors
