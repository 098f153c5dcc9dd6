"""Conditions keep the time at which their status turned, and say no more than a person reads."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from storekeeper.api.conditions import (
    MESSAGE_CHARS_MAX,
    Condition,
    ConditionType,
    Reason,
    set_condition,
    set_conditions,
)

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
LATER = NOON + timedelta(hours=1)
READY = Condition(type=ConditionType.READY, status=True, reason=Reason.SERVING, message="the store serves")
NOT_READY = Condition(type=ConditionType.READY, status=False, reason=Reason.STARTING, message="0 of 1")
STALLED = Condition(type=ConditionType.STALLED, status=False, reason=Reason.AS_DESIRED)


def test_a_new_condition_begins_now_in_utc() -> None:
    berlin = NOON.astimezone(timezone(timedelta(hours=2)))
    assert set_conditions([], [READY], 3, berlin) == [
        {
            "type": "Ready",
            "status": "True",
            "reason": "Serving",
            "message": "the store serves",
            "lastTransitionTime": "2026-01-01T12:00:00Z",
            "observedGeneration": 3,
        }
    ]


def test_the_time_stays_while_the_status_does() -> None:
    first = set_conditions([], [NOT_READY], 1, NOON)
    other_reason = NOT_READY.model_copy(update={"reason": Reason.SECRET_MISSING})
    second = set_conditions(first, [other_reason], 2, LATER)
    assert second[0]["lastTransitionTime"] == "2026-01-01T12:00:00Z"
    assert (second[0]["reason"], second[0]["observedGeneration"]) == ("SecretMissing", 2)
    turned = set_conditions(second, [READY], 2, LATER)
    assert turned[0]["lastTransitionTime"] == "2026-01-01T13:00:00Z"


def test_what_is_not_wanted_goes_and_equal_input_gives_equal_output() -> None:
    both = set_conditions([], [READY, STALLED], 1, NOON)
    assert set_conditions(both, [READY, STALLED], 1, LATER) == both
    assert [c["type"] for c in set_conditions(both, [READY], 1, LATER)] == ["Ready"]


def test_one_condition_is_replaced_among_others() -> None:
    both = set_conditions([], [READY, STALLED], 1, NOON)
    changed = set_condition(both, NOT_READY, 2, LATER)
    assert changed[0]["status"] == "False" and changed[0]["lastTransitionTime"] == "2026-01-01T13:00:00Z"
    assert changed[1] == both[1]
    assert len(set_condition([], READY, 1, NOON)) == 1


def test_conditions_of_another_version_are_kept_as_they_are() -> None:
    foreign = {"type": "Novel", "status": "True", "reason": "Unheard", "lastTransitionTime": "2020-01-01T00:00:00Z"}
    kept = Condition.model_validate(foreign)
    assert set_conditions([foreign], [kept], 1, NOON)[0] == foreign | {"message": "", "observedGeneration": 1}


def test_a_long_message_is_cut() -> None:
    (condition,) = set_conditions([], [READY.model_copy(update={"message": "x" * 5000})], 1, NOON)
    assert len(condition["message"]) == MESSAGE_CHARS_MAX and condition["message"].endswith("…")


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_is_one_word_and_says_what_to_do(reason: Reason) -> None:
    assert reason.isalpha() and reason[0].isupper()
    assert Reason(str(reason)) is reason
    assert reason.advice.endswith(".") and reason.__doc__ == reason.advice
