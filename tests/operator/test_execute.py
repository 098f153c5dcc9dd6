"""Steps are carried out in order, a failure ends the run, and tokens are what the runtime checks."""

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
import structlog

from store_runtime.clock import ManualClock
from store_runtime.config.wire import DeclaredStream, Scope, StreamOutcome, StreamSync, StreamSyncResult
from storekeeper.adapters.cluster import ClusterError
from storekeeper.adapters.runtime_api import RuntimeUnavailable
from storekeeper.execute.execution import NOT_TRIED, Executor, Target
from storekeeper.execute.tokens import OPERATOR_TOKEN_LIFETIME, Signer, SigningKeyError, new_key, private_pem
from storekeeper.manifests.objects import FINALIZER, Manifest, ObjectRef, ref_of
from storekeeper.plan.steps import Apply, Create, Delete, IssueToken, SetFinalizer, Step, SyncStreams

TARGET = Target("http://store", "logstore/n/a")
REF = ObjectRef("LogStore", "n", "a")


def manifest(kind: str, name: str = "a") -> Manifest:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"namespace": "n", "name": name}}


class Writes:
    """A cluster that notes what is written; `broken` refs answer with an error."""

    def __init__(self) -> None:
        self.done: list[tuple[Any, ...]] = []
        self.created: list[Manifest] = []
        self.broken: dict[str, Exception] = {}
        self.there: set[str] = set()

    def _do(self, what: str, ref: ObjectRef, *more: Any) -> bool:
        if error := self.broken.get(ref.name):
            raise error
        self.done.append((what, ref.kind, ref.name, *more))
        return ref.name not in self.there

    def apply(self, manifest: Manifest) -> bool:
        return self._do("apply", ref_of(manifest))

    def create(self, manifest: Manifest) -> bool:
        self.created.append(manifest)
        return self._do("create", ref_of(manifest))

    def delete(self, ref: ObjectRef) -> bool:
        return self._do("delete", ref)

    def set_finalizer(self, ref: ObjectRef, finalizer: str, present: bool) -> bool:
        return self._do("finalizer", ref, finalizer, present)


class Runtime:
    """A runtime API that answers a sync."""

    def __init__(self) -> None:
        self.error: RuntimeUnavailable | None = None
        self.asked: list[tuple[str, str, StreamSync]] = []

    def sync_streams(self, url: str, audience: str, sync: StreamSync) -> StreamSyncResult:
        if self.error:
            raise self.error
        self.asked.append((url, audience, sync))
        return StreamSyncResult(outcomes=tuple(StreamOutcome(name=stream.name) for stream in sync.streams))


@pytest.fixture
def signer() -> Signer:
    return Signer(new_key(), ManualClock(datetime(2026, 1, 1, tzinfo=UTC)))


def executed(cluster: Writes, signer: Signer, *steps: Step, runtime: Runtime | None = None) -> tuple[Any, ...]:
    executor = Executor(cluster, runtime or Runtime(), signer)  # type: ignore[arg-type]
    return executor.execute(steps, TARGET)


def test_steps_are_done_in_order_and_say_what_changed(signer: Signer) -> None:
    cluster = Writes()
    cluster.there.add("known")
    outcomes = executed(
        cluster,
        signer,
        Create(manifest("ConfigMap"), "missing"),
        Apply(manifest("Service", "known"), "drift"),
        Delete(ObjectRef("Job", "n", "old"), "superseded"),
        SetFinalizer(REF, True, "needed"),
    )
    assert [done[:3] for done in cluster.done] == [
        ("create", "ConfigMap", "a"),
        ("apply", "Service", "known"),
        ("delete", "Job", "old"),
        ("finalizer", "LogStore", "a"),
    ]
    assert cluster.done[-1][3:] == (FINALIZER, True)
    assert [(outcome.changed, outcome.error) for outcome in outcomes] == [
        (True, ""),
        (False, ""),
        (True, ""),
        (True, ""),
    ]


def test_the_first_failure_ends_the_run_and_the_rest_is_told_as_not_tried(signer: Signer) -> None:
    cluster = Writes()
    cluster.broken["b"] = ClusterError("refused", status=429, code="TooManyRequests", retry_after=7.0)
    outcomes = executed(
        cluster,
        signer,
        Apply(manifest("Service", "a"), ""),
        Apply(manifest("Service", "b"), ""),
        Apply(manifest("Service", "c"), ""),
    )
    assert [done[2] for done in cluster.done] == ["a"]
    assert [outcome.code for outcome in outcomes] == ["", "TooManyRequests", NOT_TRIED]
    assert outcomes[1].retry_after == 7.0
    assert all(outcome.retryable for outcome in outcomes)


def test_a_delete_that_fails_holds_up_nothing(signer: Signer) -> None:
    cluster = Writes()
    cluster.broken["old"] = ClusterError("refused", status=500)
    outcomes = executed(cluster, signer, Delete(ObjectRef("Job", "n", "old"), ""), Apply(manifest("Service"), ""))
    assert outcomes[0].error
    assert not outcomes[1].error


