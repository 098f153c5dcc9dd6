"""The whole flow on a cluster in memory: what is written, what is said, and that a system at rest writes nothing."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from store_runtime.clock import ManualClock
from storekeeper.adapters.cluster import ClusterError
from storekeeper.adapters.runtime_api import RuntimeApi
from storekeeper.api.resource import StoreResource
from storekeeper.execute.tokens import Signer, new_key
from storekeeper.manifests.objects import FINALIZER, LABEL_JOB, ObjectRef
from storekeeper.manifests.place import Place
from storekeeper.metrics import Metrics
from storekeeper.reconcile import STREAMS, NotDone, Reconciler

from .api_server import ApiServer, Reply, Request
from .memory_cluster import MemoryCluster

READY = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
KEY = ObjectRef(STREAMS, "n", "gateway")


class Runtime:
    """A store that serves: its status, and the streams it was told of."""

    def __init__(self) -> None:
        self.synced: list[dict[str, Any]] = []
        self.refused: dict[str, str] = {}
        self.down = False

    def __call__(self, request: Request) -> Reply:
        if self.down:
            return Reply(503, {"code": "Overloaded", "detail": "not now"})
        if request.path == "/v1/admin/streams":
            self.synced.append(request.body)
            names = [stream["name"] for stream in request.body["streams"]] + list(request.body.get("delete", []))
            return Reply(200, {"outcomes": [{"name": name, "code": self.refused.get(name, "")} for name in names]})
        backend = {"type": "sqlite", "reachable": True, "schemaVersion": "1", "role": "active", "epoch": 1}
        identity = {"kind": "LogStore", "namespace": "n", "name": "gateway", "storeId": "uid-LogStore-gateway"}
        return Reply(200, {**identity, "version": "0", "startedAt": "2026-01-01T00:00:00Z", "backend": backend})


@pytest.fixture
def runtime() -> Runtime:
    return Runtime()


@pytest.fixture
def server(runtime: Runtime) -> Iterator[ApiServer]:
    server = ApiServer()
    server.answer = runtime
    yield server
    server.close()


@pytest.fixture
def cluster() -> MemoryCluster:
    return MemoryCluster()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def reconciler(cluster: MemoryCluster, server: ApiServer, metrics: Metrics) -> Iterator[Reconciler]:
    clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
    signer = Signer(new_key(), clock)
    api = RuntimeApi(signer.operator_token)

    def place(_: StoreResource) -> Place:
        return Place(url=server.url, public_keys=(signer.public_pem,), image="storekeeper:1")

    yield Reconciler(cluster, place, api, signer, clock, metrics)
    api.close()


def serve(cluster: MemoryCluster, owner: ObjectRef, reconciler: Reconciler) -> None:
    """Kubernetes does its part: the workload's pod becomes Ready."""
    [workload] = [live for kind in ("StatefulSet", "Deployment") for live in cluster.find(kind)]
    generation = workload["metadata"]["generation"]
    ref = ObjectRef(workload["kind"], "n", workload["metadata"]["name"])
    cluster.set_status(ref, observedGeneration=generation, replicas=1, readyReplicas=1, updatedReplicas=1)
    cluster.pod(owner, f"{ref.name}-0", READY)
    reconciler.reconcile(owner)


def running(cluster: MemoryCluster, reconciler: Reconciler, **spec: Any) -> ObjectRef:
    ref = cluster.put("LogStore", "gateway", {"entries": {"enabled": True}, **spec})
    reconciler.reconcile(ref)
    serve(cluster, ref, reconciler)
    reconciler.reconcile(ref)
    return ref


# -- stores -------------------------------------------------------------------------------------------------------


def test_a_new_store_gets_its_children_and_says_that_it_starts(cluster: MemoryCluster, reconciler: Reconciler) -> None:
    ref = cluster.put("LogStore", "gateway", {})
    after = reconciler.reconcile(ref)
    kinds = {child.kind for child in cluster.objects}
    assert {"ServiceAccount", "ConfigMap", "PersistentVolumeClaim", "Service", "StatefulSet"} <= kinds
    assert cluster.secrets
    assert after is not None
    assert cluster.condition(ref, "Ready")[0] == "False"
    assert cluster.condition(ref, "Reconciling")[0] == "True"
    assert cluster.objects[ref]["status"]["observedGeneration"] == 1


