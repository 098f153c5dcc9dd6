"""The `Cluster` protocol spoken to this machine: objects as files, workloads as processes.

Without `start` it only reads and writes the objects, as commands do beside a supervisor; with `start` (once a state
folder, under the supervisor's lock) its controllers run what the objects say until `close`.
"""

import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import structlog

from storekeeper.adapters.cluster import ClusterError
from storekeeper.adapters.processes.admission import admit
from storekeeper.adapters.processes.controllers import Controllers
from storekeeper.adapters.processes.folders import Folders
from storekeeper.adapters.processes.objectfiles import Listener, ObjectFiles, timestamp
from storekeeper.adapters.processes.pods import Site
from storekeeper.adapters.processes.statefolder import StateFolder
from storekeeper.manifests.objects import Manifest, ObjectRef, ref_of

EVENTS_BYTES_MAX = 2**20
"""events.jsonl is put aside at this size; one older one is kept."""
RETRY_SECONDS = 1.0
PASS_SECONDS_MAX = 30.0
"""A pass at least this often: it costs some file reads, and finds what was changed without ringing."""

log = structlog.get_logger(__name__)


class ProcessCluster:
    """`storekeeper.adapters.cluster.Cluster` without a cluster. Thread-safe."""

    def __init__(self, folder: StateFolder, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._folder = folder
        self._objects = ObjectFiles(folder.objects, folders := Folders(folder.root))
        self._dirty, self._closing = threading.Event(), threading.Event()
        self._controllers = Controllers(Site(self._objects, folders), now, self._dirty)
        self._thread: threading.Thread | None = None
        self._objects.subscribe(lambda _: self._dirty.set())

    # -- running --------------------------------------------------------------------------------------------------

    def start(self) -> None:
        self._controllers.discard_stale_pods()
        self._dirty.set()
        self._thread = threading.Thread(target=self._run, name="controllers", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Another process changed objects."""
        self._dirty.set()

    def subscribe(self, listener: Listener) -> None:
        """Call `listener` with every object that changes in this process, or goes; it must be quick."""
        self._objects.subscribe(listener)

    def close(self) -> None:
        """Stop every process, as gracefully as its pod asks for. Objects and data stay."""
        self._closing.set()
        self._dirty.set()
        if self._thread is not None:
            self._thread.join()
            self._controllers.stop()

    def _run(self) -> None:
        due_seconds: float | None = 0.0
        while not self._closing.is_set():
            self._dirty.wait(min(PASS_SECONDS_MAX, PASS_SECONDS_MAX if due_seconds is None else due_seconds))
            self._dirty.clear()
            if not self._closing.is_set():
                due_seconds = self._settle()

    def _settle(self) -> float | None:
        try:
            return self._controllers.settle()
        except (OSError, ClusterError) as error:  # e.g. a full disk: the next pass starts from what there is
            log.warning("a pass over the objects failed", error=str(error))
            return RETRY_SECONDS

    # -- reading --------------------------------------------------------------------------------------------------

    def get(self, ref: ObjectRef) -> Manifest | None:
        _refuse_secret(ref.kind)
        return self._objects.get(ref)

    def find(self, kind: str, namespace: str | None = None, labels: dict[str, str] | None = None) -> list[Manifest]:
        _refuse_secret(kind)
        return self._objects.find(kind, namespace, labels)

    def pod_warnings(self, namespace: str, pod: str) -> list[tuple[str, str]]:
        return self._controllers.warnings(namespace, pod)

    def namespace_terminating(self, namespace: str) -> bool:
        return False  # namespaces are folders here: they come with their first object and are never deleted

    # -- writing --------------------------------------------------------------------------------------------------

    def apply(self, manifest: Manifest) -> bool:
        _refuse_secret(manifest["kind"])
        admit(manifest)
        return self._objects.apply(manifest)

    def create(self, manifest: Manifest) -> bool:
        admit(manifest)
        return self._objects.create(manifest)

    def delete(self, ref: ObjectRef) -> bool:
        return self._objects.delete(ref)

    def set_finalizer(self, ref: ObjectRef, finalizer: str, present: bool) -> bool:
        return self._objects.set_finalizer(ref, finalizer, present)

    def apply_status(self, ref: ObjectRef, status: Manifest) -> None:
        self._objects.apply_status(ref, status)

    def emit(self, regarding: Manifest, *, type_: str, reason: str, action: str, message: str) -> None:
        event = {"time": timestamp(), "type": type_, "regarding": str(ref_of(regarding)), "reason": reason}
        line = json.dumps(event | {"action": action, "message": message})
        _append(self._folder.events, line)


def _refuse_secret(kind: str) -> None:
    if kind == "Secret":
        raise ClusterError("Secrets are created and deleted, never read or patched", retryable=False)


def _append(path: Path, line: str) -> None:
    if path.exists() and path.stat().st_size > EVENTS_BYTES_MAX:
        path.replace(path.with_name(f"{path.name}.1"))
    with path.open("a") as file:
        file.write(line + "\n")
