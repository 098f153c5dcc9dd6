"""Kubernetes in memory, as far as a reconcile sees it: objects with versions, finalizers, and what was written."""

import copy
from typing import Any

from storekeeper.adapters.cluster import ClusterError
from storekeeper.manifests.objects import Manifest, ObjectRef, ref_of


class MemoryCluster:
    """`storekeeper.adapters.cluster.Cluster`. `written` are all successful writes, in order."""

    def __init__(self) -> None:
        self.objects: dict[ObjectRef, Manifest] = {}
        self.secrets: dict[ObjectRef, Manifest] = {}
        self.written: list[str] = []
        self.events: list[tuple[str, str, str]] = []
        self.warnings: list[tuple[str, str]] = []
        self.broken: dict[str, ClusterError] = {}
        """Verb (or `verb Kind`) → what it fails with."""
        self.terminating = False
        self._version = 0

    # -- what a person does -------------------------------------------------------------------------------------------

    def put(self, kind: str, name: str, spec: dict[str, Any], **metadata: Any) -> ObjectRef:
        """kubectl apply: a new generation."""
        ref = ObjectRef(kind, "n", name)
        live = self.objects.get(ref) or {
            "metadata": {"uid": f"uid-{kind}-{name}", "generation": 0, "creationTimestamp": "2026-01-01T00:00:00Z"},
            "status": {"observedGeneration": -1},
        }
        own = {**live["metadata"], "name": name, "namespace": "n", "generation": live["metadata"]["generation"] + 1}
        body = {"apiVersion": "storekeeper.dev/v1alpha1", "kind": kind, "metadata": {**own, **metadata}, "spec": spec}
        self._store({**body, "status": live["status"]})
        return ref

    def ask_to_delete(self, ref: ObjectRef) -> None:
        """kubectl delete --wait=false."""
        live = copy.deepcopy(self.objects[ref])
        if not live["metadata"].get("finalizers"):
            del self.objects[ref]
            return
        live["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        self._store(live)

    def pod(self, owner: ObjectRef, name: str, status: dict[str, Any], **labels: str) -> None:
        owned = {"storekeeper.dev/kind": owner.kind, "storekeeper.dev/name": owner.name, **labels}
        metadata = {"name": name, "namespace": "n", "uid": f"uid-{name}", "labels": owned}
        self._store({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "status": status})

    def set_status(self, ref: ObjectRef, **status: Any) -> None:
        """What a controller of Kubernetes does."""
        live = self.objects[ref]
        self._store({**live, "status": {**live.get("status", {}), **status}})

    def condition(self, ref: ObjectRef, type_: str) -> tuple[str, str]:
        """(status, reason)."""
        found = {c["type"]: (c["status"], c["reason"]) for c in self.objects[ref]["status"].get("conditions", [])}
        return found[type_]

    def message(self, ref: ObjectRef, type_: str) -> str:
        [found] = [c["message"] for c in self.objects[ref]["status"]["conditions"] if c["type"] == type_]
        return str(found)

    # -- the protocol -------------------------------------------------------------------------------------------------

    def get(self, ref: ObjectRef) -> Manifest | None:
        self._fail("get", ref.kind)
        return self.objects.get(ref)

    def find(self, kind: str, namespace: str | None = None, labels: dict[str, str] | None = None) -> list[Manifest]:
        wanted = (labels or {}).items()
        return [
            live
            for ref, live in sorted(self.objects.items())
            if ref.kind == kind
            and namespace in (None, ref.namespace)
            and wanted <= live["metadata"].get("labels", {}).items()
        ]

    def pod_warnings(self, namespace: str, pod: str) -> list[tuple[str, str]]:
        return self.warnings

    def namespace_terminating(self, namespace: str) -> bool:
        return self.terminating

    def apply(self, manifest: Manifest) -> bool:
        ref = ref_of(manifest)
        assert ref.kind != "Secret"
        self._write("apply", ref)
        live = self.objects.get(ref, {"metadata": {"uid": f"uid-{ref.kind}-{ref.name}", "generation": 1}})
        metadata = {**live["metadata"], **manifest["metadata"]}
        return self._store({**live, **copy.deepcopy(manifest), "metadata": metadata})

    def create(self, manifest: Manifest) -> bool:
        ref = ref_of(manifest)
        self._write("create", ref)
        if ref.kind == "Secret":
            known = ref in self.secrets
            self.secrets.setdefault(ref, copy.deepcopy(manifest))
            return not known
        if ref in self.objects:
            return False
        metadata = {"uid": f"uid-{ref.kind}-{ref.name}", "generation": 1, **manifest["metadata"]}
        return self._store({**copy.deepcopy(manifest), "metadata": metadata})

    def delete(self, ref: ObjectRef) -> bool:
        self._write("delete", ref)
        return (self.secrets if ref.kind == "Secret" else self.objects).pop(ref, None) is not None

    def set_finalizer(self, ref: ObjectRef, finalizer: str, present: bool) -> bool:
        self._write("finalizer", ref)
        live = copy.deepcopy(self.objects[ref])
        others = [name for name in live["metadata"].get("finalizers", []) if name != finalizer]
        live["metadata"]["finalizers"] = [*others, finalizer] if present else others
        if live["metadata"].get("deletionTimestamp") and not live["metadata"]["finalizers"]:
            del self.objects[ref]
            return True
        return self._store(live)

    def apply_status(self, ref: ObjectRef, status: Manifest) -> None:
        self._write("status", ref)
        self._store({**self.objects[ref], "status": copy.deepcopy(status)})

    def emit(self, regarding: Manifest, *, type_: str, reason: str, action: str, message: str) -> None:
        self.events.append((type_, reason, message))

    def close(self) -> None:
        pass

    def _write(self, verb: str, ref: ObjectRef) -> None:
        self._fail(verb, ref.kind)
        self.written.append(f"{verb} {ref.kind} {ref.name}")

    def _fail(self, verb: str, kind: str) -> None:
        if error := self.broken.get(f"{verb} {kind}") or self.broken.get(verb):
            raise error

    def _store(self, manifest: Manifest) -> bool:
        ref = ref_of(manifest)
        live = self.objects.get(ref)
        if live is not None and _plain(live) == _plain(manifest):
            return False
        self._version += 1
        metadata = {**manifest["metadata"], "resourceVersion": str(self._version)}
        self.objects[ref] = {**manifest, "metadata": metadata}
        return True


def _plain(manifest: Manifest) -> Manifest:
    metadata = {key: value for key, value in manifest["metadata"].items() if key != "resourceVersion"}
    return {**manifest, "metadata": metadata}
