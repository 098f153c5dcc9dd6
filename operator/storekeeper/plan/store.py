"""The plan of a LogStore or RuntimeStore: what to do now to bring its children to what its spec says.

Order is safety: obstacles first, then what everything mounts, then the jobs that change the database, and only when
they are done the pods that need the new schema. Every step is idempotent; a plan without steps is a store at rest.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from store_runtime.config.wire import JobName
from storekeeper.manifests.drift import differs
from storekeeper.manifests.objects import FINALIZER, Manifest
from storekeeper.plan.deletion import needs_finalizer
from storekeeper.plan.findings import HINDRANCES, OBSTACLES, OUTAGES, REFUSALS, Finding, first
from storekeeper.plan.situation import Situation
from storekeeper.plan.steps import Apply, Create, Delete, SetFinalizer, Step
from storekeeper.plan.tokens import token_steps
from storekeeper.plan.workloads import JobState, job_state

UNSETTLED_SECONDS = 5.0
"""While something is under way: an event may be late or lost."""
SETTLED_SECONDS = 60.0
"""How often a store at rest is asked for its health."""

JOBS_IN_ORDER = (JobName.PROVISION, JobName.MIGRATE)


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps in order, what stands in the way, and when to look again."""

    steps: tuple[Step, ...]
    stalled: Finding | None
    """A person has to act."""
    hindrance: Finding | None
    """Something is under way, or being retried."""
    outage: Finding | None
    """Why the store is not ready; None if it is."""
    requeue_after: float


def plan_store(situation: Situation) -> Plan:
    """Decide. Pure: equal situations give equal plans."""
    obstacle = first(OBSTACLES, situation)
    steps = () if obstacle else _steps(situation)
    hindrance = first(HINDRANCES, situation)
    stalled = obstacle or first(REFUSALS, situation)
    settled = not (steps or hindrance or stalled)
    return Plan(
        steps=steps,
        stalled=stalled,
        hindrance=hindrance,
        outage=first(OUTAGES, situation) if situation.rollout.serving else hindrance,
        requeue_after=SETTLED_SECONDS if settled else UNSETTLED_SECONDS,
    )


def _steps(situation: Situation) -> tuple[Step, ...]:
    tokens = tuple(token_steps(situation))
    if situation.resource.spec.paused:
        return tokens
    towards = (*tokens, *_towards(situation))
    # What an older config left behind is still in use until everything is as desired and the pods run on it.
    if towards or not situation.rollout.complete:
        return towards
    return tuple(_superseded(situation))


def _towards(situation: Situation) -> Iterator[Step]:
    yield from _finalizer(situation)
    yield from _config(situation)
    for manifest in situation.desired.before_jobs():
        yield from _apply(situation, manifest)
    yield from _jobs(situation)
    if not any(situation.job_pending(name) for name in JOBS_IN_ORDER):
        yield from _apply(situation, situation.desired.workload)
    for manifest in situation.desired.after_workload():
        yield from _apply(situation, manifest)


def _finalizer(situation: Situation) -> Iterator[Step]:
    wanted = needs_finalizer(situation.resource)
    if wanted != (FINALIZER in situation.resource.metadata.finalizers):
        reason = "something must be done before this store goes" if wanted else "nothing must be done any more"
        yield SetFinalizer(situation.resource.ref, wanted, reason)


def _config(situation: Situation) -> Iterator[Step]:
    """Config objects are immutable and named by their content: made once, never applied over."""
    if situation.live(situation.desired.config) is None:
        yield Create(situation.desired.config, "missing")


def _apply(situation: Situation, manifest: Manifest) -> Iterator[Step]:
    live = situation.live(manifest)
    reason = "missing" if live is None else differs(manifest, live)
    if reason:
        yield Apply(manifest, reason)


def _jobs(situation: Situation) -> Iterator[Step]:
    """The first job that is not done yet; the next one waits for it."""
    for name in JOBS_IN_ORDER:
        if not situation.job_pending(name):
            continue
        if job_state(situation.job(name)) is JobState.ABSENT:
            yield Create(situation.desired.jobs[name], f"{name} is due")
        return


def _superseded(situation: Situation) -> Iterator[Step]:
    for ref in situation.superseded_jobs():
        yield Delete(ref, "a newer config has its own job")
    for ref in situation.unwanted_children():
        yield Delete(ref, "not wanted any more")
