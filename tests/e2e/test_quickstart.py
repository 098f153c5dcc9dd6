"""One YAML file becomes three running stores, on a real Kubernetes: the whole life of them, in order."""

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from tests.e2e.platform import ROOT, Namespace, eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]
QUICKSTART = (ROOT / "examples/quickstart.yaml").read_text()
BATCH = 500


@pytest.fixture(scope="module")
def stores(namespace: Namespace) -> Namespace:
    namespace.apply(QUICKSTART)
    for kind, name in (("logstore", "gateway"), ("stream", "system"), ("runtimestore", "limits")):
        namespace.wait_ready(kind, name)
    return namespace


def window() -> dict[str, str]:
    now = datetime.now(UTC)
    return {"from": (now - timedelta(days=2)).isoformat(), "to": (now + timedelta(hours=1)).isoformat()}


def count(client: httpx.Client, stream: str) -> int:
    answer = client.get(f"/api/v1/streams/{stream}/logs/count", params=window())
    answer.raise_for_status()
    return int(answer.json()["count"])


def ingest(client: httpx.Client, stream: str, lines: list[str]) -> int:
    answer = client.post(
        f"/api/v1/streams/{stream}/logs", content="\n".join(lines).encode(), headers={"Content-Type": "text/plain"}
    )
    answer.raise_for_status()
    return int(answer.json()["accepted"])


def test_the_status_tells_what_runs(stores: Namespace) -> None:
    for kind, name in (("logstore", "gateway"), ("runtimestore", "limits")):
        resource = stores.get(kind, name)
        status = resource["status"]
        assert status["phase"] == "Running"
        assert status["activeBackend"]["storeID"] == resource["metadata"]["uid"]
        assert status["activeBackend"]["epoch"] == 1
        assert status["observedGeneration"] == resource["metadata"]["generation"]


def test_component_logs_go_in_and_come_back(stores: Namespace, component_logs: list[str]) -> None:
    lines = component_logs[:20_000]
    assert len(lines) > 300, "the cluster has logged too little to prove anything"
    with stores.client("logstore", "gateway") as client:
        before = count(client, "system")
        accepted = sum(ingest(client, "system", lines[at : at + BATCH]) for at in range(0, len(lines), BATCH))
        assert accepted == len([line for line in lines if line.strip()])
        assert count(client, "system") == before + accepted
        newest = client.get("/api/v1/streams/system/logs", params=window() | {"limit": "3"}).json()["records"]
        assert [r["fields"]["content"] for r in newest] == [line.strip() for line in lines if line.strip()][-3:][::-1]


def test_request_logs_and_usage_answer_through_their_bindings(stores: Namespace) -> None:
    now = datetime.now(UTC).isoformat()
    with stores.client("logstore", "gateway") as client:
        row = {"id": "e2e-1", "timestamp": now, "provider": "openai", "model": "m", "status": "success"}
        assert client.post("/v1/request-logs", json=row).json()["created"] == 1
        assert client.get("/v1/request-logs/e2e-1").json()["provider"] == "openai"
    with stores.client("runtimestore", "limits") as client:
        client.post("/usage/openai/key1/req/increment", json={"delta": 3}).raise_for_status()
        answer = client.get("/usage/openai/key1/req/window", params={"seconds": 60})
        assert float(answer.text) >= 3


@pytest.fixture
def writer(stores: Namespace) -> Iterator["Writer"]:
    writer = Writer(stores)
    writer.start()
    yield writer
    writer.stop()


class Writer(threading.Thread):
    """Writes numbered lines and remembers which of them were acknowledged."""

    def __init__(self, stores: Namespace) -> None:
        super().__init__(daemon=True)
        self.stores, self.ended = stores, threading.Event()
        self.acknowledged: list[str] = []
        self.failures = 0

    def run(self) -> None:
        number = 0
        while not self.ended.is_set():
            try:
                with self.stores.client("logstore", "gateway") as client:
                    while not self.ended.is_set():
                        lines = [f"numbered {number + i}" for i in range(20)]
                        number += len(lines)
                        if ingest(client, "numbered", lines) == len(lines):
                            self.acknowledged += lines
            except Exception:  # a killed pod shows in many ways; what counts is what was acknowledged
                self.failures += 1
                time.sleep(0.2)

    def stop(self) -> None:
        self.ended.set()
        self.join(timeout=60)


def all_entries(client: httpx.Client, stream: str) -> list[str]:
    found: list[str] = []
    query = window() | {"limit": "1000"}
    while True:
        page = client.get(f"/api/v1/streams/{stream}/logs", params=query).json()
        found += [record["fields"]["content"] for record in page["records"]]
        if not page.get("cursor"):
            return found
        query["cursor"] = page["cursor"]


def test_a_killed_pod_loses_nothing_acknowledged(stores: Namespace, writer: Writer) -> None:
    eventually(lambda: len(writer.acknowledged) > 200, "the writer writes")
    pod = stores.names("pod", "storekeeper.dev/kind=LogStore,storekeeper.dev/name=gateway,storekeeper.dev/serves")[0]
    restarts = stores.restarts(pod)
    assert stores.kill(pod) > 0
    eventually(lambda: stores.restarts(pod) > restarts, "the kubelet starts it again")
    at_restart = len(writer.acknowledged)
    eventually(lambda: len(writer.acknowledged) > at_restart + 200, "the writer goes on after the kill")
    writer.stop()
    stores.wait_ready("logstore", "gateway")
    with stores.client("logstore", "gateway") as client:
        found = all_entries(client, "numbered")
    assert writer.failures > 0, "the kill was not noticed: the test proves nothing"
    assert not set(writer.acknowledged) - set(found)
    assert len([line for line in found if line in set(writer.acknowledged)]) == len(writer.acknowledged)


