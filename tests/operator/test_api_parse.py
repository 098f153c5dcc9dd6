"""What a resource says, resolved; and what is said about one that cannot be obeyed."""

from datetime import timedelta
from typing import Any

import pytest

from storekeeper.api.logstore import LogStore
from storekeeper.api.parse import InvalidSpec, parse
from storekeeper.api.resource import NAME_CHARS_MAX, DeletionPolicy
from storekeeper.api.runtimestore import RuntimeStore
from storekeeper.api.stream import Stream

POSTGRES = {"host": "db", "database": "logs", "credentialsSecretRef": {"name": "logs-db"}}


def body(kind: str, spec: dict[str, Any] | None = None, **metadata: Any) -> dict[str, Any]:
    named = {"name": "gateway", "namespace": "team", "uid": "11111111-2222-3333-4444-555555555555", **metadata}
    return {"apiVersion": "storekeeper.dev/v1alpha1", "kind": kind, "metadata": named, "spec": spec or {}}


def logstore(spec: dict[str, Any] | None = None, **metadata: Any) -> LogStore:
    resource = parse(body("LogStore", spec, **metadata))
    assert isinstance(resource, LogStore)
    return resource


def runtimestore(spec: dict[str, Any] | None = None) -> RuntimeStore:
    resource = parse(body("RuntimeStore", spec))
    assert isinstance(resource, RuntimeStore)
    return resource


def stream(spec: dict[str, Any], **metadata: Any) -> Stream:
    resource = parse(body("Stream", spec, **metadata))
    assert isinstance(resource, Stream)
    return resource


def test_an_absent_backend_is_sqlite_on_a_volume_of_10gi() -> None:
    store = logstore()
    assert store.spec.backend is None
    assert store.backend_type == "sqlite"
    assert store.data_volume is not None and store.data_volume.size == 10 * 2**30
    assert store.data_is_on_volume and store.has_volume and store.is_persistent
    assert not store.hosts_entries and store.entries_volume is None
    assert store.credentials_secret == ""


def test_a_member_without_a_size_keeps_the_class_that_it_names() -> None:
    store = logstore({"backend": {"type": "sqlite", "sqlite": {"storage": {"storageClassName": "fast"}}}})
    assert store.data_volume is not None
    assert (store.data_volume.size, store.data_volume.storage_class_name) == (10 * 2**30, "fast")


def test_entries_are_hosted_once_they_are_named() -> None:
    store = logstore({"entries": {}})
    assert store.hosts_entries and store.spec.entries is not None and store.spec.entries.auto_create
    assert store.entries_volume is not None and store.entries_volume.size == 20 * 2**30
    disabled = logstore({"entries": {"enabled": False}})
    assert not disabled.hosts_entries and disabled.entries_volume is None


def test_a_network_database_has_no_volume_unless_it_hosts_entries() -> None:
    plain = logstore({"backend": {"type": "postgres", "postgres": POSTGRES}, "replicas": 3})
    assert plain.credentials_secret == "logs-db" and not plain.has_volume and plain.spec.replicas == 3
    hosting = logstore({"backend": {"type": "postgres", "postgres": POSTGRES}, "entries": {}})
    assert hosting.has_volume and not hosting.data_is_on_volume


def test_a_fingerprint_names_the_place_and_not_the_credentials() -> None:
    def of(**changed: Any) -> str:
        return logstore({"backend": {"type": "postgres", "postgres": POSTGRES | changed}}).fingerprint

    assert of() == of(credentialsSecretRef={"name": "rotated"}) == of(host="DB") == of(port=5432, sslMode="disable")
    assert len({of(), of(host="db2"), of(port=5433), of(database="other"), logstore().fingerprint}) == 5
    assert logstore().fingerprint == logstore({"backend": {"type": "sqlite"}}).fingerprint


def test_a_runtime_store_is_on_files_with_default_windows_and_a_cache() -> None:
    store = runtimestore()
    assert store.backend_type == "file" and store.is_persistent
    assert store.data_volume is not None and store.data_volume.size == 2**30
    assert store.spec.windows == (timedelta(minutes=1), timedelta(hours=1), timedelta(days=1))
    assert store.spec.cache.enabled and store.spec.cache.ttl_seconds == 10


def test_memory_has_no_volume_and_nothing_to_keep() -> None:
    store = runtimestore({"backend": {"type": "memory"}})
    assert not store.has_volume and not store.is_persistent
    assert store.spec.resolved_backend.memory is not None and store.spec.resolved_backend.memory.max_keys == 100_000


def test_a_stream_bears_the_name_of_its_resource_or_one_of_its_own() -> None:
    assert stream({"logStoreRef": {"name": "gateway"}}, name="system").stream_name == "system"
    named = stream({"logStoreRef": {"name": "gateway"}, "name": "Ünïcode / 流"})
    assert named.stream_name == "Ünïcode / 流"
    assert named.spec.deletion_policy is DeletionPolicy.RETAIN


def test_a_store_is_who_it_adopts_or_itself() -> None:
    assert logstore(uid="u1").store_id == "u1"
    assert logstore({"adoptStoreID": "old"}, uid="u1").store_id == "old"
    assert logstore({"adoptStoreID": ""}, uid="u1").store_id == "u1"


