"""StatefulSets and Deployments: how many pods there should be, and what their status says. Pure.

One pod a workload: its ports are the machine's, so a second replica could not listen. A changed template replaces
the pod when the old one has gone (as a StatefulSet does, and a Deployment with strategy Recreate).
"""

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from storekeeper.adapters.processes.podstatus import is_ready
from storekeeper.manifests.objects import Manifest

LABEL_REVISION = "controller-revision-hash"
POD_FINALIZER = "storekeeper.dev/process"
"""Holds a deleted Pod object until its processes are gone."""
REPLICAS_MAX = 1


def revision(workload: Manifest) -> str:
    """Names the pod template: another template, another revision."""
    template = json.dumps(workload["spec"]["template"], sort_keys=True)
    return hashlib.sha256(template.encode()).hexdigest()[:10]


def is_current(pod: Manifest, workload: Manifest) -> bool:
    return bool(pod["metadata"]["labels"].get(LABEL_REVISION) == revision(workload))


def wanted_pods(workload: Manifest) -> list[Manifest]:
    replicas = workload["spec"].get("replicas", 1)
    return [_workload_pod(workload, index) for index in range(replicas)]


def is_schedulable(pod: Manifest) -> bool:
    return "nodeName" in pod["spec"]


def _workload_pod(workload: Manifest, index: int) -> Manifest:
    pod = pod_of(workload, workload["spec"]["template"], f"{workload['metadata']['name']}-{index}")
    pod["metadata"]["labels"] = pod["metadata"]["labels"] | {LABEL_REVISION: revision(workload)}
    if index < REPLICAS_MAX:
        pod["spec"] = pod["spec"] | {"nodeName": "localhost"}
    return pod


def pod_of(owner: Manifest, template: dict[str, Any], name: str) -> Manifest:
    """A Pod from a template, owned by its workload or Job."""
    metadata = template.get("metadata", {})
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": owner["metadata"]["namespace"],
            "labels": dict(metadata.get("labels", {})),
            "annotations": dict(metadata.get("annotations", {})),
            "finalizers": [POD_FINALIZER],
            "ownerReferences": [owner_reference(owner)],
        },
        "spec": template["spec"],
    }


def owner_reference(owner: Manifest) -> dict[str, Any]:
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def workload_status(workload: Manifest, pods: Iterable[Manifest]) -> dict[str, Any]:
    """Of its live pods, as the controllers of Kubernetes write it."""
    pods = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
    current = [pod for pod in pods if is_current(pod, workload)]
    ready = sum(is_ready(pod) for pod in pods)
    return {
        "observedGeneration": workload["metadata"]["generation"],
        "replicas": len(pods),
        "readyReplicas": ready,
        "availableReplicas": ready,
        "currentReplicas": len(current),
        "updatedReplicas": len(current),
        "updateRevision": revision(workload),
    }
