"""A cluster of our own comes, heals, and goes without leaving anything; each test has one beside that of the others."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.access import ClusterAccess
from tests.cluster.localkube import cluster as localkube
from tests.cluster.localkube.commands import wait_until
from tests.cluster.localkube.components import PAUSE_IMAGE
from tests.cluster.localkube.namespaces import CGROUPS
from tests.cluster.localkube.places import CHECKOUT, Places
from tests.cluster.localkube.record import Record, started_ticks

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(
        bool(os.environ.get("KUBECONFIG")), reason="KUBECONFIG: the tests are to use that cluster alone"
    ),
]

SECONDS = 60.0


@pytest.fixture
def places(tmp_path: Path) -> Iterator[Places]:
    """A state folder of the test's own, with the programs that all clusters share."""
    places = Places(state=tmp_path / "cluster", cache=Places.from_environment().cache)
    yield places
    localkube.down(places)


def processes_of(record: Record) -> dict[int, int]:
    """Id → start time of every process of this cluster: components, by their namespace, and containers, by cgroup."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            namespace = (folder / "ns/pid").readlink()
            inside = record.cgroup in (folder / "cgroup").read_text()
        except OSError:  # it has ended meanwhile
            continue
        ticks = started_ticks(int(folder.name))
        if ticks is not None and (inside or namespace == Path(f"/proc/{record.process}/ns/pid").readlink()):
            found[int(folder.name)] = ticks
    return found


def process_running(record: Record, component: str) -> int:
    """The id of a component's process."""
    commands = {process: Path(f"/proc/{process}/cmdline").read_bytes() for process in processes_of(record)}
    (found,) = [process for process, command in commands.items() if component.encode() in command.split(b"\0")]
    return found


def interface_indexes() -> set[str]:
    return {path.read_text() for path in Path("/sys/class/net").glob("*/ifindex")}


def test_down_leaves_nothing(cluster: ClusterAccess, places: Places) -> None:
    own = localkube.up(places)
    own.kubectl("run", "sleeper", f"--image={PAUSE_IMAGE}")
    own.kubectl("wait", "--for=condition=Ready", "pod/sleeper", f"--timeout={SECONDS:.0f}s")
    processes = processes_of(own.record)
    interface = Path("/sys/class/net", own.addresses.interface, "ifindex").read_text()
    assert any(Path(f"/proc/{process}/cmdline").read_bytes() == b"/pause\0" for process in processes)
    assert own.record.cgroup in {path.name for path in CGROUPS.glob("*/localkube-*")}

    assert localkube.down(places)

    assert {process for process, ticks in processes.items() if started_ticks(process) == ticks} == set()
    assert interface not in interface_indexes()
    assert own.record.cgroup not in {path.name for path in CGROUPS.glob("**/localkube-*")}
    assert str(places.state) not in Path("/proc/self/mountinfo").read_text()
    left = {path.name: path.stat().st_size for path in places.state.iterdir()}
    assert left == {"lock": 0, "users": 0}  # why they stay: see places.locked
    assert cluster.kubectl("get", "--raw=/readyz") == "ok", "the cluster beside it was to be left alone"


def test_down_when_parts_are_gone_already(places: Places) -> None:
    own = localkube.up(places)
    subprocess.run(["ip", "link", "delete", own.addresses.interface], check=True)
    os.kill(process_running(own.record, "containerd"), signal.SIGKILL)
    shutil.rmtree(places.state / "etcd")
    assert localkube.down(places)
    assert not own.record.alive()


def test_down_without_a_cluster_does_nothing(places: Places) -> None:
    assert not localkube.down(places)


def test_up_again_finds_the_same_cluster(places: Places) -> None:
    assert localkube.up(places).record == localkube.up(places).record


def test_component_that_ends_is_started_again(places: Places) -> None:
    with localkube.session(places) as own:
        first = process_running(own.record, "kube-apiserver")
        os.kill(first, signal.SIGKILL)
        wait_until("the API to be back", own.answers, seconds=SECONDS, hint="see supervisor.log")
        assert process_running(own.record, "kube-apiserver") != first


def test_cluster_that_does_not_work_is_replaced(places: Places) -> None:
    broken = localkube.up(places)
    os.kill(process_running(broken.record, "kube-apiserver"), signal.SIGSTOP)  # alive, so nobody starts it again
    repaired = localkube.up(places)
    assert not broken.record.alive()
    assert repaired.healthy()


@pytest.fixture
def runner(places: Places) -> "Iterator[subprocess.Popen[str]]":
    """`run` with a command that says `ready` when the cluster is there, and `stopped` when it is told to end."""
    command = "trap 'echo stopped; exit 7' TERM; kubectl get node node0 >/dev/null && echo ready; read forever"
    environment = os.environ | {"STOREKEEPER_CLUSTER_DIR": str(places.state)}
    environment.pop("KEEP_CLUSTER", None)
    with subprocess.Popen(
        [sys.executable, "-m", "tests.cluster.localkube", "run", "--", "sh", "-c", command],
        cwd=CHECKOUT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as runner:  # fmt: skip
        assert runner.stdout is not None
        assert runner.stdout.readline() == "ready\n"
        yield runner
        runner.kill()


def test_run_takes_the_cluster_down_when_told_to_end(places: Places, runner: "subprocess.Popen[str]") -> None:
    record = Record.read(places.record)
    assert record is not None
    runner.terminate()
    assert runner.stdout is not None
    assert runner.stdout.read() == "stopped\n", "the command is given the time to tidy up"
    assert runner.wait(SECONDS) == 7
    assert not record.alive()


def test_cluster_of_a_killed_run_ends_by_itself(places: Places, runner: "subprocess.Popen[str]") -> None:
    record = Record.read(places.record)
    assert record is not None
    runner.kill()
    wait_until("the cluster to notice", lambda: not record.alive(), seconds=SECONDS, hint="see supervisor.log")