def test_a_store_that_serves_is_ready_and_its_turning_is_an_event(
    cluster: MemoryCluster, reconciler: Reconciler
) -> None:
    ref = running(cluster, reconciler)
    assert cluster.condition(ref, "Ready") == ("True", "Serving")
    assert cluster.condition(ref, "Reconciling")[0] == "False"
    assert cluster.objects[ref]["status"]["activeBackend"]["storeID"] == "uid-LogStore-gateway"
    assert [(type_, reason) for type_, reason, _ in cluster.events] == [("Normal", "Serving")]


def test_a_store_at_rest_writes_nothing(cluster: MemoryCluster, reconciler: Reconciler) -> None:
    ref = running(cluster, reconciler)
    before = list(cluster.written)
    for _ in range(3):
        reconciler.reconcile(ref)
    assert cluster.written == before


def test_a_child_that_was_deleted_returns(cluster: MemoryCluster, reconciler: Reconciler) -> None:
    ref = running(cluster, reconciler)
    [service] = [child for child in cluster.objects if child.kind == "Service"]
    del cluster.objects[service]
    reconciler.reconcile(ref)
    assert service in cluster.objects


def test_a_bad_spec_is_named_and_the_running_store_is_left_alone(
    cluster: MemoryCluster, reconciler: Reconciler
) -> None:
    ref = running(cluster, reconciler)
    cluster.put("LogStore", "gateway", {"retention": {"maxAge": "soon"}})
    before = list(cluster.written)
    reconciler.reconcile(ref)
    assert cluster.written == [*before, "status LogStore gateway"]
    assert cluster.condition(ref, "Stalled") == ("True", "InvalidSpec")
    assert cluster.message(ref, "Stalled").startswith("spec.retention.maxAge")
    assert cluster.condition(ref, "Ready")[0] == "True"
    cluster.put("LogStore", "gateway", {"entries": {"enabled": True}, "retention": {"maxAge": "1h"}})
    reconciler.reconcile(ref)
    reconciler.reconcile(ref)
    assert cluster.condition(ref, "Stalled")[0] == "False"


def test_a_store_that_is_gone_is_no_error(cluster: MemoryCluster, reconciler: Reconciler) -> None:
    assert reconciler.reconcile(ObjectRef("LogStore", "n", "never")) is None
    assert cluster.written == []


def test_a_step_that_fails_is_told_and_retried(
    cluster: MemoryCluster, reconciler: Reconciler, metrics: Metrics
) -> None:
    ref = cluster.put("LogStore", "gateway", {})
    cluster.broken["apply"] = ClusterError("the API said no", status=429, retry_after=9.0)
    with pytest.raises(NotDone) as error:
        reconciler.reconcile(ref)
    assert error.value.retry_after == 9.0
    assert cluster.condition(ref, "Reconciling") == ("True", "Retrying")
    assert "the API said no" in cluster.message(ref, "Reconciling")
    assert not [child for child in cluster.objects if child.kind == "StatefulSet"]
    cluster.broken.clear()
    reconciler.reconcile(ref)
    assert [child for child in cluster.objects if child.kind == "StatefulSet"]
    sample = metrics.registry.get_sample_value
    assert sample("storekeeper_reconcile_total", {"kind": "LogStore", "result": "error"}) == 1
    assert sample("storekeeper_reconcile_errors_total", {"kind": "LogStore"}) == 1


def test_a_refusal_stalls_and_is_retried_all_the_same(cluster: MemoryCluster, reconciler: Reconciler) -> None:
    ref = cluster.put("LogStore", "gateway", {})
    cluster.broken["apply Service"] = ClusterError("a policy forbids it", status=403, retryable=False)
    with pytest.raises(NotDone):
        reconciler.reconcile(ref)
    assert cluster.condition(ref, "Stalled") == ("True", "RefusedByCluster")


def test_a_cluster_that_cannot_be_read_changes_nothing(cluster: MemoryCluster, reconciler: Reconciler) -> None:
    ref = cluster.put("LogStore", "gateway", {})
    cluster.broken["get"] = ClusterError("away")
    with pytest.raises(NotDone, match="away"):
        reconciler.reconcile(ref)
    assert cluster.written == []


