"""Makes and destroys the enclosure of a cluster: its namespaces, its link to the machine and its cgroups.

Everything that a cluster does to a machine happens in namespaces of its own: mounts, processes, interfaces, firewall
rules. So taking it down is killing one process; only the cgroups and the files are left to remove.
"""

import functools
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from .addresses import SLOTS, Addresses, addresses_of
from .commands import LocalkubeError, run, wait_until
from .places import Places
from .record import Record

CGROUPS = Path("/sys/fs/cgroup")
SUPERVISOR = Path(__file__).with_name("supervisor.py")
END_SECONDS = 30.0  # hundreds of processes die at once, and their memory is given back


def start_supervisor(places: Places, binaries: Path) -> "subprocess.Popen[str]":
    """Start the cluster's first process in new namespaces, detached from this one; it waits for its plan."""
    with (places.logs / "supervisor.log").open("a") as log:
        return subprocess.Popen(
            [
                "setsid", "--fork",
                "unshare", "--mount", "--pid", "--net", "--ipc", "--uts", "--fork", "--propagation=slave",
                sys.executable, "-I", "-S", SUPERVISOR, places.state, binaries,
            ],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, cwd="/",
        )  # fmt: skip


def supervisor_process(supervisor: "subprocess.Popen[str]", places: Places) -> int:
    """Wait until the supervisor has made its mounts; returns its process id on this machine."""
    assert supervisor.stdout is not None
    word, _, process = supervisor.stdout.readline().partition(" ")
    if word != "ready":
        raise LocalkubeError(f"the cluster's namespaces could not be made; {places.logs / 'supervisor.log'} says why")
    return int(process)


def link(process: int) -> Addresses:
    """Take a free slot and connect the network namespace of this process to the machine; returns the addresses."""
    addresses = take_slot(process)
    inside = ["nsenter", f"--net=/proc/{process}/ns/net"]
    width = addresses.link.prefixlen
    run([*inside, "ip", "link", "set", "lo", "up"])
    run([*inside, "ip", "address", "add", f"{addresses.node}/{width}", "dev", "eth0"])
    run([*inside, "ip", "link", "set", "eth0", "up"])
    run([*inside, "sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward"])
    # Never taken: kube-proxy's rules turn or refuse every packet to a Service. But without a route they never see it.
    run([*inside, "ip", "route", "add", str(addresses.services), "dev", "eth0"])
    run(["ip", "address", "add", f"{addresses.machine}/{width}", "dev", addresses.interface])
    run(["ip", "link", "set", addresses.interface, "up"])
    # The namespace gets no route to anywhere else: what a pod sends to the world fails at once, and nothing leaks.
    run(["ip", "route", "add", str(addresses.whole), "via", str(addresses.node), "dev", addresses.interface])
    return addresses


def take_slot(process: int) -> Addresses:
    """The kernel gives an interface's name to one of those who ask for it, so it serves as the lock of a slot."""
    for slot in range(SLOTS):
        addresses = addresses_of(slot)
        completed = subprocess.run(
            ["ip", "link", "add", addresses.interface, "type", "veth", "peer", "name", "eth0", "netns", str(process)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if completed.returncode == 0:
            return addresses
        if "File exists" not in completed.stderr:
            raise LocalkubeError(f"no link to the cluster's network could be made: {completed.stderr.strip()}")
    raise LocalkubeError(f"{SLOTS} clusters run on this machine already: take one down first")


def make_cgroups(name: str) -> None:
    """An empty cgroup below the root, in every hierarchy that there is."""
    for hierarchy in hierarchies():
        (hierarchy / name).mkdir(exist_ok=True)


def end(record: Record) -> None:
    """Kill the cluster's first process, and so all of them, and remove its link; nothing if it has ended."""
    try:
        process = os.pidfd_open(record.process)
    except ProcessLookupError:
        return
    try:
        if not record.alive():  # asked while the id cannot go to another process
            return
        # The kernel removes it some time after the namespace has ended; the slot is free at once if we do.
        interface = addresses_of(record.slot).interface
        subprocess.run(["ip", "link", "delete", interface], capture_output=True, check=False)
        signal.pidfd_send_signal(process, signal.SIGKILL)
        wait_until(
            "the end of the cluster", lambda: not record.alive(), seconds=END_SECONDS, hint="is the machine busy?"
        )
    finally:
        os.close(process)


def remove_cgroups(name: str) -> None:
    """Remove a cgroup and all below it; its processes must have been killed. A cgroup that is gone is fine."""
    for hierarchy in hierarchies():
        top = hierarchy / name
        folders = [path for path in top.rglob("*") if path.is_dir()]
        for folder in [*sorted(folders, reverse=True), top]:
            ready = functools.partial(removed, folder)
            wait_until(f"the end of cgroup {folder}", ready, seconds=END_SECONDS, hint="it still has processes")


def removed(folder: Path) -> bool:
    """Remove one empty folder; False while the kernel still holds it."""
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def hierarchies() -> Iterator[Path]:
    """One for cgroup v2; for v1 one a controller (other names of the same one are symbolic links)."""
    if (CGROUPS / "cgroup.controllers").exists():
        yield CGROUPS
        return
    for path in sorted(CGROUPS.iterdir()):
        if path.is_dir() and not path.is_symlink():
            yield path
