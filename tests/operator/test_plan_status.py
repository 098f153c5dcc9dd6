"""What a status says of a plan and its outcomes, and which Events that is worth."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from store_runtime.config.wire import Warned
from storekeeper.plan.events import EventNote, transitions
from storekeeper.plan.observed import PodTrouble
from storekeeper.plan.situation import Situation
from storekeeper.plan.status import invalid_status, store_status
from storekeeper.plan.steps import Outcome
from storekeeper.plan.store import plan_store
from tests.operator.plan_worlds import NOW, POSTGRES, UID, all_live, at_rest, resource, serving, situation


def status(of: Situation, *, outcomes: tuple[Outcome, ...] = (), later: float = 0) -> dict[str, Any]:
    return store_status(of, plan_store(of), outcomes, NOW + timedelta(seconds=later))


def conditions(found: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {c["type"]: (c["status"], c["reason"]) for c in found["conditions"]}


def remembering(of: Situation, found: dict[str, Any]) -> Situation:
    return replace(of, resource=of.resource.model_copy(update={"status": found}))


def test_at_rest_all_is_well_and_stays_so_to_the_letter() -> None:
    base = at_rest(resource())
    first = status(base)
    assert conditions(first) == {
        "Ready": ("True", "Serving"),
        "Reconciling": ("False", "AsDesired"),
        "Stalled": ("False", "AsDesired"),
    }
    assert first["phase"] == "Running"
    assert first["observedGeneration"] == 3
    assert first["activeBackend"] == {
        "type": "sqlite",
        "fingerprint": resource().fingerprint,
        "schemaVersion": "0001",
        "storeID": UID,
        "epoch": 1,
    }
    assert status(remembering(base, first), later=3600) == first, "an idle system writes nothing"


def test_a_new_store_is_reconciling_and_not_ready() -> None:
    found = status(situation(resource()))
    assert conditions(found)["Ready"] == ("False", "Starting")
    assert conditions(found)["Reconciling"][0] == "True"
    assert "activeBackend" not in found


def test_the_binding_is_named_once_its_secret_is_made() -> None:
    new = situation(resource())
    issued = tuple(Outcome(step, changed=True) for step in plan_store(new).steps)
    assert status(new, outcomes=issued)["binding"]["name"] == "gateway-logs-binding"
    failed = (replace(issued[0], error="quota"), *issued[1:])
    assert "binding" not in status(new, outcomes=failed)


def test_stalled_wins_over_reconciling_but_ready_tells_the_truth() -> None:
    moved = situation(resource(backend=POSTGRES), *all_live(resource()), runtime=serving())
    assert conditions(status(moved)) == {
        "Ready": ("True", "Serving"),
        "Reconciling": ("False", "AsDesired"),
        "Stalled": ("True", "SwitchUnavailable"),
    }


def test_a_failing_step_is_being_retried_and_a_refused_one_is_not() -> None:
    new = situation(resource())
    step = plan_store(new).steps[0]
    flaky = conditions(status(new, outcomes=(Outcome(step, error="409", retryable=True),)))
    assert (flaky["Reconciling"], flaky["Stalled"][0]) == (("True", "Retrying"), "False")
    refused = conditions(status(new, outcomes=(Outcome(step, error="quota", retryable=False),)))
    assert (refused["Stalled"], refused["Reconciling"][0]) == (("True", "RefusedByCluster"), "False")


def test_the_runtime_s_warnings_become_one_condition() -> None:
    base = at_rest(resource())
    runtime = base.observed.runtime
    assert runtime.status is not None
    warned = (Warned(reason="TornTail", message="12 bytes cut"), Warned(reason="Quarantine", message="1 segment"))
    view = replace(runtime, status=runtime.status.model_copy(update={"warnings": warned}))
    found = status(replace(base, observed=replace(base.observed, runtime=view)))
    assert conditions(found)["Warning"] == ("True", "RuntimeWarns")
    assert found["conditions"][-1]["message"] == "TornTail: 12 bytes cut; Quarantine: 1 segment"


def test_what_is_active_stays_told_while_the_store_is_down() -> None:
    base = at_rest(resource())
    first = status(base)
    down = replace(base, observed=replace(base.observed, runtime=serving(reachable=False, message="gone")))
    found = status(remembering(down, first))
    assert found["activeBackend"] == first["activeBackend"]
    assert conditions(found)["Ready"] == ("False", "BackendUnreachable")


def test_an_unreadable_spec_leaves_ready_as_it_was() -> None:
    first = status(at_rest(resource()))
    found = invalid_status(first, 4, "spec.retention.maxAge", "too long", NOW)
    assert conditions(found)["Ready"] == ("True", "Serving")
    assert conditions(found)["Stalled"] == ("True", "InvalidSpec")
    assert found["observedGeneration"] == 4
    assert found["activeBackend"] == first["activeBackend"]
    fresh = conditions(invalid_status({}, 1, "spec.windows", "empty", NOW))
    assert fresh["Ready"] == ("False", "InvalidSpec")


def test_events_only_when_something_turned() -> None:
    base = at_rest(resource())
    first = status(base)
    assert transitions({}, first) == [EventNote("Normal", "Serving", "the store serves")]
    assert transitions(first, first) == []
    trouble = PodTrouble("p", "FailedMount", 'secret "db" not found')
    down = replace(base, observed=replace(base.observed, runtime=serving(reachable=False), troubles=(trouble,)))
    second = status(remembering(down, first))
    assert [(n.type_, n.reason) for n in transitions(first, second)] == [("Warning", "BackendUnreachable")]
    stalled = invalid_status(first, 4, "spec.x", "bad", NOW)
    assert [(n.type_, n.reason) for n in transitions(first, stalled)] == [("Warning", "InvalidSpec")]
    assert [(n.type_, n.reason) for n in transitions(stalled, first)] == [("Normal", "StalledResolved")]
