"""The cache that watches feed, what pods say, and how a store is observed."""

import json
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from store_runtime.config.wire import JobName
from storekeeper.adapters.runtime_api import RuntimeApi, RuntimeUnavailable
from storekeeper.api.logstore import LogStore
from storekeeper.api.parse import parse
from storekeeper.manifests.objects import API_VERSIONS, LABEL_JOB, LABEL_OWNER_KIND, LABEL_OWNER_NAME, ObjectRef
from storekeeper.observe.cache import Cache
from storekeeper.observe.pods import MESSAGE_CHARS_MAX, is_starting, reports, troubles
from storekeeper.observe.store import observe_store, serves

from .api_server import ApiServer, Reply


def store(**metadata: Any) -> LogStore:
    found = parse(
        {
            "apiVersion": API_VERSIONS["LogStore"],
            "kind": "LogStore",
            "metadata": {"namespace": "n", "name": "gateway", "uid": "u", **metadata},
        }
    )
    assert isinstance(found, LogStore)
    return found


STORE = store()
NOW = datetime(2026, 1, 1, 0, 10, tzinfo=UTC)


def made(kind: str, name: str, *, version: int = 1, uid: str = "", owner: str = "", **fields: Any) -> dict[str, Any]:
    labels = {LABEL_OWNER_KIND: "LogStore", LABEL_OWNER_NAME: owner} if owner else {}
    metadata = {"namespace": "n", "name": name, "uid": uid or f"uid-{name}", "resourceVersion": str(version)}
    return {"apiVersion": API_VERSIONS[kind], "kind": kind, "metadata": {**metadata, "labels": labels}, **fields}


# -- the cache --------------------------------------------------------------------------------------------------------


def test_only_what_is_newer_is_news() -> None:
    cache = Cache()
    assert cache.put(made("Service", "a", version=9))
    assert not cache.put(made("Service", "a", version=9))
    assert not cache.put(made("Service", "a", version=8))
    assert cache.put(made("Service", "a", version=10))
    held = cache.get(ObjectRef("Service", "n", "a"))
    assert held is not None
    assert held["metadata"]["resourceVersion"] == "10"


def test_managed_fields_are_not_kept() -> None:
    cache = Cache()
    service = made("Service", "a")
    service["metadata"]["managedFields"] = [{"manager": "x"}]
    cache.put(service)
    held = cache.get(ObjectRef("Service", "n", "a"))
    assert held is not None
    assert "managedFields" not in held["metadata"]


def test_children_are_found_by_their_owner() -> None:
    cache = Cache()
    cache.put(made("Service", "a", owner="gateway"))
    cache.put(made("Service", "b", owner="other"))
    cache.put(made("Pod", "a-0", owner="gateway"))
    owned = {LABEL_OWNER_KIND: "LogStore", LABEL_OWNER_NAME: "gateway"}
    assert [m["metadata"]["name"] for m in cache.find("Service", "n", owned)] == ["a"]
    assert cache.find("Service", "elsewhere", owned) == []
    assert [m["metadata"]["name"] for m in cache.find("Service")] == ["a", "b"]
    cache.discard(made("Service", "a", version=2, owner="gateway"))
    assert cache.find("Service", "n", owned) == []


def test_a_child_that_lost_its_labels_is_no_child_any_more() -> None:
    cache = Cache()
    cache.put(made("Service", "a", owner="gateway"))
    cache.put(made("Service", "a", version=2))
    assert cache.find("Service", "n", {LABEL_OWNER_KIND: "LogStore", LABEL_OWNER_NAME: "gateway"}) == []


def test_a_late_word_of_a_deleted_object_does_not_touch_its_successor() -> None:
    cache = Cache()
    cache.put(made("Service", "a", uid="old"))
    cache.put(made("Service", "a", uid="new", version=5))
    assert not cache.put(made("Service", "a", uid="old", version=3))
    assert not cache.discard(made("Service", "a", uid="old", version=4))
    held = cache.get(ObjectRef("Service", "n", "a"))
    assert held is not None
    assert held["metadata"]["uid"] == "new"


def test_a_list_repairs_what_watches_missed() -> None:
    cache = Cache()
    cache.put(made("Service", "stale"))
    cache.put(made("Service", "ghost"))
    cache.put(made("Service", "same"))
    before = cache.uids("Service", "n")
    listed = [made("Service", "stale", version=7), made("Service", "same"), made("Service", "unknown")]
    missed = cache.missed("Service", "n", listed, before)
    assert {m["metadata"]["name"] for m in missed} == {"stale", "unknown", "ghost"}
    assert cache.fill("Service", "n", listed, before) == missed
    assert {m["metadata"]["name"] for m in cache.find("Service")} == {"stale", "unknown", "same"}
    assert cache.missed("Service", "n", listed, cache.uids("Service", "n")) == []


