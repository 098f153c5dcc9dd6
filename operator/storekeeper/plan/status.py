"""What a resource's status says after a reconcile: conditions in kstatus form, a phase, the active backend.

kstatus reads observedGeneration, Reconciling, Stalled, Ready in this order
(https://github.com/kubernetes-sigs/cli-utils/blob/master/pkg/kstatus/README.md). `Ready` tells the truth of the store
that runs, also while the spec is bad. Nothing here changes by the minute: a store at rest has a status at rest.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from storekeeper.api.conditions import Condition, ConditionType, Reason, set_conditions
from storekeeper.api.resource import StoreResource
from storekeeper.plan.findings import Finding
from storekeeper.plan.situation import Situation
from storekeeper.plan.steps import IssueToken, Outcome
from storekeeper.plan.store import Plan
from storekeeper.plan.tokens import revision

Status = dict[str, Any]


def store_status(situation: Situation, plan: Plan, outcomes: Sequence[Outcome], now: datetime) -> Status:
    """The whole status of a LogStore or RuntimeStore."""
    failure = next((outcome for outcome in outcomes if outcome.error), None)
    stalled = plan.stalled or _refused_step(failure)
    reconciling = _reconciling(situation, plan, failure) if stalled is None else None
    resource = situation.resource
    wanted = [
        _ready(situation, plan, stalled),
        _abnormal(ConditionType.RECONCILING, reconciling),
        _abnormal(ConditionType.STALLED, stalled),
        *_warnings(situation),
    ]
    status: Status = {
        "observedGeneration": resource.metadata.generation,
        "conditions": set_conditions(
            (resource.status or {}).get("conditions", []), wanted, resource.metadata.generation, now
        ),
        "phase": _phase(situation, stalled, reconciling),
        "activeBackend": _active_backend(situation, stalled),
        "binding": _binding(situation, outcomes),
    }
    return {key: value for key, value in status.items() if value}


def invalid_status(resource_status: Status, generation: int, field: str, message: str, now: datetime) -> Status:
    """Of a spec that cannot be read: only Stalled and Reconciling change; what runs is left and told as it was."""
    stalled = Finding(Reason.INVALID_SPEC, f"{field}: {message}")
    before = resource_status.get("conditions", [])
    kept = [c for c in _as_conditions(before) if c.type not in (ConditionType.STALLED, ConditionType.RECONCILING)]
    if not kept:
        kept = [Condition(type=ConditionType.READY, status=False, reason=stalled.reason, message="never started")]
    conditions = set_conditions(
        before,
        [*kept, _abnormal(ConditionType.RECONCILING, None), _abnormal(ConditionType.STALLED, stalled)],
        generation,
        now,
    )
    return {**resource_status, "observedGeneration": generation, "conditions": conditions, "phase": "Stalled"}


def removal_status(resource: StoreResource, waiting_for: str, now: datetime) -> Status:
    """Of a resource that is being deleted: what it waits for; what else was known of it stays until it is gone."""
    going, generation, status = (
        Finding(Reason.REMOVING, waiting_for),
        resource.metadata.generation,
        resource.status or {},
    )
    conditions = [
        Condition(type=ConditionType.READY, status=False, reason=going.reason, message=going.message),
        _abnormal(ConditionType.RECONCILING, going),
        _abnormal(ConditionType.STALLED, None),
    ]
    told = set_conditions(status.get("conditions", []), conditions, generation, now)
    return {**status, "observedGeneration": generation, "conditions": told, "phase": "Terminating"}


def _as_conditions(conditions: Sequence[dict[str, Any]]) -> list[Condition]:
    return [Condition.model_validate(c) for c in conditions]


def _ready(situation: Situation, plan: Plan, stalled: Finding | None) -> Condition:
    if plan.outage is None and situation.rollout.serving:
        return Condition(type=ConditionType.READY, status=True, reason=Reason.SERVING, message="the store serves")
    finding = stalled or plan.outage or Finding(Reason.STARTING, "the store is being set up")
    return Condition(type=ConditionType.READY, status=False, reason=finding.reason, message=finding.message)


def _reconciling(situation: Situation, plan: Plan, failure: Outcome | None) -> Finding | None:
    if failure is not None:
        return Finding(Reason.RETRYING, f"while doing the next step: {failure.error}")
    if plan.hindrance is not None:
        return plan.hindrance
    if plan.steps:
        return Finding(Reason.APPLYING, f"{len(plan.steps)} changes were made: {plan.steps[0].reason}")
    if not situation.rollout.complete:
        rollout = situation.rollout
        return Finding(Reason.ROLLING_OUT, f"{rollout.updated} of {rollout.wanted} pods run the newest template")
    return None


def _refused_step(failure: Outcome | None) -> Finding | None:
    if failure is None or failure.retryable:
        return None
    return Finding(Reason.REFUSED_BY_CLUSTER, failure.error)


def _abnormal(type_: ConditionType, finding: Finding | None) -> Condition:
    if finding is None:
        return Condition(type=type_, status=False, reason=Reason.AS_DESIRED, message="")
    return Condition(type=type_, status=True, reason=finding.reason, message=finding.message)


def _warnings(situation: Situation) -> list[Condition]:
    """At most one Warning condition: everything that wants a person, in one message."""
    status = situation.observed.runtime.status
    if status is None or not status.warnings:
        return []
    message = "; ".join(f"{w.reason}: {w.message}" for w in status.warnings)
    return [Condition(type=ConditionType.WARNING, status=True, reason=Reason.RUNTIME_WARNS, message=message)]


def _phase(situation: Situation, stalled: Finding | None, reconciling: Finding | None) -> str:
    if situation.resource.spec.paused:
        return "Paused"
    if stalled is not None:
        return "Stalled"
    if reconciling is None:
        return "Running"
    return "Updating" if situation.rollout.serving else "Starting"


def _active_backend(situation: Situation, stalled: Finding | None) -> dict[str, Any]:
    """What is active stays as it was until the store that we desire really serves."""
    known = situation.active_backend
    if stalled is not None or not situation.rollout.serving:
        return known
    runtime = situation.observed.runtime.status
    if runtime is None or not runtime.backend.reachable:
        return known
    return {
        "type": runtime.backend.type,
        "fingerprint": situation.fingerprint,
        "schemaVersion": runtime.backend.schema_version,
        "storeID": runtime.store_id,
        "epoch": runtime.backend.epoch or situation.epoch,
    }


def _binding(situation: Situation, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    known = dict((situation.resource.status or {}).get("binding") or {})
    issued = [outcome for outcome in outcomes if isinstance(outcome.step, IssueToken)]
    if not issued or any(outcome.error for outcome in issued):
        return known
    return {"name": situation.desired.binding["metadata"]["name"], "revision": revision(situation)}
