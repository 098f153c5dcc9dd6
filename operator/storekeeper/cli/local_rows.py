"""What `storekeeper local` shows of a resource: one row, gathered from the objects of the local cluster."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from storekeeper.adapters.processes.cluster import ProcessCluster
from storekeeper.adapters.processes.podstatus import CONTAINER_ID_SCHEME, is_ready
from storekeeper.adapters.processes.statefolder import StateFolder, SupervisorLock
from storekeeper.cli.local_files import RESOURCE_KINDS
from storekeeper.manifests.objects import LABEL_OWNER_KIND, LABEL_OWNER_NAME, Manifest, ObjectRef, ref_of

_BETWEEN = {"reason": "Restarting", "message": "its process is being started"}
"""Said while the last Ready condition is older than the process."""


@dataclass(frozen=True, slots=True)
class Row:
    """A resource as people ask about it. Paths and URL are empty where it has none (yet).

    `ready` is its Ready condition, and that a process of its store answers now: conditions outlive a supervisor.
    """

    kind: str
    namespace: str
    name: str
    phase: str
    ready: bool
    settled: bool
    """The conditions are about the newest spec, and nothing is on its way any more (kstatus: not in progress)."""
    stalled: bool
    reason: str
    message: str
    url: str
    pid: int
    token_file: str
    data_directories: tuple[str, ...]
    conditions: tuple[dict[str, Any], ...]

    @property
    def ref(self) -> ObjectRef:
        return ObjectRef(self.kind, self.namespace, self.name)

    @property
    def is_ready(self) -> bool:
        return self.ready and self.settled

    @property
    def is_stuck(self) -> bool:
        """Waiting helps nothing: a person has to act."""
        return self.stalled and self.settled

    def document(self) -> dict[str, Any]:
        """The JSON form, camelCase."""
        return {_camel(key): value for key, value in asdict(self).items()}


def rows_of(cluster: ProcessCluster, folder: StateFolder, wanted: Iterable[ObjectRef] = ()) -> list[Row]:
    """Of all resources, or of those wanted (the ones that are gone are left out), by kind and name."""
    resources = [resource for kind in RESOURCE_KINDS for resource in cluster.find(kind)]
    refs, running = set(wanted), SupervisorLock(folder).holder() is not None
    return [_row(cluster, folder, r, running) for r in resources if not refs or ref_of(r) in refs]


def _row(cluster: ProcessCluster, folder: StateFolder, resource: Manifest, running: bool) -> Row:
    ref, status = ref_of(resource), resource.get("status") or {}
    conditions = {c["type"]: c for c in status.get("conditions", [])}
    ready, stalled, reconciling = (conditions.get(name, {}) for name in ("Ready", "Stalled", "Reconciling"))
    host = _host_of(cluster, resource)
    serving = running and any(is_ready(pod) for pod in _pods(cluster, host))
    abnormal = [c for c in (stalled, reconciling) if c.get("status") == "True"]
    telling = abnormal[0] if abnormal else ready
    if telling is ready and ready.get("status") == "True" and not serving:
        telling = _BETWEEN if running else {}
    return Row(
        kind=ref.kind,
        namespace=ref.namespace,
        name=ref.name,
        phase=_phase(resource) if running else "Stopped",
        ready=ready.get("status") == "True" and serving,
        settled=_is_settled(resource, reconciling),
        stalled=stalled.get("status") == "True",
        reason=telling.get("reason", ""),
        message=telling.get("message", ""),
        url=_url(folder, host, resource),
        pid=_pid(cluster, resource) if running else 0,
        token_file=_file(folder, host, "token"),
        data_directories=_data_directories(cluster, folder, ref),
        conditions=tuple(status.get("conditions", [])),
    )


def _host_of(cluster: ProcessCluster, resource: Manifest) -> Manifest:
    """The store that serves it: a Stream's LogStore, else itself."""
    if resource["kind"] != "Stream":
        return resource
    name = ((resource.get("spec") or {}).get("logStoreRef") or {}).get("name", "")
    return (cluster.get(ObjectRef("LogStore", resource["metadata"]["namespace"], name)) if name else None) or resource


def _url(folder: StateFolder, host: Manifest, resource: Manifest) -> str:
    path = _file(folder, host, "uri")
    base = Path(path).read_text().strip() if path else ""
    if base and resource["kind"] == "Stream":
        name = (resource.get("spec") or {}).get("name") or resource["metadata"]["name"]
        return f"{base}/api/v1/streams/{quote(name, safe='')}"
    return base


def _file(folder: StateFolder, host: Manifest, key: str) -> str:
    """A file of the store's binding, as an application would have it mounted; empty while there is none."""
    binding = ((host.get("status") or {}).get("binding") or {}).get("name")
    path = folder.binding(host["metadata"]["namespace"], binding) / key if binding else None
    return str(path) if path is not None and path.exists() else ""


def _phase(resource: Manifest) -> str:
    if "deletionTimestamp" in resource["metadata"]:
        return "Deleting"
    return (resource.get("status") or {}).get("phase") or "Pending"


def _is_settled(resource: Manifest, reconciling: dict[str, Any]) -> bool:
    observed = (resource.get("status") or {}).get("observedGeneration", -1)
    return bool(observed >= resource["metadata"]["generation"] and reconciling.get("status") != "True")


def _pods(cluster: ProcessCluster, store: Manifest) -> list[Manifest]:
    """Its serving pods that are to stay."""
    ref = ref_of(store)
    return [
        pod
        for pod in cluster.find("Pod", ref.namespace, _labels(ref))
        if "deletionTimestamp" not in pod["metadata"] and pod["metadata"]["ownerReferences"][0]["kind"] != "Job"
    ]


def _pid(cluster: ProcessCluster, store: Manifest) -> int:
    """Of its serving container; 0 if none runs."""
    for pod in _pods(cluster, store):
        for container in (pod.get("status") or {}).get("containerStatuses", []):
            if "running" in container["state"]:
                return int(container["containerID"].removeprefix(CONTAINER_ID_SCHEME))
    return 0


def _data_directories(cluster: ProcessCluster, folder: StateFolder, ref: ObjectRef) -> tuple[str, ...]:
    claims = cluster.find("PersistentVolumeClaim", ref.namespace, _labels(ref))
    return tuple(str(folder.volume(ref.namespace, ref_of(claim).name)) for claim in claims)


def _labels(ref: ObjectRef) -> dict[str, str]:
    return {LABEL_OWNER_KIND: ref.kind, LABEL_OWNER_NAME: ref.name}


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)
