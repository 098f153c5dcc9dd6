"""PersistentVolumeClaims of our own (not claim templates), so that they can grow, be kept, and be adopted.

With deletionPolicy Retain nobody owns them; with Delete they go with the resource. A label says which store they hold.
"""

from store_runtime.config.quantities import format_size
from storekeeper.api.pods import DefaultVolume, Volume
from storekeeper.api.resource import DeletionPolicy
from storekeeper.manifests.blueprint import Blueprint
from storekeeper.manifests.drift import quantity, with_hash
from storekeeper.manifests.objects import ANNOTATION_HASH, ANNOTATION_SIZE, LABEL_STORE_ID, Manifest


def data_claim_name(blueprint: Blueprint) -> str:
    return f"{blueprint.base}-data"


def entries_claim_name(blueprint: Blueprint) -> str:
    return f"{blueprint.base}-entries"


def claims(blueprint: Blueprint) -> tuple[Manifest, ...]:
    wanted = (
        (data_claim_name(blueprint), blueprint.resource.data_volume),
        (entries_claim_name(blueprint), blueprint.resource.entries_volume),
    )
    return tuple(_claim(blueprint, name, volume) for name, volume in wanted if volume is not None)


def _claim(blueprint: Blueprint, name: str, volume: Volume) -> Manifest:
    assert volume.size is not None, "resolved before it is built"
    spec: Manifest = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": format_size(volume.size)}},
    }
    if volume.storage_class_name is not None:
        spec["storageClassName"] = volume.storage_class_name
    return blueprint.child(
        "PersistentVolumeClaim",
        name,
        {"spec": spec},
        labels={LABEL_STORE_ID: blueprint.resource.store_id},
        annotations={ANNOTATION_SIZE: "default" if isinstance(volume, DefaultVolume) else "given"},
        owned=blueprint.resource.spec.deletion_policy is DeletionPolicy.DELETE,
    )


def beside(claim: Manifest, live: Manifest) -> Manifest:
    """The claim with the live one's size, where that is larger, or where nobody gave a size.

    No API server makes a claim smaller; and one that was adopted, or made under another default, is not enlarged
    unless somebody asks for it.
    """
    requested = live["spec"].get("resources", {}).get("requests", {}).get("storage")
    if requested is None:
        return claim
    given = claim["metadata"]["annotations"].get(ANNOTATION_SIZE) == "given"
    if given and quantity(claim["spec"]["resources"]["requests"]["storage"]) >= quantity(requested):
        return claim
    annotations = {k: v for k, v in claim["metadata"]["annotations"].items() if k != ANNOTATION_HASH}
    metadata = claim["metadata"] | {"annotations": annotations}
    spec = claim["spec"] | {"resources": {"requests": {"storage": requested}}}
    return with_hash({**claim, "metadata": metadata, "spec": spec})
