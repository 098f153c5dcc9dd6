"""Which keys an event is about. Pure.

A key is the reference of a resource that is reconciled. All Streams of a LogStore are reconciled together, under the
key `Streams <namespace>/<name of the LogStore>`.
"""

from storekeeper.manifests.objects import Manifest, ObjectRef, ref_of
from storekeeper.observe.cache import owner_of
from storekeeper.reconcile import STREAMS

STORE_KINDS = frozenset({"LogStore", "RuntimeStore"})


def keys_of(manifest: Manifest, before: Manifest | None = None) -> tuple[ObjectRef, ...]:
    """`before` is what was known of the object: a Stream that moved to another LogStore concerns both."""
    kind = manifest["kind"]
    if kind == "Stream":
        return tuple(dict.fromkeys(key for stream in (manifest, before) if stream for key in _log_store_of(stream)))
    if kind in STORE_KINDS:
        return _with_streams(ref_of(manifest))
    owner = owner_of(manifest)
    return _with_streams(owner) if owner is not None and owner.kind in STORE_KINDS else ()


def _with_streams(ref: ObjectRef) -> tuple[ObjectRef, ...]:
    """Whatever happens to a LogStore may be what its Streams wait for."""
    return (ref, streams_key(ref.namespace, ref.name)) if ref.kind == "LogStore" else (ref,)


def _log_store_of(stream: Manifest) -> tuple[ObjectRef, ...]:
    name = ((stream.get("spec") or {}).get("logStoreRef") or {}).get("name")
    return (streams_key(stream["metadata"]["namespace"], name),) if name else ()


def streams_key(namespace: str, log_store: str) -> ObjectRef:
    return ObjectRef(STREAMS, namespace, log_store)
