"""What the adapter sends to the API server, and what it makes of the answers."""

import base64
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
import yaml

from storekeeper.adapters.cluster import ClusterError
from storekeeper.adapters.kubernetes import (
    EVENT_REPEAT_SECONDS,
    EVENTS_PER_OBJECT_AND_MINUTE,
    KubernetesCluster,
)
from storekeeper.adapters.kubernetes_api import KubernetesApi, connect, path, plural
from storekeeper.manifests.objects import API_VERSIONS, FINALIZER, ObjectRef
from storekeeper.observe.cache import Cache

from .api_server import ApiServer, Reply, Request, refusal

TOKEN = "a-bearer-token"


@pytest.fixture
def server() -> Iterator[ApiServer]:
    server = ApiServer()
    yield server
    server.close()


@pytest.fixture
def api(server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KubernetesApi]:
    config = tmp_path / "kubeconfig"
    config.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "c",
                "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                "clusters": [{"name": "c", "cluster": {"server": server.url}}],
                "users": [{"name": "u", "user": {"token": TOKEN}}],
            }
        )
    )
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(config))
    api = connect(pool_size=2)
    yield api
    api.close()


@pytest.fixture
def cache() -> Cache:
    return Cache()


@pytest.fixture
def cluster(api: KubernetesApi, cache: Cache) -> KubernetesCluster:
    return KubernetesCluster(api, cache, instance="pod-1")


def manifest(kind: str, name: str = "a", version: str = "1", **fields: Any) -> dict[str, Any]:
    metadata = {"namespace": "n", "name": name, "uid": f"uid-{name}", "resourceVersion": version}
    return {"apiVersion": API_VERSIONS[kind], "kind": kind, "metadata": metadata, **fields}


def test_paths_follow_from_the_kind() -> None:
    assert path("ConfigMap", "n", "a") == "/api/v1/namespaces/n/configmaps/a"
    assert path("StatefulSet", "n", "a", "status") == "/apis/apps/v1/namespaces/n/statefulsets/a/status"
    assert path("NetworkPolicy", "n") == "/apis/networking.k8s.io/v1/namespaces/n/networkpolicies"
    assert path("LogStore") == "/apis/storekeeper.dev/v1alpha1/logstores"
    assert plural("Lease") == "leases"


def test_apply_is_forced_server_side_apply_with_our_manager(cluster: KubernetesCluster, server: ApiServer) -> None:
    server.answer = lambda request: Reply(200, {**request.body, "metadata": {"name": "a", "resourceVersion": "7"}})
    wanted = manifest("Service", spec={"ports": []})
    assert cluster.apply(wanted)
    [request] = server.requests
    assert (request.method, request.path) == ("PATCH", "/api/v1/namespaces/n/services/a")
    assert request.query == {"fieldManager": "storekeeper", "force": "true"}
    assert request.headers["Content-Type"] == "application/apply-patch+yaml"
    assert request.headers["authorization"] == f"Bearer {TOKEN}"
    assert request.body == wanted


def test_apply_tells_whether_it_changed_anything(cluster: KubernetesCluster, cache: Cache, server: ApiServer) -> None:
    cache.put(manifest("Service", version="7"))
    server.answer = lambda _: Reply(200, manifest("Service", version="7"))
    assert not cluster.apply(manifest("Service"))
    server.answer = lambda _: Reply(200, manifest("Service", version="8"))
    assert cluster.apply(manifest("Service"))
    assert cluster.get(ObjectRef("Service", "n", "a")) == manifest("Service", version="8")


def test_create_is_a_post_and_an_object_that_is_there_is_left_alone(
    cluster: KubernetesCluster, server: ApiServer
) -> None:
    server.answer = lambda request: Reply(201, manifest("Job"))
    assert cluster.create(manifest("Job"))
    assert (server.requests[0].method, server.requests[0].path) == ("POST", "/apis/batch/v1/namespaces/n/jobs")
    server.answer = lambda _: refusal(409, "AlreadyExists")
    assert not cluster.create(manifest("Job"))


def test_delete_takes_dependents_along_in_the_background(cluster: KubernetesCluster, server: ApiServer) -> None:
    assert cluster.delete(ObjectRef("StatefulSet", "n", "a"))
    assert server.requests[0].method == "DELETE"
    assert server.requests[0].body["propagationPolicy"] == "Background"
    server.answer = lambda _: refusal(404, "NotFound")
    assert not cluster.delete(ObjectRef("StatefulSet", "n", "a"))


def test_secrets_are_created_and_deleted_and_cannot_be_asked_for(
    cluster: KubernetesCluster, cache: Cache, server: ApiServer
) -> None:
    secret = manifest("Secret", stringData={"token": "t"})
    server.answer = lambda request: Reply(201, secret)
    assert cluster.create(secret)
    assert cache.counts().get("Secret", 0) == 0
    assert cluster.delete(ObjectRef("Secret", "n", "a"))
    asked = len(server.requests)
    for forbidden in (
        lambda: cluster.get(ObjectRef("Secret", "n", "a")),
        lambda: cluster.find("Secret", "n"),
        lambda: cluster.apply(secret),
    ):
        with pytest.raises(ClusterError, match="never read"):
            forbidden()
    assert len(server.requests) == asked


