"""All Streams of a LogStore in one call: the declared set, what hinders it, what each is told."""

from dataclasses import replace
from typing import Any

from store_runtime.config.wire import StreamOutcome, StreamSync, StreamSyncResult
from storekeeper.api.logstore import LogStore
from storekeeper.api.parse import parse
from storekeeper.api.stream import Stream
from storekeeper.manifests.objects import FINALIZER
from storekeeper.plan.observed import RuntimeView, StreamsObserved
from storekeeper.plan.steps import SetFinalizer, SyncStreams
from storekeeper.plan.streams import desired_sync, plan_stream_removal, plan_streams, shadowed, stream_status
from tests.operator.plan_worlds import NOW, resource, serving


def stream(called: str, *, created: str = "2026-01-01T00:00:00Z", deleting: bool = False, **spec: Any) -> Stream:
    metadata: dict[str, Any] = {"name": called, "namespace": "ns", "uid": f"uid-{called}", "generation": 1}
    metadata |= {"creationTimestamp": created}
    if deleting:
        metadata |= {"deletionTimestamp": "2026-01-02T00:00:00Z", "finalizers": [FINALIZER]}
    found = parse(
        {
            "apiVersion": "storekeeper.dev/v1alpha1",
            "kind": "Stream",
            "metadata": metadata,
            "spec": {"logStoreRef": {"name": "gateway"}, **spec},
        }
    )
    assert isinstance(found, Stream)
    return found


def host(**spec: Any) -> LogStore:
    store = resource(entries={"enabled": True}, **spec)
    assert isinstance(store, LogStore)
    return store


NEVER = StreamsObserved()


def test_the_whole_set_goes_in_one_call_in_name_order() -> None:
    streams = [stream("b", retention={"maxAge": "5m"}), stream("a", indexedFields=["level"])]
    plan = plan_streams(host(), streams, NEVER, serving())
    assert [type(s) for s in plan.steps] == [SyncStreams]
    assert [s.name for s in plan.sync.streams] == ["a", "b"]
    assert plan.sync.streams[0].indexed_fields == ("level",)
    assert plan.sync.streams[1].max_age.total_seconds() == 300


def test_what_was_sent_is_not_sent_again_until_it_changes() -> None:
    streams = [stream("a")]
    sent = StreamsObserved(synced=desired_sync(streams), result=StreamSyncResult())
    assert plan_streams(host(), streams, sent, serving()).steps == ()
    assert len(plan_streams(host(), [stream("a", retention={"maxAge": "1h"})], sent, serving()).steps) == 1
    failed = replace(sent, error="no answer")
    assert len(plan_streams(host(), streams, failed, serving()).steps) == 1


def test_of_two_streams_with_one_name_the_older_counts() -> None:
    old = stream("old", created="2026-01-01T00:00:00Z", name="x", retention={"maxAge": "1h"})
    new = stream("new", created="2026-01-02T00:00:00Z", name="x", retention={"maxAge": "2h"})
    assert [s.max_age.total_seconds() for s in desired_sync([new, old]).streams] == [3600]
    assert shadowed(new, [new, old]) == old
    assert shadowed(old, [new, old]) is None


def test_only_delete_takes_the_entries_along() -> None:
    gone = stream("gone", deleting=True, deletionPolicy="Delete")
    kept = stream("kept", deleting=True)
    assert desired_sync([gone, kept]) == StreamSync(delete=("gone",))
    redeclared = stream("again", name="gone")
    assert desired_sync([gone, redeclared]).delete == ()


def test_a_finalizer_only_for_streams_whose_entries_go() -> None:
    streams = [stream("a", deletionPolicy="Delete"), stream("b")]
    steps = plan_streams(host(), streams, NEVER, serving()).steps
    assert [(s.ref.name, s.present) for s in steps if isinstance(s, SetFinalizer)] == [("a", True)]


def test_a_stream_is_let_go_when_its_entries_are() -> None:
    gone = stream("gone", deleting=True, deletionPolicy="Delete")
    assert plan_stream_removal([gone], host(), {}) == ()
    refused = StreamOutcome(name="gone", code="BackendUnreachable")
    assert plan_stream_removal([gone], host(), {"gone": refused}) == ()
    assert len(plan_stream_removal([gone], host(), {"gone": StreamOutcome(name="gone")})) == 1
    assert len(plan_stream_removal([gone], None, {})) == 1, "without its LogStore there is nothing to delete from"


def told(logstore: LogStore | None, runtime: RuntimeView, **more: Any) -> tuple[str, str, str]:
    one = stream("a")
    plan = plan_streams(logstore, [one], NEVER, runtime)
    status = stream_status(one, plan, more.get("outcome"), more.get("error", ""), more.get("rival"), NOW)
    ready = status["conditions"][0]
    return ready["status"], ready["reason"], status["phase"]


def test_each_stream_says_why_it_is_not_in_force() -> None:
    ok = StreamOutcome(name="a")
    assert told(host(), serving(), outcome=ok) == ("True", "InForce", "Active")
    assert told(None, serving()) == ("False", "LogStoreMissing", "Pending")
    plain = resource()
    assert isinstance(plain, LogStore)
    assert told(plain, serving()) == ("False", "EntriesDisabled", "Pending")
    assert told(host(), RuntimeView()) == ("False", "LogStoreNotReady", "Pending")
    assert told(host(), serving(), error="no answer") == ("False", "Retrying", "Pending")
    refused = StreamOutcome(name="a", code="InvalidInput", message="too many fields")
    assert told(host(), serving(), outcome=refused) == ("False", "RefusedByRuntime", "Stalled")
    assert told(host(), serving(), outcome=ok, rival=stream("b", name="a")) == ("False", "NameTaken", "Stalled")
