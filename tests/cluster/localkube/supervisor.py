"""The first process of a cluster: sets up its view of the file system, then keeps its components running.

namespaces.py starts this file as a program of its own (it imports nothing of this package) in new mount, PID, network,
IPC and UTS namespaces, with the state folder and the folder of binaries as arguments. The order of things:

1. make the mounts, which nobody outside sees;
2. write `ready PID` to standard output, where PID is this process's id on the machine, and close it;
3. read from standard input, to its end, a JSON object: name → command line of each component, in starting order;
4. start them, and start again what ends, until this process is killed or nobody uses the cluster any more.

As the first process of its PID namespace it inherits orphans and must reap them; when it ends, the kernel kills every
process in the namespace, containers too, and the mounts and the network go with the last of them.
"""

import fcntl
import json
import os
import subprocess
import sys
import time
from pathlib import Path

POLL_SECONDS = 0.5  # also how long a component that ended stays down: one that fails at once must not spin
USERS_CHECK_POLLS = 10
INSIDE = Path("/run/localkube")


def main() -> None:
    state, binaries = map(Path, sys.argv[1:])
    process_on_machine = Path("/proc/self").readlink()  # before /proc becomes that of the new namespace
    make_mounts(state, binaries)
    print("ready", process_on_machine, flush=True)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    plan = sys.stdin.read()
    if plan:  # empty when whoever started this gave up
        supervise(json.loads(plan))


def make_mounts(state: Path, binaries: Path) -> None:
    """Give the cluster its own /run, /tmp, /proc and the parts of /var that it writes to.

    The new /run is prepared inside the state folder, because wherever that folder is, a mount may be about to hide it.
    """
    run = state / "run"
    mount("-t", "tmpfs", "-o", "mode=755", "localkube", run)
    inside = run / INSIDE.name
    inside.mkdir()
    mount("--bind", state, inside)
    mount("--bind", binaries, inside / "bin")
    mount("--rbind", run, "/run")
    mount("--bind", INSIDE / "tmp", "/tmp")
    mount("-t", "tmpfs", "localkube", "/var/log")  # the kubelet's links to the logs of containers
    mount("-t", "tmpfs", "localkube", "/var/lib")  # the network plugins' notes
    mount("-t", "proc", "proc", "/proc")
    mount("--make-rshared", "/")  # pods see mounts that the node makes later; none of them leaves this namespace


def mount(*arguments: str | Path) -> None:
    subprocess.run(["mount", *map(str, arguments)], check=True)


def supervise(plan: dict[str, list[str]]) -> None:
    """Keep every component running."""
    running = {start(name, command): name for name, command in plan.items()}
    users = (INSIDE / "users").open("a")
    for poll in range(sys.maxsize):
        for process, status in reap():
            name = running.pop(process, None)
            if name is not None:
                print(f"{name} ended with status {status}; starting it again", flush=True)
                running[start(name, plan[name])] = name
        if poll % USERS_CHECK_POLLS == 0 and unused(users.fileno()):
            print("nobody uses this cluster and it is not to be kept: the end", flush=True)
            return
        time.sleep(POLL_SECONDS)


def start(name: str, command: list[str]) -> int:
    """Start a component with its output in its log; returns its process id (inside)."""
    log = os.open(INSIDE / "log" / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        return os.posix_spawnp(
            command[0],
            command,
            {"PATH": os.environ["PATH"], "HOME": "/root"},
            file_actions=[(os.POSIX_SPAWN_DUP2, log, 1), (os.POSIX_SPAWN_DUP2, log, 2)],
            setsid=True,
        )
    finally:
        os.close(log)


def reap() -> list[tuple[int, int]]:
    """(process, exit status) of all that have ended, components and orphans alike."""
    ended: list[tuple[int, int]] = []
    while True:
        try:
            process, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if process == 0:
            return ended
        ended.append((process, os.waitstatus_to_exitcode(status)))


def unused(users: int) -> bool:
    """Whether no process holds the users' lock and the cluster is not to be kept without one."""
    if (INSIDE / "keep").exists():
        return False
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


if __name__ == "__main__":
    main()
