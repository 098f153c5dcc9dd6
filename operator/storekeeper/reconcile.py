"""One reconcile: observe → plan → execute → status. Idempotent, so a missed or doubled event changes nothing.

The same class serves the cluster and this machine. It decides nothing (plan/ does) and knows no framework (handlers/
do); it only lets data flow one way and writes a status when it has changed, so a system at rest writes nothing.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from store_runtime.clock import Clock, now
from store_runtime.config.wire import StreamOutcome
from storekeeper.adapters.cluster import Cluster, ClusterError
from storekeeper.adapters.runtime_api import RuntimeApi
from storekeeper.api.logstore import LogStore
from storekeeper.api.parse import InvalidSpec, parse
from storekeeper.api.resource import StoreResource
from storekeeper.api.stream import Stream
from storekeeper.execute.execution import Executor, Target
from storekeeper.execute.tokens import Signer
from storekeeper.manifests.objects import FINALIZER, Manifest, ObjectRef, ref_of
from storekeeper.manifests.place import Place
from storekeeper.metrics import Metrics
from storekeeper.observe.store import audience, observe_runtime, observe_store
from storekeeper.plan.events import transitions
from storekeeper.plan.observed import RuntimeView, StreamsObserved
from storekeeper.plan.removal import plan_removal
from storekeeper.plan.situation import Situation, situate
from storekeeper.plan.status import invalid_status, removal_status, store_status
from storekeeper.plan.steps import Outcome, Step
from storekeeper.plan.store import plan_store
from storekeeper.plan.streams import StreamsPlan, plan_stream_removal, plan_streams, shadowed, stream_status

STREAMS = "Streams"
"""The kind of a key that stands for all Streams of one LogStore: `Streams <namespace>/<LogStore>`."""
EVENT_ACTION = "Reconcile"

Places = Callable[[StoreResource], Place]


class NotDone(Exception):
    """A step failed; the status says it. To be tried again, not before `retry_after` seconds if that is set."""

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Reconciler:
    """Thread-safe for different keys; the same key must not run twice at a time (the queue sees to that)."""

    def __init__(
        self,
        cluster: Cluster,
        places: Places,
        runtime_api: RuntimeApi,
        signer: Signer,
        clock: Clock,
        metrics: Metrics | None = None,
    ) -> None:
        self._cluster = cluster
        self._places = places
        self._runtime_api = runtime_api
        self._executor = Executor(cluster, runtime_api, signer)
        self._clock = clock
        self._metrics = metrics or Metrics()
        self._synced: dict[ObjectRef, tuple[str, StreamsObserved]] = {}
        """Streams key → (uid of its LogStore, what that was told last)."""
        self._synced_lock = threading.Lock()

    def reconcile(self, key: ObjectRef) -> float | None:
        """Bring one store, or all Streams of a LogStore, closer to its spec.

        Returns the seconds after which it wants to be called again (None: only on events). Raises NotDone.
        """
        began = time.perf_counter()
        result = "error"
        try:
            after = self._streams(key) if key.kind == STREAMS else self._resource(key)
            result = "requeue" if after is not None else "done"
            return after
        except ClusterError as error:
            raise NotDone(str(error), retry_after=error.retry_after) from error
        finally:
            self._metrics.reconcile_seconds.labels(key.kind).observe(time.perf_counter() - began)
            self._metrics.reconciles.labels(key.kind, result).inc()
            if result == "error":
                self._metrics.reconcile_errors.labels(key.kind).inc()

    # -- LogStore and RuntimeStore ------------------------------------------------------------------------------------

    def _resource(self, ref: ObjectRef) -> float | None:
        body = self._cluster.get(ref)
        if body is None:
            return None
        try:
            resource = parse(body)
        except InvalidSpec as error:
            self._refuse(body, error)
            return None
        assert not isinstance(resource, Stream)
        return self._remove(resource, body) if resource.metadata.is_deleting else self._keep(resource, body)

    def _keep(self, resource: StoreResource, body: Manifest) -> float | None:
        situation, place = self._situation(resource)
        plan = plan_store(situation)
        outcomes = self._execute(plan.steps, resource.ref, place)
        self._tell(body, store_status(situation, plan, outcomes, self._now()))
        _raise_failure(outcomes)
        return plan.requeue_after

    def _remove(self, resource: StoreResource, body: Manifest) -> float | None:
        situation, place = self._situation(resource)
        plan = plan_removal(situation)
        if plan.requeue_after is not None:
            self._write_status(body, removal_status(resource, plan.message, self._now()))
        _raise_failure(self._execute(plan.steps, resource.ref, place))
        return plan.requeue_after

    def _situation(self, resource: StoreResource) -> tuple[Situation, Place]:
        place = self._places(resource)
        observed = observe_store(self._cluster, self._runtime_api, resource, url=place.url, now=self._now())
        return situate(resource, observed, place), place

    # -- Streams ------------------------------------------------------------------------------------------------------

    def _streams(self, key: ObjectRef) -> float | None:
        streams, bodies = self._streams_of(key)
        logstore, url = self._log_store(key)
        if not streams and (logstore is None or not logstore.hosts_entries):
            self._forget(key)
            return None
        uid = logstore.metadata.uid if logstore else ""
        runtime = self._runtime_of(logstore, url)
        observed = self._recall(key, uid)
        plan = plan_streams(logstore, streams, observed, runtime)
        target = Target(url, audience(ObjectRef("LogStore", key.namespace, key.name)))
        outcomes = self._executor.execute(plan.steps, target)
        observed = self._learn(key, uid, plan, observed, outcomes)
        replies = {outcome.name: outcome for outcome in observed.result.outcomes} if observed.result else {}
        removal = self._executor.execute(plan_stream_removal(streams, logstore, replies), target)
        for stream in streams:
            if not stream.metadata.is_deleting:
                status = self._stream_status(stream, streams, plan, replies, observed.error or "")
                self._tell(bodies[stream.ref], status)
        _raise_failure((*outcomes, *removal))
        return plan.requeue_after if streams else None

    def _streams_of(self, key: ObjectRef) -> tuple[list[Stream], dict[ObjectRef, Manifest]]:
        """The valid Streams that name this LogStore, and their bodies; the invalid ones are told so."""
        streams, bodies = [], {}
        for body in self._cluster.find("Stream", key.namespace):
            if ((body.get("spec") or {}).get("logStoreRef") or {}).get("name") != key.name:
                continue
            try:
                stream = parse(body)
            except InvalidSpec as error:
                self._refuse(body, error)
                continue
            assert isinstance(stream, Stream)
            streams.append(stream)
            bodies[stream.ref] = body
        return streams, bodies

    def _log_store(self, key: ObjectRef) -> tuple[LogStore | None, str]:
        """The LogStore and its runtime's URL. One whose spec is invalid still runs as it was; only it is not known."""
        body = self._cluster.get(ObjectRef("LogStore", key.namespace, key.name))
        if body is None:
            return None, ""
        try:
            resource = parse(body)
        except InvalidSpec as error:
            raise NotDone(f"the LogStore's spec cannot be read: {error}") from error
        assert isinstance(resource, LogStore)
        return resource, self._places(resource).url

    def _runtime_of(self, logstore: LogStore | None, url: str) -> RuntimeView:
        if logstore is None or not logstore.hosts_entries:
            return RuntimeView()
        return observe_runtime(self._cluster, self._runtime_api, logstore.ref, url)

    def _stream_status(
        self,
        stream: Stream,
        streams: Sequence[Stream],
        plan: StreamsPlan,
        replies: Mapping[str, StreamOutcome],
        error: str,
    ) -> dict[str, Any]:
        rival = shadowed(stream, streams)
        return stream_status(stream, plan, replies.get(stream.stream_name), error, rival, self._now())

    # -- what the last sync said --------------------------------------------------------------------------------------

    def _recall(self, key: ObjectRef, uid: str) -> StreamsObserved:
        """A LogStore that was made anew knows nothing of what its predecessor was told."""
        with self._synced_lock:
            known, observed = self._synced.get(key, ("", StreamsObserved()))
        return observed if known == uid else StreamsObserved()

    def _learn(
        self, key: ObjectRef, uid: str, plan: StreamsPlan, before: StreamsObserved, outcomes: Sequence[Outcome]
    ) -> StreamsObserved:
        observed = before
        for outcome in outcomes:
            if outcome.synced is not None:
                observed = StreamsObserved(synced=plan.sync, result=outcome.synced)
        if (failure := _failure(outcomes)) is not None:
            observed = replace(observed, error=failure.error)
        with self._synced_lock:
            self._synced[key] = uid, observed
        return observed

    def _forget(self, key: ObjectRef) -> None:
        with self._synced_lock:
            self._synced.pop(key, None)

    # -- telling ------------------------------------------------------------------------------------------------------

    def _refuse(self, body: Manifest, error: InvalidSpec) -> None:
        """Status only: what runs is left as it was. A resource that is being deleted is let go, with its data kept."""
        if body["metadata"].get("deletionTimestamp"):
            message = f"deleted with a spec that cannot be read ({error}); its data is left as it is"
            self._emit(body, "Warning", "InvalidSpec", message)
            self._cluster.set_finalizer(ref_of(body), FINALIZER, False)
            return
        generation = body["metadata"].get("generation", 0)
        self._tell(body, invalid_status(body.get("status") or {}, generation, error.field, error.message, self._now()))

    def _tell(self, body: Manifest, status: dict[str, Any]) -> None:
        """The status, and Events for what turned in it."""
        if self._write_status(body, status):
            for note in transitions(body.get("status") or {}, status):
                self._emit(body, note.type_, note.reason, note.message)

    def _write_status(self, body: Manifest, status: dict[str, Any]) -> bool:
        """False: it says that already, and nothing is written."""
        if status == (body.get("status") or {}):
            return False
        self._cluster.apply_status(ref_of(body), status)
        return True

    def _emit(self, body: Manifest, type_: str, reason: str, message: str) -> None:
        self._cluster.emit(body, type_=type_, reason=reason, action=EVENT_ACTION, message=message)

    def _execute(self, steps: Sequence[Step], ref: ObjectRef, place: Place) -> tuple[Outcome, ...]:
        return self._executor.execute(steps, Target(place.url, audience(ref)))

    def _now(self) -> datetime:
        """Whole seconds: what Kubernetes keeps of a time."""
        return now(self._clock).replace(microsecond=0)


def _failure(outcomes: Sequence[Outcome]) -> Outcome | None:
    return next((outcome for outcome in outcomes if outcome.error), None)


def _raise_failure(outcomes: Sequence[Outcome]) -> None:
    failure = _failure(outcomes)
    if failure is not None:
        raise NotDone(failure.error, retry_after=failure.retry_after)
