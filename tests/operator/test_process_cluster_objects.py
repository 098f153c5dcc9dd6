"""The local cluster's objects: what an API server promises about apply, generations, finalizers and owners."""

import socket
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from storekeeper.adapters.cluster import ClusterError
from storekeeper.adapters.processes import crontab, doorbell
from storekeeper.adapters.processes.folders import Folders
from storekeeper.adapters.processes.objectfiles import ObjectFiles
from storekeeper.adapters.processes.ports import Ports, is_free
from storekeeper.adapters.processes.probes import Health, Probe
from storekeeper.adapters.processes.serverside import merged
from storekeeper.adapters.processes.statefolder import StateFolder, StateFolderError, SupervisorLock
from storekeeper.manifests.objects import Manifest, ObjectRef

SERVICE = ObjectRef("Service", "default", "web")


def service(**spec: Any) -> Manifest:
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "default"}, "spec": spec}


def config(data: dict[str, str], **rest: Any) -> Manifest:
    metadata = {"name": "c", "namespace": "default"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data, **rest}


@pytest.fixture
def objects(tmp_path: Path) -> ObjectFiles:
    return ObjectFiles(tmp_path / "objects", Folders(tmp_path))


# -- apply ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("live", "previous", "wanted", "result"),
    [
        ({}, {}, {"a": 1}, {"a": 1}),
        ({"a": 1, "theirs": 2}, {"a": 1}, {"a": 3}, {"a": 3, "theirs": 2}),
        ({"a": 1, "b": 2}, {"a": 1, "b": 2}, {"a": 1}, {"a": 1}),
        ({"m": {"a": 1, "theirs": 2}}, {"m": {"a": 1}}, {}, {"m": {"theirs": 2}}),
        ({"m": {"a": 1}}, {"m": {"a": 1}}, {}, {}),
        (
            {"m": {"a": 1, "b": {"c": 1}}},
            {"m": {"b": {"c": 1}}},
            {"m": {"b": {"d": 2}}},
            {"m": {"a": 1, "b": {"d": 2}}},
        ),
        ({"l": [1, 2]}, {"l": [1, 2]}, {"l": [3]}, {"l": [3]}),
        ({"m": 1}, {}, {"m": {"a": 1}}, {"m": {"a": 1}}),
        ({"a": 2}, {"gone": {"x": 1}}, {}, {"a": 2}),
    ],
)
def test_apply_replaces_what_was_applied_and_keeps_the_rest(
    live: Manifest, previous: Manifest, wanted: Manifest, result: Manifest
) -> None:
    assert merged(live, previous, wanted) == result


def test_first_apply_assigns_what_a_server_assigns_and_unchanged_ones_do_nothing(objects: ObjectFiles) -> None:
    assert objects.apply(service(port=1))
    first = objects.get(SERVICE)
    assert first is not None
    assert first["metadata"]["generation"] == 1
    assert first["metadata"]["uid"]
    assert not objects.apply(service(port=1))
    assert objects.get(SERVICE) == first


def test_generation_rises_with_the_spec_only_and_the_version_with_every_change(objects: ObjectFiles) -> None:
    objects.apply(service(port=1))
    objects.set_status(SERVICE, {"x": 1})
    labelled = service(port=1)
    labelled["metadata"]["labels"] = {"a": "b"}
    objects.apply(labelled)
    live = objects.get(SERVICE)
    assert live is not None
    assert (live["metadata"]["generation"], live["metadata"]["resourceVersion"]) == (1, "3")
    objects.apply(service(port=2))
    live = objects.get(SERVICE)
    assert live is not None
    assert (live["metadata"]["generation"], live["status"]) == (2, {"x": 1})
    assert live["metadata"].get("labels") is None


def test_status_apply_owns_only_its_own_fields_and_needs_the_object(objects: ObjectFiles) -> None:
    objects.apply(service())
    objects.set_status(SERVICE, {"theirs": 1})
    assert objects.apply_status(SERVICE, {"phase": "Ready", "old": 1})
    assert objects.apply_status(SERVICE, {"phase": "Ready"})
    assert not objects.apply_status(SERVICE, {"phase": "Ready"})
    live = objects.get(SERVICE)
    assert live is not None
    assert live["status"] == {"theirs": 1, "phase": "Ready"}
    with pytest.raises(ClusterError) as missing:
        objects.apply_status(ObjectRef("Service", "default", "other"), {})
    assert missing.value.status == 404


def test_own_resources_get_the_status_default_of_their_crd(objects: ObjectFiles) -> None:
    ref = ObjectRef("Stream", "default", "s")
    objects.apply(
        {"apiVersion": "storekeeper.dev/v1alpha1", "kind": "Stream", "metadata": {"name": "s", "namespace": "default"}}
    )
    live = objects.get(ref)
    assert live is not None
    assert live["status"] == {"observedGeneration": -1}


