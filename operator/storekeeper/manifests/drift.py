"""Whether a live object is still as we want it. Pure; only fields that we set are looked at.

Two questions: did what we want change (the hash that we left in an annotation says it), and did somebody change a field
that is ours (a comparison that forgives what an API server fills in or writes differently).
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from storekeeper.manifests.objects import ANNOTATION_HASH, Manifest

HASH_HEX = 16

_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?)(m|k|Ki|M|Mi|G|Gi|T|Ti|P|Pi|E|Ei)?")
_DECIMAL = {"m": Decimal("0.001"), "": Decimal(1)} | {unit: Decimal(1000) ** n for n, unit in enumerate("kMGTPE", 1)}
_BINARY = {f"{unit}i": Decimal(1024) ** n for n, unit in enumerate("KMGTPE", 1)}
_UNITS = _DECIMAL | _BINARY
_QUANTITIES = frozenset({"requests", "limits", "sizeLimit"})
"""Fields whose values, or whose members' values, an API server writes in its own form (`1024Mi` → `1Gi`)."""
_KEYS = {"volumeMounts": "mountPath", "ownerReferences": "uid"}
"""Lists that are maps in disguise, by what names an element; others with a `name` in every element are named by it."""


def with_hash(manifest: Manifest) -> Manifest:
    """The manifest with the hash of its content in an annotation."""
    metadata = manifest["metadata"]
    annotations = metadata.get("annotations", {}) | {ANNOTATION_HASH: content_hash(manifest)}
    return {**manifest, "metadata": {**metadata, "annotations": annotations}}


def content_hash(content: Any) -> str:
    """HASH_HEX hex digits: equal for equal JSON, however its keys are ordered."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:HASH_HEX]


def differs(desired: Manifest, live: Manifest) -> str | None:
    """Why the live object has to be applied again, in a few words for a log or an Event; None if it need not."""
    wanted, found = (m["metadata"].get("annotations", {}).get(ANNOTATION_HASH) for m in (desired, live))
    if wanted != found:
        return "what is wanted changed" if found else "it does not bear our hash"
    path = next(_differences(desired, live), None)
    return f"{path} was changed" if path else None


def _differences(desired: Manifest, live: Manifest) -> Iterator[str]:
    for field, value in desired.items():
        if field == "metadata":
            ours = {key: value[key] for key in ("labels", "annotations", "ownerReferences") if key in value}
            yield from _compare(ours, live["metadata"], "metadata")
        elif field not in ("apiVersion", "kind"):
            yield from _compare(value, live.get(field), field)


def _compare(wanted: Any, found: Any, path: str) -> Iterator[str]:
    """Paths at which `found` lacks something of `wanted`."""
    if isinstance(wanted, Mapping):
        yield from _compare_maps(wanted, found, path)
    elif isinstance(wanted, list):
        yield from _compare_lists(wanted, found, path)
    elif wanted != found and not _same_quantity(wanted, found, path):
        yield path


def _compare_maps(wanted: Mapping[str, Any], found: Any, path: str) -> Iterator[str]:
    """An empty map or list that we set may be left out by the server."""
    if not isinstance(found, Mapping):
        if wanted or found is not None:
            yield path
        return
    for key, value in wanted.items():
        if key in found or value not in ({}, [], None):
            yield from _compare(value, found.get(key), f"{path}.{key}")


def _compare_lists(wanted: list[Any], found: Any, path: str) -> Iterator[str]:
    if not isinstance(found, list):
        yield path
        return
    key = _key_of(wanted, path)
    if key:
        named = {item.get(key): item for item in found if isinstance(item, Mapping)}
        for item in wanted:
            yield from _compare(item, named.get(item[key]), f"{path}[{item[key]}]")
    elif len(wanted) != len(found):
        yield path
    else:
        for number, (ours, theirs) in enumerate(zip(wanted, found, strict=True)):
            yield from _compare(ours, theirs, f"{path}[{number}]")


def _key_of(items: list[Any], path: str) -> str:
    key = _KEYS.get(path.rpartition(".")[2], "name")
    return key if items and all(isinstance(item, Mapping) and key in item for item in items) else ""


def _same_quantity(wanted: Any, found: Any, path: str) -> bool:
    parts = path.split(".")[-2:]
    if not _QUANTITIES & set(parts):
        return False
    return _is_quantity(wanted) and _is_quantity(found) and quantity(wanted) == quantity(found)


def _is_quantity(value: Any) -> bool:
    return _QUANTITY.fullmatch(str(value)) is not None


def quantity(written: Any) -> Decimal:
    """`1Gi`, `500m`, 1073741824 as a number; what is no quantity is 0."""
    match = _QUANTITY.fullmatch(str(written))
    return Decimal(match[1]) * _UNITS[match[2] or ""] if match else Decimal(0)
