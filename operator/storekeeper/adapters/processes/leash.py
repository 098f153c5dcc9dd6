"""A container's leash: a tiny process between the supervisor and a container, run as a script of its own.

    python leash.py <control fd> <lock fd> <grace seconds> <command> [argument]…

It starts the command in a session of its own, writes its pid to the control socket, and exits with its exit code
(128 + signal for a death by signal). SIGTERM, or the end of the control socket because the supervisor is gone however
it died, asks the command to stop (SIGTERM) and ends it and all of its descendants (SIGKILL) after the grace period.
The lock fd is only held: a new supervisor waits for that lock before it starts the same pod again.
As a subreaper it inherits descendants whose parents died, so nothing outlives it; should it be killed itself, the
kernel kills the command. Standard library only, so that it starts in some milliseconds with `python -I -S`.
"""

import contextlib
import ctypes
import os
import select
import signal
import socket
import sys
import time
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_COMMAND_NOT_FOUND = 127
"""Exit code of shells for a command that cannot be started."""


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


class Leash:
    """One command and all that descends from it."""

    def __init__(self, control: socket.socket, grace_seconds: float, command: list[str]) -> None:
        self._control = control
        self._grace_seconds = grace_seconds
        self._woken = _signals_as_bytes()
        self._pid = self._start(command)
        self._kill_at: float | None = None

    def _start(self, command: list[str]) -> int:
        parent = os.getpid()
        pid = os.fork()
        if pid:
            return pid
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # the leash died before the kernel was told to watch it
            os._exit(1)
        try:
            _become(command)
        except OSError as error:
            os.write(2, f"cannot start {command[0]}: {error.strerror}\n".encode())
        os._exit(_COMMAND_NOT_FOUND)

    def hold(self) -> int:
        """Until the command has ended; its exit code."""
        with contextlib.suppress(OSError):  # nobody listens any more: the poll below sees it
            self._control.sendall(f"{self._pid}\n".encode())
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(self._woken, select.POLLIN)
        while (code := self._reap()) is None:
            for descriptor, _ in poll.poll(self._wait_milliseconds()):
                stop = descriptor == self._control.fileno() or signal.SIGTERM in self._woken.recv(64)
                if stop and self._kill_at is None:
                    self._ask_to_stop()
                if descriptor == self._control.fileno():
                    poll.unregister(self._control)
            if self._kill_at is not None and time.monotonic() >= self._kill_at:
                _kill_descendants(self._pid)
        self._end_the_rest()
        return code

    def _wait_milliseconds(self) -> float | None:
        return None if self._kill_at is None else max(0.0, self._kill_at - time.monotonic()) * 1000 + 1

    def _ask_to_stop(self) -> None:
        self._kill_at = time.monotonic() + self._grace_seconds
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGTERM)

    def _reap(self) -> int | None:
        """Collect the dead; the command's exit code if it is among them."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return None
            if pid == 0:
                return None
            if pid == self._pid:
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code

    def _end_the_rest(self) -> None:
        """The command has ended: what it left behind ends too."""
        while True:
            _kill_descendants(self._pid)
            try:
                os.waitpid(-1, 0)
            except ChildProcessError:
                return


def _become(command: list[str]) -> None:
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    os.setsid()
    os.execvp(command[0], command)


def _signals_as_bytes() -> socket.socket:
    """A socket that becomes readable at each signal, with the signal's number as a byte."""
    reader, writer = socket.socketpair()
    for end in (reader, writer):
        end.setblocking(False)
    signal.set_wakeup_fd(writer.detach())
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return reader


def _kill_descendants(pid: int) -> None:
    """SIGKILL to our children; theirs become ours then (subreaper), and the caller comes again."""
    try:
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    except OSError:  # a kernel without that file: the command's process group has to do
        children = []
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
    for child in children:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(child), signal.SIGKILL)


def main() -> int:
    control, lock, grace_seconds, *command = sys.argv[1:]
    for descriptor in (control, lock):
        os.set_inheritable(int(descriptor), False)
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    return Leash(socket.socket(fileno=int(control)), float(grace_seconds), command).hold()


if __name__ == "__main__":
    sys.exit(main())
