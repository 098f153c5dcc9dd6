"""The plan of all Streams of one LogStore: they are sent to its runtime together, in one call.

The runtime keeps what it was told, so the call is made when the set changed since the last one that this process knows
of (and once after a start of the operator). A Stream's data is only deleted by its own deletion with `Delete`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from store_runtime.config.wire import DeclaredStream, StreamOutcome, StreamSync
from storekeeper.api.conditions import Condition, ConditionType, Reason, set_conditions
from storekeeper.api.logstore import LogStore
from storekeeper.api.resource import DeletionPolicy
from storekeeper.api.stream import Stream
from storekeeper.manifests.objects import FINALIZER
from storekeeper.plan.findings import Finding
from storekeeper.plan.observed import RuntimeView, StreamsObserved
from storekeeper.plan.steps import SetFinalizer, Step, SyncStreams

RETRY_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class StreamsPlan:
    """What to do for the Streams of one LogStore, and what keeps them from being in force."""

    steps: tuple[Step, ...]
    sync: StreamSync
    hindrance: Finding | None
    requeue_after: float | None


def plan_streams(
    logstore: LogStore | None, streams: Sequence[Stream], observed: StreamsObserved, runtime: RuntimeView
) -> StreamsPlan:
    """`streams`: every valid Stream that names this LogStore, also those being deleted."""
    sync = desired_sync(streams)
    hindrance = _hindrance(logstore, runtime)
    steps = [*_finalizers(streams)]
    due = observed.synced != sync or observed.error is not None
    if hindrance is None and due:
        steps.append(SyncStreams(sync, "the declared streams changed"))
    return StreamsPlan(tuple(steps), sync, hindrance, RETRY_SECONDS if hindrance else None)


def desired_sync(streams: Sequence[Stream]) -> StreamSync:
    """The declared set, in name order; of two Streams with one name the older one counts."""
    living = [s for s in streams if not s.metadata.is_deleting]
    declared = {stream.stream_name: stream for stream in reversed(_oldest_first(living))}
    doomed = {s.stream_name for s in streams if _must_delete_data(s)} - declared.keys()
    return StreamSync(
        streams=tuple(_declare(declared[name]) for name in sorted(declared)), delete=tuple(sorted(doomed))
    )


def shadowed(stream: Stream, streams: Sequence[Stream]) -> Stream | None:
    """The older Stream that declares the same name, if there is one."""
    same = [s for s in streams if s.stream_name == stream.stream_name and not s.metadata.is_deleting]
    oldest = _oldest_first(same)[0] if same else stream
    return None if oldest.metadata.uid == stream.metadata.uid else oldest


def _oldest_first(streams: Sequence[Stream]) -> list[Stream]:
    return sorted(streams, key=lambda s: (s.metadata.creation_timestamp or "", s.metadata.name))


def _declare(stream: Stream) -> DeclaredStream:
    retention = stream.spec.retention
    return DeclaredStream(
        name=stream.stream_name,
        max_age=retention.max_age,
        max_size=retention.max_size,
        indexed_fields=tuple(stream.spec.indexed_fields),
    )


def _must_delete_data(stream: Stream) -> bool:
    doomed = stream.spec.deletion_policy is DeletionPolicy.DELETE
    return stream.metadata.is_deleting and doomed and FINALIZER in stream.metadata.finalizers


def _finalizers(streams: Sequence[Stream]) -> Iterator[Step]:
    """Only a Stream whose entries must go with it needs one."""
    for stream in streams:
        if stream.metadata.is_deleting:
            continue
        wanted = stream.spec.deletion_policy is DeletionPolicy.DELETE
        if wanted != (FINALIZER in stream.metadata.finalizers):
            yield SetFinalizer(stream.ref, wanted, "its entries go with it" if wanted else "its entries stay")


def plan_stream_removal(
    streams: Sequence[Stream], logstore: LogStore | None, outcomes: Mapping[str, StreamOutcome]
) -> tuple[Step, ...]:
    """After a sync: let go of the Streams that are being deleted and whose entries are gone."""
    gone = logstore is None or logstore.metadata.is_deleting
    return tuple(
        SetFinalizer(stream.ref, False, "its entries are gone")
        for stream in streams
        if stream.metadata.is_deleting
        and FINALIZER in stream.metadata.finalizers
        and (gone or (stream.stream_name in outcomes and not outcomes[stream.stream_name].code))
    )


def _hindrance(logstore: LogStore | None, runtime: RuntimeView) -> Finding | None:
    if logstore is None:
        return Finding(Reason.LOG_STORE_MISSING, "there is no LogStore of this name in the namespace (yet)")
    if not logstore.hosts_entries:
        return Finding(Reason.ENTRIES_DISABLED, "the LogStore hosts no Streams; set its spec.entries: {enabled: true}")
    if runtime.status is None:
        return Finding(Reason.LOG_STORE_NOT_READY, runtime.error or "the LogStore does not serve yet")
    return None


def stream_status(
    stream: Stream, plan: StreamsPlan, outcome: StreamOutcome | None, error: str, rival: Stream | None, now: datetime
) -> dict[str, Any]:
    """The whole status of one Stream. `error`: why the last sync as a whole failed; empty if it did not."""
    stalled, waiting = _stalled(outcome, rival), _waiting(plan, outcome, error)
    trouble = stalled or waiting
    reconciling = waiting if stalled is None else None
    conditions = [
        _condition(ConditionType.READY, trouble is None, trouble or Finding(Reason.IN_FORCE, "in force")),
        _condition(ConditionType.RECONCILING, reconciling is not None, reconciling or _QUIET),
        _condition(ConditionType.STALLED, stalled is not None, stalled or _QUIET),
    ]
    generation = stream.metadata.generation
    return {
        "observedGeneration": generation,
        "conditions": set_conditions((stream.status or {}).get("conditions", []), conditions, generation, now),
        "phase": "Stalled" if stalled else "Pending" if waiting else "Active",
    }


_QUIET = Finding(Reason.AS_DESIRED, "")


def _stalled(outcome: StreamOutcome | None, rival: Stream | None) -> Finding | None:
    if rival is not None:
        return Finding(
            Reason.NAME_TAKEN, f"the Stream {rival.metadata.name} declares the same stream name; delete one of the two"
        )
    if outcome is not None and outcome.code:
        return Finding(Reason.REFUSED_BY_RUNTIME, f"{outcome.code}: {outcome.message}")
    return None


def _waiting(plan: StreamsPlan, outcome: StreamOutcome | None, error: str) -> Finding | None:
    if plan.hindrance is not None:
        return plan.hindrance
    if error:
        return Finding(Reason.RETRYING, f"while sending the declared streams: {error}")
    return None if outcome is not None else Finding(Reason.APPLYING, "not sent to the LogStore yet")


def _condition(type_: ConditionType, status: bool, finding: Finding) -> Condition:
    return Condition(type=type_, status=status, reason=finding.reason, message=finding.message)
