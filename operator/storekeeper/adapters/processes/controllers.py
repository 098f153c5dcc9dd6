"""The controllers of the local cluster: one idempotent pass over all objects makes pods be what the objects say.

workloads and Jobs → Pod objects → running pods → their owners' status; CronJobs → Jobs; claims; garbage. A pass is made
after every change and whenever a time that the last one named has come; one thread makes them all.
"""

import shutil
import threading
from collections.abc import Callable
from datetime import datetime
from typing import Any

from storekeeper.adapters.processes import jobs
from storekeeper.adapters.processes.folders import claims_of
from storekeeper.adapters.processes.objectfiles import owner_uids
from storekeeper.adapters.processes.pods import PodRunner, Site
from storekeeper.adapters.processes.podstatus import is_finished
from storekeeper.adapters.processes.serverside import CLAIM_PROTECTION
from storekeeper.adapters.processes.workloads import (
    POD_FINALIZER,
    REPLICAS_MAX,
    is_current,
    is_schedulable,
    wanted_pods,
    workload_status,
)
from storekeeper.manifests.objects import Manifest, ObjectRef, ref_of

WORKLOAD_KINDS = ("StatefulSet", "Deployment")
PASSES_MAX = 20
"""Each pass may give the next one work (a Job its pod, a pod its status); a settled system needs one."""
STOP_SECONDS_MAX = 330.0
"""Longer than any grace period the CRDs allow for a pod, and then some."""


