"""Runs other programs: the output in one piece, and an error that says which command failed and what it said."""

import shlex
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

POLL_SECONDS = 0.2
OUTPUT_CHARACTERS = 4000  # of a failed command: enough for the cause, not a whole build log


class LocalkubeError(Exception):
    """The cluster or its image could not be made; the message says what to do."""


def run(
    arguments: Sequence[str | Path],
    *,
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
    text: str | None = None,
) -> str:
    """Run a command to its end and return what it wrote to standard output.

    `text` becomes its standard input. Raises LocalkubeError with the command and the end of its output.
    """
    completed = subprocess.run(
        [str(argument) for argument in arguments],
        env=environment,
        cwd=directory,
        input=text,
        stdin=subprocess.DEVNULL if text is None else None,
        capture_output=True,
        text=True,
        check=False,
    )
    if completed.returncode != 0:
        raise failure(arguments, completed.returncode, completed.stdout + completed.stderr)
    return completed.stdout


def failure(arguments: Sequence[str | Path], status: int, output: str) -> LocalkubeError:
    """The error for a command that ended with this status."""
    command = shlex.join(str(argument) for argument in arguments)
    return LocalkubeError(f"`{command}` ended with status {status}:\n{output[-OUTPUT_CHARACTERS:].strip()}")


def wait_until(what: str, ready: Callable[[], bool], *, seconds: float, hint: str) -> None:
    """Ask again until `ready` says yes; after `seconds`, a LocalkubeError with what was awaited and where to look."""
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise LocalkubeError(f"waited {seconds:.0f} s for {what}, in vain; {hint}")
        time.sleep(POLL_SECONDS)
