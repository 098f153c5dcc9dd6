"""The cluster made of processes, by hand-written manifests and tiny programs: what a real one would do."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from storekeeper.adapters.cluster import ClusterError
from storekeeper.adapters.processes.cluster import ProcessCluster
from storekeeper.adapters.processes.ports import Ports
from storekeeper.adapters.processes.statefolder import StateFolder
from storekeeper.manifests.objects import Manifest, ObjectRef

NAMESPACE = "default"
DEADLINE_SECONDS = 20.0

SERVER = """
import http.server, os, sys
os.write(1, b"serving\\n")
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if os.path.exists(sys.argv[2]) or self.path != "/readyz" else 503); self.end_headers()
    def log_message(self, *_): pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def eventually(check: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        if result := check():
            return result
        time.sleep(0.02)
    raise AssertionError(f"not within {DEADLINE_SECONDS} s: {what}")


class Hands:
    """A started cluster and short words for what the tests do with it."""

    def __init__(self, root: Path) -> None:
        self.folder = StateFolder(root)
        self.folder.prepare()
        self.root = self.folder.root
        self.now = datetime(2026, 3, 1, 12, 0, 30, tzinfo=UTC)
        self.cluster = ProcessCluster(self.folder, now=lambda: self.now)
        self.cluster.start()
        self.port = Ports(self.folder.ports).of("test")

    def get(self, kind: str, name: str) -> Manifest | None:
        return self.cluster.get(ObjectRef(kind, NAMESPACE, name))

    def pod(self, name: str) -> Manifest | None:
        return self.get("Pod", name)

    def status(self, kind: str, name: str) -> dict[str, Any]:
        found: dict[str, Any] = (self.get(kind, name) or {}).get("status", {})
        return found

    def pid(self, pod: str) -> int:
        containers = self.status("Pod", pod).get("containerStatuses", [])
        running = [c for c in containers if "running" in c["state"]]
        return int(running[0]["containerID"].removeprefix("process://")) if running else 0

    def server(self, ready: bool = True, **pod: Any) -> Manifest:
        """A StatefulSet of one HTTP server that is ready while the file `ready` exists."""
        (self.root / "ready").touch() if ready else (self.root / "ready").unlink(missing_ok=True)
        probe = {"httpGet": {"path": "/readyz", "port": "http"}, "periodSeconds": 1, "failureThreshold": 1}
        container = {
            "name": "server",
            "command": [sys.executable, "-c", SERVER],
            "args": [str(self.port), str(self.root / "ready")],
            "ports": [{"name": "http", "containerPort": self.port}],
            "readinessProbe": probe,
        } | pod.pop("container", {})
        return workload("server", {"containers": [container], "terminationGracePeriodSeconds": 5} | pod)


def workload(name: str, pod: dict[str, Any]) -> Manifest:
    template = {"metadata": {"labels": {"app": name}}, "spec": pod}
    return made("StatefulSet", name, {"replicas": 1, "template": template}, "apps/v1")


def made(kind: str, name: str, spec: dict[str, Any] | None = None, api: str = "v1", **rest: Any) -> Manifest:
    manifest = {"apiVersion": api, "kind": kind, "metadata": {"name": name, "namespace": NAMESPACE}, **rest}
    return manifest if spec is None else manifest | {"spec": spec}


def script(name: str, code: str, *args: str, **rest: Any) -> dict[str, Any]:
    return {"name": name, "command": [sys.executable, "-c", code], "args": list(args), **rest}


def job(name: str, container: dict[str, Any], **spec: Any) -> Manifest:
    pod = {"restartPolicy": "OnFailure", "containers": [container], "terminationGracePeriodSeconds": 1}
    return made("Job", name, {"template": {"spec": pod}} | spec, "batch/v1")


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.fixture
def hands(tmp_path: Path) -> Iterator[Hands]:
    hands = Hands(tmp_path / "a state folder")
    yield hands
    hands.cluster.close()


# -- serving ----------------------------------------------------------------------------------------------------------


def test_statefulset_becomes_a_ready_process_and_says_so_as_kubernetes_does(hands: Hands) -> None:
    hands.cluster.apply(hands.server())
    status = eventually(
        lambda: hands.status("StatefulSet", "server").get("readyReplicas") and hands.get("StatefulSet", "server"),
        "ready",
    )
    assert status["status"] | {"updateRevision": ""} == {
        "observedGeneration": 1, "replicas": 1, "readyReplicas": 1, "availableReplicas": 1,
        "currentReplicas": 1, "updatedReplicas": 1, "updateRevision": "",
    }  # fmt: skip
    pod = hands.pod("server-0")
    assert pod is not None
    assert pod["status"]["phase"] == "Running"
    assert pod["metadata"]["ownerReferences"][0]["kind"] == "StatefulSet"
    assert alive(hands.pid("server-0"))
    assert (hands.root / "logs" / NAMESPACE / "server-0" / "server.log").read_text() == "serving\n"


def test_readiness_follows_the_probe_both_ways(hands: Hands) -> None:
    hands.cluster.apply(hands.server(ready=False))
    eventually(lambda: hands.pid("server-0"), "running")
    assert hands.status("StatefulSet", "server")["readyReplicas"] == 0
    (hands.root / "ready").touch()
    eventually(lambda: hands.status("StatefulSet", "server")["readyReplicas"] == 1, "ready")
    (hands.root / "ready").unlink()
    eventually(lambda: hands.status("StatefulSet", "server")["readyReplicas"] == 0, "not ready")


def test_killed_server_is_started_again(hands: Hands) -> None:
    hands.cluster.apply(hands.server())
    first = eventually(lambda: hands.pid("server-0"), "running")
    os.kill(first, signal.SIGKILL)
    second = eventually(lambda: hands.pid("server-0") not in (0, first) and hands.pid("server-0"), "started again")
    assert alive(second)
    container = hands.status("Pod", "server-0")["containerStatuses"][0]
    assert container["restartCount"] == 1
    assert container["lastState"]["terminated"]["exitCode"] == 137


def test_liveness_probe_restarts_a_server_that_hangs(hands: Hands) -> None:
    probe = {"httpGet": {"path": "/healthz", "port": hands.port + 1}, "periodSeconds": 1, "failureThreshold": 1}
    hands.cluster.apply(hands.server(container={"livenessProbe": probe}))
    eventually(lambda: hands.status("Pod", "server-0").get("containerStatuses", [{}])[0].get("restartCount"), "restart")
    assert any(reason == "Unhealthy" for reason, _ in hands.cluster.pod_warnings(NAMESPACE, "server-0"))


def test_changed_template_replaces_the_process_and_an_unchanged_one_does_not(hands: Hands) -> None:
    hands.cluster.apply(hands.server())
    first = eventually(lambda: hands.pid("server-0"), "running")
    assert not hands.cluster.apply(hands.server())
    hands.cluster.apply(hands.server() | {"metadata": {"name": "server", "namespace": NAMESPACE, "labels": {"a": "b"}}})
    hands.cluster.apply(hands.server(container={"env": [{"name": "NEW", "value": "1"}]}))
    eventually(lambda: hands.pid("server-0") not in (0, first), "replaced")
    eventually(lambda: hands.status("StatefulSet", "server").get("readyReplicas") == 1, "ready again")
    assert hands.status("StatefulSet", "server")["observedGeneration"] == 2
    assert not alive(first)


def test_deleting_the_workload_ends_its_process(hands: Hands) -> None:
    hands.cluster.apply(hands.server())
    pid = eventually(lambda: hands.pid("server-0"), "running")
    assert hands.cluster.delete(ObjectRef("StatefulSet", NAMESPACE, "server"))
    eventually(lambda: hands.pod("server-0") is None, "pod gone")
    assert not alive(pid)


def test_deleted_pod_comes_back_as_a_new_one(hands: Hands) -> None:
    hands.cluster.apply(hands.server())
    eventually(lambda: hands.pid("server-0"), "running")
    before = hands.pod("server-0")
    assert before is not None
    hands.cluster.delete(ObjectRef("Pod", NAMESPACE, "server-0"))
    after = eventually(
        lambda: (p := hands.pod("server-0")) and p["metadata"]["uid"] != before["metadata"]["uid"] and p, "new"
    )
    assert after["metadata"]["name"] == "server-0"


def test_stop_is_sigterm_then_sigkill_after_the_grace_period(hands: Hands, tmp_path: Path) -> None:
    stubborn = (
        "import signal, sys, time\n"
        "say = lambda word: print(word, file=open(sys.argv[1], 'a'))\n"
        "signal.signal(signal.SIGTERM, lambda *_: say('asked'))\n"
        "say('up'); time.sleep(600)"
    )
    journal = tmp_path / "journal"
    container = script("main", stubborn, str(journal))
    hands.cluster.apply(workload("stubborn", {"containers": [container], "terminationGracePeriodSeconds": 1}))
    eventually(lambda: journal.exists() and "up" in journal.read_text() and hands.pid("stubborn-0"), "up")
    pid = hands.pid("stubborn-0")
    hands.cluster.delete(ObjectRef("StatefulSet", NAMESPACE, "stubborn"))
    eventually(lambda: hands.pod("stubborn-0") is None, "gone")
    assert journal.read_text() == "up\nasked\n"
    assert not alive(pid)
    assert not (hands.root / "logs" / NAMESPACE / "stubborn-0").exists()


def test_second_replica_is_unschedulable_and_says_why(hands: Hands) -> None:
    manifest = hands.server()
    manifest["spec"]["replicas"] = 2
    hands.cluster.apply(manifest)
    condition = eventually(lambda: hands.status("Pod", "server-1").get("conditions", [None])[0], "status")
    assert condition["reason"] == "Unschedulable"
    assert "at most 1 replica" in condition["message"]
    manifest["spec"]["replicas"] = 0
    hands.cluster.apply(manifest)
    eventually(lambda: not hands.cluster.find("Pod"), "scaled to nothing")


# -- init containers and jobs -----------------------------------------------------------------------------------------


def test_init_containers_run_in_order_and_leave_their_reports(hands: Hands) -> None:
    """The reports go to a file of each container's own, though all are told the same path."""
    say = "import sys; open(sys.argv[1], 'w').write(sys.argv[2]); open(sys.argv[3], 'a').write(sys.argv[2])"
    order, told = str(hands.root / "order"), str(hands.root / "termination-log")
    init = [script(n, say, told, n, order, terminationMessagePath=told) for n in ("provision", "migrate")]
    hands.cluster.apply(hands.server(initContainers=init))
    eventually(lambda: hands.pid("server-0"), "running")
    statuses = hands.status("Pod", "server-0")["initContainerStatuses"]
    assert [s["state"]["terminated"]["message"] for s in statuses] == ["provision", "migrate"]
    assert Path(order).read_text() == "provisionmigrate"
    assert not Path(told).exists()


def test_failing_init_container_is_retried_and_keeps_its_last_report(hands: Hands) -> None:
    code = (
        "import os, sys; open(sys.argv[1], 'w').write('try again'); sys.exit(0 if os.path.exists(sys.argv[2]) else 3)"
    )
    told, cure = str(hands.root / "termination-log"), hands.root / "cure"
    hands.cluster.apply(
        hands.server(initContainers=[script("provision", code, told, str(cure), terminationMessagePath=told)])
    )
    status = eventually(
        lambda: (
            (s := hands.status("Pod", "server-0").get("initContainerStatuses"))
            and s[0]["restartCount"]
            and s[0]["lastState"]
            and s[0]
        ),
        "retried",
    )
    assert status["lastState"]["terminated"] | {"startedAt": "", "finishedAt": ""} == {
        "exitCode": 3, "reason": "Error", "message": "try again", "startedAt": "", "finishedAt": "",
    }  # fmt: skip
    assert hands.pid("server-0") == 0
    cure.touch()
    eventually(lambda: hands.pid("server-0"), "running")


def test_job_runs_to_completion_after_failures(hands: Hands) -> None:
    code = "import os, sys; n = os.path.exists(sys.argv[1]); open(sys.argv[1], 'w').close(); sys.exit(not n)"
    hands.cluster.create(job("once", script("work", code, str(hands.root / "seen"))))
    status = eventually(lambda: hands.status("Job", "once").get("conditions") and hands.status("Job", "once"), "over")
    assert (status["conditions"][0]["type"], status["succeeded"], status["active"]) == ("Complete", 1, 0)
    assert hands.status("Pod", "once-0")["containerStatuses"][0]["restartCount"] == 1


def test_job_gives_up_at_its_backoff_limit(hands: Hands) -> None:
    hands.cluster.create(job("hopeless", script("work", "raise SystemExit(1)"), backoffLimit=1))
    condition = eventually(lambda: hands.status("Job", "hopeless").get("conditions"), "over")[0]
    assert (condition["type"], condition["reason"]) == ("Failed", "BackoffLimitExceeded")
    eventually(lambda: hands.pod("hopeless-0") is None, "its pod is stopped")


def test_finished_job_goes_after_its_time_to_live(hands: Hands) -> None:
    hands.cluster.create(job("brief", script("work", ""), ttlSecondsAfterFinished=60))
    eventually(lambda: hands.status("Job", "brief").get("conditions"), "over")
    hands.now += timedelta(seconds=61)
    hands.cluster.wake()
    eventually(lambda: not hands.cluster.find("Job") and not hands.cluster.find("Pod"), "gone with its pod")
    assert not (hands.root / "logs" / NAMESPACE / "brief-0").exists()


def test_cron_job_runs_when_due_keeps_its_history_short_and_forbids_overlap(hands: Hands) -> None:
    template = {"spec": job("x", script("work", ""))["spec"]}
    spec = {
        "schedule": "*/5 * * * *",
        "jobTemplate": template,
        "concurrencyPolicy": "Forbid",
        "successfulJobsHistoryLimit": 1,
    }
    hands.now = datetime.now(UTC)
    hands.cluster.apply(made("CronJob", "retain", spec, "batch/v1"))
    for _ in range(3):
        before = {j["metadata"]["name"] for j in hands.cluster.find("Job")}
        hands.now += timedelta(minutes=5)
        hands.cluster.wake()
        eventually(lambda before=before: {j["metadata"]["name"] for j in hands.cluster.find("Job")} - before, "made")  # type: ignore[misc]
        eventually(lambda: all(j.get("status", {}).get("conditions") for j in hands.cluster.find("Job")), "over")
    hands.cluster.wake()
    eventually(lambda: len(hands.cluster.find("Job")) == 1, "history dropped")
    assert datetime.fromisoformat(hands.status("CronJob", "retain")["lastScheduleTime"]).minute % 5 == 0


def test_cron_job_neither_overlaps_nor_makes_up_for_what_is_too_late(hands: Hands) -> None:
    waiting = "import os, sys, time\nwhile not os.path.exists(sys.argv[1]): time.sleep(0.05)"
    template = {"spec": job("x", script("work", waiting, str(hands.root / "go")))["spec"]}
    spec = {"schedule": "*/5 * * * *", "jobTemplate": template, "concurrencyPolicy": "Forbid"}
    hands.now = datetime.now(UTC)
    hands.cluster.apply(made("CronJob", "retain", spec | {"startingDeadlineSeconds": 60}, "batch/v1"))
    hands.now = (hands.now + timedelta(minutes=60)).replace(minute=4, second=0)
    hands.cluster.wake()
    hands.now = hands.now.replace(minute=5)
    hands.cluster.wake()
    eventually(lambda: hands.cluster.find("Job"), "made when due")
    hands.now = hands.now.replace(minute=10)
    hands.cluster.wake()
    (first,) = hands.cluster.find("Job")
    (hands.root / "go").touch()
    eventually(lambda: len(hands.cluster.find("Job")) == 2, "the next one begins when the first is over")
    assert first["metadata"]["name"] != hands.cluster.find("Job")[1]["metadata"]["name"]


# -- what pods mount --------------------------------------------------------------------------------------------------


def test_volumes_are_mounted_where_the_manifest_says(hands: Hands) -> None:
    mounts = hands.root / "stores" / "x"
    hands.cluster.create(made("ConfigMap", "settings", data={"config.json": "{}"}))
    hands.cluster.create(made("Secret", "login", stringData={"password": "hush"}))
    hands.cluster.apply(made("PersistentVolumeClaim", "data", {"resources": {"requests": {"storage": "1Gi"}}}))
    volumes = [
        {"name": "config", "configMap": {"name": "settings"}},
        {"name": "login", "secret": {"secretName": "login", "items": [{"key": "password", "path": "pw"}]}},
        {"name": "data", "persistentVolumeClaim": {"claimName": "data"}},
        {"name": "scratch", "emptyDir": {}},
    ]
    read = (
        "import sys, pathlib as p; r = p.Path(sys.argv[1])\n"
        "(r/'data'/'kept').write_text('kept'); (r/'scratch'/'t').touch()\n"
        "seen = (r/'config'/'config.json').read_text() + str(len((r/'login'/'pw').read_text()))\n"
        "p.Path(sys.argv[2]).write_text(seen)"
    )
    told = str(hands.root / "termination-log")
    container = script("work", read, str(mounts), told, terminationMessagePath=told)
    container["volumeMounts"] = [{"name": v["name"], "mountPath": str(mounts / str(v["name"]))} for v in volumes]
    pod = {"restartPolicy": "Never", "containers": [container], "volumes": volumes}
    hands.cluster.create(made("Job", "reader", {"template": {"spec": pod}, "backoffLimit": 0}, "batch/v1"))
    eventually(lambda: hands.status("Job", "reader").get("conditions"), "over")
    assert hands.status("Pod", "reader-0")["containerStatuses"][0]["state"]["terminated"]["message"] == "{}4"
    assert (hands.root / "volumes" / NAMESPACE / "data" / "kept").read_text() == "kept"
    assert hands.status("PersistentVolumeClaim", "data") == {"phase": "Bound", "capacity": {"storage": "1Gi"}}


def test_missing_secret_is_told_like_the_kubelet_does_and_heals_by_itself(hands: Hands) -> None:
    mount = {"volumeMounts": [{"name": "login", "mountPath": str(hands.root / "stores" / "login")}]}
    volumes = [{"name": "login", "secret": {"secretName": "logs-db"}}]
    hands.cluster.apply(hands.server(container=mount, volumes=volumes))
    (warning,) = eventually(lambda: hands.cluster.pod_warnings(NAMESPACE, "server-0"), "warned")
    assert warning == ("FailedMount", 'MountVolume.SetUp failed for volume "login" : secret "logs-db" not found')
    hands.cluster.create(made("Secret", "logs-db", stringData={"password": "hush"}))
    eventually(lambda: hands.pid("server-0"), "running")


def test_renewed_secret_shows_in_the_running_pod_s_mount(hands: Hands) -> None:
    hands.cluster.create(made("Secret", "login", data={"password": "b2xk"}))
    path = hands.root / "stores" / "login"
    mount = {"volumeMounts": [{"name": "login", "mountPath": str(path)}]}
    hands.cluster.apply(hands.server(container=mount, volumes=[{"name": "login", "secret": {"secretName": "login"}}]))
    eventually(lambda: hands.pid("server-0"), "running")
    assert (path / "password").read_text() == "old"
    hands.cluster.delete(ObjectRef("Secret", NAMESPACE, "login"))
    hands.cluster.create(made("Secret", "login", stringData={"password": "new"}))
    assert (path / "password").read_text() == "new"


def test_nothing_is_mounted_outside_of_the_state_folder(hands: Hands, tmp_path: Path) -> None:
    mount = {"volumeMounts": [{"name": "scratch", "mountPath": str(tmp_path / "elsewhere")}]}
    hands.cluster.apply(hands.server(container=mount, volumes=[{"name": "scratch", "emptyDir": {}}]))
    (warning,) = eventually(lambda: hands.cluster.pod_warnings(NAMESPACE, "server-0"), "warned")
    assert "outside of" in warning[1]
    assert not (tmp_path / "elsewhere").exists()


def test_claim_in_use_stays_until_its_pod_is_gone_and_its_data_goes_with_it(hands: Hands) -> None:
    hands.cluster.apply(made("PersistentVolumeClaim", "data", {}))
    mount = {"volumeMounts": [{"name": "d", "mountPath": str(hands.root / "stores" / "data")}]}
    hands.cluster.apply(
        hands.server(container=mount, volumes=[{"name": "d", "persistentVolumeClaim": {"claimName": "data"}}])
    )
    eventually(lambda: hands.pid("server-0"), "running")
    hands.cluster.delete(ObjectRef("PersistentVolumeClaim", NAMESPACE, "data"))
    assert "deletionTimestamp" in (hands.get("PersistentVolumeClaim", "data") or {})["metadata"]
    folder = hands.root / "volumes" / NAMESPACE / "data"
    assert folder.is_dir()
    hands.cluster.delete(ObjectRef("StatefulSet", NAMESPACE, "server"))
    eventually(lambda: hands.get("PersistentVolumeClaim", "data") is None, "claim gone")
    assert not folder.exists()


def test_secret_values_are_in_private_files_only(hands: Hands) -> None:
    hands.cluster.create(made("Secret", "login", stringData={"password": "hush-hush"}))
    path = hands.root / "secrets" / NAMESPACE / "login" / "password"
    assert path.read_text() == "hush-hush"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    holders = [p for p in hands.root.rglob("*") if p.is_file() and "hush-hush" in p.read_text(errors="replace")]
    assert holders == [path]
    with pytest.raises(ClusterError, match="never read"):
        hands.get("Secret", "login")


# -- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"containers": []}, "spec.template.spec.containers"),
        ({"volumes": [{"name": "x", "hostPath": {"path": "/"}}]}, "spec.template.spec.volumes[0]"),
        ({"initContainers": [{"name": "a"}]}, "spec.template.spec.initContainers[0].command"),
        ({"initContainers": [script("a", "", restartPolicy="Always")]}, "initContainers[0].restartPolicy"),
    ],
)
def test_what_cannot_be_run_here_is_refused_by_its_field(hands: Hands, change: dict[str, Any], field: str) -> None:
    with pytest.raises(ClusterError) as refused:
        hands.cluster.apply(hands.server(**change))
    assert field in str(refused.value)
    assert (refused.value.status, refused.value.retryable) == (422, False)
    assert hands.get("StatefulSet", "server") is None


