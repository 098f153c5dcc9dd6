"""What this cluster takes: an object whose meaning it would have to ignore is refused when it is written. Pure.

Named in the message is the field, as an API server does it (status 422), and why it cannot be had without a cluster.
"""

from collections.abc import Iterator
from typing import Any

from storekeeper.adapters.cluster import ClusterError
from storekeeper.adapters.processes import crontab
from storekeeper.manifests.objects import API_VERSIONS, Manifest, ref_of

PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
VOLUMES = ("configMap", "secret", "persistentVolumeClaim", "emptyDir")
_Json = dict[str, Any]


def admit(manifest: Manifest) -> None:
    """Raises ClusterError (422, not retryable) with the first thing that cannot be done here."""
    for field, why in _refusals(manifest):
        raise ClusterError(f"{ref_of(manifest)}: {field}: {why}", status=422, retryable=False)


def _refusals(manifest: Manifest) -> Iterator[tuple[str, str]]:
    kind, spec = manifest["kind"], manifest.get("spec", {})
    if kind not in API_VERSIONS:
        yield "kind", f"{kind} is not one of {', '.join(API_VERSIONS)}"
    if kind == "CronJob":
        yield from _schedule(spec["schedule"])
        yield from _pod("spec.jobTemplate.spec.template.spec", spec["jobTemplate"]["spec"]["template"]["spec"])
    elif kind in ("StatefulSet", "Deployment", "Job"):
        yield from _pod("spec.template.spec", spec["template"]["spec"])


def _schedule(schedule: str) -> Iterator[tuple[str, str]]:
    try:
        crontab.parse(schedule)
    except ValueError as error:
        yield "spec.schedule", str(error)


def _pod(field: str, pod: _Json) -> Iterator[tuple[str, str]]:
    if len(pod["containers"]) != 1:
        yield f"{field}.containers", "exactly one container runs without a cluster"
    for index, volume in enumerate(pod.get("volumes", [])):
        if not any(kind in volume for kind in VOLUMES):
            yield f"{field}.volumes[{index}]", f"only {', '.join(VOLUMES)} exist without a cluster"
    for kind in ("initContainers", "containers"):
        for index, container in enumerate(pod.get(kind, [])):
            yield from _container(f"{field}.{kind}[{index}]", container)


def _container(field: str, container: _Json) -> Iterator[tuple[str, str]]:
    if not container.get("command"):
        yield f"{field}.command", "missing; there is no image here that could know it"
    if container.get("restartPolicy"):
        yield f"{field}.restartPolicy", "sidecars need a cluster"
    for probe in PROBES:
        if probe in container and "httpGet" not in container[probe]:
            yield f"{field}.{probe}", "only httpGet probes are asked without a cluster"
    for index, variable in enumerate(container.get("env", [])):
        if "valueFrom" in variable:
            yield f"{field}.env[{index}].valueFrom", "only plain values are set without a cluster"