def test_a_refusal_is_not_retryable(signer: Signer) -> None:
    cluster = Writes()
    cluster.broken["a"] = ClusterError("spec.x is wrong", status=422, code="Invalid", retryable=False)
    outcomes = executed(cluster, signer, Apply(manifest("Service"), ""), Apply(manifest("Service", "b"), ""))
    assert [outcome.retryable for outcome in outcomes] == [False, False]


def issue(**changes: Any) -> IssueToken:
    secret = {**manifest("Secret", "a-binding"), "stringData": {"uri": "http://store"}}
    return IssueToken(secret, "logstore/n/a", "a-binding", (Scope.READ, Scope.WRITE), "new store", **changes)


def test_a_token_is_put_into_a_new_secret_beside_what_it_says(signer: Signer) -> None:
    cluster = Writes()
    step = issue()
    [outcome] = executed(cluster, signer, step)
    assert outcome.changed
    [secret] = cluster.created
    assert secret["stringData"]["uri"] == "http://store"
    assert "token" not in step.secret["stringData"]
    claims = jwt.decode(
        secret["stringData"]["token"], signer.public_pem, ["EdDSA"], audience="logstore/n/a", issuer="storekeeper"
    )
    assert (claims["sub"], claims["scope"]) == ("a-binding", "read write")
    assert "exp" not in claims


def test_rotation_deletes_first(signer: Signer) -> None:
    cluster = Writes()
    executed(cluster, signer, issue(replace=True))
    assert [done[0] for done in cluster.done] == ["delete", "create"]


def test_tokens_are_not_logged(signer: Signer) -> None:
    cluster = Writes()
    with structlog.testing.capture_logs() as logs:
        executed(cluster, signer, issue())
        cluster.broken["a-binding"] = ClusterError("refused", status=500)
        executed(cluster, signer, issue())
    token = cluster.created[0]["stringData"]["token"]
    assert len(logs) == 2
    assert token not in str(logs)


def test_streams_are_sent_to_the_store_of_the_plan(signer: Signer) -> None:
    runtime, sync = Runtime(), StreamSync(streams=(DeclaredStream(name="web"),))
    [outcome] = executed(Writes(), signer, SyncStreams(sync, ""), runtime=runtime)
    assert runtime.asked == [("http://store", "logstore/n/a", sync)]
    assert outcome.synced == StreamSyncResult(outcomes=(StreamOutcome(name="web"),))


def test_a_runtime_that_does_not_answer_is_an_outcome(signer: Signer) -> None:
    runtime = Runtime()
    runtime.error = RuntimeUnavailable("away", code="Unreachable", retryable=True)
    [outcome] = executed(Writes(), signer, SyncStreams(StreamSync(), ""), runtime=runtime)
    assert (outcome.error, outcome.code, outcome.synced) == ("away", "Unreachable", None)


# -- tokens -----------------------------------------------------------------------------------------------------------


def decoded(token: str, signer: Signer) -> dict[str, Any]:
    options = {"verify_exp": False, "verify_iat": False}
    claims: dict[str, Any] = jwt.decode(token, signer.public_pem, ["EdDSA"], audience="aud", options=options)  # type: ignore[arg-type]
    return claims


def test_the_operators_own_token_is_short_lived_and_renewed_before_its_end() -> None:
    clock = ManualClock()
    signer = Signer(new_key(), clock)
    first = signer.operator_token("aud")
    claims = decoded(first, signer)
    assert claims["exp"] - clock.now_ns() // 10**9 == OPERATOR_TOKEN_LIFETIME.total_seconds()
    clock.advance(timedelta(minutes=7, seconds=59))
    assert signer.operator_token("aud") == first
    clock.advance(timedelta(seconds=2))
    second = signer.operator_token("aud")
    assert decoded(second, signer)["exp"] > claims["exp"]


def test_every_store_gets_its_own(signer: Signer) -> None:
    assert signer.operator_token("a") != signer.operator_token("b")


def test_many_threads_get_one_token(signer: Signer) -> None:
    tokens: set[str] = set()
    threads = [threading.Thread(target=lambda: tokens.add(signer.operator_token("a"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(tokens) == 1


def test_the_key_comes_from_a_file(tmp_path: Path, signer: Signer) -> None:
    key = new_key()
    file = tmp_path / "private.pem"
    file.write_bytes(private_pem(key))
    loaded = Signer.from_file(file)
    assert loaded.public_pem == Signer(key).public_pem
    assert loaded.public_pem != signer.public_pem


def test_a_key_file_that_is_none_is_named_and_not_shown(tmp_path: Path) -> None:
    with pytest.raises(SigningKeyError, match=r"cannot read the signing key .*missing\.pem"):
        Signer.from_file(tmp_path / "missing.pem")
    file = tmp_path / "bad.pem"
    file.write_text("hunter2")
    with pytest.raises(SigningKeyError) as error:
        Signer.from_file(file)
    assert "bad.pem" in str(error.value)
    assert "hunter2" not in str(error.value)
