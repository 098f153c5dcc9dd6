"""The edges of the process: what kopf does and does not do to an API server, routing, sweeps, health."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import kmock as k8s
import pytest
import pytest_asyncio
import yaml

from storekeeper.adapters.cluster import ClusterError
from storekeeper.adapters.kubernetes_api import api_version, plural
from storekeeper.handlers.health import HealthServer
from storekeeper.handlers.routing import keys_of
from storekeeper.handlers.sweep import DEAF_AFTER, Sweep
from storekeeper.handlers.watching import RESOURCE_KINDS, WATCHED_KINDS, Watching, label_selector
from storekeeper.manifests.objects import FINALIZER, LABEL_OWNER_KIND, LABEL_OWNER_NAME, Manifest, ObjectRef
from storekeeper.metrics import Metrics
from storekeeper.observe.cache import Cache

LOG_STORES = "/apis/storekeeper.dev/v1alpha1/namespaces/n/logstores"
DISCOVERED_TOO = (
    ("", "v1", "namespaces"),
    ("", "v1", "events"),
    ("apiextensions.k8s.io", "v1", "customresourcedefinitions"),
)
"""kopf waits for them in discovery, although it reads none."""


def made(kind: str, name: str, *, version: int = 1, owner: tuple[str, str] | None = None, **fields: Any) -> Manifest:
    labels = dict(zip((LABEL_OWNER_KIND, LABEL_OWNER_NAME), owner, strict=True)) if owner else {}
    metadata = {"namespace": "n", "name": name, "uid": f"uid-{kind}-{name}", "resourceVersion": str(version)}
    return {"apiVersion": api_version(kind), "kind": kind, "metadata": {**metadata, "labels": labels}, **fields}


# -- kopf ---------------------------------------------------------------------------------------------------------


class Seen:
    """Collects events from kopf's thread."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str, bool]] = []
        self.failed: list[str] = []

    def __call__(self, manifest: Manifest, deleted: bool) -> None:
        assert manifest["apiVersion"] == api_version(manifest["kind"])
        self.events.append((manifest["kind"], manifest["metadata"]["name"], deleted))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20.0):
        while not condition():  # noqa: ASYNC110 — what is waited for is set by threads
            await asyncio.sleep(0.01)


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest_asyncio.fixture
async def watching(kmock: Any, seen: Seen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Watching]:
    """kopf on an emulated API server that has one LogStore, which bears our finalizer and that of another."""
    for kind in WATCHED_KINDS:
        group, _, version = api_version(kind).rpartition("/")
        resource = k8s.resource(group, version, plural(kind))
        kmock.resources[resource] = {"kind": kind, "namespaced": True, "verbs": {"list", "watch", "get", "patch"}}
    for group, version, name in DISCOVERED_TOO:
        kmock.resources[k8s.resource(group, version, name)] = {"namespaced": False, "verbs": {"list", "watch"}}
    body = made("LogStore", "first", spec={})
    body["metadata"]["finalizers"] = [FINALIZER, "others.io/theirs"]
    kmock.objects[k8s.resource("storekeeper.dev", "v1alpha1", "logstores"), "n", "first"] = body
    config = tmp_path / "kubeconfig"
    config.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "c",
                "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                "clusters": [{"name": "c", "cluster": {"server": str(kmock.url)}}],
                "users": [{"name": "u", "user": {"token": "t"}}],
            }
        )
    )
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(config))
    thread = Watching(("n",), seen, seen.failed.append)
    thread.start()
    yield thread
    thread.stop()
    await asyncio.to_thread(thread.join, 20.0)
    assert not thread.is_alive()


@pytest.mark.asyncio
async def test_kopf_tells_of_every_change_and_writes_nothing(watching: Watching, seen: Seen, kmock: Any) -> None:
    await until(lambda: ("LogStore", "first", False) in seen.events)
    async with httpx.AsyncClient(base_url=str(kmock.url)) as client:
        await until(lambda: len(watches(kmock)) == len(WATCHED_KINDS))
        await client.post(LOG_STORES, json=made("LogStore", "second", spec={}))
        await until(lambda: ("LogStore", "second", False) in seen.events)
        await client.delete(f"{LOG_STORES}/second")
        await until(lambda: ("LogStore", "second", True) in seen.events)
    by_kopf = [request for request in requests(kmock) if "httpx" not in request.headers.get("User-Agent", "")]
    assert {request.method.value for request in by_kopf} == {"GET"}, "no finalizer, no annotation, no status"
    assert seen.failed == []


@pytest.mark.asyncio
async def test_children_are_selected_by_the_server_and_secrets_are_not_watched(
    watching: Watching, seen: Seen, kmock: Any
) -> None:
    await until(lambda: len(watches(kmock)) == len(WATCHED_KINDS))
    for request in requests(kmock):
        path = request.url.path
        assert "secrets" not in path
        if "/namespaces/n/" not in path:
            continue
        resources = {plural(kind) for kind in RESOURCE_KINDS}
        selector = request.url.query.get("labelSelector", "")
        assert selector == ("" if path.rsplit("/", 1)[1] in resources else "app.kubernetes.io/managed-by=storekeeper")
        if "watch" not in request.url.query:
            assert request.url.query["limit"] == "500"
    assert not [r for r in requests(kmock) if r.url.path.endswith(("/namespaces", "/customresourcedefinitions"))]


def requests(kmock: Any) -> list[Any]:
    return list(kmock)


def watches(kmock: Any) -> list[Any]:
    return [request for request in requests(kmock) if request.url.query.get("watch")]


# -- routing ------------------------------------------------------------------------------------------------------


def stream(log_store: str) -> Manifest:
    return made("Stream", "web", spec={"logStoreRef": {"name": log_store}})


