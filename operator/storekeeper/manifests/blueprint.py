"""What all children of one store are drawn from: the resource, the place it runs in, its epoch; and how they are named.

Builders in this package are functions of a Blueprint. They return a Manifest, or None where the store wants none.
"""

from dataclasses import dataclass
from typing import Any

from store_runtime.config.runtime import StoreIdentity
from storekeeper.api.group import API_VERSION
from storekeeper.api.resource import StoreResource
from storekeeper.manifests.drift import with_hash
from storekeeper.manifests.objects import (
    API_VERSIONS,
    LABEL_COMPONENT,
    LABEL_EPOCH,
    LABEL_INSTANCE,
    LABEL_JOB,
    LABEL_MANAGED_BY,
    LABEL_NAME,
    LABEL_OWNER_KIND,
    LABEL_OWNER_NAME,
    LABEL_SERVES,
    MANAGED_BY,
    Manifest,
)
from storekeeper.manifests.place import Place

_SUFFIXES = {"LogStore": "logs", "RuntimeStore": "usage"}
"""So that a LogStore and a RuntimeStore of one name do not collide."""


@dataclass(frozen=True)
class Blueprint:
    """Facts, and the names made from them. Compared by value: equal blueprints draw equal children."""

    resource: StoreResource
    place: Place
    epoch: int = 1

    @property
    def base(self) -> str:
        """The name of the children of which there is one, and the beginning of all other names."""
        return f"{self.resource.metadata.name}-{_SUFFIXES[self.resource.kind]}"

    @property
    def identity(self) -> StoreIdentity:
        metadata = self.resource.metadata
        return StoreIdentity(
            namespace=metadata.namespace, name=metadata.name, id=self.resource.store_id, owner=metadata.uid
        )

    @property
    def audience(self) -> str:
        """The `aud` of every token of this store."""
        metadata = self.resource.metadata
        return f"{self.resource.kind.lower()}/{metadata.namespace}/{metadata.name}"

    @property
    def image(self) -> str:
        return self.resource.spec.image or self.place.image

    # -- labels -------------------------------------------------------------------------------------------------------

    @property
    def owner_labels(self) -> dict[str, str]:
        """Which resource a child belongs to; children are found by these."""
        return {LABEL_OWNER_KIND: self.resource.kind, LABEL_OWNER_NAME: self.resource.metadata.name}

    @property
    def labels(self) -> dict[str, str]:
        return {
            LABEL_NAME: MANAGED_BY,
            LABEL_INSTANCE: self.resource.metadata.name,
            LABEL_COMPONENT: self.resource.kind.lower(),
            LABEL_MANAGED_BY: MANAGED_BY,
            **self.owner_labels,
        }

    @property
    def serving_labels(self) -> dict[str, str]:
        """What selects the serving pods, and no pod of a job."""
        return {**self.owner_labels, LABEL_SERVES: "true"}

    def pod_labels(self, *, job: str = "") -> dict[str, str]:
        """People's labels and ours; theirs cannot replace ours."""
        purpose = {LABEL_JOB: job} if job else {LABEL_SERVES: "true"}
        return self.resource.spec.pod_template.labels | self.labels | {LABEL_EPOCH: str(self.epoch)} | purpose

    # -- children -----------------------------------------------------------------------------------------------------

    @property
    def owner_reference(self) -> dict[str, Any]:
        return {
            "apiVersion": API_VERSION,
            "kind": self.resource.kind,
            "name": self.resource.metadata.name,
            "uid": self.resource.metadata.uid,
            "controller": True,
            "blockOwnerDeletion": True,
        }

    def child(
        self,
        kind: str,
        name: str,
        body: dict[str, Any],
        *,
        labels: dict[str, str] | None = None,
        annotations: dict[str, str] | None = None,
        owned: bool = True,
    ) -> Manifest:
        """A whole object; `body` is everything but its type and metadata."""
        metadata: dict[str, Any] = {
            "name": name,
            "namespace": self.resource.metadata.namespace,
            "labels": self.labels | (labels or {}),
        }
        if annotations:
            metadata["annotations"] = annotations
        if owned:
            metadata["ownerReferences"] = [self.owner_reference]
        return with_hash({"apiVersion": API_VERSIONS[kind], "kind": kind, "metadata": metadata, **body})
