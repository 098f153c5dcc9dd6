"""The operator installed by Helm once, a namespace a module, and a PostgreSQL that pods can reach."""

import secrets
from collections.abc import Iterator

import pytest

from tests.cluster.access import ClusterAccess
from tests.cluster.conftest import cluster as cluster
from tests.cluster.localkube.places import Places
from tests.e2e.platform import ROOT, Namespace
from tests.postgres_server import PostgresServer, running_server

OPERATOR_NAMESPACE = "storekeeper-system"
RELEASE = "storekeeper"


@pytest.fixture(scope="session")
def operator(cluster: ClusterAccess) -> Iterator[ClusterAccess]:
    """`helm install`; at the end `helm uninstall`, which must leave nothing stuck."""
    install(cluster)
    yield cluster
    cluster.helm("uninstall", RELEASE, "--namespace", OPERATOR_NAMESPACE, "--wait", "--timeout=120s")


def install(cluster: ClusterAccess) -> None:
    repository, tag = cluster.image.rsplit(":", 1)
    cluster.helm(
        "upgrade", "--install", RELEASE, str(ROOT / "charts/storekeeper"), "--namespace", OPERATOR_NAMESPACE,
        "--create-namespace", "--set", f"image.repository={repository}", "--set", f"image.tag={tag}",
        "--set", "scope.clusterWide=true", "--wait", "--timeout=180s",
    )  # fmt: skip


@pytest.fixture(scope="module")
def namespace(operator: ClusterAccess) -> Iterator[Namespace]:
    name = f"e2e-{secrets.token_hex(3)}"
    operator.kubectl("create", "namespace", name)
    operator.kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
    yield Namespace(operator, name)
    operator.kubectl("delete", "namespace", name, "--timeout=180s")


@pytest.fixture(scope="session")
def component_logs(cluster: ClusterAccess) -> list[str]:
    """What the cluster's own components logged, in order."""
    if cluster.machine_address is None:
        return cluster.kubectl(
            "logs", "--namespace=kube-system", "--selector=tier=control-plane", "--tail=-1"
        ).splitlines()
    files = sorted(Places.from_environment().logs.iterdir())
    return [line for path in files for line in path.read_text(errors="replace").splitlines()]


@pytest.fixture(scope="module")
def postgres(cluster: ClusterAccess) -> Iterator[PostgresServer]:
    if cluster.machine_address is None:
        pytest.fail("KUBECONFIG: the tests do not know where pods of that cluster reach this machine")
    with running_server(cluster.machine_address) as server:
        yield server
