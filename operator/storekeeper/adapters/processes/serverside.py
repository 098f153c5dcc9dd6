"""Server-side apply, as far as one manager of the desired state needs it. Pure.

The rules are Kubernetes' for a forced apply (https://kubernetes.io/docs/reference/using-api/server-side-apply/) with
one owner: what was applied last and is not wanted any more goes, what is wanted is set, everything else that is live
(status, fields of others) stays. Lists are atomic.
"""

from typing import Any

from storekeeper.api.group import GROUP
from storekeeper.manifests.objects import Manifest

_Json = dict[str, Any]
SERVER_FIELDS = ("uid", "generation", "resourceVersion", "creationTimestamp", "deletionTimestamp", "managedFields")
"""Metadata that only the server writes."""


def merged(live: _Json, previous: _Json, wanted: _Json) -> _Json:
    """`live` after applying `wanted` where `previous` was applied before."""
    result = _without(live, previous, wanted)
    for key, value in wanted.items():
        if isinstance(value, dict):
            result[key] = merged(_mapping(result.get(key)), _mapping(previous.get(key)), value)
        else:
            result[key] = value
    return result


def _without(live: _Json, previous: _Json, wanted: _Json) -> _Json:
    """`live` without the leaves of `previous` whose key is not in `wanted`."""
    result = dict(live)
    for key in previous.keys() - wanted.keys():
        if key in result:
            rest = _without(_mapping(result[key]), _mapping(previous[key]), {})
            if isinstance(result[key], dict) and rest:
                result[key] = rest
            else:
                del result[key]
    return result


def _mapping(value: Any) -> _Json:
    return value if isinstance(value, dict) else {}


def intent(manifest: Manifest) -> Manifest:
    """What a client may say: the manifest without status and server-written metadata."""
    metadata = {k: v for k, v in manifest["metadata"].items() if k not in SERVER_FIELDS}
    return {k: v for k, v in manifest.items() if k != "status"} | {"metadata": metadata}


def content(manifest: Manifest) -> Manifest:
    """The part whose change raises `metadata.generation`."""
    return {k: v for k, v in manifest.items() if k not in ("metadata", "status")}


def created(manifest: Manifest, *, uid: str, at: str) -> Manifest:
    """A new live object. Our own kinds get the status default of their CRDs; claims are protected while in use."""
    live = intent(manifest)
    live["metadata"] = live["metadata"] | {"uid": uid, "generation": 1, "creationTimestamp": at}
    if live.get("apiVersion", "").startswith(f"{GROUP}/"):
        live["status"] = {"observedGeneration": -1}
    if live["kind"] == "PersistentVolumeClaim":
        live["metadata"]["finalizers"] = [*live["metadata"].get("finalizers", []), CLAIM_PROTECTION]
    return live


CLAIM_PROTECTION = "kubernetes.io/pvc-protection"
"""Finalizer of a claim: its folder is not removed under a running pod."""


def updated(live: Manifest, new: Manifest) -> Manifest:
    """`new` with the generation it gets when it replaces `live`."""
    if content(live) == content(new):
        return new
    return new | {"metadata": new["metadata"] | {"generation": live["metadata"]["generation"] + 1}}