def test_create_leaves_what_is_there_alone(objects: ObjectFiles) -> None:
    assert objects.create(service(port=1))
    assert not objects.create(service(port=2))
    live = objects.get(SERVICE)
    assert live is not None
    assert live["spec"] == {"port": 1}


def test_immutable_config_refuses_other_data(objects: ObjectFiles) -> None:
    objects.apply(config({"a": "1"}, immutable=True))
    with pytest.raises(ClusterError, match="immutable"):
        objects.apply(config({"a": "2"}, immutable=True))


@pytest.mark.parametrize("name", ["../x", "", ".hidden", "a/b", "x" * 300])
def test_names_that_are_no_file_names_are_refused(objects: ObjectFiles, name: str) -> None:
    with pytest.raises(ClusterError) as refused:
        objects.apply(service() | {"metadata": {"name": name, "namespace": "default"}})
    assert refused.value.status == 422


def test_find_takes_namespace_and_labels(objects: ObjectFiles) -> None:
    for namespace, label in (("a", "x"), ("a", "y"), ("b", "x")):
        metadata = {"name": f"web-{label}", "namespace": namespace, "labels": {"app": label, "more": "1"}}
        objects.apply(service() | {"metadata": metadata})
    assert len(objects.find("Service")) == 3
    assert len(objects.find("Service", "a")) == 2
    assert [o["metadata"]["namespace"] for o in objects.find("Service", None, {"app": "x"})] == ["a", "b"]
    assert objects.find("Service", "a", {"app": "x", "more": "2"}) == []
    assert objects.find("Deployment") == []


# -- the end of objects -----------------------------------------------------------------------------------------------


def test_finalizers_hold_a_deleted_object(objects: ObjectFiles) -> None:
    objects.apply(service())
    assert objects.set_finalizer(SERVICE, "ours", True)
    assert not objects.set_finalizer(SERVICE, "ours", True)
    objects.set_finalizer(SERVICE, "theirs", True)
    assert objects.delete(SERVICE)
    live = objects.get(SERVICE)
    assert live is not None
    assert live["metadata"]["deletionTimestamp"]
    objects.set_finalizer(SERVICE, "ours", False)
    assert objects.get(SERVICE) is not None
    objects.set_finalizer(SERVICE, "theirs", False)
    assert objects.get(SERVICE) is None
    assert not objects.delete(SERVICE)
    assert not objects.set_finalizer(SERVICE, "ours", True)


def test_garbage_is_what_names_only_owners_that_are_gone(objects: ObjectFiles) -> None:
    objects.apply(service())
    owner = objects.get(SERVICE)
    assert owner is not None
    reference = {"apiVersion": "v1", "kind": "Service", "name": "web", "uid": owner["metadata"]["uid"]}
    child = config({"a": "1"})
    child["metadata"]["ownerReferences"] = [reference]
    objects.apply(child)
    free = config({})
    free["metadata"]["name"] = "free"
    objects.apply(free)
    assert not objects.collect_garbage()
    objects.delete(SERVICE)
    assert objects.collect_garbage()
    assert [o["metadata"]["name"] for o in objects.find("ConfigMap")] == ["free"]


def test_listeners_hear_changes_and_only_changes(objects: ObjectFiles) -> None:
    heard: list[str] = []
    objects.subscribe(lambda o: heard.append(o["metadata"]["resourceVersion"]))
    objects.apply(service())
    objects.apply(service())
    objects.delete(SERVICE)
    assert heard == ["1", "1"]


def test_config_files_follow_their_object(objects: ObjectFiles, tmp_path: Path) -> None:
    folder = tmp_path / "configmaps" / "default" / "c"
    objects.apply(config({"a": "1", "b": "2"}))
    objects.apply(config({"b": "3", "c": "4"}))
    assert {p.name: p.read_text() for p in folder.iterdir()} == {"b": "3", "c": "4"}
    objects.delete(ObjectRef("ConfigMap", "default", "c"))
    assert not folder.exists()


def test_processes_write_the_same_objects_without_losing_any(objects: ObjectFiles, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from storekeeper.adapters.processes.folders import Folders\n"
        "from storekeeper.adapters.processes.objectfiles import ObjectFiles\n"
        "from storekeeper.manifests.objects import ObjectRef\n"
        "o = ObjectFiles(Path(sys.argv[1]) / 'objects', Folders(Path(sys.argv[1])))\n"
        "for i in range(25): o.annotate(ObjectRef('Service', 'default', 'web'), f'{sys.argv[2]}-{i}', 'x')\n"
    )
    objects.apply(service())
    writers = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), name]) for name in ("a", "b", "c")]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    live = objects.get(SERVICE)
    assert live is not None
    assert len(live["metadata"]["annotations"]) == 75
    assert live["metadata"]["resourceVersion"] == "76"


