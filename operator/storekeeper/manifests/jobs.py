"""Jobs: each changes a database under that database's own lock, and is run again by the kubelet until it is done.

Their names carry the hash of what they do: another config or image is another Job.
"""

from collections.abc import Mapping

from store_runtime.config.wire import JobName
from storekeeper.manifests import mounts
from storekeeper.manifests.blueprint import Blueprint
from storekeeper.manifests.containers import job_container
from storekeeper.manifests.drift import content_hash
from storekeeper.manifests.objects import LABEL_JOB, Manifest
from storekeeper.manifests.pods import job_pod

RETRIES_MAX = 1_000_000
"""Of the kubelet, ten seconds to five minutes apart: in effect for ever. A database may be down for days."""
NAME_HASH_HEX = 8


def jobs(blueprint: Blueprint) -> Mapping[JobName, Manifest]:
    """Those that come before the workload. On a volume they are init containers of its pod, and in memory there is
    nothing to prepare.
    """
    if blueprint.resource.has_volume or not blueprint.resource.is_persistent:
        return {}
    return {name: job(blueprint, name) for name in (JobName.PROVISION, JobName.MIGRATE)}


def job(blueprint: Blueprint, name: JobName) -> Manifest:
    """Also `release` and `destroy`, which mount the volumes when the serving pod has gone."""
    mounted = [mounts.config(blueprint), mounts.scratch(blueprint), *mounts.data(blueprint)]
    template = job_pod(blueprint, name.value, job_container(blueprint, name, mounted), mounted)
    spec = {"backoffLimit": RETRIES_MAX, "template": template}
    full_name = f"{blueprint.base}-{name}-{content_hash(spec)[:NAME_HASH_HEX]}"
    return blueprint.child("Job", full_name, {"spec": spec}, labels={LABEL_JOB: name.value})