def test_a_list_is_no_witness_for_what_happened_after_it() -> None:
    cache = Cache()
    cache.put(made("Service", "deleted"))
    before = cache.uids("Service", "n")
    listed = [made("Service", "deleted")]
    cache.discard(made("Service", "deleted", version=2))
    cache.put(made("Service", "created"))
    assert cache.fill("Service", "n", listed, before) == []
    assert [m["metadata"]["name"] for m in cache.find("Service")] == ["created"]


def test_a_list_of_one_namespace_says_nothing_of_another() -> None:
    cache = Cache()
    cache.put(made("Service", "a"))
    assert cache.fill("Service", "elsewhere", [], cache.uids("Service", "elsewhere")) == []
    assert cache.counts() == {"Service": 1}


# -- what pods say ----------------------------------------------------------------------------------------------------


def report(job: str, ok: bool = True, **fields: Any) -> str:
    return json.dumps({"job": job, "ok": ok, **fields})


def ended(message: str, at: str = "2026-01-01T00:00:00Z", **fields: Any) -> dict[str, Any]:
    return {"terminated": {"exitCode": 1, "finishedAt": at, "message": message, **fields}}


def pod(name: str = "gateway-logs-0", *, job: str = "", **status: Any) -> dict[str, Any]:
    found = made("Pod", name, owner="gateway", status=status)
    if job:
        found["metadata"]["labels"][LABEL_JOB] = job
    return found


def test_reports_are_read_from_state_and_last_state_and_the_newest_wins() -> None:
    old = ended(report("provision", ok=False, code="BackendUnreachable"), "2026-01-01T00:00:00Z")
    new = ended(report("provision"), "2026-01-01T00:00:05Z")
    statuses = [{"name": "provision", "state": new, "lastState": old}]
    found, malformed = reports([pod(initContainerStatuses=statuses)])
    assert found["provision"].report.ok
    assert malformed == []
    statuses = [{"name": "provision", "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": old}]
    found, _ = reports([pod(initContainerStatuses=statuses)])
    assert found["provision"].report.code == "BackendUnreachable"


def test_of_two_pods_the_newer_report_wins_whatever_their_order() -> None:
    one = pod(
        "job-1", containerStatuses=[{"name": "migrate", "state": ended(report("migrate"), "2026-01-01T00:00:09Z")}]
    )
    two = pod(
        "job-2",
        containerStatuses=[{"name": "migrate", "state": ended(report("migrate", ok=False), "2026-01-01T00:00:08Z")}],
    )
    for pods in ([one, two], [two, one]):
        found, _ = reports(pods)
        assert found["migrate"].report.ok


def test_a_malformed_report_is_ignored_and_told() -> None:
    statuses = [
        {"name": "provision", "state": ended("Segmentation fault")},
        {"name": "migrate", "state": ended(report("migrate", surprise=1))},
    ]
    found, malformed = reports([pod(initContainerStatuses=statuses)])
    assert found == {}
    assert [trouble.reason for trouble in malformed] == ["MalformedReport", "MalformedReport"]


def test_the_words_of_other_containers_are_no_reports() -> None:
    statuses = [{"name": "store", "state": ended("out of memory")}]
    assert reports([pod(containerStatuses=statuses)]) == ({}, [])


def test_every_job_of_the_runtime_can_report() -> None:
    for job in JobName:
        statuses = [{"name": job.value, "state": ended(report(job.value))}]
        found, _ = reports([pod(containerStatuses=statuses)])
        assert found[job].report.job is job


def test_troubles_of_an_unschedulable_pod() -> None:
    conditions = [
        {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes\n  available"}
    ]
    [found] = troubles(pod(phase="Pending", conditions=conditions))
    assert (found.reason, found.message) == ("Unschedulable", "0/1 nodes available")


def test_troubles_of_a_crash_loop_say_how_it_ended() -> None:
    statuses = [
        {
            "name": "store",
            "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s restarting"}},
            "lastState": ended("", reason="OOMKilled", exitCode=137),
        }
    ]
    [found] = troubles(pod(phase="Running", containerStatuses=statuses))
    assert found.message == "store ended with exit code 137 (OOMKilled)"