def test_a_missing_secret_is_read_from_the_pods_events(cluster: MemoryCluster, reconciler: Reconciler) -> None:
    backend = {
        "type": "postgres",
        "postgres": {"host": "db", "database": "logs", "credentialsSecretRef": {"name": "x"}},
    }
    ref = cluster.put("LogStore", "gateway", {"backend": backend})
    reconciler.reconcile(ref)
    cluster.pod(ref, "gateway-logs-provision-x", {"phase": "Pending"}, **{LABEL_JOB: "provision"})
    cluster.warnings = [("FailedMount", 'MountVolume.SetUp failed for volume "c" : secret "x" not found')]
    reconciler.reconcile(ref)
    assert cluster.condition(ref, "Ready") == ("False", "SecretMissing")


def test_deleting_a_retained_store_stops_releases_and_lets_go(cluster: MemoryCluster, reconciler: Reconciler) -> None:
    ref = running(cluster, reconciler)
    assert cluster.objects[ref]["metadata"]["finalizers"] == [FINALIZER]
    cluster.ask_to_delete(ref)
    reconciler.reconcile(ref)
    assert not cluster.find("StatefulSet")
    reconciler.reconcile(ref)
    assert not cluster.find("Job"), "a pod still runs"
    assert cluster.condition(ref, "Reconciling") == ("True", "Removing")
    assert cluster.message(ref, "Ready") == "waiting for pod gateway-logs-0 to stop"
    assert cluster.objects[ref]["status"]["phase"] == "Terminating"
    [pod] = [child for child in cluster.objects if child.kind == "Pod"]
    del cluster.objects[pod]
    reconciler.reconcile(ref)
    [job] = cluster.find("Job")
    assert ref in cluster.objects
    name = job["metadata"]["name"]
    cluster.set_status(ObjectRef("Job", "n", name), conditions=[{"type": "Complete", "status": "True"}])
    reconciler.reconcile(ref)
    assert ref not in cluster.objects
    assert cluster.find("PersistentVolumeClaim")


def test_in_a_namespace_that_goes_nothing_is_made(cluster: MemoryCluster, reconciler: Reconciler) -> None:
    ref = running(cluster, reconciler)
    cluster.ask_to_delete(ref)
    cluster.terminating = True
    reconciler.reconcile(ref)
    assert ref not in cluster.objects
    assert not cluster.find("Job")


def test_a_bad_spec_does_not_keep_a_resource_from_going(cluster: MemoryCluster, reconciler: Reconciler) -> None:
    ref = cluster.put("LogStore", "gateway", {"surprise": 1}, finalizers=[FINALIZER])
    cluster.ask_to_delete(ref)
    reconciler.reconcile(ref)
    assert ref not in cluster.objects
    assert [reason for _, reason, _ in cluster.events] == ["InvalidSpec"]


# -- streams ------------------------------------------------------------------------------------------------------


def stream(cluster: MemoryCluster, name: str, **spec: Any) -> ObjectRef:
    return cluster.put("Stream", name, {"logStoreRef": {"name": "gateway"}, **spec})


def test_all_streams_of_a_store_go_in_one_call(
    cluster: MemoryCluster, reconciler: Reconciler, runtime: Runtime
) -> None:
    running(cluster, reconciler)
    refs = [stream(cluster, name, retention={"maxAge": "5m"}) for name in ("api", "web")]
    cluster.put("Stream", "elsewhere", {"logStoreRef": {"name": "other"}})
    reconciler.reconcile(KEY)
    [sync] = runtime.synced
    assert [declared["name"] for declared in sync["streams"]] == ["api", "web"]
    for ref in refs:
        assert cluster.condition(ref, "Ready") == ("True", "InForce")


def test_streams_at_rest_are_not_sent_again_and_nothing_is_written(
    cluster: MemoryCluster, reconciler: Reconciler, runtime: Runtime
) -> None:
    running(cluster, reconciler)
    stream(cluster, "web")
    reconciler.reconcile(KEY)
    before = list(cluster.written)
    for _ in range(3):
        assert reconciler.reconcile(KEY) is None
    assert cluster.written == before
    assert len(runtime.synced) == 1


def test_a_changed_stream_is_sent(cluster: MemoryCluster, reconciler: Reconciler, runtime: Runtime) -> None:
    running(cluster, reconciler)
    ref = stream(cluster, "web")
    reconciler.reconcile(KEY)
    stream(cluster, "web", retention={"maxAge": "1m"})
    reconciler.reconcile(KEY)
    assert len(runtime.synced) == 2
    assert cluster.objects[ref]["status"]["observedGeneration"] == 2


