"""Jobs and CronJobs: what becomes of a Job by its pods, and when the next Job is due. Pure.

A pod's thread retries its containers itself (restartPolicy OnFailure). With restartPolicy Never a failed pod is
followed by another one; either way `backoffLimit` is the number of retries.
"""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from storekeeper.adapters.processes import crontab
from storekeeper.adapters.processes.podstatus import Phase
from storekeeper.adapters.processes.workloads import owner_reference, pod_of
from storekeeper.manifests.objects import Manifest

BACKOFF_LIMIT_DEFAULT = 6
LABELS_JOB_NAME = ("batch.kubernetes.io/job-name", "job-name")
HISTORY_DEFAULTS = {"successfulJobsHistoryLimit": 3, "failedJobsHistoryLimit": 1}
SEARCH_SECONDS = 86_400
"""How far back a missed minute is looked for where startingDeadlineSeconds does not say."""
_Json = dict[str, Any]


def job_pod(job: Manifest, number: int) -> Manifest:
    pod = pod_of(job, job["spec"]["template"], f"{job['metadata']['name']}-{number}")
    pod["metadata"]["labels"] |= dict.fromkeys(LABELS_JOB_NAME, job["metadata"]["name"])
    pod["spec"] = pod["spec"] | {"nodeName": "localhost"}
    return pod


def is_over(job: Manifest) -> bool:
    return bool(outcome(job))


def outcome(job: Manifest) -> str:
    """Complete, Failed, or empty while it runs."""
    conditions = (job.get("status") or {}).get("conditions", [])
    return next((c["type"] for c in conditions if c["type"] in ("Complete", "Failed") and c["status"] == "True"), "")


def job_status(job: Manifest, pods: list[Manifest], now: datetime) -> _Json:
    """What the Job's status should be now; a final one is never changed."""
    if is_over(job):
        return dict(job["status"])
    phases = [(pod.get("status") or {}).get("phase", Phase.PENDING) for pod in pods]
    failed = phases.count(Phase.FAILED)
    before = job.get("status") or {}
    status: _Json = {
        "startTime": before.get("startTime", _written(now)),
        "active": len(phases) - failed - phases.count(Phase.SUCCEEDED),
        "succeeded": phases.count(Phase.SUCCEEDED),
        "failed": failed,
    }
    if status["succeeded"]:
        return status | {
            "completionTime": _written(now),
            "conditions": [_condition("Complete", "CompletionsReached", now)],
        }
    if reason := _failure(job, pods, failed, status["startTime"], now):
        return status | {"active": 0, "conditions": [_condition("Failed", reason, now)]}
    return status


def _failure(job: Manifest, pods: list[Manifest], failed: int, started: str, now: datetime) -> str:
    retries = failed - 1 if failed else 0
    for pod in pods:
        status = pod.get("status") or {}
        containers = [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]
        retries += sum(container["restartCount"] for container in containers)
    limit = job["spec"].get("backoffLimit", BACKOFF_LIMIT_DEFAULT)
    if retries > limit or (failed and retries >= limit):
        return "BackoffLimitExceeded"
    deadline_seconds = job["spec"].get("activeDeadlineSeconds")
    if deadline_seconds and now >= _read(started) + timedelta(seconds=deadline_seconds):
        return "DeadlineExceeded"
    return ""


def ends_at(job: Manifest) -> datetime | None:
    """When something happens to it by time alone: its deadline, or its removal after it is over."""
    status, spec = job.get("status") or {}, job["spec"]
    if is_over(job):
        ttl_seconds = spec.get("ttlSecondsAfterFinished")
        finished = status["conditions"][0]["lastTransitionTime"]
        return None if ttl_seconds is None else _read(finished) + timedelta(seconds=ttl_seconds)
    deadline_seconds = spec.get("activeDeadlineSeconds")
    return _read(status["startTime"]) + timedelta(seconds=deadline_seconds) if deadline_seconds and status else None


def _condition(kind: str, reason: str, now: datetime) -> _Json:
    return {"type": kind, "status": "True", "reason": reason, "lastTransitionTime": _written(now)}


# -- CronJobs ---------------------------------------------------------------------------------------------------------


def next_due(cron_job: Manifest, now: datetime) -> datetime | None:
    """When its next Job will be due, after now; None while suspended."""
    return None if cron_job["spec"].get("suspend") else _after(cron_job, now)


def last_due(cron_job: Manifest, now: datetime) -> datetime | None:
    """The newest minute up to `now` for which no Job was made yet: missed ones before it are not made up for.

    None if there is none, while suspended, and when it is later than startingDeadlineSeconds allows.
    """
    last = _read((cron_job.get("status") or {}).get("lastScheduleTime") or cron_job["metadata"]["creationTimestamp"])
    deadline_seconds = cron_job["spec"].get("startingDeadlineSeconds", SEARCH_SECONDS)
    due, newest = next_due(cron_job, max(last, now - timedelta(seconds=deadline_seconds))), None
    while due is not None and due <= now:
        newest, due = due, _after(cron_job, due)
    return newest


def _after(cron_job: Manifest, moment: datetime) -> datetime:
    name = cron_job["spec"].get("timeZone", "Etc/UTC")
    zone = UTC if name in ("UTC", "Etc/UTC") else ZoneInfo(name)  # UTC needs no time zone data on the machine
    return crontab.parse(cron_job["spec"]["schedule"]).next_after(moment.astimezone(zone))


def scheduled_job(cron_job: Manifest, due: datetime) -> Manifest:
    """The Job of one minute; its name says which, so it is made once."""
    template, metadata = cron_job["spec"]["jobTemplate"], cron_job["metadata"]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": f"{metadata['name']}-{int(due.timestamp()) // 60}",
            "namespace": metadata["namespace"],
            "labels": dict(template.get("metadata", {}).get("labels", {})),
            "annotations": dict(template.get("metadata", {}).get("annotations", {})),
            "ownerReferences": [owner_reference(cron_job)],
        },
        "spec": template["spec"],
    }


def history_to_drop(cron_job: Manifest, jobs: list[Manifest]) -> list[Manifest]:
    """Finished Jobs beyond its history limits, oldest first."""
    dropped = []
    for kind, field in (("Complete", "successfulJobsHistoryLimit"), ("Failed", "failedJobsHistoryLimit")):
        limit = cron_job["spec"].get(field, HISTORY_DEFAULTS[field])
        of_kind = sorted((j for j in jobs if outcome(j) == kind), key=lambda j: str(j["status"]["startTime"]))
        dropped += of_kind[: len(of_kind) - limit] if len(of_kind) > limit else []
    return dropped


def _read(written: str) -> datetime:
    return datetime.fromisoformat(written)


def _written(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
