"""A pod's status in the shape that Kubernetes gives it. Pure but for the time stamps handed in."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from storekeeper.manifests.objects import Manifest

HOST_IP = "127.0.0.1"
CONTAINER_ID_SCHEME = "process://"
"""A containerID is `containerd://<id>` in a cluster and `process://<pid>` here."""
_Json = dict[str, Any]


class Phase(StrEnum):
    """https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-phase"""

    PENDING = "Pending"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


@dataclass(slots=True)
class ContainerRecord:
    """What happened to one container so far."""

    name: str
    image: str = ""
    state: _Json = field(default_factory=lambda: {"waiting": {"reason": "PodInitializing"}})
    last_state: _Json = field(default_factory=dict)
    restarts: int = 0
    ready: bool = False
    pid: int = 0

    @property
    def running(self) -> bool:
        return "running" in self.state

    def began(self, at: str, pid: int) -> None:
        if "terminated" in self.last_state:
            self.restarts += 1
        self.pid = pid
        self.state = {"running": {"startedAt": at}}

    def ended(self, exit_code: int, message: str, at: str) -> None:
        """Keeps the report of this attempt; `waits` moves it to lastState."""
        started = self.state.get("running", {}).get("startedAt", at)
        reason = "Error" if exit_code else "Completed"
        terminated = {"exitCode": exit_code, "reason": reason, "startedAt": started, "finishedAt": at}
        self.state = {"terminated": terminated | ({"message": message} if message else {})}
        self.ready = False

    def waits(self, reason: str, message: str) -> None:
        if "terminated" in self.state:
            self.last_state = self.state
        self.state = {"waiting": {"reason": reason, "message": message}}

    def document(self, *, init: bool) -> _Json:
        done = init and self.state.get("terminated", {}).get("exitCode") == 0
        return {
            "name": self.name,
            "image": self.image,
            "containerID": f"{CONTAINER_ID_SCHEME}{self.pid}" if self.pid else "",
            "ready": done or self.ready,
            "started": self.running,
            "restartCount": self.restarts,
            "state": self.state,
            "lastState": self.last_state,
        }


@dataclass(slots=True)
class PodRecord:
    """What happened to one pod so far."""

    init: list[ContainerRecord]
    main: list[ContainerRecord]
    phase: Phase = Phase.PENDING
    started_at: str = ""
    unschedulable: str = ""

    @property
    def finished(self) -> bool:
        return self.phase in (Phase.SUCCEEDED, Phase.FAILED)

    def document(self) -> _Json:
        initialized = all(record.state.get("terminated", {}).get("exitCode") == 0 for record in self.init)
        ready = initialized and all(record.ready for record in self.main)
        scheduled = {"type": "PodScheduled", "status": "True"}
        if self.unschedulable:
            scheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
            scheduled["message"] = self.unschedulable
        status: _Json = {
            "phase": self.phase.value,
            "conditions": [
                scheduled,
                {"type": "Initialized", "status": _truth(initialized)},
                {"type": "ContainersReady", "status": _truth(ready)},
                {"type": "Ready", "status": _truth(ready)},
            ],
            "initContainerStatuses": [record.document(init=True) for record in self.init],
            "containerStatuses": [record.document(init=False) for record in self.main],
        }
        return status if self.unschedulable else status | {"podIP": HOST_IP, "startTime": self.started_at}


def record_of(pod: Manifest, started_at: str) -> PodRecord:
    spec = pod["spec"]
    return PodRecord(
        [ContainerRecord(c["name"], c.get("image", "")) for c in spec.get("initContainers", [])],
        [ContainerRecord(c["name"], c.get("image", "")) for c in spec["containers"]],
        started_at=started_at,
    )


def is_ready(pod: Manifest) -> bool:
    conditions = (pod.get("status") or {}).get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def is_finished(pod: Manifest) -> bool:
    return (pod.get("status") or {}).get("phase") in (Phase.SUCCEEDED, Phase.FAILED)


def _truth(value: bool) -> str:
    return "True" if value else "False"
