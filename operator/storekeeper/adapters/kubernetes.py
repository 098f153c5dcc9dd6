"""The cluster protocol spoken to the Kubernetes API: server-side apply, create, delete, status, Events.

Reads are answered by a cache that the watches feed, so a reconcile of a settled store asks the API nothing.
Secrets can be created and deleted here, and nothing else: there is no code that could read one.
"""

import secrets
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

import structlog

from storekeeper.adapters.cluster import ClusterError
from storekeeper.adapters.kubernetes_api import APPLY, MERGE, Answer, KubernetesApi, api_version, path
from storekeeper.manifests.objects import FIELD_MANAGER, STATUS_MANAGER, Manifest, ObjectRef, ref_of

FINALIZER_ATTEMPTS = 3
"""Optimistic updates of metadata.finalizers before the queue is left to retry."""
POD_WARNINGS_MAX = 20
"""Warning events read for one pod."""
EVENTS_PER_OBJECT_AND_MINUTE = 10
"""Events posted for one object; more are dropped and counted in the log: a flapping store must not flood etcd."""
EVENT_REPEAT_SECONDS = 600.0
"""An Event that says the same of the same object is not posted again within this time."""
EVENT_NOTE_CHARS_MAX = 1024
"""The API's limit of `note`."""

log = structlog.get_logger(__name__)


class ObjectCache(Protocol):
    """What the watches have seen (storekeeper.observe.cache)."""

    def get(self, ref: ObjectRef) -> Manifest | None: ...

    def find(self, kind: str, namespace: str | None = None, labels: dict[str, str] | None = None) -> list[Manifest]: ...

    def put(self, manifest: Manifest) -> bool: ...


