"""Conditions of a status: their types, their reasons, and how a new set replaces an old one. Pure.

The form is that of every Kubernetes API (https://pkg.go.dev/k8s.io/apimachinery/pkg/apis/meta/v1#Condition); which
types exist follows kstatus. A reason says what a person should do: docs/reference/crds.md is made from it.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Self

from pydantic import BaseModel, ConfigDict

MESSAGE_CHARS_MAX = 1024
"""A status is read by people, in a terminal."""


class ConditionType(StrEnum):
    """What is said of a resource."""

    READY = "Ready"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"
    WARNING = "Warning"


class Reason(StrEnum):
    """Why a condition is as it is; `advice` says what to do."""

    advice: str

    def __new__(cls, value: str, advice: str) -> Self:
        member = str.__new__(cls, value)
        member._value_ = value
        member.advice = member.__doc__ = advice
        return member

    # Ready, and nothing to do
    SERVING = "Serving", "Nothing: the store serves."
    IN_FORCE = "InForce", "Nothing: the stream is as declared."
    AS_DESIRED = "AsDesired", "Nothing: there is nothing of this kind to tell."

    # On the way: it goes on by itself
    STARTING = "Starting", "Wait; if it lasts, look at the events of the store's pod."
    APPLYING = "Applying", "Wait: changes were just made."
    ROLLING_OUT = "RollingOut", "Wait: pods with the newest template are replacing the older ones."
    PROVISIONING = "Provisioning", "Wait; if it lasts, read the log of the provision container."
    MIGRATING = "Migrating", "Wait; if it lasts, read the log of the migrate container."
    RETRYING = "Retrying", "Wait; the message says which step failed and is tried again."
    REMOVING = "Removing", "Wait; the message says what its deletion waits for."

    # Waiting for something that a person or another system provides
    SECRET_MISSING = "SecretMissing", "Create the Secret that the message names; the pod starts by itself."
    BACKEND_UNREACHABLE = (
        "BackendUnreachable",
        "Bring the database back, or correct host and port; it is tried again for ever.",
    )
    POD_NOT_RUNNING = "PodNotRunning", "Do what the message asks for: an image, a node with room, a volume."
    RUNTIME_UNREACHABLE = "RuntimeUnreachable", "Check that network policies let the operator reach the store."
    LOG_STORE_MISSING = "LogStoreMissing", "Create the LogStore, or correct spec.logStoreRef by making a new Stream."
    LOG_STORE_NOT_READY = "LogStoreNotReady", "See the conditions of the LogStore."
    ENTRIES_DISABLED = "EntriesDisabled", "Set spec.entries: {enabled: true} on the LogStore."

    # Stalled: nothing changes until a person acts
    INVALID_SPEC = "InvalidSpec", "Correct the field that the message names; what runs is left as it was."
    SWITCH_UNAVAILABLE = "SwitchUnavailable", "Set spec.backend back: this version cannot move a store's data."
    CLAIM_OWNED_BY_ANOTHER = (
        "ClaimOwnedByAnother",
        "Adopt the store that the volume holds (spec.adoptStoreID on a new resource), or delete the claim.",
    )
    ADOPTION_SOURCE_MISSING = (
        "AdoptionSourceMissing",
        "Give the resource the name that the store had, or leave spec.adoptStoreID out to begin an empty store.",
    )
    OWNED_BY_ANOTHER = (
        "OwnedByAnother",
        "Use a database of its own, or release the store that is there and adopt it.",
    )
    SCHEMA_TOO_NEW = "SchemaTooNew", "Run a version of the operator that is not older than the one that wrote the data."
    INSUFFICIENT_PRIVILEGES = "InsufficientPrivileges", "Give the database's role the rights that the message names."
    JOB_FAILED = "JobFailed", "Read the log of the Job's pod; delete the Job to have it tried again."
    REFUSED_BY_CLUSTER = "RefusedByCluster", "Change what the API server refused: a quota, a policy, a field."
    REFUSED_BY_RUNTIME = "RefusedByRuntime", "Change the field that the message names."
    NAME_TAKEN = "NameTaken", "Delete one of the two Streams that declare the same stream."

    # Warning: it works, and wants a look
    RUNTIME_WARNS = "RuntimeWarns", "Read the message: the store itself asks for attention."


class Condition(BaseModel):
    """One condition without its times. Types and reasons of another version are taken as they are."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    type: str
    status: bool
    reason: str
    message: str = ""

    def document(self, generation: int, since: str) -> dict[str, Any]:
        """As it stands in a status."""
        return {
            "type": str(self.type),
            "status": _written(self.status),
            "reason": str(self.reason),
            "message": _shortened(self.message),
            "lastTransitionTime": since,
            "observedGeneration": generation,
        }


def set_conditions(
    existing: Sequence[Mapping[str, Any]], wanted: Sequence[Condition], generation: int, now: datetime
) -> list[dict[str, Any]]:
    """The wanted conditions, each with the time at which its status last changed; others are dropped."""
    before = {condition["type"]: condition for condition in existing}
    return [condition.document(generation, _since(before.get(condition.type), condition, now)) for condition in wanted]


def set_condition(
    existing: Sequence[Mapping[str, Any]], new: Condition, generation: int, now: datetime
) -> list[dict[str, Any]]:
    """The existing conditions with one of them replaced or added."""
    since = _since(next((c for c in existing if c["type"] == new.type), None), new, now)
    replaced = {condition["type"]: dict(condition) for condition in existing}
    return list((replaced | {str(new.type): new.document(generation, since)}).values())


def _since(before: Mapping[str, Any] | None, condition: Condition, now: datetime) -> str:
    if before is not None and before.get("status") == _written(condition.status) and "lastTransitionTime" in before:
        return str(before["lastTransitionTime"])
    return now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _written(status: bool) -> str:
    return "True" if status else "False"


def _shortened(message: str) -> str:
    return message if len(message) <= MESSAGE_CHARS_MAX else message[: MESSAGE_CHARS_MAX - 1] + "…"
