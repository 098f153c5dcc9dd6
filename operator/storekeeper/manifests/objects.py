"""A Kubernetes object as data, and the names, labels and annotations that every child carries."""

from typing import Any

from storekeeper.api.group import GROUP, VERSION
from storekeeper.api.group import ObjectRef as ObjectRef

Manifest = dict[str, Any]
"""A Kubernetes object as JSON-able data: apiVersion, kind, metadata, …"""

FIELD_MANAGER = "storekeeper"
STATUS_MANAGER = "storekeeper-status"
FINALIZER = f"{GROUP}/finalizer"

LABEL_MANAGED_BY = "app.kubernetes.io/managed-by"
LABEL_NAME = "app.kubernetes.io/name"
LABEL_INSTANCE = "app.kubernetes.io/instance"
LABEL_COMPONENT = "app.kubernetes.io/component"
LABEL_OWNER_KIND = f"{GROUP}/kind"
LABEL_OWNER_NAME = f"{GROUP}/name"
LABEL_STORE_ID = f"{GROUP}/store-id"
LABEL_EPOCH = f"{GROUP}/epoch"
LABEL_JOB = f"{GROUP}/job"
"""On the pods of jobs: which one."""
LABEL_SERVES = f"{GROUP}/serves"
"""On serving pods only, so that a Service does not lead to the pods of jobs."""
ANNOTATION_HASH = f"{GROUP}/hash"
"""Hash of the object as we last wanted it: a child whose hash differs, or whose fields drifted, is applied again."""
ANNOTATION_FINGERPRINT = f"{GROUP}/fingerprint"
"""On a workload: which place of data its pods serve."""
ANNOTATION_SIZE = f"{GROUP}/size"
"""On a claim: whether its size was `given` in the spec, or is a `default` that enlarges no claim."""
ANNOTATION_ROTATE = f"{GROUP}/rotate"
"""On a resource: raise its value to have the token Secrets deleted and made anew."""

MANAGED_BY = "storekeeper"

API_VERSIONS = {
    "ConfigMap": "v1",
    "CronJob": "batch/v1",
    "Deployment": "apps/v1",
    "Job": "batch/v1",
    "LogStore": f"{GROUP}/{VERSION}",
    "NetworkPolicy": "networking.k8s.io/v1",
    "PersistentVolumeClaim": "v1",
    "Pod": "v1",
    "PodDisruptionBudget": "policy/v1",
    "RuntimeStore": f"{GROUP}/{VERSION}",
    "Secret": "v1",
    "Service": "v1",
    "ServiceAccount": "v1",
    "StatefulSet": "apps/v1",
    "Stream": f"{GROUP}/{VERSION}",
}
"""Every kind the operator touches, and the version it speaks."""

CHILD_KINDS = (
    "ServiceAccount",
    "ConfigMap",
    "PersistentVolumeClaim",
    "Service",
    "StatefulSet",
    "Deployment",
    "Job",
    "CronJob",
    "PodDisruptionBudget",
    "NetworkPolicy",
)
"""Children that are observed and repaired. Secrets are not among them: they are created and deleted, never read."""


def ref_of(manifest: Manifest) -> ObjectRef:
    metadata = manifest["metadata"]
    return ObjectRef(manifest["kind"], metadata.get("namespace", ""), metadata["name"])
