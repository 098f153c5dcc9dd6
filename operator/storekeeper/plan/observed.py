"""What is: a store's children, pods, job reports and its runtime's own word, as plain values."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from store_runtime.config.wire import JobReport, StoreStatus, StreamSync, StreamSyncResult
from storekeeper.manifests.objects import Manifest, ObjectRef


@dataclass(frozen=True, slots=True)
class PodTrouble:
    """Why a pod does not run, from its own status and its Warning events."""

    pod: str
    reason: str  # e.g. FailedMount, ImagePullBackOff, Unschedulable, CrashLoopBackOff
    message: str


@dataclass(frozen=True, slots=True)
class RuntimeView:
    """What the serving runtime says of itself, or why it cannot be asked. Not asked yet: both None."""

    status: StoreStatus | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Observed:
    """One store's world at one moment."""

    children: Mapping[ObjectRef, Manifest] = field(default_factory=dict)
    """Live objects of CHILD_KINDS that carry our owner labels, by reference."""
    reports: Mapping[str, JobReport] = field(default_factory=dict)
    """The newest report of each job (key: JobName value), from Jobs' pods and from init containers."""
    report_ages: Mapping[str, float] = field(default_factory=dict)
    """Seconds since that report was left behind."""
    pods: tuple[str, ...] = ()
    """Names of the store's own pods that still exist, also the ones that are going (not the jobs')."""
    troubles: tuple[PodTrouble, ...] = ()
    runtime: RuntimeView = RuntimeView()
    namespace_terminating: bool = False
    deleting_seconds: float = 0.0
    """How long ago the resource's deletion was asked for; 0 if it was not."""


@dataclass(frozen=True, slots=True)
class StreamsObserved:
    """What this process last sent to a LogStore's runtime, and what came back; all empty before the first sync."""

    synced: StreamSync | None = None
    result: StreamSyncResult | None = None
    error: str | None = None
