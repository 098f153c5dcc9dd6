"""The API group of the custom resources, and how any Kubernetes object is referred to."""

from dataclasses import dataclass

GROUP = "storekeeper.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"


@dataclass(frozen=True, slots=True, order=True)
class ObjectRef:
    """Which object: kind as in its manifest; all are namespaced."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"
