"""The serving pods: a StatefulSet where there is a volume, else a Deployment."""

from typing import Any

from store_runtime.config.wire import JobName
from storekeeper.api.resource import StoreResource
from storekeeper.manifests import mounts
from storekeeper.manifests.blueprint import Blueprint
from storekeeper.manifests.containers import job_container, serving_container
from storekeeper.manifests.objects import ANNOTATION_FINGERPRINT, Manifest
from storekeeper.manifests.pods import PodTemplate, serving_pod

REVISIONS_KEPT = 3


def workload(blueprint: Blueprint) -> Manifest:
    resource = blueprint.resource
    kind = "StatefulSet" if resource.has_volume else "Deployment"
    spec: dict[str, Any] = {
        "replicas": resource.spec.replicas,
        "revisionHistoryLimit": REVISIONS_KEPT,
        "selector": {"matchLabels": blueprint.serving_labels},
        "template": _template(blueprint),
    }
    spec |= _in_order(blueprint) if resource.has_volume else _strategy(resource)
    annotations = {ANNOTATION_FINGERPRINT: resource.fingerprint}
    return blueprint.child(kind, blueprint.base, {"spec": spec}, annotations=annotations)


def _template(blueprint: Blueprint) -> PodTemplate:
    """On a volume, the jobs that change the data run in the pod that has the volume, before it serves."""
    working = [mounts.config(blueprint), mounts.scratch(blueprint), *mounts.data(blueprint)]
    serving = [*working, *mounts.certificate(blueprint)]
    jobs = (JobName.PROVISION, JobName.MIGRATE) if blueprint.resource.has_volume else ()
    before = [job_container(blueprint, job, working) for job in jobs]
    return serving_pod(blueprint, serving_container(blueprint, serving), serving, before)


def _in_order(blueprint: Blueprint) -> dict[str, Any]:
    """Parallel: with one replica order means nothing, and a pod that never became ready is replaced nevertheless."""
    return {
        "serviceName": blueprint.base,
        "podManagementPolicy": "Parallel",
        "updateStrategy": {"type": "RollingUpdate"},
    }


def _strategy(resource: StoreResource) -> dict[str, Any]:
    """Memory is in one pod: a second one beside it would count by itself."""
    if not resource.is_persistent:
        return {"strategy": {"type": "Recreate"}}
    return {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}}
