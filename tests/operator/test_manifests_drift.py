"""Whether a live object must be applied again: yes for what was changed of ours, no for what a server makes of it."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from storekeeper.manifests.claims import beside, claims
from storekeeper.manifests.drift import content_hash, differs, quantity, with_hash
from storekeeper.manifests.network import service
from storekeeper.manifests.objects import ANNOTATION_HASH, Manifest
from storekeeper.manifests.workload import workload
from tests.operator.manifest_cases import CASES, blueprint, case, children, service_account

Change = Callable[[Manifest], Any]


def live(manifest: Manifest) -> Manifest:
    """As an API server keeps it: more metadata, a status, a few defaults."""
    found = copy.deepcopy(manifest)
    found["metadata"] |= {"uid": "u", "resourceVersion": "7", "generation": 1, "managedFields": [{"manager": "x"}]}
    found["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = "1"
    found["metadata"]["labels"]["added-by"] = "somebody"
    found["status"] = {"replicas": 1}
    return found


def pod(manifest: Manifest) -> dict[str, Any]:
    spec: dict[str, Any] = manifest["spec"]["template"]["spec"]
    return spec


@pytest.mark.parametrize("name", CASES)
def test_nothing_differs_from_itself(name: str) -> None:
    for manifest in children(case(name)):
        assert differs(manifest, manifest) is None
        assert differs(manifest, live(manifest)) is None


def _fill_defaults(found: Manifest) -> None:
    spec = pod(found)
    spec |= {"dnsPolicy": "ClusterFirst", "schedulerName": "default-scheduler", "restartPolicy": "Always"}
    spec["containers"][0]["readinessProbe"]["successThreshold"] = 1
    spec["volumes"].reverse()
    spec["volumes"].append({"name": "injected", "emptyDir": {}})
    spec["containers"].append({"name": "sidecar", "image": "mesh"})
    spec["containers"][0]["volumeMounts"].insert(0, {"name": "injected", "mountPath": "/injected"})
    spec["containers"][0]["env"].append({"name": "INJECTED", "value": "1"})
    spec["containers"][0]["volumeMounts"].append({"name": "scratch", "mountPath": "/also-here"})


def _write_quantities_otherwise(found: Manifest) -> None:
    resources = pod(found)["containers"][0]["resources"]
    resources["requests"] |= {"cpu": "0.05", "memory": str(256 * 2**20)}
    next(v for v in pod(found)["volumes"] if v["name"] == "scratch")["emptyDir"]["sizeLimit"] = "1024Mi"


@pytest.mark.parametrize("change", [_fill_defaults, _write_quantities_otherwise], ids=lambda c: c.__name__)
def test_what_a_server_makes_of_it_is_no_drift(change: Change) -> None:
    desired = workload(case("logstore-quickstart"))
    found = live(desired)
    change(found)
    assert differs(desired, found) is None


def _replicas(found: Manifest) -> None:
    found["spec"]["replicas"] = 0


def _image(found: Manifest) -> None:
    pod(found)["containers"][0]["image"] = "evil"


def _argument(found: Manifest) -> None:
    pod(found)["containers"][0]["args"].append("--debug")


def _volume_gone(found: Manifest) -> None:
    pod(found)["volumes"] = [v for v in pod(found)["volumes"] if v["name"] != "data"]


def _init_container_gone(found: Manifest) -> None:
    del pod(found)["initContainers"]


def _memory(found: Manifest) -> None:
    pod(found)["containers"][0]["resources"]["requests"]["memory"] = "128Mi"


def _label(found: Manifest) -> None:
    del found["metadata"]["labels"]["storekeeper.dev/name"]


def _owner(found: Manifest) -> None:
    found["metadata"]["ownerReferences"] = []


def _security(found: Manifest) -> None:
    pod(found)["containers"][0]["securityContext"]["readOnlyRootFilesystem"] = False


CHANGES: list[tuple[Change, str]] = [
    (_replicas, "spec.replicas was changed"),
    (_image, "spec.template.spec.containers[serve].image was changed"),
    (_argument, "spec.template.spec.containers[serve].args was changed"),
    (_volume_gone, "spec.template.spec.volumes[data] was changed"),
    (_init_container_gone, "spec.template.spec.initContainers was changed"),
    (_memory, "spec.template.spec.containers[serve].resources.requests.memory was changed"),
    (_label, "metadata.labels.storekeeper.dev/name was changed"),
    (_owner, "metadata.ownerReferences[11111111-2222-3333-4444-555555555555] was changed"),
    (_security, "spec.template.spec.containers[serve].securityContext.readOnlyRootFilesystem was changed"),
]


@pytest.mark.parametrize(("change", "reason"), CHANGES, ids=[change.__name__ for change, _ in CHANGES])
def test_a_changed_field_of_ours_is_named(change: Change, reason: str) -> None:
    desired = workload(case("logstore-quickstart"))
    found = live(desired)
    change(found)
    assert differs(desired, found) == reason


def test_a_field_that_is_gone_from_what_we_want_is_seen_by_the_hash() -> None:
    before = workload(blueprint("LogStore", {"podTemplate": {"nodeSelector": {"disk": "ssd"}}}))
    assert differs(workload(blueprint("LogStore", {})), live(before)) == "what is wanted changed"


def test_an_object_that_somebody_made_in_our_place_is_taken_over() -> None:
    desired = service_account(case("logstore-least"))
    found = live(desired)
    del found["metadata"]["annotations"][ANNOTATION_HASH]
    assert differs(desired, found) == "it does not bear our hash"
    del found["metadata"]["annotations"]
    assert differs(desired, found) == "it does not bear our hash"


def test_a_data_of_a_config_map_and_a_port_of_a_service_count() -> None:
    drawn = case("logstore-quickstart")
    found = live(service(drawn))
    found["spec"] |= {"clusterIP": "10.0.0.1", "sessionAffinity": "None"}
    assert differs(service(drawn), found) is None
    found["spec"]["ports"][0]["port"] = 80
    assert differs(service(drawn), found) == "spec.ports[http].port was changed"


def sized(claim: Manifest, size: str) -> Manifest:
    found = live(claim)
    found["spec"] |= {"volumeName": "pv-1", "storageClassName": "standard", "volumeMode": "Filesystem"}
    found["spec"]["resources"]["requests"]["storage"] = size
    return found


@pytest.mark.parametrize(("size", "reason"), [("70Gi", None), ("51200Mi", None), ("1Gi", "what is wanted changed")])
def test_a_claim_of_a_given_size_grows_and_never_shrinks(size: str, reason: str | None) -> None:
    _, entries = claims(case("logstore-everything"))  # 50Gi is given
    found = sized(entries, size)
    wanted = beside(entries, found)
    assert quantity(wanted["spec"]["resources"]["requests"]["storage"]) >= quantity(size)
    if reason is None:
        found["metadata"] = wanted["metadata"]
        assert differs(wanted, found) is None
    else:
        assert wanted == entries


@pytest.mark.parametrize("size", ["20Gi", "1Gi"])
def test_a_default_size_changes_no_claim_that_is_there(size: str) -> None:
    data, _ = claims(case("logstore-quickstart"))  # 10Gi by default
    wanted = beside(data, sized(data, size))
    assert wanted["spec"]["resources"]["requests"]["storage"] == size
    assert wanted["metadata"]["annotations"] != data["metadata"]["annotations"], "the hash is of what is wanted now"


def test_empty_maps_may_be_left_out_by_the_server() -> None:
    desired = with_hash(
        {"kind": "NetworkPolicy", "metadata": {}, "spec": {"podSelector": {}, "ingress": [{"from": []}]}}
    )
    found = copy.deepcopy(desired)
    found["spec"] = {"ingress": [{}]}
    assert differs(desired, found) is None


def test_a_hash_is_of_the_content_and_not_of_its_order() -> None:
    assert content_hash({"a": 1, "b": [1, 2]}) == content_hash({"b": [1, 2], "a": 1})
    assert content_hash({"b": [1, 2]}) != content_hash({"b": [2, 1]})
    one = with_hash({"kind": "ConfigMap", "metadata": {"name": "x"}, "data": {}})
    other = with_hash({"kind": "ConfigMap", "metadata": {"name": "y"}, "data": {}})
    assert one["metadata"]["annotations"] != other["metadata"]["annotations"]
