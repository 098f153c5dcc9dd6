"""The workshop: hands sealed log files to builder processes, and what they made to the catalogue.

One thread a builder. A file whose build fails is kept, reported, and tried again with growing pauses while other files
go first; a builder that dies or hangs is replaced. So nothing is dropped, and a full disk only makes the log wait.
"""

import heapq
import os
import secrets
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import structlog

from store_runtime.engine.builder import BuildReply, BuildRequest, BuildStream
from store_runtime.engine.limits import Limits
from store_runtime.engine.metrics import BUILD_FAILURES, BUILD_SECONDS, BUILDER_DEATHS, BUILT_ROWS, UNBUILT_BYTES
from store_runtime.engine.wal import WalFile

_log = structlog.get_logger(__name__)
_REPLY_BYTES_MAX = 64 * 1024 * 1024
"""A reply has 300 bytes a stream; one that never ends is a broken builder."""
BUILDER = (sys.executable, "-m", "store_runtime.engine.builder")


class BuilderLost(Exception):
    """The builder process died, or did not answer in time and was ended."""


@dataclass(order=True, slots=True)
class _Work:
    due: float
    number: int
    file: WalFile = field(compare=False)
    attempts: int = field(default=0, compare=False)
    error: str = field(default="", compare=False)


class Workshop:
    """`finished(file, segments)` commits a built file; `streams_of(file)` says what to build. Thread-safe."""

    def __init__(
        self,
        directory: Path,
        limits: Limits,
        *,
        streams_of: Callable[[WalFile], dict[int, BuildStream]],
        finished: Callable[[WalFile, BuildReply], None],
        command: tuple[str, ...] = BUILDER,
    ) -> None:
        self._directory = directory
        self._limits = limits
        self._streams_of, self._finished, self._command = streams_of, finished, command
        self._changed = threading.Condition()
        self._work: list[_Work] = []
        self._under_way: list[_Work] = []
        self._threads: list[threading.Thread] = []
        self._closing = False
        self._wake = os.pipe()

    def add(self, file: WalFile) -> None:
        """A sealed file. The first one starts the builders, so what never writes never starts a process."""
        with self._changed:
            heapq.heappush(self._work, _Work(0.0, file.number, file))
            self._report()
            while len(self._threads) < self._limits.builders and not self._closing:
                thread = threading.Thread(target=self._run, name=f"entry-builder-{len(self._threads)}", daemon=True)
                self._threads.append(thread)
                thread.start()
            self._changed.notify_all()

    @property
    def unbuilt_bytes(self) -> int:
        with self._changed:
            return sum(work.file.size for work in (*self._work, *self._under_way))

    def failures(self) -> list[str]:
        """A sentence for each file that could not be built so far."""
        with self._changed:
            return [
                f"{work.file.path.name} could not be built {work.attempts} times: {work.error}"
                for work in (*self._work, *self._under_way)
                if work.attempts
            ]

    def wait(self, numbers: set[int], deadline: float) -> bool:
        """Wait until none of these files is left; False when time.monotonic() passes the deadline first."""
        with self._changed:
            while numbers & {work.number for work in (*self._work, *self._under_way)}:
                if not self._changed.wait(max(0.0, deadline - time.monotonic())) and time.monotonic() >= deadline:
                    return False
            return True

    def hurry(self) -> None:
        """Try failed files again now."""
        with self._changed:
            for work in self._work:
                work.due = 0.0
            heapq.heapify(self._work)
            self._changed.notify_all()

    def close(self) -> None:
        """End the builders. What they were at is built by the next process that opens the engine."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        os.write(self._wake[1], b"x")
        for thread in self._threads:
            thread.join()
        for end in self._wake:
            os.close(end)

    # -- a thread -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        builder: _Builder | None = None
        try:
            while (work := self._take()) is not None:
                try:
                    builder = builder or _Builder(self._command, self._wake[0])
                    self._finish(work, self._build(builder, work))
                except Exception as error:
                    if isinstance(error, BuilderLost | OSError) and builder is not None:
                        builder.end()
                        builder = None
                        if not self._closing:
                            BUILDER_DEATHS.inc()
                    self._retry(work, f"{type(error).__name__}: {error}")
        finally:
            if builder is not None:
                builder.end()

    def _take(self) -> _Work | None:
        with self._changed:
            while not self._closing:
                now = time.monotonic()
                if self._work and self._work[0].due <= now:
                    work = heapq.heappop(self._work)
                    self._under_way.append(work)
                    return work
                self._changed.wait(self._work[0].due - now if self._work else None)
            return None

    def _build(self, builder: "_Builder", work: _Work) -> BuildReply:
        started = time.perf_counter()
        prefix = f"{work.number:012d}-{secrets.token_hex(4)}"
        streams = self._streams_of(work.file)
        request = BuildRequest(str(work.file.path), work.number, str(self._directory), prefix, streams)
        reply = builder.ask(request, self._limits.build_seconds_max)
        BUILD_SECONDS.observe(time.perf_counter() - started)
        return reply

    def _finish(self, work: _Work, reply: BuildReply) -> None:
        if reply.error:
            self._retry(work, reply.error)
            return
        self._finished(work.file, reply)
        BUILT_ROWS.inc(sum(segment.rows for segment in reply.segments))
        with self._changed:
            self._under_way.remove(work)
            self._report()
            self._changed.notify_all()

    def _retry(self, work: _Work, error: str) -> None:
        with self._changed:
            self._under_way.remove(work)
            if not self._closing:
                work.attempts += 1
                work.error = error
                pause = min(self._limits.retry_seconds_max, 0.5 * 2 ** min(work.attempts, 10))
                work.due = time.monotonic() + pause
                BUILD_FAILURES.inc()
                _log.error("a log file could not be built; it is kept", file=work.file.path.name, error=error,
                           attempts=work.attempts, again_in_seconds=pause)  # fmt: skip
            heapq.heappush(self._work, work)
            self._changed.notify_all()

    def _report(self) -> None:
        UNBUILT_BYTES.set(sum(work.file.size for work in (*self._work, *self._under_way)))


class _Builder:
    """One process and the pipes to it."""

    def __init__(self, command: tuple[str, ...], wake: int) -> None:
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._wake = wake

    def ask(self, request: BuildRequest, seconds: float) -> BuildReply:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(msgspec.json.encode(request) + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise BuilderLost(f"the builder ended with status {self._process.poll()}") from error
        return msgspec.json.decode(self._line(time.monotonic() + seconds), type=BuildReply)

    def _line(self, deadline: float) -> bytes:
        assert self._process.stdout is not None
        output = self._process.stdout.fileno()
        reply = bytearray()
        while not reply.endswith(b"\n"):
            ready, _, _ = select.select([output, self._wake], [], [], max(0.0, deadline - time.monotonic()))
            if output not in ready:
                raise BuilderLost("the engine is closing" if ready else "the builder did not answer in time")
            data = os.read(output, 1 << 20)
            if not data or len(reply) > _REPLY_BYTES_MAX:
                raise BuilderLost(f"the builder ended with status {self._process.wait()}")
            reply += data
        return bytes(reply)

    def end(self) -> None:
        """End the process and take its status."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):  # what was left in the buffer has nobody to go to
                    pipe.close()
