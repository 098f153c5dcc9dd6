"""The API server takes the CRDs, takes good resources, and refuses bad ones in words that name the field and the fix.

The CRDs are installed under a group of the test's own, so that nothing depends on what else the cluster holds.
"""

import copy
import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from storekeeper.api import crdgen
from storekeeper.api.group import API_VERSION, GROUP
from tests.cluster.access import ClusterAccess
from tests.cluster.localkube.commands import LocalkubeError

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).parents[2]
POSTGRES = {"host": "db", "database": "logs", "credentialsSecretRef": {"name": "logs-db"}}
ON_POSTGRES = {"type": "postgres", "postgres": POSTGRES}
TO_GATEWAY = {"logStoreRef": {"name": "gateway"}}


class Server:
    """The API server with our CRDs, in a namespace of the test's own."""

    def __init__(self, cluster: ClusterAccess, namespace: str, group: str) -> None:
        self.cluster, self.namespace, self.group = cluster, namespace, group

    def resource(self, kind: str, spec: dict[str, Any], name: str = "gateway") -> dict[str, Any]:
        version = API_VERSION.replace(GROUP, self.group)
        return {"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec}

    def write(self, resource: dict[str, Any], *options: str) -> dict[str, Any]:
        """What was stored; raises LocalkubeError with the refusal."""
        command = ("apply", f"--namespace={self.namespace}", "--filename=-", "--output=json", *options)
        written: dict[str, Any] = json.loads(self.cluster.kubectl(*command, text=json.dumps(resource)))
        return written

    def refusal(self, resource: dict[str, Any]) -> str:
        with pytest.raises(LocalkubeError) as caught:
            self.write(resource, "--dry-run=server")
        return str(caught.value)


@pytest.fixture(scope="module")
def group(cluster: ClusterAccess) -> Iterator[str]:
    """The CRDs, as they are but for their group, and for the short names that real ones may hold."""
    group = f"test-{secrets.token_hex(4)}.{GROUP}"
    crds = []
    for crd in copy.deepcopy(crdgen.definitions()):
        crd["metadata"]["name"] = f"{crd['spec']['names']['plural']}.{group}"
        crd["spec"]["group"] = group
        del crd["spec"]["names"]["shortNames"]
        crds.append(crd)
    names = [f"customresourcedefinition/{crd['metadata']['name']}" for crd in crds]
    try:
        cluster.apply(*crds)
        cluster.kubectl("wait", "--for=condition=Established", "--timeout=60s", *names)
        yield group
    finally:
        cluster.kubectl("delete", "--ignore-not-found", *names)


@pytest.fixture
def server(cluster: ClusterAccess, namespace: str, group: str) -> Server:
    return Server(cluster, namespace, group)


def test_the_committed_files_are_taken_as_they_are(cluster: ClusterAccess) -> None:
    for path in sorted((ROOT / "crds").glob("*.yaml")):
        said = cluster.kubectl("apply", "--server-side", "--dry-run=server", "--force-conflicts", f"--filename={path}")
        assert "serverside-applied" in said, path


@pytest.mark.parametrize("example", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda path: path.name)
def test_the_examples_are_taken_and_stored_as_they_were_written(server: Server, example: Path) -> None:
    for document in yaml.safe_load_all(example.read_text()):
        if document["apiVersion"] != API_VERSION:
            continue
        wanted = server.resource(document["kind"], document["spec"], document["metadata"]["name"])
        stored = server.write(wanted)
        assert stored["spec"] == document["spec"], "no schema default touches the spec"
        assert stored["status"] == {"observedGeneration": -1}


def test_a_backend_can_be_named_later_and_changed_by_another_apply(server: Server) -> None:
    server.write(server.resource("LogStore", {}))
    server.write(server.resource("LogStore", {"backend": {"type": "sqlite", "sqlite": {"storage": {"size": "12Gi"}}}}))
    stored = server.write(server.resource("LogStore", {"backend": ON_POSTGRES}))
    assert stored["spec"] == {"backend": ON_POSTGRES}


def test_the_columns_that_people_see(server: Server) -> None:
    server.write(server.resource("LogStore", {}))
    table = server.cluster.kubectl("get", f"logstores.{server.group}", f"--namespace={server.namespace}")
    assert table.split("\n")[0].split() == ["NAME", "BACKEND", "PHASE", "READY", "REASON", "AGE"]


GOOD = [
    ("LogStore", {"backend": {"type": "sqlite"}}),
    ("LogStore", {"backend": ON_POSTGRES, "replicas": 3, "entries": {"enabled": False}}),
    ("LogStore", {"retention": {"maxSize": 1048576, "maxAge": "1h30m", "schedule": "*/5 0-6,22 * * 1"}}),
    ("LogStore", {"tls": {"secretRef": {"name": "cert"}}, "adoptStoreID": "6f1c3a9e-0000-4000-8000-0123456789ab"}),
    ("LogStore", {"resources": {"requests": {"cpu": 1, "memory": "1.5Gi"}, "limits": {"cpu": "500m"}}}),
    (
        "LogStore",
        {
            "podTemplate": {
                "labels": {"app.kubernetes.io/part-of": "gateway"},
                "tolerations": [{"key": "dedicated", "operator": "Exists", "effect": "NoSchedule"}],
                "affinity": {
                    "podAntiAffinity": {
                        "preferredDuringSchedulingIgnoredDuringExecution": [
                            {"weight": 10, "podAffinityTerm": {"topologyKey": "kubernetes.io/hostname"}}
                        ]
                    }
                },
            }
        },
    ),
    ("RuntimeStore", {"backend": {"type": "memory", "memory": {"maxKeys": 1000}}, "cache": {"enabled": False}}),
    ("RuntimeStore", {"backend": {"type": "file", "file": {"storage": {"size": "1Gi"}}}, "windows": ["5s", "30d"]}),
    ("Stream", TO_GATEWAY | {"name": "Ünïcode / 流", "deletionPolicy": "Delete"}),
]


@pytest.mark.parametrize(("kind", "spec"), GOOD)
def test_good_resources_are_taken(server: Server, kind: str, spec: dict[str, Any]) -> None:
    assert server.write(server.resource(kind, spec), "--dry-run=server")["spec"] == spec


BAD = [
    ("LogStore", {"retentoin": {}}, 'unknown field "spec.retentoin"'),
    ("LogStore", {"backend": {"type": "mysql"}}, 'supported values: "sqlite", "postgres"'),
    ("LogStore", {"backend": {"postgres": POSTGRES}}, "spec.backend.type: Required value"),
    ("LogStore", {"backend": {"type": "postgres"}}, "type postgres needs its member postgres"),
    ("LogStore", {"backend": {"type": "sqlite", "postgres": POSTGRES}}, "postgres does not belong to this type"),
    ("LogStore", {"backend": {"type": "postgres", "postgres": POSTGRES, "sqlite": {}}}, "sqlite does not belong"),
    (
        "LogStore",
        {"backend": {"type": "postgres", "postgres": POSTGRES | {"host": "me:hunter2@db"}}},
        "put user and password into a Secret",
    ),
    ("LogStore", {"replicas": 2}, "spec.replicas: Invalid value"),
    ("LogStore", {"replicas": 2, "backend": {"type": "sqlite"}}, "more than one replica needs a database"),
    ("LogStore", {"replicas": 2, "backend": ON_POSTGRES, "entries": {}}, "leave entries out"),
    ("LogStore", {"retention": {"maxAge": "5x"}}, "spec.retention.maxAge"),
    ("LogStore", {"retention": {"maxSize": "ten"}}, "spec.retention.maxSize"),
    ("LogStore", {"retention": {"schedule": "hourly"}}, "spec.retention.schedule"),
    ("LogStore", {"entries": {"storage": {"size": "0"}}}, "a volume needs a size above 0"),
    ("LogStore", {"podTemplate": {"labels": {"storekeeper.dev/name": "x"}}}, "choose another prefix"),
    ("LogStore", {"podTemplate": {"labels": {"app.kubernetes.io/name": "x"}}}, "the operator sets"),
    ("LogStore", {"podTemplate": {"security": {"runAsUser": 0}}}, "spec.podTemplate.security.runAsUser"),
    ("LogStore", {"podTemplate": {"tolerations": [{"effect": "Sometimes"}]}}, "spec.podTemplate.tolerations[0].effect"),
    ("RuntimeStore", {"replicas": 2}, "memory and file belong to one pod"),
    ("RuntimeStore", {"backend": {"type": "redis"}}, 'supported values: "memory", "file"'),
    ("RuntimeStore", {"backend": {"type": "memory", "file": {}}}, "file does not belong to this type"),
    ("RuntimeStore", {"windows": ["60"]}, "spec.windows[0]"),
    ("Stream", {}, "spec.logStoreRef: Required value"),
    ("Stream", TO_GATEWAY | {"name": "ü" * 128}, "at most 255 bytes"),
    ("Stream", TO_GATEWAY | {"indexedFields": ["a", "a"]}, "Duplicate value"),
]


@pytest.mark.parametrize(("kind", "spec", "words"), BAD)
def test_bad_resources_are_refused_with_a_reason(server: Server, kind: str, spec: dict[str, Any], words: str) -> None:
    assert words in server.refusal(server.resource(kind, spec))


@pytest.mark.parametrize("name", ["a" * 37, "1st", "a.b"])
def test_a_store_whose_children_could_not_be_named_is_refused(server: Server, name: str) -> None:
    assert "a store's name has at most 36 characters" in server.refusal(server.resource("RuntimeStore", {}, name))


def sqlite(**storage: str) -> dict[str, Any]:
    return {"backend": {"type": "sqlite", "sqlite": {"storage": storage}}}


def file(**storage: str) -> dict[str, Any]:
    return {"backend": {"type": "file", "file": {"storage": storage}}}


REFUSED_CHANGES = [
    ("LogStore", {}, {"adoptStoreID": "x"}, "a store's identity cannot be changed"),
    ("LogStore", {"adoptStoreID": "x"}, {}, "a store's identity cannot be changed"),
    ("LogStore", sqlite(size="20Gi"), sqlite(size="19Gi"), "a volume cannot shrink"),
    ("LogStore", sqlite(size="20Gi"), {}, "without a size it is 10Gi"),
    ("LogStore", {}, sqlite(size="5Gi"), "without a size it is 10Gi"),
    ("LogStore", sqlite(storageClassName="a"), sqlite(storageClassName="b"), "the class of a volume"),
    ("LogStore", {}, sqlite(storageClassName="b"), "the class of a volume"),
    ("LogStore", {"entries": {}}, {"entries": {"storage": {"size": "1Gi"}}}, "without a size it is 20Gi"),
    ("RuntimeStore", {}, file(size="512Mi"), "without a size it is 1Gi"),
    ("Stream", TO_GATEWAY, {"logStoreRef": {"name": "other"}}, "cannot move to another LogStore"),
    ("Stream", TO_GATEWAY, TO_GATEWAY | {"name": "renamed"}, "cannot be renamed"),
]


@pytest.mark.parametrize(("kind", "before", "after", "words"), REFUSED_CHANGES)
def test_a_change_that_could_not_be_obeyed_is_refused(
    server: Server, kind: str, before: dict[str, Any], after: dict[str, Any], words: str
) -> None:
    server.write(server.resource(kind, before))
    assert words in server.refusal(server.resource(kind, after))


TAKEN_CHANGES = [
    ("LogStore", sqlite(size="1Gi"), sqlite(size=str(2 * 2**30))),
    ("LogStore", sqlite(size="1Gi"), {"backend": ON_POSTGRES}),
    ("LogStore", {"backend": ON_POSTGRES}, sqlite(size="1Gi")),
    ("LogStore", {}, {"entries": {"storage": {"size": "1Gi"}}}),
    ("RuntimeStore", {}, {"backend": {"type": "memory"}}),
    ("Stream", TO_GATEWAY, TO_GATEWAY | {"retention": {"maxAge": "1m"}, "indexedFields": ["level"]}),
]


@pytest.mark.parametrize(("kind", "before", "after"), TAKEN_CHANGES)
def test_a_change_that_can_be_obeyed_is_taken(
    server: Server, kind: str, before: dict[str, Any], after: dict[str, Any]
) -> None:
    server.write(server.resource(kind, before))
    assert server.write(server.resource(kind, after))["spec"] == after
