"""What a store's pods say: the reports their jobs left behind, and why a pod does not run. Pure.

A job's report is the termination message of its container, in `state` while it is the last word and in `lastState`
once the kubelet has started it again. Containers of jobs are named by their job.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from pydantic import ValidationError

from store_runtime.config.wire import JobName, JobReport
from storekeeper.manifests.objects import Manifest
from storekeeper.plan.observed import PodTrouble

MESSAGE_CHARS_MAX = 400
"""Of a trouble's message: it goes into a condition, and a status is read by people."""
JOB_NAMES = frozenset(job.value for job in JobName)
STARTING = frozenset({"ContainerCreating", "PodInitializing"})
"""Waiting reasons that say nothing yet: if something is wrong, only the pod's Events know it."""


@dataclass(frozen=True, slots=True)
class Reported:
    """A report and when it was left behind."""

    report: JobReport
    finished: datetime


def reports(pods: Iterable[Manifest]) -> tuple[dict[str, Reported], list[PodTrouble]]:
    """The newest report of each job, and a trouble for each message that is not a report."""
    newest: dict[str, Reported] = {}
    troubles = []
    for pod in pods:
        for status, terminated in _terminations(pod):
            try:
                found = _reported(terminated)
            except ValidationError as error:
                troubles.append(_malformed(pod, status["name"], error))
                continue
            name = found.report.job.value
            if name not in newest or newest[name].finished < found.finished:
                newest[name] = found
    return newest, troubles


def troubles(pod: Manifest) -> list[PodTrouble]:
    """Why the pod does not run, as far as its own status knows."""
    if pod["metadata"].get("deletionTimestamp"):
        return []
    name = pod["metadata"]["name"]
    conditions = (pod.get("status") or {}).get("conditions") or []
    found = [
        trouble(name, condition.get("reason") or "Unschedulable", condition.get("message") or "")
        for condition in conditions
        if condition["type"] == "PodScheduled" and condition["status"] == "False"
    ]
    for status in _statuses(pod):
        waiting = (status.get("state") or {}).get("waiting")
        if waiting and (waiting.get("reason") or "") not in STARTING:
            found.append(trouble(name, waiting.get("reason") or "Waiting", _why(status, waiting)))
    return found


def is_starting(pod: Manifest) -> bool:
    """Scheduled, but no container of it has got anywhere: what holds it up is in its Events, if anywhere."""
    status = pod.get("status") or {}
    if pod["metadata"].get("deletionTimestamp") or status.get("phase") != "Pending":
        return False
    states = [status.get("state") or {} for status in _statuses(pod)]
    moving = any("running" in state or "terminated" in state for state in states)
    held = any((state.get("waiting") or {}).get("reason", "") not in STARTING for state in states if "waiting" in state)
    return not moving and not held


def trouble(pod: str, reason: str, message: str) -> PodTrouble:
    """With its message on one line and no longer than people read."""
    line = " ".join(message.split())
    return PodTrouble(pod, reason, line if len(line) <= MESSAGE_CHARS_MAX else line[: MESSAGE_CHARS_MAX - 1] + "…")


def _terminations(pod: Manifest) -> Iterable[tuple[Manifest, Mapping[str, str]]]:
    """(container status, its terminated state) of every job's container that left a message, old and new."""
    for status in _statuses(pod):
        if status["name"] not in JOB_NAMES:
            continue
        for state in (status.get("lastState") or {}, status.get("state") or {}):
            terminated = state.get("terminated") or {}
            if terminated.get("message"):
                yield status, terminated


def _reported(terminated: Mapping[str, str]) -> Reported:
    report = JobReport.model_validate_json(terminated["message"])
    return Reported(report, datetime.fromisoformat(terminated["finishedAt"]))


def _malformed(pod: Manifest, container: str, error: ValidationError) -> PodTrouble:
    said = error.errors()[0]["msg"]
    return trouble(pod["metadata"]["name"], "MalformedReport", f"the report of {container} cannot be read: {said}")


def _why(status: Manifest, waiting: Mapping[str, str]) -> str:
    """A crash loop's own message only says how long it waits; how the container ended is what people need."""
    ended = (status.get("lastState") or {}).get("terminated")
    if waiting.get("reason") != "CrashLoopBackOff" or not ended:
        return f"{status['name']}: {waiting.get('message') or 'no message'}"
    return f"{status['name']} ended with exit code {ended.get('exitCode')} ({ended.get('reason') or 'Error'})"


def _statuses(pod: Manifest) -> list[Manifest]:
    status = pod.get("status") or {}
    return [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
