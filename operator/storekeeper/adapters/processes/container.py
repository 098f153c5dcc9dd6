"""One container as a process on its leash: started, watched, asked to stop, its last words read."""

import os
import select
import shutil
import socket
import subprocess
import sys
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from storekeeper.adapters.processes import leash

TERMINATION_MESSAGE_BYTES_MAX = 4096
"""As in Kubernetes."""
LOG_TAIL_BYTES_MAX = 2048
"""What FallbackToLogsOnError takes from the end of the log, as in Kubernetes."""
LOG_BYTES_MAX = 16 * 2**20
"""A container's log is put aside at this size; one older one is kept."""
INHERITED_VARIABLES = ("PATH", "PYTHONPATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "USER")
"""Of the supervisor's environment: what the interpreter at hand needs; the rest is the manifest's to say."""


@dataclass(frozen=True, slots=True)
class Command:
    """What to run, and where its words go."""

    argv: tuple[str, ...]
    environment: dict[str, str]
    directory: Path
    log: Path
    termination_log: Path
    fallback_to_log: bool
    grace_seconds: float


class Container:
    """A running command. `lock` is a descriptor that stays open as long as any of its processes may live."""

    def __init__(self, command: Command, lock: int) -> None:
        self._command = command
        command.termination_log.unlink(missing_ok=True)
        rotate(command.log)
        ours, theirs = socket.socketpair()
        self._control = ours
        argv = [sys.executable, "-I", "-S", leash.__file__, str(theirs.fileno()), str(lock)]
        with command.log.open("ab") as log, theirs:
            self._process = subprocess.Popen(
                [*argv, str(command.grace_seconds), *command.argv],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=command.directory, env=command.environment,
                pass_fds=(theirs.fileno(), lock), start_new_session=True,
            )  # fmt: skip
        self.pid = int(ours.recv(32) or b"0")
        """Of the command itself; 0 if the leash died before it could say."""

    def wait(self, timeout_seconds: float | None, wake: socket.socket) -> int | None:
        """The exit code once it has ended; None after the timeout or when `wake` became readable."""
        ready, _, _ = select.select([self._control, wake], [], [], timeout_seconds)
        return self._ended() if self._control in ready else None

    def stop(self) -> int:
        """SIGTERM, and SIGKILL after the grace period; its exit code."""
        self._process.terminate()
        return self._ended()

    def last_words(self, exit_code: int) -> str:
        """The termination message: the report of a job, or the end of the log of a failure."""
        message = tail(self._command.termination_log, TERMINATION_MESSAGE_BYTES_MAX)
        if not message and exit_code and self._command.fallback_to_log:
            return tail(self._command.log, LOG_TAIL_BYTES_MAX)
        return message

    def _ended(self) -> int:
        code = self._process.wait()
        self._control.close()
        return code if code >= 0 else 128 - code


def rotate(log: Path) -> None:
    """Copied and truncated, because a running process keeps writing to the same open file."""
    log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if log.exists() and log.stat().st_size > LOG_BYTES_MAX:
        shutil.copyfile(log, log.with_name(f"{log.name}.1"))
        os.truncate(log, 0)


def tail(path: Path, bytes_max: int) -> str:
    """The last bytes of a file as text; empty if there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - bytes_max))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def last_lines(path: Path, lines: int) -> list[str]:
    return list(deque(tail(path, lines * 1024).splitlines(), maxlen=lines))


def inherited_environment() -> dict[str, str]:
    return {name: os.environ[name] for name in INHERITED_VARIABLES if name in os.environ}
