"""The cluster does what our tests rely on: restricted pods with volumes become Ready, and names resolve."""

from typing import Any

import pytest

from tests.cluster.access import ClusterAccess
from tests.cluster.localkube.commands import LocalkubeError, wait_until

pytestmark = pytest.mark.cluster

WAIT = "--timeout=120s"
# Counts its starts in a file on the volume, then serves the volume over HTTP.
PROGRAM = """
import http.server, pathlib
starts = pathlib.Path("/data/starts")
starts.write_text(str(int(starts.read_text()) + 1) if starts.exists() else "1")
http.server.test(http.server.SimpleHTTPRequestHandler, port=8080)
"""


def restricted_container(image: str) -> dict[str, Any]:
    return {
        "name": "counter",
        "image": image,
        "command": ["python", "-c", PROGRAM],
        "workingDir": "/data",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "readinessProbe": {"httpGet": {"path": "/starts", "port": 8080}, "periodSeconds": 1},
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }


def stateful_set(image: str) -> dict[str, Any]:
    pod_security = {
        "runAsNonRoot": True,
        "fsGroup": 65532,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "10Mi"}}}
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "counter"},
        "spec": {
            "serviceName": "counter",
            "selector": {"matchLabels": {"app": "counter"}},
            "template": {
                "metadata": {"labels": {"app": "counter"}},
                "spec": {"securityContext": pod_security, "containers": [restricted_container(image)]},
            },
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": claim}],
        },
    }


def service() -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "counter"},
        "spec": {"selector": {"app": "counter"}, "ports": [{"port": 80, "targetPort": 8080}]},
    }


@pytest.fixture
def counter(cluster: ClusterAccess, namespace: str) -> str:
    """The namespace in which `counter-0` is Ready behind the Service `counter`."""
    for manifest in (service(), stateful_set(cluster.image)):
        manifest["metadata"]["namespace"] = namespace
        cluster.apply(manifest)
    cluster.kubectl("rollout", "status", "statefulset/counter", "--namespace", namespace, WAIT)
    return namespace


def python_in_pod(cluster: ClusterAccess, namespace: str, code: str) -> str:
    return cluster.kubectl("exec", "counter-0", "--namespace", namespace, "--", "python", "-c", code).strip()


def test_volume_outlives_its_pod(cluster: ClusterAccess, counter: str) -> None:
    cluster.kubectl("delete", "pod", "counter-0", "--namespace", counter, "--grace-period=1")
    cluster.kubectl("rollout", "status", "statefulset/counter", "--namespace", counter, WAIT)
    assert python_in_pod(cluster, counter, "print(open('/data/starts').read())") == "2"


def test_service_has_a_name_and_forwards(cluster: ClusterAccess, counter: str) -> None:
    address = cluster.kubectl_json("get", "service", "counter", "--namespace", counter)["spec"]["clusterIP"]
    resolve = f"import socket; print(socket.gethostbyname('counter.{counter}.svc.cluster.local'))"
    assert python_in_pod(cluster, counter, resolve) == address
    wait_until(
        "the Service to forward", lambda: fetch_by_name(cluster, counter) == "1", seconds=30, hint="kube-proxy.log"
    )


def fetch_by_name(cluster: ClusterAccess, namespace: str) -> str:
    """The counter as a pod gets it through the Service; empty while the rules of kube-proxy are behind."""
    fetch = "import urllib.request; print(urllib.request.urlopen('http://counter/starts', timeout=10).read().decode())"
    try:
        return python_in_pod(cluster, namespace, fetch)
    except LocalkubeError:
        return ""


@pytest.mark.parametrize("program", ["storekeeper", "store-runtime"])
def test_image_runs_both_programs(cluster: ClusterAccess, counter: str, program: str) -> None:
    assert "Usage" in cluster.kubectl("exec", "counter-0", "--namespace", counter, "--", program, "--help")


def test_image_has_what_the_programs_load_late(cluster: ClusterAccess, counter: str) -> None:
    libraries = "alembic, duckdb, granian, kopf, kubernetes.client, orjson, polars, psycopg, pyarrow.parquet, redis"
    assert python_in_pod(cluster, counter, f"import {libraries}; print('all')") == "all"


def test_image_has_no_pip(cluster: ClusterAccess, counter: str) -> None:
    pip = "import importlib.util; print(importlib.util.find_spec('pip'))"
    assert python_in_pod(cluster, counter, pip) == "None"


def test_image_keeps_no_secret_of_its_build(cluster: ClusterAccess, counter: str) -> None:
    look = "import pathlib; print(*pathlib.Path('/run/secrets').glob('*.conf'), *pathlib.Path('/etc').glob('pip*'))"
    assert python_in_pod(cluster, counter, look) == ""


def test_unrestricted_pod_is_refused(cluster: ClusterAccess, namespace: str) -> None:
    with pytest.raises(LocalkubeError, match="violates PodSecurity"):
        cluster.kubectl("run", "root", "--image=localhost/none", "--namespace", namespace)


def test_helm_reaches_the_cluster(cluster: ClusterAccess, namespace: str) -> None:
    assert cluster.helm("list", "--namespace", namespace, "--output=json").strip() == "[]"
