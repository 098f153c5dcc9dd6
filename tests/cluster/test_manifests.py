"""A real API server takes the children of every form of store, in a namespace that admits only restricted pods, and
what it makes of them is not taken for drift."""

import json
from typing import Any

import pytest

from storekeeper.manifests.account import service_account
from storekeeper.manifests.drift import differs
from storekeeper.manifests.objects import Manifest
from tests.cluster.access import ClusterAccess
from tests.operator.manifest_cases import CASES, Blueprint, blueprint, children, pod_templates

pytestmark = pytest.mark.cluster


def draw(name: str, namespace: str) -> Blueprint:
    kind, spec = CASES[name]
    without_classes = {key: value for key, value in spec.items() if key != "podTemplate"} | {
        "podTemplate": {k: v for k, v in spec.get("podTemplate", {}).items() if k != "priorityClassName"}
    }
    return blueprint(kind, without_classes, namespace=namespace)


def apply(cluster: ClusterAccess, manifest: Manifest, *options: str) -> Manifest:
    """The object as the server would keep it."""
    command = ("apply", "--server-side", "--field-manager=storekeeper", "--filename=-", "--output=json", *options)
    answer: Manifest = json.loads(cluster.kubectl(*command, text=json.dumps(manifest)))
    return answer


@pytest.mark.parametrize("name", CASES)
def test_children_are_taken_and_come_back_without_drift(cluster: ClusterAccess, namespace: str, name: str) -> None:
    manifests = children(draw(name, namespace))
    for manifest in manifests:
        kept = apply(cluster, manifest, "--dry-run=server")
        if manifest["kind"] != "Secret":
            assert differs(manifest, kept) is None, f"{manifest['kind']} {manifest['metadata']['name']}"


@pytest.mark.parametrize("name", CASES)
def test_every_pod_is_admitted_by_the_restricted_standard(cluster: ClusterAccess, namespace: str, name: str) -> None:
    drawn = draw(name, namespace)
    apply(cluster, service_account(drawn))
    for number, (where, template) in enumerate(pod_templates(children(drawn))):
        metadata: dict[str, Any] = {**template["metadata"], "name": f"pod-{number}", "namespace": namespace}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
        assert apply(cluster, pod, "--dry-run=server")["kind"] == "Pod", where
