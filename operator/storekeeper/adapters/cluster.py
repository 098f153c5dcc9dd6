"""The cluster, as the operator needs it: one protocol, spoken by the Kubernetes API and by this machine's processes.

`observe` calls only the reading half, `execute` only the writing half.
"""

from collections.abc import Iterable
from typing import Protocol

from storekeeper.manifests.objects import Manifest, ObjectRef, ref_of


class ClusterError(Exception):
    """A call that failed. `status` is the HTTP status (0: no answer); `retryable` if it may go through later.

    `code` is the API's CamelCase reason (Forbidden, Invalid, NamespaceTerminating, …); `retry_after` are the seconds
    that the server asked to be left alone, to be honoured by the caller.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 0,
        retryable: bool = True,
        code: str = "",
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.retryable = retryable
        self.code = code
        self.retry_after = retry_after


class ClusterReader(Protocol):
    """Reads. Secrets cannot be asked for."""

    def get(self, ref: ObjectRef) -> Manifest | None: ...

    def find(self, kind: str, namespace: str | None = None, labels: dict[str, str] | None = None) -> list[Manifest]:
        """Live objects of a kind; every one of `labels` must match; no namespace: all that we may see."""
        ...

    def pod_warnings(self, namespace: str, pod: str) -> list[tuple[str, str]]:
        """(reason, message) of the pod's Warning events, newest first."""
        ...

    def namespace_terminating(self, namespace: str) -> bool:
        """Whether the namespace is being deleted: nothing can be created in it any more."""
        ...


class ClusterWriter(Protocol):
    """Writes."""

    def apply(self, manifest: Manifest) -> bool:
        """Server-side apply, forced, with FIELD_MANAGER; True if it changed anything."""
        ...

    def create(self, manifest: Manifest) -> bool:
        """POST; False if it exists. The only write allowed for Secrets besides delete."""
        ...

    def delete(self, ref: ObjectRef) -> bool:
        """False if it was not there."""
        ...

    def set_finalizer(self, ref: ObjectRef, finalizer: str, present: bool) -> bool: ...

    def apply_status(self, ref: ObjectRef, status: Manifest) -> None:
        """Server-side apply of the status subresource with STATUS_MANAGER."""
        ...

    def emit(self, regarding: Manifest, *, type_: str, reason: str, action: str, message: str) -> None:
        """Post an Event (events.k8s.io/v1); failures are logged, never raised."""
        ...


class Cluster(ClusterReader, ClusterWriter, Protocol):
    """Both halves."""

    def close(self) -> None: ...


def by_ref(manifests: Iterable[Manifest]) -> dict[ObjectRef, Manifest]:
    return {ref_of(m): m for m in manifests}
