"""`helm uninstall` while stores run: they go on serving, nothing waits for an operator that is gone, data stays."""

import json

import pytest

from tests.cluster.access import ClusterAccess
from tests.e2e.conftest import OPERATOR_NAMESPACE, RELEASE, install
from tests.e2e.platform import Namespace, eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]
STORE = """
apiVersion: storekeeper.dev/v1alpha1
kind: RuntimeStore
metadata: {name: left}
spec: {backend: {type: file}}
"""


def test_nothing_is_stuck_after_uninstall(namespace: Namespace, operator: ClusterAccess) -> None:
    namespace.apply(STORE)
    namespace.wait_ready("runtimestore", "left")
    assert namespace.get("runtimestore", "left")["metadata"]["finalizers"], "Retain has something to do at deletion"
    operator.helm("uninstall", RELEASE, "--namespace", OPERATOR_NAMESPACE, "--wait", "--timeout=180s")
    try:
        assert "finalizers" not in namespace.get("runtimestore", "left")["metadata"]
        with namespace.client("runtimestore", "left") as client:
            assert client.put("/usage/p/k/req", json={"value": 2}).status_code == 200
        eventually(lambda: remaining(operator) == [], "no pod or job of the operator is left", 60)
        namespace.delete("runtimestore", "left", "--timeout=60s")
        assert namespace.exists("persistentvolumeclaim", "left-usage-data"), "Retain keeps the claim"
    finally:
        install(operator)


def remaining(cluster: ClusterAccess) -> list[str]:
    found = json.loads(cluster.kubectl("get", "pods,jobs", "--namespace", OPERATOR_NAMESPACE, "--output=json"))
    return [f"{item['kind']} {item['metadata']['name']}" for item in found["items"]]
