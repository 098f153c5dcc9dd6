"""Starting and stopping the supervisor from another command."""

import os
import select
import signal
import subprocess
import sys
import time

from storekeeper.adapters.processes.container import last_lines, rotate
from storekeeper.adapters.processes.doorbell import ring
from storekeeper.adapters.processes.statefolder import StateFolder, SupervisorLock

START_SECONDS_MAX = 30.0
"""It imports its libraries and takes a lock: longer means something is wrong."""
STOP_POLL_SECONDS = 0.05


class SupervisorFailed(Exception):
    """It did not start, or did not stop; the message holds the end of its log."""


def is_running(folder: StateFolder) -> bool:
    return SupervisorLock(folder).holder() is not None


def start(folder: StateFolder) -> None:
    """Start one in the background and return when it listens; one that runs is told to look at the files again."""
    if is_running(folder):
        ring(folder.doorbell)
        return
    folder.supervisor_log.parent.mkdir(mode=0o700, exist_ok=True)
    rotate(folder.supervisor_log)
    reader, writer = os.pipe()
    command = [sys.executable, "-m", "storekeeper", "local", "supervise", "--state", str(folder.root)]
    with folder.supervisor_log.open("ab") as log:
        process = subprocess.Popen(
            [*command, "--ready-fd", str(writer)],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder.root, pass_fds=(writer,),
            start_new_session=True,
        )  # fmt: skip
    os.close(writer)
    _await_ready(folder, reader, process)


def _await_ready(folder: StateFolder, reader: int, process: "subprocess.Popen[bytes]") -> None:
    ready, _, _ = select.select([reader], [], [], START_SECONDS_MAX)
    said = os.read(reader, 16) if ready else b""
    os.close(reader)
    if said:
        return
    if is_running(folder) and process.poll() is not None:  # another command started one at the same moment
        ring(folder.doorbell)
        return
    process.kill()
    process.wait()
    tail = "\n".join(last_lines(folder.supervisor_log, 12))
    raise SupervisorFailed(f"the supervisor did not start; the end of {folder.supervisor_log}:\n{tail}")


def stop(folder: StateFolder, timeout_seconds: float) -> bool:
    """SIGTERM, and wait until its lock is free; False if none ran."""
    lock = SupervisorLock(folder)
    pid = lock.holder()
    if not pid:
        return False
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + timeout_seconds
    while lock.holder() is not None:
        if time.monotonic() > deadline:
            raise SupervisorFailed(f"the supervisor (pid {pid}) still stops its stores; see {folder.supervisor_log}")
        time.sleep(STOP_POLL_SECONDS)
    return True