class Controllers:
    """Makes passes and owns the running pods. `ended` is set whenever a pod's processes are gone."""

    def __init__(self, site: Site, now: Callable[[], datetime], ended: threading.Event) -> None:
        self._site, self._objects, self._now, self._ended = site, site.objects, now, ended
        self._runners: dict[str, PodRunner] = {}

    def settle(self) -> float | None:
        """Make passes until nothing changes any more; seconds until time alone asks for another."""
        for _ in range(PASSES_MAX):
            if not self._pass():
                break
        return self._seconds_until_due()

    def discard_stale_pods(self) -> None:
        """At the start: pods that another supervisor ran are run anew; what has finished keeps its report."""
        for pod in self._objects.find("Pod"):
            if not is_finished(pod):
                self._objects.delete(ref_of(pod))

    def warnings(self, namespace: str, name: str) -> list[tuple[str, str]]:
        pods = [p for p in self._objects.find("Pod", namespace) if p["metadata"]["name"] == name]
        runners = [self._runners.get(pod["metadata"]["uid"]) for pod in pods]
        return [warning for runner in runners if runner is not None for warning in runner.warnings]

    def stop(self) -> None:
        """Stop all pods at the same time and wait until their processes are gone."""
        runners = list(self._runners.values())
        for runner in runners:
            runner.stop()
        for runner in runners:
            runner.join(STOP_SECONDS_MAX)

    def _pass(self) -> bool:
        """True if anything was changed."""
        changed = [self._keep_workload(w) for kind in WORKLOAD_KINDS for w in self._objects.find(kind)]
        changed += [self._keep_cron_job(cron_job) for cron_job in self._objects.find("CronJob")]
        changed += [self._keep_job(job) for job in self._objects.find("Job")]
        changed += [self._keep_pod(pod) for pod in self._objects.find("Pod")]
        changed += [self._keep_claim(claim) for claim in self._objects.find("PersistentVolumeClaim")]
        return any(changed) | self._objects.collect_garbage()

    # -- workloads ------------------------------------------------------------------------------------------------

    def _keep_workload(self, workload: Manifest) -> bool:
        pods = self._pods_of(workload)
        wanted = {pod["metadata"]["name"]: pod for pod in wanted_pods(workload)}
        surplus = [p for p in pods if p["metadata"]["name"] not in wanted or not is_current(p, workload)]
        changed = self._delete(surplus)
        if not surplus:
            changed |= sum(self._objects.create(pod) for pod in wanted.values()) > 0
        return self._set_status(workload, workload_status(workload, self._pods_of(workload))) | changed

    # -- jobs -----------------------------------------------------------------------------------------------------

    def _keep_job(self, job: Manifest) -> bool:
        pods, now = self._pods_of(job), self._now()
        if jobs.is_over(job):
            ends_at = jobs.ends_at(job)
            return bool(ends_at and now >= ends_at and self._objects.delete(ref_of(job)))
        status = jobs.job_status(job, pods, now)
        changed = self._set_status(job, status)
        if status.get("conditions"):
            return self._delete([pod for pod in pods if not is_finished(pod)]) or changed
        if all(is_finished(pod) for pod in pods):
            changed |= self._objects.create(jobs.job_pod(job, len(pods)))
        return changed

    def _keep_cron_job(self, cron_job: Manifest) -> bool:
        owned = [j for j in self._objects.find("Job", cron_job["metadata"]["namespace"]) if _owns(cron_job, j)]
        changed = self._delete(jobs.history_to_drop(cron_job, owned))
        due = jobs.last_due(cron_job, self._now())
        active = [ref_of(job).name for job in owned if not jobs.is_over(job)]
        if due is None or (active and cron_job["spec"].get("concurrencyPolicy", "Allow") == "Forbid"):
            return changed
        job = jobs.scheduled_job(cron_job, due)
        self._objects.create(job)
        self._set_status(cron_job, {"lastScheduleTime": due.isoformat(), "active": [{"name": ref_of(job).name}]})
        return True

    # -- pods -----------------------------------------------------------------------------------------------------

    def _keep_pod(self, pod: Manifest) -> bool:
        uid, deleted = pod["metadata"]["uid"], "deletionTimestamp" in pod["metadata"]
        runner = self._runners.get(uid)
        if deleted:
            return self._end(pod, runner)
        if runner is None and not is_finished(pod):
            return self._start(pod)
        return False

    def _start(self, pod: Manifest) -> bool:
        if not is_schedulable(pod):
            return self._set_status(pod, _unschedulable())
        runner = self._runners[pod["metadata"]["uid"]] = PodRunner(pod, self._site, self._ended)
        runner.start()
        return True

    def _end(self, pod: Manifest, runner: PodRunner | None) -> bool:
        if runner is not None and not runner.finished:
            runner.stop()
            return False
        self._runners.pop(pod["metadata"]["uid"], None)
        owner = pod["metadata"]["ownerReferences"][0]
        if (
            owner["kind"] == "Job"
            or self._objects.get(ObjectRef(owner["kind"], ref_of(pod).namespace, owner["name"])) is None
        ):
            self._forget(pod)
        return self._objects.set_finalizer(ref_of(pod), POD_FINALIZER, present=False)

    def _forget(self, pod: Manifest) -> None:
        """It does not come back under this name: what it left behind goes too."""
        shutil.rmtree(self._site.pod_folder(pod), ignore_errors=True)
        shutil.rmtree(self._site.log_folder(pod), ignore_errors=True)

    # -- claims ---------------------------------------------------------------------------------------------------

    def _keep_claim(self, claim: Manifest) -> bool:
        ref, size = ref_of(claim), claim["spec"].get("resources", {}).get("requests", {})
        if "deletionTimestamp" not in claim["metadata"]:
            return self._set_status(claim, {"phase": "Bound", "capacity": size})
        if any(ref.name in claims_of(pod) for pod in self._objects.find("Pod", ref.namespace) if not is_finished(pod)):
            return False
        return self._objects.set_finalizer(ref, CLAIM_PROTECTION, present=False)

    # -- details --------------------------------------------------------------------------------------------------

    def _pods_of(self, owner: Manifest) -> list[Manifest]:
        return [pod for pod in self._objects.find("Pod", owner["metadata"]["namespace"]) if _owns(owner, pod)]

    def _set_status(self, live: Manifest, status: dict[str, Any]) -> bool:
        return status != live.get("status") and self._objects.set_status(ref_of(live), status)

    def _delete(self, objects: list[Manifest]) -> bool:
        going = [o for o in objects if "deletionTimestamp" not in o["metadata"]]
        return sum(self._objects.delete(ref_of(o), uid=o["metadata"]["uid"]) for o in going) > 0

    def _seconds_until_due(self) -> float | None:
        times = [jobs.ends_at(job) for job in self._objects.find("Job")]
        times += [jobs.next_due(cron_job, self._now()) for cron_job in self._objects.find("CronJob")]
        due = [time for time in times if time is not None]
        return max(0.0, (min(due) - self._now()).total_seconds()) if due else None


def _owns(owner: Manifest, dependent: Manifest) -> bool:
    return owner["metadata"]["uid"] in owner_uids(dependent)


def _unschedulable() -> dict[str, Any]:
    message = f"without a cluster a store has at most {REPLICAS_MAX} replica: its port is this machine's"
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    return {"phase": "Pending", "conditions": [condition]}