def test_status_is_applied_with_a_manager_of_its_own(cluster: KubernetesCluster, server: ApiServer) -> None:
    server.answer = lambda _: Reply(200, manifest("LogStore"))
    cluster.apply_status(ObjectRef("LogStore", "n", "a"), {"phase": "Running"})
    [request] = server.requests
    assert request.path == "/apis/storekeeper.dev/v1alpha1/namespaces/n/logstores/a/status"
    assert request.query["fieldManager"] == "storekeeper-status"
    assert request.body == {
        "apiVersion": "storekeeper.dev/v1alpha1",
        "kind": "LogStore",
        "metadata": {"name": "a", "namespace": "n"},
        "status": {"phase": "Running"},
    }


class Finalized:
    """One object with finalizers, updated optimistically; `conflicts` first attempts lose."""

    def __init__(self, finalizers: list[str], conflicts: int = 0) -> None:
        self.finalizers, self.conflicts, self.version = finalizers, conflicts, 1

    def __call__(self, request: Request) -> Reply:
        if request.method == "PATCH":
            assert request.headers["Content-Type"] == "application/merge-patch+json"
            assert request.body["metadata"]["resourceVersion"] == str(self.version)
            if self.conflicts:
                self.conflicts -= 1
                self.version += 1
                return refusal(409, "Conflict")
            self.finalizers = request.body["metadata"]["finalizers"]
            self.version += 1
        found = manifest("LogStore", version=str(self.version))
        found["metadata"]["finalizers"] = self.finalizers
        return Reply(200, found)


def test_a_finalizer_comes_and_goes_beside_those_of_others(cluster: KubernetesCluster, server: ApiServer) -> None:
    server.answer = state = Finalized(["others.io/one"])
    ref = ObjectRef("LogStore", "n", "a")
    assert cluster.set_finalizer(ref, FINALIZER, True)
    assert state.finalizers == ["others.io/one", FINALIZER]
    assert not cluster.set_finalizer(ref, FINALIZER, True)
    assert cluster.set_finalizer(ref, FINALIZER, False)
    assert state.finalizers == ["others.io/one"]


def test_a_finalizer_survives_concurrent_writers_up_to_a_limit(cluster: KubernetesCluster, server: ApiServer) -> None:
    server.answer = state = Finalized([], conflicts=2)
    assert cluster.set_finalizer(ObjectRef("LogStore", "n", "a"), FINALIZER, True)
    assert state.finalizers == [FINALIZER]
    server.answer = Finalized([], conflicts=3)
    with pytest.raises(ClusterError) as error:
        cluster.set_finalizer(ObjectRef("LogStore", "n", "a"), FINALIZER, True)
    assert error.value.status == 409


def test_no_finalizer_is_put_on_an_object_that_is_gone(cluster: KubernetesCluster, server: ApiServer) -> None:
    server.answer = lambda _: refusal(404, "NotFound")
    assert not cluster.set_finalizer(ObjectRef("LogStore", "n", "a"), FINALIZER, True)
    assert [request.method for request in server.requests] == ["GET"]


@pytest.mark.parametrize(
    ("reply", "code", "retryable", "retry_after"),
    [
        (refusal(403, "Forbidden"), "Forbidden", False, None),
        (refusal(403, "Forbidden", causes=[{"reason": "NamespaceTerminating"}]), "NamespaceTerminating", False, None),
        (refusal(422, "Invalid", "spec.x: too long"), "Invalid", False, None),
        (refusal(409, "Conflict"), "Conflict", True, None),
        (Reply(429, {"reason": "TooManyRequests", "message": ""}, {"Retry-After": "3"}), "TooManyRequests", True, 3.0),
        (Reply(503, b"upstream is away"), "HTTP503", True, None),
        (Reply(500, b'"a string"'), "HTTP500", True, None),
    ],
)
def test_errors_say_what_happened_and_whether_to_come_back(
    cluster: KubernetesCluster,
    server: ApiServer,
    reply: Reply,
    code: str,
    retryable: bool,
    retry_after: float | None,
) -> None:
    server.answer = lambda _: reply
    with pytest.raises(ClusterError) as error:
        cluster.apply(manifest("Service"))
    found = error.value
    assert (found.status, found.code, found.retryable, found.retry_after) == (
        reply.status,
        code,
        retryable,
        retry_after,
    )
    assert "/api/v1/namespaces/n/services/a" in str(found)
    assert len(server.requests) == 1, "retrying is the queue's"


def test_no_answer_is_retryable(cluster: KubernetesCluster, server: ApiServer) -> None:
    server.close()
    with pytest.raises(ClusterError) as error:
        cluster.apply(manifest("Service"))
    assert (error.value.status, error.value.retryable) == (0, True)


