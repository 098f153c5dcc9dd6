"""How a store goes: its pods first, then the job that its data needs, then our finalizer.

In a namespace that goes away nothing can be created any more: then the finalizer is given up.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from storekeeper.manifests.objects import FINALIZER, Manifest, ref_of
from storekeeper.plan.deletion import removal_job, retains
from storekeeper.plan.situation import Situation
from storekeeper.plan.steps import Create, Delete, SetFinalizer, Step
from storekeeper.plan.workloads import JobState, job_state

WAITING_SECONDS = 2.0
RELEASE_SECONDS_MAX = 600.0
"""A database that is gone for good must not keep its resource for ever. Only for `Retain`: nothing is promised but that
the data stays. `Delete` promises that it goes, and waits."""


@dataclass(frozen=True, slots=True)
class RemovalPlan:
    """Steps on the way out, and what is being waited for."""

    steps: tuple[Step, ...]
    message: str
    requeue_after: float | None


def plan_removal(situation: Situation) -> RemovalPlan:
    """Pods go first, then the job runs, then the finalizer comes off; what is owned is collected."""
    if FINALIZER not in situation.resource.metadata.finalizers:
        return RemovalPlan((), "nothing to do", None)
    if situation.observed.namespace_terminating:
        return _let_go(situation, "the namespace is going away; the data was not released")
    if not situation.may_hold_data:
        return _let_go(situation, "the store never started")
    if retains(situation.resource) and situation.observed.deleting_seconds > RELEASE_SECONDS_MAX:
        return _let_go(situation, "its data could not be marked released in time; it is left as it is")
    return _release(situation)


def _release(situation: Situation) -> RemovalPlan:
    running = tuple(_running(situation))
    if running:
        return RemovalPlan(tuple(Delete(ref_of(m), "the store goes") for m in running), "stopping", WAITING_SECONDS)
    if situation.observed.pods:
        return RemovalPlan((), f"waiting for pod {situation.observed.pods[0]} to stop", WAITING_SECONDS)
    job = situation.desired.removal_job
    state = job_state(situation.live(job))
    if state is JobState.SUCCEEDED:
        return _let_go(situation, "done")
    steps = tuple(_prepare(situation)) if state is JobState.ABSENT else ()
    return RemovalPlan(steps, f"the {removal_job(situation.resource)} job is under way", WAITING_SECONDS)


def _running(situation: Situation) -> Iterator[Manifest]:
    """Everything that could still write."""
    for kind in ("StatefulSet", "Deployment", "CronJob"):
        yield from (live for _, live in situation.live_of_kind(kind) if "deletionTimestamp" not in live["metadata"])


def _prepare(situation: Situation) -> Iterator[Step]:
    desired = situation.desired
    for manifest in (desired.account, desired.config, desired.removal_job):
        if situation.live(manifest) is None:
            yield Create(manifest, "needed to let the store go")


def _let_go(situation: Situation, message: str) -> RemovalPlan:
    steps: list[Step] = []
    if situation.live(situation.desired.removal_job) is not None:
        steps.append(Delete(ref_of(situation.desired.removal_job), "done"))
    steps.append(SetFinalizer(situation.resource.ref, False, message))
    return RemovalPlan(tuple(steps), message, None)
