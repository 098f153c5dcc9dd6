"""Brings the cluster up and takes it down; both can be run again at any time and make good what is half done."""

import http.client
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from . import namespaces
from .addresses import Addresses, addresses_of
from .archive import ctr, import_program
from .binaries import ensure_binaries
from .certificates import NODE, kubeconfig, make_certificates
from .commands import LocalkubeError, run, wait_until
from .components import DNS_READY_PORT, KUBECONFIGS, PAUSE_IMAGE, commands, configuration, manifests
from .places import CHECKOUT, Places, locked, locked_if_free
from .progress import say, step
from .record import Record, started_ticks

PART_SECONDS = 120.0  # each is a matter of seconds on an idle machine; the tests' machine seldom is
PATIENCE_SECONDS = 20.0  # with a running cluster that does not answer, before it is replaced: others may be using it
STATE_FOLDERS = ("bin", "run", "tmp", "log", "etc", "etcd", "kubelet", "containerd", "volumes", "pod-logs")
STATE_FILES = ("kubeconfig", "cluster.json", "cluster.draft")


@dataclass(frozen=True)
class Cluster:
    """A running cluster."""

    places: Places
    record: Record

    @property
    def addresses(self) -> Addresses:
        return addresses_of(self.record.slot)

    @property
    def binaries(self) -> Path:
        """The folder with kubectl and helm."""
        return Path(self.record.binaries)

    @property
    def environment(self) -> dict[str, str]:
        """What a command that uses the cluster needs to find in its environment."""
        return {
            "KUBECONFIG": str(self.places.kubeconfig),
            "PATH": f"{self.binaries}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        }

    def kubectl(self, *arguments: str, text: str | None = None) -> str:
        """Run kubectl as administrator; `text` is its standard input."""
        access = f"--kubeconfig={self.places.kubeconfig}"
        return run([self.binaries / "kubectl", access, *arguments], text=text)

    def answer(self, *arguments: str) -> str:
        """What kubectl wrote; empty if it failed: of a starting cluster anything may be missing."""
        try:
            return self.kubectl(*arguments, "--request-timeout=5s")
        except LocalkubeError:
            return ""

    def runs_containers(self) -> bool:
        """Whether containerd answers."""
        try:
            ctr(self.record, "version")
        except LocalkubeError:
            return False
        return True

    def answers(self) -> bool:
        """Whether the API says that it is ready."""
        return self.answer("get", "--raw=/readyz") == "ok"

    def node_is_ready(self) -> bool:
        """Whether the one node would run pods now."""
        query = 'jsonpath={.status.conditions[?(@.type=="Ready")].status}'
        return self.answer("get", "node", NODE, f"--output={query}") == "True"

    def resolves(self) -> bool:
        """Whether the cluster's DNS knows the Services."""
        connection = http.client.HTTPConnection(str(self.addresses.node), DNS_READY_PORT, timeout=2)
        try:
            connection.request("GET", "/ready")
            return connection.getresponse().status == http.client.OK
        except OSError:
            return False
        finally:
            connection.close()

    def has_service_account(self) -> bool:
        """Whether the namespace `default` has the account that its pods run under."""
        return self.answer("get", "serviceaccount", "default") != ""

    def healthy(self) -> bool:
        """Whether all of it works."""
        return self.answers() and self.node_is_ready() and self.resolves()


def running(places: Places) -> Cluster | None:
    """The cluster of this state folder, if its first process runs."""
    record = Record.read(places.record)
    return Cluster(places, record) if record is not None and record.alive() else None


@contextmanager
def session(places: Places) -> Iterator[Cluster]:
    """Use the cluster, bringing it up if need be. The last user's end is the cluster's, unless it is to be kept:
    by `up`, or by KEEP_CLUSTER in the environment.
    """
    if os.environ.get("KEEP_CLUSTER"):
        places.keep_cluster()
    try:
        with locked(places.users, shared=True):
            yield working_cluster(places)
    finally:
        with locked_if_free(places.users) as last:
            # One that did not start, or ended by itself, leaves its logs behind, to see why.
            if last and not places.keep.exists() and running(places) is not None:
                down(places)


def up(places: Places) -> Cluster:
    """A cluster that works, and stays until `down`."""
    places.keep_cluster()
    return working_cluster(places)


def working_cluster(places: Places) -> Cluster:
    """The cluster that runs, or a new one in place of one that does not work; it ends if nobody uses or keeps it."""
    check_machine()
    binaries = ensure_binaries(places)
    with locked(places.state / "lock"):
        cluster = running(places)
        if cluster is not None:
            if heals(cluster):
                return cluster
            say("the cluster that runs does not work: starting it anew")
        clear(places)
        try:
            with step("starting the cluster"):
                return start(places, binaries)
        except BaseException:
            kill(places)  # its logs stay, to see why
            raise


def heals(cluster: Cluster) -> bool:
    """Whether a running cluster works, or does so soon: a component may just be starting again, or the machine busy."""
    try:
        wait_until("the cluster that runs", cluster.healthy, seconds=PATIENCE_SECONDS, hint="")
    except LocalkubeError:
        return False
    return True


def check_machine() -> None:
    """Say at once what would otherwise fail in the midst of things."""
    if sys.platform != "linux" or os.geteuid() != 0:
        raise LocalkubeError("a cluster of one's own needs Linux and root; or set KUBECONFIG to a cluster you have")
    run([CHECKOUT / "scripts" / "install-debian-packages", "--check"])


def start(places: Places, binaries: Path) -> Cluster:
    """Make the enclosure, configure the components, start them and wait until all work."""
    for folder in STATE_FOLDERS:
        (places.state / folder).mkdir(parents=True)
    (places.state / "tmp").chmod(0o1777)
    cluster = launch(places, binaries)
    await_part(cluster, "containerd", cluster.runs_containers)
    import_program(cluster.record, PAUSE_IMAGE, binaries / "pause")
    await_part(cluster, "the Kubernetes API", cluster.answers)
    for manifest in manifests():
        cluster.kubectl("apply", "--filename=-", text=json.dumps(manifest))
    await_part(cluster, "the node", cluster.node_is_ready)
    await_part(cluster, "the cluster's DNS", cluster.resolves)
    # No pod of a namespace can start before this account is there; a controller makes it soon after it starts.
    await_part(cluster, "the default service account", cluster.has_service_account)
    return cluster


def await_part(cluster: Cluster, part: str, works: Callable[[], bool]) -> None:
    """Wait until a part of a starting cluster works, as long as its first process runs."""
    hint = f"the logs are in {cluster.places.logs}"

    def works_now() -> bool:
        if not cluster.record.alive():
            raise LocalkubeError(f"the cluster ended while {part} was awaited; {hint}")
        return works()

    wait_until(part, works_now, seconds=PART_SECONDS, hint=hint)


def launch(places: Places, binaries: Path) -> Cluster:
    """Start the supervisor and hand it its plan; from then on the cluster runs without this process."""
    supervisor = namespaces.start_supervisor(places, binaries)
    with supervisor:
        process = namespaces.supervisor_process(supervisor, places)
        addresses = namespaces.link(process)
        started = started_ticks(process)
        assert started is not None, "it waits for its plan, so it runs"
        record = Record(process, started, addresses.slot, str(binaries))
        record.write(places.record)
        namespaces.make_cgroups(record.cgroup)
        configure(places, addresses, record.cgroup)
        assert supervisor.stdin is not None
        json.dump(commands(addresses), supervisor.stdin)
    return Cluster(places, record)


def configure(places: Places, addresses: Addresses, cgroup: str) -> None:
    """Write keys, kubeconfigs and configuration files."""
    pki = places.etc / "pki"
    make_certificates(pki, addresses)
    for name in KUBECONFIGS:
        (places.etc / f"{name}.kubeconfig").write_text(kubeconfig(pki, name, addresses))
    for path, content in configuration(addresses, cgroup).items():
        (places.etc / path).parent.mkdir(parents=True, exist_ok=True)
        (places.etc / path).write_text(content)
    places.kubeconfig.touch(mode=0o600)
    places.kubeconfig.write_text(kubeconfig(pki, "admin", addresses))


def down(places: Places) -> bool:
    """End the cluster and remove all that it left, also when parts of it are gone; False if none was running."""
    with locked(places.state / "lock"):
        places.keep.unlink(missing_ok=True)
        was_running = running(places) is not None
        clear(places)
    return was_running


def clear(places: Places) -> None:
    """Make room for a new cluster: end what runs, and remove its files; whatever else is in the folder stays."""
    kill(places)
    for name in STATE_FOLDERS:
        if (places.state / name).exists():
            shutil.rmtree(places.state / name)
    for name in STATE_FILES:
        (places.state / name).unlink(missing_ok=True)


def kill(places: Places) -> None:
    """End every process of the cluster and remove its cgroups."""
    record = Record.read(places.record)
    if record is not None:
        namespaces.end(record)
        namespaces.remove_cgroups(record.cgroup)