def test_lists_are_paged_and_items_know_their_kind(api: KubernetesApi, server: ApiServer) -> None:
    def answer(request: Request) -> Reply:
        name, token = ("b", "") if request.query.get("continue") else ("a", "more")
        return Reply(200, {"metadata": {"continue": token}, "items": [{"metadata": {"name": name}}]})

    server.answer = answer
    pages = list(api.pages("Pod", None, {"labelSelector": "x=y"}))
    assert [[(o["kind"], o["apiVersion"], o["metadata"]["name"]) for o in page] for page in pages] == [
        [("Pod", "v1", "a")],
        [("Pod", "v1", "b")],
    ]
    assert [request.query["labelSelector"] for request in server.requests] == ["x=y", "x=y"]
    assert {request.query["limit"] for request in server.requests} == {"500"}


def test_connections_are_kept(api: KubernetesApi, server: ApiServer) -> None:
    for _ in range(5):
        api.get("Pod", "n", "a")
    assert server.connections == 1


def test_warnings_of_a_pod_come_newest_first(cluster: KubernetesCluster, server: ApiServer) -> None:
    server.answer = lambda _: Reply(
        200,
        {
            "items": [
                {"metadata": {}, "lastTimestamp": "2026-01-01T00:00:01Z", "reason": "Old", "message": "1"},
                {"metadata": {}, "eventTime": "2026-01-01T00:00:03.000000Z", "reason": "New", "message": "3"},
                {"metadata": {"creationTimestamp": "2026-01-01T00:00:02Z"}, "reason": "Mid", "message": None},
            ]
        },
    )
    assert cluster.pod_warnings("n", "p-0") == [("New", "3"), ("Mid", ""), ("Old", "1")]
    selector = server.requests[0].query["fieldSelector"]
    assert selector == "involvedObject.kind=Pod,involvedObject.name=p-0,type=Warning"


@pytest.mark.parametrize(
    ("reply", "terminating"),
    [
        (Reply(200, {"status": {"phase": "Active"}}), False),
        (Reply(200, {"status": {"phase": "Terminating"}}), True),
        (refusal(404, "NotFound"), True),
    ],
)
def test_a_namespace_that_ends(cluster: KubernetesCluster, server: ApiServer, reply: Reply, terminating: bool) -> None:
    server.answer = lambda _: reply
    assert cluster.namespace_terminating("n") is terminating


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def emit(cluster: KubernetesCluster, message: str) -> None:
    cluster.emit(manifest("LogStore"), type_="Normal", reason="Serving", action="Reconcile", message=message)


def test_events_are_of_the_new_api_and_about_the_resource(cluster: KubernetesCluster, server: ApiServer) -> None:
    emit(cluster, "x" * 2000)
    [request] = server.requests
    assert (request.method, request.path) == ("POST", "/apis/events.k8s.io/v1/namespaces/n/events")
    event = request.body
    assert event["regarding"]["uid"] == "uid-a"
    assert (event["reportingInstance"], event["action"], len(event["note"])) == ("pod-1", "Reconcile", 1024)


def test_events_are_bounded_by_object_and_minute(api: KubernetesApi, server: ApiServer) -> None:
    clock = Clock()
    cluster = KubernetesCluster(api, Cache(), now=clock)
    for number in range(EVENTS_PER_OBJECT_AND_MINUTE + 5):
        emit(cluster, f"message {number}")
    assert len(server.requests) == EVENTS_PER_OBJECT_AND_MINUTE
    clock.seconds += 61
    emit(cluster, "after a minute")
    assert len(server.requests) == EVENTS_PER_OBJECT_AND_MINUTE + 1


def test_the_same_event_is_not_repeated_soon(api: KubernetesApi, server: ApiServer) -> None:
    clock = Clock()
    cluster = KubernetesCluster(api, Cache(), now=clock)
    emit(cluster, "ready")
    clock.seconds += EVENT_REPEAT_SECONDS - 1
    emit(cluster, "ready")
    assert len(server.requests) == 1
    clock.seconds += 2
    emit(cluster, "ready")
    assert len(server.requests) == 2


def test_an_event_that_cannot_be_posted_harms_nothing(cluster: KubernetesCluster, server: ApiServer) -> None:
    server.answer = lambda _: refusal(403, "Forbidden")
    emit(cluster, "ready")
    assert len(server.requests) == 1


def test_bodies_are_never_logged(
    cluster: KubernetesCluster, server: ApiServer, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG))
    try:
        server.answer = lambda _: refusal(500, "InternalError", "broken")
        encoded = base64.b64encode(b"very-secret").decode()
        with pytest.raises(ClusterError) as error:
            cluster.create(manifest("Secret", stringData={"token": "very-secret"}, data={"key": encoded}))
    finally:
        structlog.reset_defaults()
    said = capsys.readouterr()
    everything = said.out + said.err + caplog.text + str(error.value)
    assert "secrets" in everything
    assert "very-secret" not in everything
    assert encoded not in everything
    assert TOKEN not in everything
