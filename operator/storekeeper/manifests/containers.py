"""Containers: one that serves, and one for each job. All run the same image with another subcommand, and leave a report
if there is anything to report.
"""

from collections.abc import Sequence
from typing import Any

from store_runtime.config.wire import JobName
from storekeeper.manifests.blueprint import Blueprint
from storekeeper.manifests.config import CONFIG_FILE
from storekeeper.manifests.mounts import Mounted

HTTP_PORT_NAME = "http"
METRICS_PORT_NAME = "metrics"
REQUESTS_DEFAULT = {"cpu": "50m", "memory": "256Mi"}

START_SECONDS_MAX = 1800
"""Before a starting store is restarted: recovery of a large volume takes its time and must not begin anew."""
START_PERIOD_SECONDS = 2

_SECURITY = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}

Container = dict[str, Any]


def serving_container(blueprint: Blueprint, mounted: Sequence[Mounted]) -> Container:
    """It listens once its store is open, so the first answer of any kind is the end of its start."""
    place = blueprint.place
    return job_container(blueprint, JobName.SERVE, mounted) | {
        "ports": [
            {"name": HTTP_PORT_NAME, "containerPort": place.port, "protocol": "TCP"},
            {"name": METRICS_PORT_NAME, "containerPort": place.metrics_port, "protocol": "TCP"},
        ],
        "startupProbe": _probe(
            blueprint, "/healthz", period=START_PERIOD_SECONDS, failures=START_SECONDS_MAX // START_PERIOD_SECONDS
        ),
        "readinessProbe": _probe(blueprint, "/readyz", period=5, failures=3),
        "livenessProbe": _probe(blueprint, "/healthz", period=10, failures=6),
    }


def job_container(blueprint: Blueprint, job: JobName, mounted: Sequence[Mounted], *arguments: str) -> Container:
    """Named by its job, for that is how its report is found. Without `arguments` it works from the store's config."""
    told = arguments or ("--config", config_path(blueprint))
    return _container(blueprint, job.value, [job.value, *told, "--report", blueprint.place.termination_log], mounted)


def config_path(blueprint: Blueprint) -> str:
    return f"{blueprint.place.paths.config}/{CONFIG_FILE}"


def _container(blueprint: Blueprint, name: str, arguments: list[str], mounted: Sequence[Mounted]) -> Container:
    place = blueprint.place
    return {
        "name": name,
        "image": blueprint.image,
        "imagePullPolicy": place.image_pull_policy,
        "command": list(place.command),
        "args": arguments,
        "env": [
            {"name": "HOME", "value": place.paths.scratch},
            {"name": "TMPDIR", "value": place.paths.scratch},
        ],
        "resources": resources(blueprint),
        "securityContext": _SECURITY,
        "terminationMessagePath": place.termination_log,
        "terminationMessagePolicy": "File",
        "volumeMounts": [one.mount for one in mounted],
    }


def resources(blueprint: Blueprint) -> dict[str, dict[str, str]]:
    """What is limited without being requested is requested as it is limited (that is Kubernetes' own rule)."""
    wanted = blueprint.resource.spec.resources
    defaults = {name: value for name, value in REQUESTS_DEFAULT.items() if name not in wanted.limits}
    found = {"requests": defaults | wanted.requests, "limits": dict(wanted.limits)}
    return {part: values for part, values in found.items() if values}


def _probe(blueprint: Blueprint, path: str, *, period: int, failures: int) -> dict[str, Any]:
    scheme = "HTTP" if blueprint.resource.spec.tls is None else "HTTPS"
    return {
        "httpGet": {"path": path, "port": HTTP_PORT_NAME, "scheme": scheme},
        "periodSeconds": period,
        "timeoutSeconds": 2,
        "failureThreshold": failures,
    }