# -- schedules --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schedule", "after", "due"),
    [
        ("*/15 * * * *", "2026-03-01T12:00:30", "2026-03-01T12:15"),
        ("*/15 * * * *", "2026-03-01T12:59:59", "2026-03-01T13:00"),
        ("0 3 * * *", "2026-03-01T03:00:00", "2026-03-02T03:00"),
        ("7 * * * *", "2026-12-31T23:30:00", "2027-01-01T00:07"),
        ("30 1 1 * *", "2026-03-01T12:00:00", "2026-04-01T01:30"),
        ("0 0 * * 7", "2026-03-02T00:00:00", "2026-03-08T00:00"),
        ("0 0 13 * 5", "2026-03-01T00:00:00", "2026-03-06T00:00"),
        ("0 0 29 2 *", "2026-03-01T00:00:00", "2028-02-29T00:00"),
        ("5,10-12 1-2 * 6 *", "2026-06-30T02:11:00", "2026-06-30T02:12"),
    ],
)
def test_next_minute_of_a_schedule(schedule: str, after: str, due: str) -> None:
    moment = datetime.fromisoformat(after).replace(tzinfo=UTC)
    assert crontab.parse(schedule).next_after(moment) == datetime.fromisoformat(due).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    "schedule", ["* * * *", "@hourly", "60 * * * *", "* * 0 * *", "a * * * *", "5-1 * * * *", "*/0 * * * *"]
)
def test_bad_schedules_name_their_field(schedule: str) -> None:
    with pytest.raises(ValueError, match=r"schedule|minute|day"):
        crontab.parse(schedule)


# -- probes -----------------------------------------------------------------------------------------------------------


def test_startup_patience_is_period_times_threshold_however_often_it_is_asked() -> None:
    health = Health(0.0, startup=Probe(lambda: False, period_seconds=10, failures_max=3))
    now = 0.0
    while health.alive:
        now += health.check(now)
    assert 30 <= now < 34


def test_ready_needs_one_success_and_is_lost_after_the_threshold() -> None:
    answers = iter([False, True, False, True, False, False])
    health = Health(0.0, readiness=Probe(lambda: next(answers), period_seconds=1, failures_max=2))
    seen = []
    now = 0.0
    for _ in range(6):
        now += health.check(now) + 0.001
        seen.append(health.ready)
    assert seen == [False, True, True, True, True, False]


# -- the state folder -------------------------------------------------------------------------------------------------


def test_foreign_folder_is_neither_used_nor_removed(tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    folder = StateFolder(tmp_path)
    with pytest.raises(StateFolderError, match="was not made by storekeeper"):
        folder.prepare()
    with pytest.raises(StateFolderError, match="nothing was removed"):
        folder.remove()
    assert (tmp_path / "precious").exists()


def test_folder_of_another_format_is_refused(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path / "s")
    folder.prepare()
    (tmp_path / "s" / "storekeeper.json").write_text('{"format": 99}')
    with pytest.raises(StateFolderError, match="format 99"):
        folder.prepare()


def test_one_supervisor_at_a_time_and_its_pid_is_known(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path / "s")
    folder.prepare()
    first, second = SupervisorLock(folder), SupervisorLock(folder)
    assert second.holder() is None
    assert first.acquire()
    assert not second.acquire()
    assert second.holder() is not None
    first.release()
    assert second.holder() is None
    assert second.acquire()


def test_ports_are_remembered_and_replaced_when_taken(tmp_path: Path) -> None:
    port = Ports(tmp_path / "ports.json").of("a")
    assert Ports(tmp_path / "ports.json").of("a") == port
    with socket.create_server(("127.0.0.1", port)):
        assert not is_free(port)
        assert Ports(tmp_path / "ports.json").replace_taken() == ["a"]
    assert Ports(tmp_path / "ports.json").of("a") != port


def test_doorbell_rings_once_for_many_and_tells_when_nobody_listens(tmp_path: Path) -> None:
    assert not doorbell.ring(tmp_path / "bell")
    bell = doorbell.Doorbell(tmp_path / "bell")
    for _ in range(3):
        assert doorbell.ring(tmp_path / "bell")
    assert bell.wait(5)
    assert not bell.wait(0)
    bell.close()
    assert not doorbell.ring(tmp_path / "bell")