@dataclass
class _EventBudget:
    """What was posted lately, by object; bounded by the minute and by the repeats kept."""

    now: Callable[[], float]
    _posted: dict[str, list[float]] = field(default_factory=dict)
    _said: dict[tuple[str, ...], float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def allows(self, uid: str, *words: str) -> bool:
        with self._lock:
            now = self.now()
            self._said = {said: at for said, at in self._said.items() if now - at < EVENT_REPEAT_SECONDS}
            self._posted = {u: at for u, at in self._posted.items() if now - at[-1] < 60}
            lately = [at for at in self._posted.get(uid, []) if now - at < 60]
            if (uid, *words) in self._said or len(lately) >= EVENTS_PER_OBJECT_AND_MINUTE:
                return False
            self._said[uid, *words] = now
            self._posted[uid] = [*lately, now]
            return True


class KubernetesCluster:
    """`storekeeper.adapters.cluster.Cluster` over the API; reads come from `cache`."""

    def __init__(
        self, api: KubernetesApi, cache: ObjectCache, *, instance: str = "", now: Callable[[], float] = time.monotonic
    ) -> None:
        self._api = api
        self._cache = cache
        self._instance = instance or socket.gethostname()
        self._budget = _EventBudget(now)

    def get(self, ref: ObjectRef) -> Manifest | None:
        _refuse_secret(ref.kind)
        return self._cache.get(ref)

    def find(self, kind: str, namespace: str | None = None, labels: dict[str, str] | None = None) -> list[Manifest]:
        _refuse_secret(kind)
        return self._cache.find(kind, namespace, labels)

    def pod_warnings(self, namespace: str, pod: str) -> list[tuple[str, str]]:
        fields = f"involvedObject.kind=Pod,involvedObject.name={pod},type=Warning"
        where = f"/api/v1/namespaces/{namespace}/events"
        query = {"fieldSelector": fields, "limit": str(POD_WARNINGS_MAX)}
        events = self._api.request("GET", "Event", where, query=query, verb="LIST").body.get("items") or []
        events.sort(key=_last_seen, reverse=True)
        return [(event.get("reason") or "", event.get("message") or "") for event in events]

    def namespace_terminating(self, namespace: str) -> bool:
        try:
            found = self._api.request("GET", "Namespace", f"/api/v1/namespaces/{namespace}").body
        except ClusterError as error:
            if error.status == 404:
                return True
            raise
        return bool((found.get("status") or {}).get("phase") == "Terminating")

    def apply(self, manifest: Manifest) -> bool:
        ref = ref_of(manifest)
        _refuse_secret(ref.kind)
        before = self._cache.get(ref)
        where = path(ref.kind, ref.namespace, ref.name)
        try:
            answer = self._apply(where, ref.kind, manifest, FIELD_MANAGER)
        except ClusterError as error:
            if error.status != 422 or before is None:
                raise
            self._override(where, ref.kind, manifest)
            answer = self._apply(where, ref.kind, manifest, FIELD_MANAGER)
        self._cache.put(_typed(answer.body, ref.kind))
        return answer.status == 201 or _version(before) != _version(answer.body)

    def create(self, manifest: Manifest) -> bool:
        ref = ref_of(manifest)
        query = {"fieldManager": FIELD_MANAGER}
        try:
            answer = self._api.request("POST", ref.kind, path(ref.kind, ref.namespace), query=query, body=manifest)
        except ClusterError as error:
            if error.code == "AlreadyExists":
                return False
            raise
        if ref.kind != "Secret":
            self._cache.put(_typed(answer.body, ref.kind))
        return True

    def delete(self, ref: ObjectRef) -> bool:
        options = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        try:
            self._api.request("DELETE", ref.kind, path(ref.kind, ref.namespace, ref.name), body=options)
        except ClusterError as error:
            if error.status == 404:
                return False
            raise
        return True

    def set_finalizer(self, ref: ObjectRef, finalizer: str, present: bool) -> bool:
        """By an optimistic merge patch: an apply would create the object if it were gone."""
        for attempt in range(1, FINALIZER_ATTEMPTS + 1):
            live = self._api.get(ref.kind, ref.namespace, ref.name)
            if live is None:
                return False
            metadata = live["metadata"]
            finalizers = [name for name in metadata.get("finalizers") or [] if name != finalizer]
            wanted = [*finalizers, finalizer] if present else finalizers
            if wanted == (metadata.get("finalizers") or []):
                return False
            patch = {"metadata": {"resourceVersion": metadata["resourceVersion"], "finalizers": wanted}}
            if self._patched(ref, patch, last=attempt == FINALIZER_ATTEMPTS):
                return True
        return False

    def apply_status(self, ref: ObjectRef, status: Manifest) -> None:
        name = {"name": ref.name, "namespace": ref.namespace}
        body = {"apiVersion": api_version(ref.kind), "kind": ref.kind, "metadata": name, "status": status}
        answer = self._apply(path(ref.kind, ref.namespace, ref.name, "status"), ref.kind, body, STATUS_MANAGER)
        self._cache.put(_typed(answer.body, ref.kind))

    def emit(self, regarding: Manifest, *, type_: str, reason: str, action: str, message: str) -> None:
        metadata = regarding["metadata"]
        if not self._budget.allows(metadata.get("uid", ""), type_, reason, message):
            log.info("event not posted again", reason=reason, regarding=f"{metadata['namespace']}/{metadata['name']}")
            return
        try:
            body = self._event(regarding, type_, reason, action, message)
            self._api.request("POST", "Event", path("Event", metadata["namespace"]), body=body)
        except ClusterError as error:
            log.warning("event not posted", reason=reason, error=str(error))

    def close(self) -> None:
        self._api.close()

    def _override(self, where: str, kind: str, manifest: Manifest) -> None:
        """Put our lists in the place of theirs: an apply merges what others wrote into a list, and the sum of both may
        be invalid (two ports of one name), so that a change by hand could not be repaired.
        """
        body = {key: value for key, value in manifest.items() if key not in ("apiVersion", "kind", "metadata")}
        query = {"fieldManager": FIELD_MANAGER}
        self._api.request("PATCH", kind, where, query=query, body=body, content_type=MERGE)

    def _apply(self, where: str, kind: str, body: Manifest, manager: str) -> Answer:
        query = {"fieldManager": manager, "force": "true"}
        return self._api.request("PATCH", kind, where, query=query, body=body, content_type=APPLY, verb="APPLY")

    def _patched(self, ref: ObjectRef, patch: Manifest, *, last: bool) -> bool:
        where = path(ref.kind, ref.namespace, ref.name)
        query = {"fieldManager": FIELD_MANAGER}
        try:
            answer = self._api.request("PATCH", ref.kind, where, query=query, body=patch, content_type=MERGE)
        except ClusterError as error:
            if error.status == 404:
                return True
            if error.status != 409 or last:
                raise
            return False
        self._cache.put(_typed(answer.body, ref.kind))
        return True

    def _event(self, regarding: Manifest, type_: str, reason: str, action: str, message: str) -> Manifest:
        metadata = regarding["metadata"]
        about = {"apiVersion": regarding["apiVersion"], "kind": regarding["kind"], "uid": metadata.get("uid", "")}
        about |= {"namespace": metadata["namespace"], "name": metadata["name"]}
        about["resourceVersion"] = metadata.get("resourceVersion", "")
        return {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"namespace": metadata["namespace"], "name": f"{metadata['name']}.{secrets.token_hex(8)}"},
            "eventTime": datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "reportingController": "storekeeper.dev/operator",
            "reportingInstance": self._instance[:128],
            "type": type_,
            "reason": reason,
            "action": action,
            "note": message[:EVENT_NOTE_CHARS_MAX],
            "regarding": about,
        }


def _refuse_secret(kind: str) -> None:
    if kind == "Secret":
        raise ClusterError("Secrets are created and deleted, never read or patched", retryable=False)


def _typed(body: Manifest, kind: str) -> Manifest:
    return {"apiVersion": api_version(kind), "kind": kind, **body}


def _version(manifest: Manifest | None) -> str:
    return "" if manifest is None else manifest["metadata"].get("resourceVersion", "")


def _last_seen(event: Manifest) -> str:
    """RFC 3339, so it sorts as text. Old and new Events keep their time in different fields."""
    series = event.get("series") or {}
    seen = series.get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime")
    return seen or event["metadata"].get("creationTimestamp") or ""
