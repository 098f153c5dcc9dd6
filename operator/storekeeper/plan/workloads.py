"""Reading live objects: how far a rollout is, what became of a Job. Pure; unknown fields are ignored."""

from dataclasses import dataclass
from enum import StrEnum

from storekeeper.manifests.objects import Manifest


@dataclass(frozen=True, slots=True)
class Rollout:
    """A StatefulSet's or Deployment's progress towards its newest template."""

    wanted: int
    ready: int
    updated: int
    current: bool
    """The controller has seen the newest spec."""

    @property
    def complete(self) -> bool:
        return self.current and self.ready >= self.wanted and self.updated >= self.wanted

    @property
    def serving(self) -> bool:
        return self.ready > 0


def rollout_of(workload: Manifest | None) -> Rollout:
    """Of an absent workload: nothing wanted, nothing ready, not current."""
    if workload is None:
        return Rollout(1, 0, 0, False)
    status = workload.get("status") or {}
    generation = workload["metadata"].get("generation", 0)
    return Rollout(
        wanted=workload["spec"].get("replicas", 1),
        ready=status.get("readyReplicas", 0),
        updated=status.get("updatedReplicas", 0),
        current=status.get("observedGeneration", -1) >= generation,
    )


class JobState(StrEnum):
    """What became of a Job."""

    ABSENT = "absent"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


def job_state(job: Manifest | None) -> JobState:
    if job is None:
        return JobState.ABSENT
    conditions = {c["type"]: c["status"] for c in (job.get("status") or {}).get("conditions", [])}
    if conditions.get("Complete") == "True":
        return JobState.SUCCEEDED
    return JobState.FAILED if conditions.get("Failed") == "True" else JobState.RUNNING
