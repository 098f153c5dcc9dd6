"""Checks: small predicates over a situation, each with its reason and a sentence for a person.

Four chains, in order of importance; the first finding of a chain is what its condition says.
`OBSTACLES` stop all spec-driven change (Stalled: a person has to act, the running store is left as it is).
`REFUSALS` say why the store cannot become ready by itself (Stalled), but repair goes on.
`HINDRANCES` say what is still under way or being retried (Reconciling); of a store none of whose pods serve they also
say why it is not ready. Of one that serves, only `OUTAGES` do: a rollout does not make it unready.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from store_runtime.config.wire import JobName
from storekeeper.api.conditions import Reason
from storekeeper.manifests.objects import LABEL_STORE_ID
from storekeeper.plan.situation import Situation
from storekeeper.plan.workloads import JobState, job_state


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be."""

    reason: Reason
    message: str


Check = Callable[[Situation], Finding | None]


def first(checks: Iterable[Check], situation: Situation) -> Finding | None:
    """The first finding of a chain, None if all is well."""
    return next((finding for check in checks if (finding := check(situation))), None)


def backend_moved(situation: Situation) -> Finding | None:
    active = situation.active_fingerprint
    if active in ("", situation.fingerprint):
        return None
    return Finding(
        Reason.SWITCH_UNAVAILABLE,
        f"spec.backend names another place than the data of this store ({situation.active_type or 'unknown'}); "
        "moving a store is not available in this version. The running store is left as it is: set spec.backend back",
    )


def claim_of_another_store(situation: Situation) -> Finding | None:
    for claim in situation.claims():
        holder = claim["metadata"].get("labels", {}).get(LABEL_STORE_ID, "")
        if holder != situation.identity.id:
            return Finding(
                Reason.CLAIM_OWNED_BY_ANOTHER,
                f"the PersistentVolumeClaim {claim['metadata']['name']} holds the store {holder or '(unlabelled)'}; "
                f"to take it over, make this resource anew with spec.adoptStoreID: {holder or '<its id>'}; "
                "else delete the claim",
            )
    return None


def nothing_to_adopt(situation: Situation) -> Finding | None:
    missing = situation.missing_claims
    if not situation.adopts or situation.has_started or not missing:
        return None
    return Finding(
        Reason.ADOPTION_SOURCE_MISSING,
        f"spec.adoptStoreID asks for the store {situation.identity.id}, but there is no PersistentVolumeClaim "
        f"{missing[0]} that holds it; the resource must have the name of the one that was deleted",
    )


REFUSED = {
    "OwnedByAnother": Reason.OWNED_BY_ANOTHER,
    "SchemaTooNew": Reason.SCHEMA_TOO_NEW,
    "InsufficientPrivileges": Reason.INSUFFICIENT_PRIVILEGES,
    "InvalidInput": Reason.INVALID_SPEC,
}
"""Codes of job reports that no retry changes."""


FAILURES_OF_OURS = {"InternalError", "MigrationFailed", "Corrupt"}
"""Codes of job reports that say nothing of the database being away; they are tried again all the same."""


def refused_by_backend(situation: Situation) -> Finding | None:
    for report in situation.failed_reports():
        if report.code in REFUSED:
            return Finding(REFUSED[report.code], f"{report.job}: {report.message}")
    return None


def job_gave_up(situation: Situation) -> Finding | None:
    for job in situation.jobs():
        if job_state(job) is JobState.FAILED:
            name = job["metadata"]["name"]
            return Finding(
                Reason.JOB_FAILED, f"the Job {name} gave up; see its pod's log, then delete the Job to retry"
            )
    return None


def secret_missing(situation: Situation) -> Finding | None:
    for trouble in situation.observed.troubles:
        if "secret" in trouble.message.lower() and "not found" in trouble.message:
            return Finding(Reason.SECRET_MISSING, f"pod {trouble.pod} waits for a Secret: {trouble.message}")
    return None


def backend_unreachable(situation: Situation) -> Finding | None:
    status = situation.observed.runtime.status
    if status is not None:
        backend = status.backend
        if backend.reachable:
            return None
        return Finding(Reason.BACKEND_UNREACHABLE, backend.message or "the runtime cannot reach its backend")
    for report in situation.failed_reports():
        reason = Reason.JOB_FAILED if report.code in FAILURES_OF_OURS else Reason.BACKEND_UNREACHABLE
        return Finding(reason, f"{report.job}: {report.message}")
    return None


def pod_in_trouble(situation: Situation) -> Finding | None:
    for trouble in situation.observed.troubles:
        return Finding(Reason.POD_NOT_RUNNING, f"pod {trouble.pod}: {trouble.reason}: {trouble.message}")
    return None


def job_under_way(situation: Situation) -> Finding | None:
    phases = {JobName.PROVISION: Reason.PROVISIONING, JobName.MIGRATE: Reason.MIGRATING}
    for name, reason in phases.items():
        if situation.job_pending(name):
            return Finding(reason, f"the {name} job is under way")
    return None


def pods_starting(situation: Situation) -> Finding | None:
    rollout = situation.rollout
    if rollout.serving:
        return None
    return Finding(Reason.STARTING, f"{rollout.ready} of {rollout.wanted} pods are ready")


def runtime_silent(situation: Situation) -> Finding | None:
    view = situation.observed.runtime
    if view.status is not None:
        return None
    return Finding(Reason.RUNTIME_UNREACHABLE, view.error or "the runtime was not asked yet")


OBSTACLES: tuple[Check, ...] = (backend_moved, claim_of_another_store, nothing_to_adopt)
REFUSALS: tuple[Check, ...] = (refused_by_backend, job_gave_up)
HINDRANCES: tuple[Check, ...] = (
    secret_missing,
    backend_unreachable,
    pod_in_trouble,
    job_under_way,
    pods_starting,
    runtime_silent,
)
OUTAGES: tuple[Check, ...] = (runtime_silent, backend_unreachable)
