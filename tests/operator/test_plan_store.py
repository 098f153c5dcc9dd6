"""The plan of a store as a table: a situation, and the steps it calls for."""

from dataclasses import replace
from typing import Any

import pytest

from store_runtime.config.wire import JobName, JobReport
from storekeeper.api.conditions import Reason
from storekeeper.manifests.objects import ANNOTATION_ROTATE, LABEL_STORE_ID, Manifest, ref_of
from storekeeper.plan.observed import PodTrouble, RuntimeView
from storekeeper.plan.situation import Situation
from storekeeper.plan.steps import Apply, Create, Delete, IssueToken, SetFinalizer, Step
from storekeeper.plan.store import SETTLED_SECONDS, UNSETTLED_SECONDS, plan_store
from tests.operator.plan_worlds import (
    POSTGRES,
    UID,
    all_live,
    at_rest,
    desired,
    job,
    resource,
    running,
    serving,
    situation,
    thing,
    without,
)


def told(step: Step) -> str:
    """A step as one short line."""
    match step:
        case Apply(manifest) | Create(manifest):
            return f"{type(step).__name__} {manifest['kind']} {manifest['metadata']['name']}"
        case IssueToken(secret=secret, replace=again):
            return f"{'Reissue' if again else 'Issue'} {secret['metadata']['name']}"
        case Delete(ref):
            return f"Delete {ref.kind} {ref.name}"
        case SetFinalizer(present=present):
            return f"Finalizer {present}"
    return type(step).__name__


def steps(of: Situation) -> list[str]:
    return [told(step) for step in plan_store(of).steps]


def with_live(base: Situation, *more: Manifest, drop: str = "") -> Situation:
    children = {ref: m for ref, m in base.observed.children.items() if ref.kind != drop or not drop}
    children |= {ref_of(m): m for m in more}
    return replace(base, observed=replace(base.observed, children=children))


def test_a_new_store_on_a_volume_gets_everything_at_once() -> None:
    assert steps(situation(resource())) == [
        "Issue gateway-logs-binding",
        "Issue gateway-logs-jobs",
        "Finalizer True",
        "Create ConfigMap gateway-logs-e1-00000001",
        "Apply ServiceAccount gateway-logs",
        "Apply ConfigMap gateway-logs-policy",
        "Apply PersistentVolumeClaim gateway-logs-data",
        "Apply Service gateway-logs",
        "Apply NetworkPolicy gateway-logs",
        "Apply StatefulSet gateway-logs",
        "Apply CronJob gateway-logs-retain",
    ]


def test_a_store_at_rest_has_nothing_to_do() -> None:
    for store in (resource(), resource(backend=POSTGRES)):
        plan = plan_store(at_rest(store))
        assert (plan.steps, plan.stalled, plan.hindrance, plan.requeue_after) == ((), None, None, SETTLED_SECONDS)


def test_network_stores_provision_then_migrate_then_serve() -> None:
    store = resource(backend=POSTGRES)
    nothing_yet = with_live(at_rest(store), drop="Job")
    nothing_yet = with_live(nothing_yet, drop="Deployment")
    assert steps(nothing_yet) == ["Create Job gateway-logs-provision-00000001"]
    provisioning = with_live(nothing_yet, job(JobName.PROVISION))
    assert steps(provisioning) == []
    provisioned = with_live(nothing_yet, job(JobName.PROVISION, done=True))
    assert steps(provisioned) == ["Create Job gateway-logs-migrate-00000001"]
    migrated = with_live(provisioned, job(JobName.MIGRATE, done=True))
    assert steps(migrated) == ["Apply Deployment gateway-logs"]


def test_a_rollout_waits_for_the_new_config_s_own_migration() -> None:
    store = resource(backend=POSTGRES)
    old_jobs = [job(name, "0000000a", done=True) for name in (JobName.PROVISION, JobName.MIGRATE)]
    changed = with_live(with_live(at_rest(store), drop="Job"), *old_jobs)
    old = {**changed.observed.children[next(r for r in changed.observed.children if r.kind == "Deployment")]}
    old["spec"] = {"replicas": 1, "template": {"old": True}}
    assert steps(with_live(changed, old)) == ["Create Job gateway-logs-provision-00000001"]


def test_old_jobs_and_configs_go_when_the_pods_run_on_the_new_ones() -> None:
    owner = {"ownerReferences": [{"uid": UID, "kind": "LogStore"}]}
    old_config = thing("ConfigMap", "gateway-logs-e1-0000000a")
    old_config["metadata"] |= owner
    store = resource(backend=POSTGRES)
    left = with_live(at_rest(store), job(JobName.MIGRATE, "0000000a", done=True), old_config)
    assert steps(left) == ["Delete Job gateway-logs-migrate-0000000a", "Delete ConfigMap gateway-logs-e1-0000000a"]
    rolling = with_live(left, running(desired(store).workload, ready=0))
    assert steps(rolling) == []


def test_a_claim_is_never_unwanted() -> None:
    owner = {"ownerReferences": [{"uid": UID, "kind": "LogStore"}]}
    claim = thing("PersistentVolumeClaim", "gateway-logs-entries")
    claim["metadata"] |= owner
    assert steps(with_live(at_rest(resource()), claim)) == []


@pytest.mark.parametrize("kind", ["ServiceAccount", "Service", "StatefulSet", "CronJob", "NetworkPolicy"])
def test_a_missing_child_returns(kind: str) -> None:
    base = at_rest(resource())
    gone = replace(base, observed=replace(base.observed, children=dict(with_live(base, drop=kind).observed.children)))
    token = ["Issue gateway-logs-jobs"] if kind == "CronJob" else []  # cheap, and it may be the first time
    assert [*token, f"Apply {kind}"] == [line.rsplit(" ", 1)[0] if "Apply" in line else line for line in steps(gone)]