def test_starting_is_no_trouble_and_a_leaving_pod_has_none() -> None:
    waiting = [{"name": "store", "state": {"waiting": {"reason": "ContainerCreating"}}}]
    assert troubles(pod(phase="Pending", containerStatuses=waiting)) == []
    leaving = pod(containerStatuses=[{"name": "store", "state": {"waiting": {"reason": "ImagePullBackOff"}}}])
    assert [trouble.reason for trouble in troubles(leaving)] == ["ImagePullBackOff"]
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert troubles(leaving) == []


def test_messages_are_cut_to_what_people_read() -> None:
    statuses = [{"name": "store", "state": {"waiting": {"reason": "ErrImagePull", "message": "x" * 5000}}}]
    [found] = troubles(pod(containerStatuses=statuses))
    assert len(found.message) == MESSAGE_CHARS_MAX


@pytest.mark.parametrize(
    ("status", "starting"),
    [
        ({"phase": "Pending"}, True),
        (
            {
                "phase": "Pending",
                "containerStatuses": [{"name": "s", "state": {"waiting": {"reason": "PodInitializing"}}}],
            },
            True,
        ),
        ({"phase": "Pending", "initContainerStatuses": [{"name": "migrate", "state": {"running": {}}}]}, False),
        (
            {
                "phase": "Pending",
                "containerStatuses": [{"name": "s", "state": {"waiting": {"reason": "ErrImagePull"}}}],
            },
            False,
        ),
        ({"phase": "Running"}, False),
    ],
)
def test_whose_events_are_worth_a_call(status: dict[str, Any], starting: bool) -> None:
    assert is_starting(pod(**status)) is starting


# -- a store as a whole -----------------------------------------------------------------------------------------------

READY: dict[str, Any] = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}