@pytest.mark.parametrize(
    ("kind", "name"),
    [("service", "gateway-logs"), ("statefulset", "gateway-logs"), ("cronjob", "gateway-logs-retain")],
)
def test_a_deleted_child_returns(stores: Namespace, kind: str, name: str) -> None:
    uid = stores.get(kind, name)["metadata"]["uid"]
    stores.delete(kind, name)
    eventually(
        lambda: stores.exists(kind, name) and stores.get(kind, name)["metadata"]["uid"] != uid, f"{kind} again", 60
    )
    stores.wait_ready("logstore", "gateway")


def test_a_changed_child_is_repaired(stores: Namespace) -> None:
    wanted = stores.get("service", "gateway-logs")["spec"]["ports"]
    stores.patch("service", "gateway-logs", ports=[{"name": "http", "port": 1234, "targetPort": 1234}])

    def repaired() -> bool:
        return bool(stores.get("service", "gateway-logs")["spec"]["ports"] == wanted)

    eventually(repaired, "the Service's ports as the operator wants them", 60)


def test_a_shorter_max_age_lets_old_entries_go(stores: Namespace) -> None:
    old = (datetime.now(UTC) - timedelta(hours=3)).isoformat()
    new = datetime.now(UTC).isoformat()
    with stores.client("logstore", "gateway") as client:
        body = "\n".join(f'{{"_time": "{at}", "content": "aged"}}' for at in (old, old, new))
        client.post(
            "/api/v1/streams/system/logs", content=body, headers={"Content-Type": "application/x-ndjson"}
        ).raise_for_status()
        entries = {"indexing": '{"content": ["aged"]}'}

        def aged() -> int:
            answer = client.get("/api/v1/streams/system/logs", params=window() | entries)
            answer.raise_for_status()
            return len([r for r in answer.json()["records"] if r["fields"].get("content") == "aged"])

        assert aged() == 3
        stores.patch("stream", "system", retention={"maxAge": "1h"})
        stores.wait_ready("stream", "system")
        assert aged() == 1
        config = client.get("/api/v1/streams/system").json()["config"]
        assert config["ttl"] == 3600


def test_a_declared_stream_is_not_changed_behind_its_resource(stores: Namespace) -> None:
    with stores.client("logstore", "gateway") as client:
        answer = client.put("/api/v1/streams/system", json={"config": {"ttl": 1, "size": 0, "indexed_fields": []}})
        assert (answer.status_code, answer.json()["code"]) in {(409, "ManagedByResource"), (403, "Forbidden")}


def test_a_bad_spec_leaves_the_store_alone_and_a_good_one_recovers(stores: Namespace) -> None:
    stores.patch("logstore", "gateway", retention={"maxAge": "9999999h"})
    message = stores.wait_reason("logstore", "gateway", "Stalled", "InvalidSpec")
    assert "spec.retention.maxAge" in message
    assert stores.condition("logstore", "gateway", "Ready")["status"] == "True"
    with stores.client("logstore", "gateway") as client:
        assert client.get("/v1/request-logs/e2e-1").status_code == 200
    stores.patch("logstore", "gateway", retention={"maxAge": "720h"})
    stores.wait_ready("logstore", "gateway")


def test_retained_data_is_adopted(stores: Namespace) -> None:
    store_id = stores.get("logstore", "gateway")["status"]["activeBackend"]["storeID"]
    stores.delete("stream", "system")
    stores.delete("logstore", "gateway", "--timeout=120s")
    assert stores.exists("persistentvolumeclaim", "gateway-logs-data"), "Retain keeps the claim"
    assert not stores.exists("statefulset", "gateway-logs")
    stores.apply(QUICKSTART)
    message = stores.wait_reason("logstore", "gateway", "Stalled", "ClaimOwnedByAnother")
    assert store_id in message
    stores.delete("logstore", "gateway", "--timeout=120s")
    stores.apply(
        "apiVersion: storekeeper.dev/v1alpha1\nkind: LogStore\nmetadata: {name: gateway}\n"
        f"spec: {{adoptStoreID: {store_id}, entries: {{enabled: true}}, deletionPolicy: Delete}}\n"
    )
    stores.wait_ready("logstore", "gateway")
    with stores.client("logstore", "gateway") as client:
        assert client.get("/v1/request-logs/e2e-1").json()["provider"] == "openai"
        assert count(client, "system") > 0


def test_deletion_policy_delete_takes_the_data_along(stores: Namespace) -> None:
    stores.delete("stream", "system", "--ignore-not-found")
    stores.delete("logstore", "gateway", "--timeout=120s")
    eventually(lambda: not stores.exists("persistentvolumeclaim", "gateway-logs-data"), "the claim goes", 120)
    stores.delete("runtimestore", "limits", "--timeout=120s")
    assert stores.exists("persistentvolumeclaim", "limits-usage-data"), "Retain is the default"