def test_pause_stops_changes_but_not_tokens() -> None:
    paused = situation(resource(paused=True))
    assert steps(paused) == ["Issue gateway-logs-binding", "Issue gateway-logs-jobs"]


def test_a_raised_rotation_annotation_remakes_the_tokens() -> None:
    base = at_rest(resource())
    metadata = base.resource.metadata.model_copy(update={"annotations": {ANNOTATION_ROTATE: "2"}})
    raised = replace(base, resource=base.resource.model_copy(update={"metadata": metadata}))
    assert steps(raised) == ["Reissue gateway-logs-binding", "Reissue gateway-logs-jobs"]


def test_a_lost_secret_is_remade_when_a_pod_misses_it() -> None:
    base = at_rest(resource())
    trouble = PodTrouble("gateway-logs-retain-1", "FailedMount", 'secret "gateway-logs-jobs" not found')
    lost = replace(base, observed=replace(base.observed, troubles=(trouble,)))
    assert steps(lost) == ["Issue gateway-logs-jobs"]


# -- obstacles: nothing is touched ---------------------------------------------------------------------


def stalled(of: Situation) -> tuple[list[str], Reason | None]:
    plan = plan_store(of)
    return [told(s) for s in plan.steps], plan.stalled.reason if plan.stalled else None


def test_another_backend_leaves_the_running_store_alone() -> None:
    moved = situation(resource(backend=POSTGRES), *all_live(resource()), runtime=serving())
    assert stalled(moved) == ([], Reason.SWITCH_UNAVAILABLE)
    assert plan_store(moved).outage is None, "the store that runs is still ready"


def test_another_backend_is_noticed_by_the_status_when_the_workload_is_gone() -> None:
    status = {"activeBackend": {"type": "sqlite", "fingerprint": resource().fingerprint}}
    assert stalled(situation(resource(backend=POSTGRES, status=status))) == ([], Reason.SWITCH_UNAVAILABLE)


def test_a_claim_of_another_store_is_not_touched() -> None:
    claim = thing("PersistentVolumeClaim", "gateway-logs-data", labels={LABEL_STORE_ID: "other"})
    found = stalled(situation(resource(), claim))
    assert found == ([], Reason.CLAIM_OWNED_BY_ANOTHER)
    message = plan_store(situation(resource(), claim)).stalled
    assert message is not None and "adoptStoreID: other" in message.message


def test_adoption_needs_something_to_adopt() -> None:
    assert stalled(situation(resource(adoptStoreID="other"))) == ([], Reason.ADOPTION_SOURCE_MISSING)
    claim = thing("PersistentVolumeClaim", "gateway-logs-data", labels={LABEL_STORE_ID: "other"})
    assert stalled(situation(resource(adoptStoreID="other"), claim))[1] is None


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("OwnedByAnother", Reason.OWNED_BY_ANOTHER),
        ("SchemaTooNew", Reason.SCHEMA_TOO_NEW),
        ("InsufficientPrivileges", Reason.INSUFFICIENT_PRIVILEGES),
    ],
)
def test_what_the_backend_refuses_wants_a_person(code: str, reason: Reason) -> None:
    report = JobReport(job=JobName.PROVISION, ok=False, code=code, message="it says")
    refused = situation(resource(backend=POSTGRES), reports={"provision": report})
    assert stalled(refused)[1] is reason


# -- hindrances: not ready now, being retried ------------------------------------------------------------


UNREACHABLE = JobReport(job=JobName.PROVISION, ok=False, code="BackendUnreachable", message="db:5432 refused")
MISSING = PodTrouble("p", "FailedMount", 'MountVolume.SetUp failed for volume "c": secret "db" not found')


@pytest.mark.parametrize(
    ("observed", "reason"),
    [
        ({"troubles": (MISSING,)}, Reason.SECRET_MISSING),
        ({"reports": {"provision": UNREACHABLE}}, Reason.BACKEND_UNREACHABLE),
        ({"troubles": (PodTrouble("p", "ImagePullBackOff", "no such image"),)}, Reason.POD_NOT_RUNNING),
        ({}, Reason.PROVISIONING),
    ],
)
def test_a_network_store_says_why_it_is_not_ready(observed: dict[str, Any], reason: Reason) -> None:
    plan = plan_store(situation(resource(backend=POSTGRES), **observed))
    assert plan.hindrance is not None and plan.hindrance.reason is reason
    assert plan.stalled is None
    assert plan.requeue_after == UNSETTLED_SECONDS


def test_a_serving_store_tells_of_its_backend() -> None:
    base = at_rest(resource(backend=POSTGRES))
    down = replace(base, observed=replace(base.observed, runtime=serving(reachable=False, message="db:5432 refused")))
    plan = plan_store(down)
    assert plan.hindrance is not None and plan.hindrance.reason is Reason.BACKEND_UNREACHABLE
    silent = replace(base, observed=replace(base.observed, runtime=RuntimeView(error="no answer")))
    hindrance = plan_store(silent).hindrance
    assert hindrance is not None and hindrance.reason is Reason.RUNTIME_UNREACHABLE


def test_pods_that_are_not_ready_yet() -> None:
    live = [*without(all_live(resource()), "StatefulSet"), running(desired(resource()).workload, ready=0)]
    plan = plan_store(situation(resource(), *live))
    assert plan.hindrance is not None and plan.hindrance.reason is Reason.STARTING