@pytest.mark.parametrize(
    ("manifest", "before", "keys"),
    [
        (made("LogStore", "a"), None, ["LogStore n/a", "Streams n/a"]),
        (made("RuntimeStore", "a"), None, ["RuntimeStore n/a"]),
        (made("Pod", "a-0", owner=("LogStore", "a")), None, ["LogStore n/a", "Streams n/a"]),
        (made("Service", "a", owner=("RuntimeStore", "a")), None, ["RuntimeStore n/a"]),
        (made("Service", "a"), None, []),
        (made("Service", "a", owner=("Secret", "a")), None, []),
        (stream("a"), None, ["Streams n/a"]),
        (stream("a"), stream("b"), ["Streams n/a", "Streams n/b"]),
        (stream("a"), stream("a"), ["Streams n/a"]),
        (made("Stream", "web"), None, []),
    ],
)
def test_which_keys_an_event_is_about(manifest: Manifest, before: Manifest | None, keys: list[str]) -> None:
    assert [str(key) for key in keys_of(manifest, before)] == keys


# -- sweeps -------------------------------------------------------------------------------------------------------


class Lists:
    """The lists of an API server."""

    def __init__(self) -> None:
        self.objects: list[Manifest] = []
        self.asked: list[tuple[str, str | None, dict[str, str] | None]] = []
        self.unknown: set[str] = set()

    def pages(self, kind: str, namespace: str | None, query: dict[str, str] | None = None) -> Iterator[list[Manifest]]:
        self.asked.append((kind, namespace, query))
        if kind in self.unknown:
            raise ClusterError("no such resource", status=404)
        yield [m for m in self.objects if m["kind"] == kind]


def sweep(lists: Lists, cache: Cache, metrics: Metrics, sleep: Callable[[float], None] = lambda _: None) -> Sweep:
    return Sweep(lists, cache, ("n",), metrics, sleep=sleep)  # type: ignore[arg-type]


def test_the_barrier_lists_every_kind_with_the_selector_of_its_watch() -> None:
    lists, cache = Lists(), Cache()
    lists.objects = [made("LogStore", "a"), made("Service", "a-logs", owner=("LogStore", "a"))]
    sweep(lists, cache, Metrics()).prime()
    assert [kind for kind, _, _ in lists.asked] == list(WATCHED_KINDS)
    for kind, _, query in lists.asked:
        assert (query or {}).get("labelSelector", "") == label_selector(kind)
    assert cache.counts() == {"LogStore": 1, "Service": 1}


def test_missing_crds_are_named() -> None:
    lists = Lists()
    lists.unknown = {"Stream"}
    with pytest.raises(ClusterError, match="does not know Stream: install the CustomResourceDefinitions"):
        sweep(lists, Cache(), Metrics()).prime()


def test_a_sweep_finds_what_a_watch_missed_after_a_grace() -> None:
    lists, cache, metrics, slept = Lists(), Cache(), Metrics(), list[float]()
    swept = sweep(lists, cache, metrics, slept.append)
    assert swept.sweep() == []
    assert slept == []
    cache.put(made("Service", "ghost"))
    lists.objects = [made("LogStore", "missed")]
    assert {m["metadata"]["name"] for m in swept.sweep()} == {"ghost", "missed"}
    assert len(slept) == 2
    assert cache.get(ObjectRef("LogStore", "n", "missed"))
    assert metrics.registry.get_sample_value("storekeeper_watch_missed_total", {"kind": "Service"}) == 1


def test_an_event_that_comes_within_the_grace_was_not_missed() -> None:
    lists, cache = Lists(), Cache()
    lists.objects = [made("LogStore", "late")]
    swept = sweep(lists, cache, Metrics(), lambda _: cache.put(made("LogStore", "late")) and None)
    assert swept.sweep() == []


def test_a_watch_that_misses_events_again_and_again_is_dead() -> None:
    lists, cache = Lists(), Cache()
    swept = sweep(lists, cache, Metrics())
    for version in range(1, DEAF_AFTER + 1):
        assert swept.deaf_kinds() == []
        lists.objects = [made("Pod", "a", version=version)]
        swept.sweep()
    assert swept.deaf_kinds() == ["Pod"]
    swept.sweep()
    assert swept.deaf_kinds() == []


# -- health -------------------------------------------------------------------------------------------------------


class Wrong:
    def __init__(self) -> None:
        self.what: str | None = None

    def __call__(self) -> str | None:
        return self.what


@pytest.fixture
def alive() -> Wrong:
    return Wrong()


@pytest.fixture
def health(alive: Wrong) -> Iterator[httpx.Client]:
    metrics = Metrics()
    metrics.count_request("GET", "Pod", 200)
    server = HealthServer("127.0.0.1", 0, alive={"loop": alive}, ready={"lists": lambda: "listing"}, metrics=metrics)
    with httpx.Client(base_url=f"http://127.0.0.1:{server.port}") as client:
        yield client
    server.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "health"]


def test_health_says_what_is_wrong(health: httpx.Client, alive: Wrong) -> None:
    assert (health.get("/healthz").status_code, health.get("/healthz").text) == (200, "loop: ok\n")
    alive.what = "the event loop has not turned for 31 s"
    answer = health.get("/healthz")
    assert (answer.status_code, answer.text) == (503, "loop: the event loop has not turned for 31 s\n")


def test_readiness_and_liveness_are_two_things(health: httpx.Client) -> None:
    assert health.get("/readyz").status_code == 503
    assert health.get("/healthz").status_code == 200


def test_metrics_are_served_beside(health: httpx.Client) -> None:
    answer = health.get("/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert 'storekeeper_api_requests_total{kind="Pod",status="200",verb="GET"} 1.0' in answer.text
    assert health.get("/else").status_code == 404
    assert health.post("/metrics").status_code == 404
