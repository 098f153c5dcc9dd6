"""What every test on a real Kubernetes starts from: the cluster, and a namespace of the test's own."""

import secrets
from collections.abc import Iterator

import pytest

from tests.cluster.access import ClusterAccess, cluster_access


@pytest.fixture(scope="session")
def cluster() -> Iterator[ClusterAccess]:
    """The cluster, for the whole run."""
    with cluster_access() as access:
        yield access


@pytest.fixture
def namespace(cluster: ClusterAccess) -> Iterator[str]:
    """A new namespace that admits only pods of the `restricted` security standard, and goes with the test."""
    name = f"test-{secrets.token_hex(4)}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")
