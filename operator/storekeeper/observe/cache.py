"""What the watches have seen: live objects by kind and name, so that a settled system asks the API nothing.

Fed by kopf's events, by the answers to our own writes (so a reconcile sees what the last one did) and by whole lists
(at the start, and now and then to find what a watch missed). Thread-safe: events come from kopf's thread, reads from
the workers'. Objects are handed out as they are and must not be changed.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterable

from storekeeper.manifests.objects import LABEL_OWNER_KIND, LABEL_OWNER_NAME, Manifest, ObjectRef, ref_of

DELETED_UIDS_MAX = 20_000
"""Objects remembered as deleted, so that a list read before a deletion and filled in after it revives none."""

_Owner = tuple[str, str, str]  # kind, namespace, name of the resource that a child's labels name


class Cache:
    """Live objects of the watched kinds. `managedFields` are dropped: half of an object, and nobody reads them."""

    def __init__(self) -> None:
        self._objects: dict[str, dict[tuple[str, str], Manifest]] = {}
        self._children: dict[_Owner, dict[str, dict[ObjectRef, Manifest]]] = {}
        self._deleted: OrderedDict[str, None] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, ref: ObjectRef) -> Manifest | None:
        with self._lock:
            return self._objects.get(ref.kind, {}).get((ref.namespace, ref.name))

    def find(self, kind: str, namespace: str | None = None, labels: dict[str, str] | None = None) -> list[Manifest]:
        """By name; with both owner labels and a namespace it costs only the owner's children."""
        wanted = labels or {}
        with self._lock:
            candidates = self._candidates(kind, namespace, wanted)
            found = [m for m in candidates if _matches(m, namespace, wanted)]
        return sorted(found, key=lambda m: (m["metadata"].get("namespace", ""), m["metadata"]["name"]))

    def put(self, manifest: Manifest) -> bool:
        """True if it is news: unknown, or newer than what is held."""
        with self._lock:
            return self._put(manifest)

    def discard(self, manifest: Manifest) -> bool:
        """Forget a deleted object; False if another of its name took its place, or it was not held."""
        with self._lock:
            self._remember_deleted(_uid(manifest))
            held = self._objects.get(manifest["kind"], {}).get(_key(manifest))
            if held is None or _uid(held) != _uid(manifest):
                return False
            self._forget(held)
            return True

    def uids(self, kind: str, namespace: str | None) -> frozenset[str]:
        """Of the objects held: to be taken before a list is asked for, and given to `fill` with it."""
        with self._lock:
            return frozenset(_uid(m) for m in self._objects.get(kind, {}).values() if _matches(m, namespace, {}))

    def missed(
        self, kind: str, namespace: str | None, listed: Iterable[Manifest], before: frozenset[str]
    ) -> list[Manifest]:
        """How the cache differs from a whole list of a kind; `before` are the `uids` from before it was asked for.

        Objects that are unknown or newer in the list, and ghosts that are held but gone.
        """
        with self._lock:
            return [m for pair in self._compare(kind, namespace, listed, before) for m in pair]

    def fill(
        self, kind: str, namespace: str | None, listed: Iterable[Manifest], before: frozenset[str]
    ) -> list[Manifest]:
        """Make the cache match the list; returns what `missed` would have."""
        with self._lock:
            news, ghosts = self._compare(kind, namespace, listed, before)
            for manifest in news:
                self._put(manifest)
            for ghost in ghosts:
                self._remember_deleted(_uid(ghost))
                self._forget(ghost)
        return news + ghosts

    def counts(self) -> dict[str, int]:
        with self._lock:
            return {kind: len(objects) for kind, objects in self._objects.items()}

    def _candidates(self, kind: str, namespace: str | None, labels: dict[str, str]) -> Iterable[Manifest]:
        if namespace and LABEL_OWNER_KIND in labels and LABEL_OWNER_NAME in labels:
            owner = (labels[LABEL_OWNER_KIND], namespace, labels[LABEL_OWNER_NAME])
            return list(self._children.get(owner, {}).get(kind, {}).values())
        return list(self._objects.get(kind, {}).values())

    def _compare(
        self, kind: str, namespace: str | None, listed: Iterable[Manifest], before: frozenset[str]
    ) -> tuple[list[Manifest], list[Manifest]]:
        listed = list(listed)
        alive = {_uid(m) for m in listed}
        held = [m for m in self._objects.get(kind, {}).values() if _matches(m, namespace, {})]
        ghosts = [m for m in held if _uid(m) in before and _uid(m) not in alive]
        return [m for m in listed if self._is_news(m)], ghosts

    def _is_news(self, manifest: Manifest) -> bool:
        held = self._objects.get(manifest["kind"], {}).get(_key(manifest))
        return _uid(manifest) not in self._deleted and (held is None or _newer(manifest, held))

    def _put(self, manifest: Manifest) -> bool:
        if not self._is_news(manifest):
            return False
        objects = self._objects.setdefault(manifest["kind"], {})
        if (held := objects.get(_key(manifest))) is not None:
            self._forget(held)
        manifest = _slim(manifest)
        objects[_key(manifest)] = manifest
        if owner := owner_of(manifest):
            kinds = self._children.setdefault((owner.kind, owner.namespace, owner.name), {})
            kinds.setdefault(manifest["kind"], {})[ref_of(manifest)] = manifest
        return True

    def _forget(self, held: Manifest) -> None:
        del self._objects[held["kind"]][_key(held)]
        if owner := owner_of(held):
            key = (owner.kind, owner.namespace, owner.name)
            kinds = self._children[key]
            del kinds[held["kind"]][ref_of(held)]
            if not any(kinds.values()):
                del self._children[key]

    def _remember_deleted(self, uid: str) -> None:
        if uid:
            self._deleted[uid] = None
        if len(self._deleted) > DELETED_UIDS_MAX:
            self._deleted.popitem(last=False)


def owner_of(manifest: Manifest) -> ObjectRef | None:
    """The resource that a child's labels name."""
    labels = manifest["metadata"].get("labels") or {}
    kind, name = labels.get(LABEL_OWNER_KIND), labels.get(LABEL_OWNER_NAME)
    return ObjectRef(kind, manifest["metadata"].get("namespace", ""), name) if kind and name else None


def _slim(manifest: Manifest) -> Manifest:
    metadata = {key: value for key, value in manifest["metadata"].items() if key != "managedFields"}
    return {**manifest, "metadata": metadata}


def _newer(manifest: Manifest, held: Manifest) -> bool:
    """Of two states under one name, which may be two objects: resourceVersions grow over all objects of a cluster."""
    new, old = manifest["metadata"].get("resourceVersion", ""), held["metadata"].get("resourceVersion", "")
    if new.isdecimal() and old.isdecimal():
        return int(new) > int(old)
    return bool(new != old)


def _matches(manifest: Manifest, namespace: str | None, labels: dict[str, str]) -> bool:
    metadata = manifest["metadata"]
    if namespace is not None and metadata.get("namespace", "") != namespace:
        return False
    carried = metadata.get("labels") or {}
    return all(carried.get(key) == value for key, value in labels.items())


def _key(manifest: Manifest) -> tuple[str, str]:
    return manifest["metadata"].get("namespace", ""), manifest["metadata"]["name"]


def _uid(manifest: Manifest) -> str:
    uid: str = manifest["metadata"].get("uid", "")
    return uid
