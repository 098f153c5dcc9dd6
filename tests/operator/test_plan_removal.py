"""How a store goes: what must be done in its data first, in which order, and when that is given up."""

from dataclasses import replace
from typing import Any

import pytest

from storekeeper.api.resource import DeletionPolicy
from storekeeper.manifests.objects import FINALIZER, LABEL_JOB, Manifest, ref_of
from storekeeper.plan.deletion import needs_finalizer
from storekeeper.plan.removal import plan_removal
from storekeeper.plan.situation import Situation
from storekeeper.plan.steps import Create, Delete, SetFinalizer
from tests.operator.plan_worlds import POSTGRES, all_live, desired, resource, situation, without


def leaving(*live: Manifest, finalizer: bool = True, **observed: Any) -> Situation:
    metadata = {"deletionTimestamp": "2026-01-02T03:04:05Z", "finalizers": [FINALIZER] if finalizer else []}
    return situation(resource(metadata=metadata), *live, **observed)


@pytest.mark.parametrize(
    ("kind", "spec", "needed"),
    [
        ("LogStore", {}, True),
        ("LogStore", {"deletionPolicy": "Delete"}, False),
        ("LogStore", {"deletionPolicy": "Delete", "backend": POSTGRES}, True),
        ("RuntimeStore", {"backend": {"type": "memory"}}, False),
        ("RuntimeStore", {"backend": {"type": "file"}}, True),
    ],
)
def test_a_finalizer_only_where_something_must_be_done(kind: str, spec: dict[str, object], needed: bool) -> None:
    assert needs_finalizer(resource(kind, **spec)) is needed


def test_without_our_finalizer_there_is_nothing_to_do() -> None:
    assert plan_removal(leaving(*all_live(resource()), finalizer=False)).steps == ()


def test_what_writes_goes_first() -> None:
    plan = plan_removal(leaving(*all_live(resource())))
    assert [step.ref.kind for step in plan.steps if isinstance(step, Delete)] == ["StatefulSet", "CronJob"]
    assert plan.requeue_after is not None


def test_then_its_pods_are_waited_for() -> None:
    rest = without(without(all_live(resource()), "StatefulSet"), "CronJob")
    plan = plan_removal(leaving(*rest, pods=("gateway-logs-0",)))
    assert (plan.steps, "gateway-logs-0" in plan.message) == ((), True)


def started(*live: Manifest) -> Situation:
    base = leaving(*live)
    status = {"activeBackend": {"fingerprint": base.fingerprint}}
    return replace(base, resource=base.resource.model_copy(update={"status": status}))


def test_then_the_store_is_released_and_let_go() -> None:
    rest = without(without(all_live(resource()), "StatefulSet"), "CronJob")
    plan = plan_removal(started(*rest))
    created = [step.manifest for step in plan.steps if isinstance(step, Create)]
    assert [m["metadata"]["labels"].get(LABEL_JOB) for m in created] == ["release"]
    job = desired(resource()).removal_job
    running = plan_removal(started(*rest, job))
    assert running.steps == ()
    done = {**job, "status": {"conditions": [{"type": "Complete", "status": "True"}]}}
    assert plan_removal(started(*rest, done)).steps == (
        Delete(ref_of(job), "done"),
        SetFinalizer(resource().ref, False, "done"),
    )


def test_what_the_job_mounts_is_made_again_if_it_is_gone() -> None:
    kinds = [s.manifest["kind"] for s in plan_removal(started()).steps if isinstance(s, Create)]
    assert kinds == ["ServiceAccount", "ConfigMap", "Job"]


def test_a_store_that_never_started_and_a_namespace_that_goes_away_are_let_go() -> None:
    for situation_ in (leaving(), leaving(*all_live(resource()), namespace_terminating=True)):
        assert isinstance(plan_removal(situation_).steps[-1], SetFinalizer)


def test_retain_gives_up_in_time_and_delete_does_not() -> None:
    claims = [m for m in all_live(resource()) if m["kind"] == "PersistentVolumeClaim"]
    assert isinstance(plan_removal(leaving(*claims, deleting_seconds=601.0)).steps[-1], SetFinalizer)
    promised = leaving(*claims, deleting_seconds=601.0)
    spec = promised.resource.spec.model_copy(update={"deletion_policy": DeletionPolicy.DELETE})
    promised = replace(promised, resource=promised.resource.model_copy(update={"spec": spec}))
    assert not any(isinstance(step, SetFinalizer) for step in plan_removal(promised).steps)