class Reader(Cache):
    """A cache, and the two questions that go past it."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def pod_warnings(self, namespace: str, pod: str) -> list[tuple[str, str]]:
        self.asked.append(pod)
        return [("FailedMount", f"newest {'x' * 600}"), ("B", "2"), ("C", "3"), ("D", "4")]

    def namespace_terminating(self, namespace: str) -> bool:
        self.asked.append(namespace)
        return True


@pytest.fixture
def server() -> Iterator[ApiServer]:
    server = ApiServer()
    yield server
    server.close()


@pytest.fixture
def runtime_api() -> Iterator[RuntimeApi]:
    api = RuntimeApi(lambda audience: f"token-for-{audience}")
    yield api
    api.close()


STATUS = {
    "kind": "LogStore",
    "namespace": "n",
    "name": "gateway",
    "storeId": "s-1",
    "version": "0.1.0",
    "startedAt": "2026-01-01T00:00:00Z",
    "backend": {"type": "sqlite", "reachable": True},
}


def test_a_store_at_rest_costs_one_question(runtime_api: RuntimeApi, server: ApiServer) -> None:
    reader = Reader()
    reader.put(made("Service", "gateway-logs", owner="gateway"))
    reader.put(made("Service", "foreign", owner="other"))
    ready = {**READY, "initContainerStatuses": [{"name": "migrate", "state": ended(report("migrate"))}]}
    reader.put(pod(**ready))
    server.answer = lambda _: Reply(200, STATUS)
    found = observe_store(reader, runtime_api, STORE, url=server.url, now=NOW)
    assert list(found.children) == [ObjectRef("Service", "n", "gateway-logs")]
    assert found.pods == ("gateway-logs-0",)
    assert found.reports["migrate"].ok
    assert found.report_ages["migrate"] == 600.0
    assert found.runtime.status is not None
    assert found.runtime.status.backend.reachable
    assert not found.namespace_terminating
    assert reader.asked == []
    [request] = server.requests
    assert (request.method, request.path) == ("GET", "/v1/status")
    assert request.headers["Authorization"] == "Bearer token-for-logstore/n/gateway"


def test_a_runtime_is_not_asked_before_its_pod_is_ready(runtime_api: RuntimeApi, server: ApiServer) -> None:
    reader = Reader()
    reader.put(pod(phase="Running", conditions=[{"type": "Ready", "status": "False"}]))
    found = observe_store(reader, runtime_api, STORE, url=server.url, now=NOW)
    assert (found.runtime.status, found.runtime.error) == (None, None)
    assert server.requests == []


def test_a_job_that_runs_is_no_store_that_serves() -> None:
    assert serves([pod(**READY)])
    assert not serves([pod("gateway-logs-retain-x", job="retain", **READY)])


def test_pods_of_jobs_are_not_the_stores_own(runtime_api: RuntimeApi) -> None:
    reader = Reader()
    reader.put(pod("gateway-logs-release-x", job="release", **READY))
    found = observe_store(reader, runtime_api, STORE, url="http://127.0.0.1:1", now=NOW)
    assert found.pods == ()


def test_events_are_only_read_of_pods_that_do_not_start(runtime_api: RuntimeApi) -> None:
    reader = Reader()
    reader.put(pod(phase="Pending"))
    found = observe_store(reader, runtime_api, STORE, url="http://127.0.0.1:1", now=NOW)
    assert reader.asked == ["gateway-logs-0"]
    assert [trouble.reason for trouble in found.troubles] == ["FailedMount", "B", "C"]
    assert len(found.troubles[0].message) == MESSAGE_CHARS_MAX


def test_the_namespace_is_only_asked_for_when_the_resource_goes(runtime_api: RuntimeApi) -> None:
    reader = Reader()
    assert not observe_store(reader, runtime_api, STORE, url="", now=NOW).namespace_terminating
    assert reader.asked == []
    going = store(deletionTimestamp="2026-01-01T00:09:00Z")
    found = observe_store(reader, runtime_api, going, url="", now=NOW)
    assert found.namespace_terminating
    assert found.deleting_seconds == 60.0
    assert reader.asked == ["n"]


@pytest.mark.parametrize(
    ("reply", "code", "retryable"),
    [
        (Reply(503, {"code": "Fenced", "detail": "the store is being switched"}), "Fenced", True),
        (Reply(409, {"code": "Conflict", "title": "no"}), "Conflict", True),
        (Reply(400, {"code": "InvalidInput", "detail": "x"}), "InvalidInput", False),
        (Reply(502, b"<html>"), "HTTP502", True),
        (Reply(200, {"kind": "LogStore"}), "BadAnswer", True),
        (Reply(200, b"x" * (5 * 1024 * 1024)), "BadAnswer", True),
    ],
)
def test_what_a_runtime_may_answer_instead(
    runtime_api: RuntimeApi, server: ApiServer, reply: Reply, code: str, retryable: bool
) -> None:
    server.answer = lambda _: reply
    with pytest.raises(RuntimeUnavailable) as error:
        runtime_api.status(server.url, "a")
    assert (error.value.code, error.value.retryable) == (code, retryable)


def test_a_known_address_spares_the_look_up(server: ApiServer) -> None:
    server.answer = lambda _: Reply(200, STATUS)
    port = server.url.rsplit(":", 1)[1]
    asked: list[str] = []

    def address_of(host: str) -> str:
        asked.append(host)
        return "127.0.0.1"

    api = RuntimeApi(lambda _: "t", address_of=address_of)
    assert api.status(f"http://gateway-logs.n.svc.nowhere.invalid:{port}", "a").store_id == "s-1"
    api.close()
    assert asked == ["gateway-logs.n.svc.nowhere.invalid"]
    assert server.requests[0].headers["Host"] == f"gateway-logs.n.svc.nowhere.invalid:{port}"


def certificate(folder: Path, name: str) -> Path:
    """Self-signed, for one DNS name; its own CA bundle."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - timedelta(hours=1))
        .not_valid_after(datetime.now(UTC) + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = folder / "server.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return file


@pytest.mark.parametrize(("asked_for", "accepted"), [("gateway-logs.n.svc", True), ("limits-usage.n.svc", False)])
def test_a_certificate_must_be_for_the_stores_own_name(tmp_path: Path, asked_for: str, accepted: bool) -> None:
    file = certificate(tmp_path, "gateway-logs.n.svc")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    server = ApiServer(context)
    server.answer = lambda _: Reply(200, STATUS)
    api = RuntimeApi(lambda _: "t", verify=str(file), address_of=lambda _: "127.0.0.1")
    url = f"https://{asked_for}:{server.url.rsplit(':', 1)[1]}"
    try:
        if accepted:
            assert api.status(url, "a").store_id == "s-1"
        else:
            with pytest.raises(RuntimeUnavailable):
                api.status(url, "a")
            assert server.requests == []
    finally:
        api.close()
        server.close()


def test_a_runtime_that_is_away_is_an_observation(runtime_api: RuntimeApi, server: ApiServer) -> None:
    server.close()
    reader = Reader()
    reader.put(pod(**READY))
    found = observe_store(reader, runtime_api, STORE, url=server.url, now=NOW)
    assert found.runtime.status is None
    assert "does not answer" in (found.runtime.error or "")