def test_metadata_that_nobody_asked_for_and_nulls_are_ignored() -> None:
    store = logstore(labels=None, managedFields=[{"manager": "kubectl"}], deletionTimestamp="2026-01-01T00:00:00Z")
    assert store.metadata.labels == {} and store.metadata.is_deleting
    assert parse({**body("LogStore"), "status": None, "spec": None}).status == {}


POSTGRES_WITH_PASSWORD = {"backend": {"type": "postgres", "postgres": POSTGRES | {"host": "me:hunter2@db"}}}

INVALID = [
    ("LogStore", {"retention": {"maxAge": "5x"}}, "spec.retention.maxAge", "write for example 30s"),
    ("LogStore", {"retention": {"maxSize": "ten"}}, "spec.retention.maxSize", "500Mi"),
    ("LogStore", {"retentoin": {}}, "spec.retentoin", "how it is spelled"),
    ("LogStore", {"backend": {"type": "mysql"}}, "spec.backend.type", "'sqlite' or 'postgres'"),
    ("LogStore", {"backend": {"type": "redis", "redis": {}}}, "spec.backend.type", "'sqlite' or 'postgres'"),
    ("LogStore", {"backend": {"type": "postgres"}}, "spec.backend.postgres", "say there where the data is"),
    ("LogStore", {"backend": {"type": "sqlite", "postgres": POSTGRES}}, "spec.backend.postgres", "set type: postgres"),
    ("LogStore", {"backend": {"postgres": POSTGRES}}, "spec.backend.type", "add it"),
    ("LogStore", POSTGRES_WITH_PASSWORD, "spec.backend.postgres.host", "credentialsSecretRef"),
    ("LogStore", {"replicas": 2}, "spec.replicas", "backend.type: postgres"),
    (
        "LogStore",
        {"replicas": 2, "entries": {}, "backend": {"type": "postgres", "postgres": POSTGRES}},
        "spec.replicas",
        "leave entries out",
    ),
    ("LogStore", {"retention": {"schedule": "0 * * *"}}, "spec.retention.schedule", "right form"),
    ("LogStore", {"retention": {"schedule": "0 24 * * *"}}, "spec.retention.schedule", "hour of a schedule is 0 to 23"),
    ("LogStore", {"entries": {"storage": {"size": "0"}}}, "spec.entries.storage.size", "above 0"),
    ("LogStore", {"adoptStoreID": "no spaces"}, "spec.adoptStoreID", "right form"),
    ("LogStore", {"podTemplate": {"labels": {"storekeeper.dev/kind": "x"}}}, "spec.podTemplate.labels", "prefix"),
    ("LogStore", {"podTemplate": {"security": {"runAsUser": 0}}}, "spec.podTemplate.security.runAsUser", "1"),
    ("LogStore", {"resources": {"limits": {"memory": "lots"}}}, "spec.resources.limits.memory", "right form"),
    ("LogStore", {"migration": {"strategy": "Copy"}}, "spec.migration", "no such field"),
    ("RuntimeStore", {"replicas": 2}, "spec.replicas", "one replica"),
    ("RuntimeStore", {"backend": {"type": "redis"}}, "spec.backend.type", "'memory' or 'file'"),
    ("RuntimeStore", {"windows": ["1m", "60s"]}, "spec.windows", "same length"),
    ("RuntimeStore", {"windows": ["1m", "0"]}, "spec.windows[1]", "1s to 366d"),
    ("RuntimeStore", {"cache": {"ttlSeconds": "soon"}}, "spec.cache.ttlSeconds", "whole number"),
    ("Stream", {}, "spec.logStoreRef", "add it"),
    ("Stream", {"logStoreRef": {"name": "g"}, "name": "ü" * 128}, "spec.name", "255 bytes"),
    ("Stream", {"logStoreRef": {"name": "g"}, "indexedFields": ["a", "a"]}, "spec.indexedFields", "twice"),
]


@pytest.mark.parametrize(("kind", "spec", "field", "words"), INVALID, ids=[f"{i[0]}-{i[2]}" for i in INVALID])
def test_an_invalid_spec_names_the_field_and_the_fix(kind: str, spec: dict[str, Any], field: str, words: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        parse(body(kind, spec))
    assert caught.value.field == field
    assert words in caught.value.message
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("name", ["a" * (NAME_CHARS_MAX + 1), "1st", "a.b", "a-", "a\n"])
def test_a_store_whose_children_could_not_be_named_is_refused(name: str) -> None:
    with pytest.raises(InvalidSpec, match=f"at most {NAME_CHARS_MAX} characters"):
        parse(body("RuntimeStore", name=name))


def test_a_stream_has_no_children_and_may_have_any_name() -> None:
    assert stream({"logStoreRef": {"name": "g"}}, name="a.very.long.name." + "x" * 200).stream_name.startswith("a.very")


@pytest.mark.parametrize(
    ("changed", "field"), [({"apiVersion": "storekeeper.dev/v2"}, "apiVersion"), ({"kind": "Store"}, "kind")]
)
def test_what_is_not_ours_is_refused(changed: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        parse(body("LogStore") | changed)
    assert caught.value.field == field
