"""The CronJob that applies the retention of request logs.

For a store on a volume its pod asks the serving pod, which has the volume; for a network database it does the work.
"""

import hashlib
from collections.abc import Iterator
from typing import Any

from store_runtime.config.wire import JobName
from storekeeper.api.logstore import LogStore
from storekeeper.manifests import mounts
from storekeeper.manifests.blueprint import Blueprint
from storekeeper.manifests.config import POLICY_FILE, limited_retention
from storekeeper.manifests.containers import config_path, job_container
from storekeeper.manifests.mounts import Mounted
from storekeeper.manifests.objects import LABEL_JOB, Manifest
from storekeeper.manifests.pods import job_pod
from storekeeper.manifests.secrets import TOKEN_KEY

RUN_SECONDS_MAX = 6 * 3600
"""Of one run: the next one goes on where it was, and a run that hangs must not stop all others."""
LATE_SECONDS_MAX = 600
"""A run that could not begin in time is left to the next one."""
RETRIES_MAX = 6


def retention_cron_job(blueprint: Blueprint) -> Manifest | None:
    """None where nothing is limited."""
    if limited_retention(blueprint) is None:
        return None
    mounted = [mounts.policy(blueprint), mounts.scratch(blueprint), *_access(blueprint)]
    container = job_container(blueprint, JobName.RETAIN, mounted, *_arguments(blueprint))
    labels = {LABEL_JOB: JobName.RETAIN.value}
    job = {
        "metadata": {"labels": blueprint.labels | labels},
        "spec": {
            "backoffLimit": RETRIES_MAX,
            "activeDeadlineSeconds": RUN_SECONDS_MAX,
            "template": job_pod(blueprint, JobName.RETAIN.value, container, mounted),
        },
    }
    spec: dict[str, Any] = {
        "schedule": schedule(blueprint),
        "timeZone": "Etc/UTC",
        "concurrencyPolicy": "Forbid",
        "startingDeadlineSeconds": LATE_SECONDS_MAX,
        "successfulJobsHistoryLimit": 1,
        "failedJobsHistoryLimit": 1,
        "jobTemplate": job,
    }
    return blueprint.child("CronJob", f"{blueprint.base}-retain", {"spec": spec})


def schedule(blueprint: Blueprint) -> str:
    """By default once an hour, each store at a minute of its own."""
    resource = blueprint.resource
    if isinstance(resource, LogStore) and resource.spec.retention.schedule:
        return resource.spec.retention.schedule
    digest = hashlib.sha256(resource.store_id.encode()).digest()
    return f"{int.from_bytes(digest[:4]) % 60} * * * *"


def _access(blueprint: Blueprint) -> Iterator[Mounted]:
    if blueprint.resource.has_volume:
        yield mounts.token(blueprint)
        yield from mounts.authority(blueprint)
    else:
        yield mounts.config(blueprint)
        yield from mounts.data(blueprint)


def _arguments(blueprint: Blueprint) -> Iterator[str]:
    paths = blueprint.place.paths
    yield from ("--policy", f"{paths.policy}/{POLICY_FILE}")
    if not blueprint.resource.has_volume:
        yield from ("--config", config_path(blueprint))
        return
    yield from ("--url", blueprint.place.url, "--token-file", f"{paths.token}/{TOKEN_KEY}")
    if blueprint.resource.spec.tls is not None:
        yield from ("--ca-file", f"{paths.tls}/ca.crt")
