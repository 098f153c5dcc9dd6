"""Small worlds for the plan's tests: a resource, its desired children, what is observed of them."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from store_runtime.config.runtime import StoreIdentity
from store_runtime.config.wire import BackendStatus, JobName, Role, StoreStatus
from storekeeper.api.parse import parse
from storekeeper.api.resource import StoreResource
from storekeeper.manifests.objects import (
    ANNOTATION_FINGERPRINT,
    LABEL_JOB,
    LABEL_STORE_ID,
    Manifest,
    ref_of,
)
from storekeeper.plan.desired import Desired
from storekeeper.plan.observed import Observed, RuntimeView
from storekeeper.plan.situation import Situation

UID = "11111111-2222-3333-4444-555555555555"
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
POSTGRES = {"type": "postgres", "postgres": {"host": "db", "database": "logs", "credentialsSecretRef": {"name": "db"}}}


def resource(
    kind: str = "LogStore", *, status: dict[str, Any] | None = None, metadata: dict[str, Any] | None = None, **spec: Any
) -> StoreResource:
    found = parse(
        {
            "apiVersion": "storekeeper.dev/v1alpha1",
            "kind": kind,
            "metadata": {"name": "gateway", "namespace": "ns", "uid": UID, "generation": 3, **(metadata or {})},
            "spec": spec,
            "status": status or {},
        }
    )
    assert isinstance(found, StoreResource)
    return found


def thing(kind: str, name: str, *, labels: dict[str, str] | None = None, **fields: Any) -> Manifest:
    metadata = {"name": name, "namespace": "ns", "labels": labels or {}, "annotations": {}}
    return {"apiVersion": "v1", "kind": kind, "metadata": metadata, **fields}


def desired(store: StoreResource) -> Desired:
    on_volume = store.has_volume
    workload = thing("StatefulSet" if on_volume else "Deployment", "gateway-logs", spec={"replicas": 1})
    workload["metadata"]["annotations"][ANNOTATION_FINGERPRINT] = store.fingerprint
    jobs = {} if on_volume else {name: job(name) for name in (JobName.PROVISION, JobName.MIGRATE)}
    claims = (thing("PersistentVolumeClaim", "gateway-logs-data", labels={LABEL_STORE_ID: store.store_id}),)
    return Desired(
        account=thing("ServiceAccount", "gateway-logs"),
        config=thing("ConfigMap", "gateway-logs-e1-00000001", data={"config.json": "{}"}),
        policy=thing("ConfigMap", "gateway-logs-policy"),
        claims=claims if store.data_is_on_volume else (),
        service=thing("Service", "gateway-logs"),
        network_policy=thing("NetworkPolicy", "gateway-logs"),
        disruption_budget=None,
        workload=workload,
        retention=thing("CronJob", "gateway-logs-retain"),
        binding=thing("Secret", "gateway-logs-binding"),
        jobs_token=thing("Secret", "gateway-logs-jobs"),
        jobs=jobs,
        removal_job=job(JobName.RELEASE),
    )


def job(name: JobName, digest: str = "00000001", *, done: bool = False) -> Manifest:
    status = {"conditions": [{"type": "Complete", "status": "True"}]} if done else {}
    return thing("Job", f"gateway-logs-{name}-{digest}", labels={LABEL_JOB: str(name)}, status=status)


def situation(store: StoreResource, *live: Manifest, **observed: Any) -> Situation:
    identity = StoreIdentity(namespace="ns", name="gateway", id=store.store_id, owner=UID)
    children = {ref_of(manifest): manifest for manifest in live}
    return Situation(
        resource=store,
        observed=Observed(children=children, **observed),
        identity=identity,
        fingerprint=store.fingerprint,
        epoch=1,
        desired=desired(store),
    )


def running(manifest: Manifest, *, ready: int = 1) -> Manifest:
    """The live form of a workload whose rollout is complete."""
    live = {**manifest, "metadata": {**manifest["metadata"], "generation": 1}}
    live["status"] = {"observedGeneration": 1, "readyReplicas": ready, "updatedReplicas": ready}
    return live


def all_live(store: StoreResource) -> list[Manifest]:
    """Everything as desired, every job done, the pods ready."""
    wanted = desired(store)
    done = {ref_of(m) for m in wanted.jobs.values()}
    return [running(m) if m is wanted.workload else _finished(m) if ref_of(m) in done else m for m in wanted.all()]


def _finished(manifest: Manifest) -> Manifest:
    return {**manifest, "status": {"conditions": [{"type": "Complete", "status": "True"}]}}


def serving(*, reachable: bool = True, message: str = "") -> RuntimeView:
    backend = BackendStatus(
        type="sqlite", reachable=reachable, message=message, schema_version="0001", role=Role.ACTIVE, epoch=1
    )
    return RuntimeView(
        status=StoreStatus(
            kind="LogStore", namespace="ns", name="gateway", store_id=UID, version="0", started_at=NOW, backend=backend
        )
    )


def without(manifests: Iterable[Manifest], kind: str) -> list[Manifest]:
    return [m for m in manifests if m["kind"] != kind]


def settled_status(store: StoreResource, at: Situation) -> dict[str, Any]:
    """A status that remembers the token Secrets, so that nothing is left to do."""
    from storekeeper.plan.tokens import revision

    return {"binding": {"name": "gateway-logs-binding", "revision": revision(at)}}


def at_rest(store: StoreResource) -> Situation:
    """The situation in which there is nothing to do."""
    first = situation(store, *all_live(store), runtime=serving())
    remembered = store.model_copy(update={"status": settled_status(store, first)})
    finalizers = ("storekeeper.dev/finalizer",)
    remembered = remembered.model_copy(
        update={"metadata": store.metadata.model_copy(update={"finalizers": finalizers})}
    )
    return replace(first, resource=remembered)