def test_bad_schedule_is_refused(hands: Hands) -> None:
    spec = {"schedule": "61 * * * *", "jobTemplate": {"spec": job("x", script("w", ""))["spec"]}}
    with pytest.raises(ClusterError, match=r"spec\.schedule: minute '61': must be between 0 and 59"):
        hands.cluster.apply(made("CronJob", "retain", spec, "batch/v1"))


# -- the end of the supervisor ----------------------------------------------------------------------------------------

SUPERVISOR = """
import sys, time
from pathlib import Path
from storekeeper.adapters.processes.cluster import ProcessCluster
from storekeeper.adapters.processes.statefolder import StateFolder
cluster = ProcessCluster(StateFolder(Path(sys.argv[1])))
cluster.start()
print("started", flush=True)
time.sleep(600)
"""
PARENT = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import os; os.setsid(); import time; time.sleep(600)"])
open(sys.argv[1], "w").write(f"{os.getpid()} {child.pid}")
time.sleep(600)
"""


def test_no_process_outlives_a_killed_supervisor(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path / "state")
    folder.prepare()
    pids_file = tmp_path / "pids"
    container = script("main", PARENT, str(pids_file))
    ProcessCluster(folder).apply(workload("family", {"containers": [container], "terminationGracePeriodSeconds": 1}))
    supervisor = subprocess.Popen([sys.executable, "-c", SUPERVISOR, str(folder.root)], stdout=subprocess.PIPE)
    with supervisor:
        pids = eventually(lambda: pids_file.exists() and [int(p) for p in pids_file.read_text().split()], "running")
        assert all(alive(pid) for pid in pids)
        supervisor.kill()
    eventually(lambda: not any(alive(pid) for pid in pids), "parent and grandchild are gone")


def test_next_supervisor_waits_for_the_last_one_s_processes(tmp_path: Path) -> None:
    """Two processes on one volume would damage it: the second starts when the first has really gone."""
    slow = (
        "import os, signal, sys, time\n"
        "path = sys.argv[1]\n"
        "def stop(*_):\n    time.sleep(1)\n    open(path, 'a').write('end ')\n    sys.exit()\n"
        "signal.signal(signal.SIGTERM, stop)\n"
        "open(path, 'a').write('begin ')\n"
        "time.sleep(600)\n"
    )
    folder, journal = StateFolder(tmp_path / "state"), tmp_path / "journal"
    folder.prepare()
    pod = {"containers": [script("main", slow, str(journal))], "terminationGracePeriodSeconds": 10}
    ProcessCluster(folder).apply(workload("slow", pod))
    with subprocess.Popen([sys.executable, "-c", SUPERVISOR, str(folder.root)]) as first:
        eventually(lambda: journal.exists() and "begin" in journal.read_text(), "begun")
        first.kill()
    second = ProcessCluster(folder)
    second.start()
    eventually(lambda: journal.read_text().count("begin") == 2, "begun again")
    second.close()
    assert journal.read_text().split() == ["begin", "end", "begin", "end"]
