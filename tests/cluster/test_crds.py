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
from tests.operator.crd_cases import BAD_FORM, BAD_RULE, GOOD, ON_POSTGRES, REFUSED_CHANGES, TAKEN_CHANGES

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).parents[2]


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


@pytest.mark.parametrize(("kind", "spec"), GOOD)
def test_good_resources_are_taken(server: Server, kind: str, spec: dict[str, Any]) -> None:
    assert server.write(server.resource(kind, spec), "--dry-run=server")["spec"] == spec


@pytest.mark.parametrize(("kind", "spec", "words"), BAD_FORM + BAD_RULE)
def test_bad_resources_are_refused_with_a_reason(server: Server, kind: str, spec: dict[str, Any], words: str) -> None:
    assert words in server.refusal(server.resource(kind, spec))


@pytest.mark.parametrize("name", ["a" * 37, "1st", "a.b"])
def test_a_store_whose_children_could_not_be_named_is_refused(server: Server, name: str) -> None:
    assert "a store's name has at most 36 characters" in server.refusal(server.resource("RuntimeStore", {}, name))


@pytest.mark.parametrize(("kind", "before", "after", "words"), REFUSED_CHANGES)
def test_a_change_that_could_not_be_obeyed_is_refused(
    server: Server, kind: str, before: dict[str, Any], after: dict[str, Any], words: str
) -> None:
    server.write(server.resource(kind, before))
    assert words in server.refusal(server.resource(kind, after))


@pytest.mark.parametrize(("kind", "before", "after"), TAKEN_CHANGES)
def test_a_change_that_can_be_obeyed_is_taken(
    server: Server, kind: str, before: dict[str, Any], after: dict[str, Any]
) -> None:
    server.write(server.resource(kind, before))
    assert server.write(server.resource(kind, after))["spec"] == after