def test_one_refused_stream_does_not_stall_the_others(
    cluster: MemoryCluster, reconciler: Reconciler, runtime: Runtime
) -> None:
    running(cluster, reconciler)
    bad, good = stream(cluster, "bad"), stream(cluster, "good")
    runtime.refused = {"bad": "InvalidInput"}
    reconciler.reconcile(KEY)
    assert cluster.condition(bad, "Stalled")[0] == "True"
    assert cluster.condition(good, "Ready")[0] == "True"


def test_an_invalid_stream_is_told_and_the_others_are_sent(
    cluster: MemoryCluster, reconciler: Reconciler, runtime: Runtime
) -> None:
    running(cluster, reconciler)
    bad, good = stream(cluster, "bad", retention={"maxAge": "soon"}), stream(cluster, "good")
    reconciler.reconcile(KEY)
    assert cluster.condition(bad, "Stalled") == ("True", "InvalidSpec")
    assert cluster.condition(good, "Ready")[0] == "True"
    assert [declared["name"] for declared in runtime.synced[0]["streams"]] == ["good"]


@pytest.mark.parametrize(
    ("spec", "reason"),
    [(None, "LogStoreMissing"), ({"entries": {"enabled": False}}, "EntriesDisabled"), ({}, "EntriesDisabled")],
)
def test_what_a_stream_waits_for(
    cluster: MemoryCluster, reconciler: Reconciler, spec: dict[str, Any] | None, reason: str
) -> None:
    if spec is not None:
        cluster.put("LogStore", "gateway", spec)
    ref = stream(cluster, "web")
    assert reconciler.reconcile(KEY) is not None
    assert cluster.condition(ref, "Ready") == ("False", reason)


def test_a_stream_comes_into_force_when_its_store_serves(cluster: MemoryCluster, reconciler: Reconciler) -> None:
    ref = stream(cluster, "web")
    owner = cluster.put("LogStore", "gateway", {"entries": {"enabled": True}})
    reconciler.reconcile(owner)
    reconciler.reconcile(KEY)
    assert cluster.condition(ref, "Ready") == ("False", "LogStoreNotReady")
    serve(cluster, owner, reconciler)
    reconciler.reconcile(KEY)
    assert cluster.condition(ref, "Ready")[0] == "True"


def test_a_sync_that_fails_is_told_and_tried_again(
    cluster: MemoryCluster, reconciler: Reconciler, runtime: Runtime, server: ApiServer
) -> None:
    running(cluster, reconciler)
    ref = stream(cluster, "web")
    server.answer = lambda request: (
        Reply(503, {"code": "OutOfSpace", "detail": "the disk is full"})
        if (request.method == "PUT")
        else runtime(request)
    )
    with pytest.raises(NotDone, match="the disk is full"):
        reconciler.reconcile(KEY)
    assert cluster.condition(ref, "Ready")[0] == "False"
    server.answer = runtime
    reconciler.reconcile(KEY)
    assert cluster.condition(ref, "Ready")[0] == "True"


def test_a_store_that_was_made_anew_is_told_again(
    cluster: MemoryCluster, reconciler: Reconciler, runtime: Runtime
) -> None:
    ref = running(cluster, reconciler)
    stream(cluster, "web")
    reconciler.reconcile(KEY)
    cluster.objects[ref]["metadata"]["uid"] = "another"
    reconciler.reconcile(KEY)
    assert len(runtime.synced) == 2


def test_a_stream_whose_entries_must_go_waits_for_it(
    cluster: MemoryCluster, reconciler: Reconciler, runtime: Runtime
) -> None:
    running(cluster, reconciler)
    ref = stream(cluster, "web", deletionPolicy="Delete")
    reconciler.reconcile(KEY)
    assert cluster.objects[ref]["metadata"]["finalizers"] == [FINALIZER]
    cluster.ask_to_delete(ref)
    reconciler.reconcile(KEY)
    assert runtime.synced[-1] == {"streams": [], "delete": ["web"]}
    assert ref not in cluster.objects


def test_a_store_without_streams_is_told_once_that_there_are_none(
    cluster: MemoryCluster, reconciler: Reconciler, runtime: Runtime
) -> None:
    running(cluster, reconciler)
    for _ in range(3):
        assert reconciler.reconcile(KEY) is None
    assert runtime.synced == [{"streams": [], "delete": []}]


def test_a_store_that_hosts_none_is_not_asked_about_streams(
    cluster: MemoryCluster, reconciler: Reconciler, server: ApiServer
) -> None:
    cluster.put("LogStore", "gateway", {})
    assert reconciler.reconcile(KEY) is None
    assert server.requests == []
