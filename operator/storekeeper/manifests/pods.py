"""Pod templates: what every pod of a store has in common, under the restricted Pod Security standard
(https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted).
"""

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel

from storekeeper.manifests.blueprint import Blueprint
from storekeeper.manifests.containers import Container
from storekeeper.manifests.mounts import Mounted

PodTemplate = dict[str, Any]


def serving_pod(
    blueprint: Blueprint, container: Container, mounted: Sequence[Mounted], before: Sequence[Container] = ()
) -> PodTemplate:
    """`before`: init containers, run in order."""
    spec = _pod_spec(blueprint, mounted) | {"containers": [container]} | _spread(blueprint)
    if before:
        spec["initContainers"] = list(before)
    return _template(blueprint, spec)


def job_pod(blueprint: Blueprint, job: str, container: Container, mounted: Sequence[Mounted]) -> PodTemplate:
    """The kubelet restarts it until it is done."""
    spec = _pod_spec(blueprint, mounted) | {"containers": [container], "restartPolicy": "OnFailure"}
    return _template(blueprint, spec, job=job)


def _template(blueprint: Blueprint, spec: dict[str, Any], *, job: str = "") -> PodTemplate:
    metadata: dict[str, Any] = {"labels": blueprint.pod_labels(job=job)}
    if annotations := blueprint.resource.spec.pod_template.annotations:
        metadata["annotations"] = dict(annotations)
    return {"metadata": metadata, "spec": spec}


def _pod_spec(blueprint: Blueprint, mounted: Sequence[Mounted]) -> dict[str, Any]:
    wanted = blueprint.resource.spec.pod_template
    security = wanted.security
    spec: dict[str, Any] = {
        "serviceAccountName": blueprint.base,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": wanted.termination_grace_period_seconds,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": security.run_as_user,
            "runAsGroup": security.run_as_group,
            "fsGroup": security.fs_group,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumes": [one.volume for one in mounted],
    }
    return spec | _scheduling(blueprint)


def _scheduling(blueprint: Blueprint) -> dict[str, Any]:
    wanted = blueprint.resource.spec.pod_template
    found = {
        "nodeSelector": dict(wanted.node_selector),
        "tolerations": [as_written(toleration) for toleration in wanted.tolerations],
        "affinity": as_written(wanted.affinity),
        "priorityClassName": wanted.priority_class_name,
        "runtimeClassName": wanted.runtime_class_name,
        "imagePullSecrets": [{"name": secret.name} for secret in wanted.image_pull_secrets],
    }
    return {field: value for field, value in found.items() if value}


def _spread(blueprint: Blueprint) -> dict[str, Any]:
    ours = {"labelSelector": {"matchLabels": blueprint.serving_labels}}
    wanted = [ours | as_written(one) for one in blueprint.resource.spec.pod_template.topology_spread_constraints]
    return {"topologySpreadConstraints": wanted} if wanted else {}


def as_written(document: BaseModel) -> dict[str, Any]:
    """Only what somebody set: these forms are Kubernetes' own, with its own defaults."""
    return document.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude_none=True)
