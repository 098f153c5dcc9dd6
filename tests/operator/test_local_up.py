"""`storekeeper local`, whole: the command as a person types it, real stores as child processes, their HTTP API."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

ROOT = Path(__file__).parents[2]
DEADLINE_SECONDS = 60.0

STORES = """\
apiVersion: storekeeper.dev/v1alpha1
kind: LogStore
metadata: {name: gateway}
spec: {entries: {enabled: true}}
---
apiVersion: storekeeper.dev/v1alpha1
kind: Stream
metadata: {name: system}
spec: {logStoreRef: {name: gateway}, indexedFields: [level]}
---
apiVersion: storekeeper.dev/v1alpha1
kind: RuntimeStore
metadata: {name: limits}
spec: {backend: {type: file}, windows: [1m]}
"""
NEEDS_SECRET = """\
apiVersion: storekeeper.dev/v1alpha1
kind: LogStore
metadata: {name: remote}
spec:
  backend:
    type: postgres
    postgres: {host: 127.0.0.1, port: 9, database: logs, sslMode: disable, credentialsSecretRef: {name: logs-db}}
"""


class Local:
    """The command on one state folder, run in a folder that is not the checkout."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "the state of it"
        self.folder.mkdir(parents=True, exist_ok=True)

    def write(self, text: str) -> str:
        path = self.folder / "stores.yaml"
        path.write_text(text)
        return str(path)

    def __call__(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "storekeeper", "local", *arguments, "--state", str(self.state)]
        return subprocess.run(command, cwd=self.folder, capture_output=True, text=True, timeout=120, check=False)

    def ok(self, *arguments: str) -> str:
        done = self(*arguments)
        assert done.returncode == 0, f"{arguments}: {done.stdout}\n{done.stderr}"
        return done.stdout

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.ok("status", "-o", "json"))
        return found

    def row(self, name: str) -> dict[str, Any]:
        return next(row for row in self.status()["resources"] if row["name"] == name)

    def client(self, name: str) -> httpx.Client:
        row = self.row(name)
        token = Path(row["tokenFile"]).read_text()
        return httpx.Client(base_url=row["url"], headers={"Authorization": f"Bearer {token}"}, timeout=10)


def eventually(check: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        if result := check():
            return result
        time.sleep(0.1)
    raise AssertionError(f"not within {DEADLINE_SECONDS} s: {what}")


def count(local: Local) -> float:
    with local.client("limits") as client:
        return float(client.get("/usage/openai/key-1/req").text)


def processes_of(state: Path) -> list[int]:
    """Everything on this machine that was started with, or works in, this state folder."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and str(state) in (entry / "cmdline").read_text():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    """Three stores that are up; the path is long and has spaces."""
    local = Local(tmp_path_factory.mktemp("local") / ("a long folder name " * 5).strip())
    done = local("up", local.write(STORES))
    try:
        assert done.returncode == 0, done.stdout + done.stderr
        yield local
    finally:
        local("down", "--purge", "--yes")
    assert processes_of(local.state) == []
    assert not local.state.exists()


def test_up_makes_all_resources_ready_and_tells_where_they_are(local: Local) -> None:
    status = local.status()
    assert {row["name"]: row["ready"] for row in status["resources"]} == dict.fromkeys(
        ("gateway", "system", "limits"), True
    )
    gateway = local.row("gateway")
    assert gateway["url"].startswith("http://127.0.0.1:")
    assert [c["type"] for c in gateway["conditions"] if c["status"] == "True"] == ["Ready"]
    assert all(Path(directory).is_dir() for directory in gateway["dataDirectories"])
    assert len(gateway["dataDirectories"]) == 2
    assert local.row("system")["url"] == f"{gateway['url']}/api/v1/streams/system"
    assert f"pid {gateway['pid']}" not in local.ok("status")
    os.kill(gateway["pid"], 0)


def test_tokens_are_in_private_files_and_open_only_their_own_store(local: Local) -> None:
    gateway, limits = local.row("gateway"), local.row("limits")
    assert Path(gateway["tokenFile"]).stat().st_mode & 0o777 == 0o600
    token = Path(gateway["tokenFile"]).read_text()
    bearer = {"Authorization": f"Bearer {token}"}
    assert httpx.get(f"{gateway['url']}/v1/status").status_code == 401
    assert httpx.get(f"{gateway['url']}/v1/status", headers=bearer).json()["name"] == "gateway"
    assert httpx.get(f"{limits['url']}/v1/status", headers=bearer).status_code == 401
    assert token not in local.ok("status", "-o", "json") + local.ok("logs", "supervisor") + local.ok("logs", "gateway")
    holders = [p for p in local.state.rglob("*") if p.is_file() and token.encode() in p.read_bytes()]
    assert holders == [Path(gateway["tokenFile"])]


def test_second_up_talks_to_the_running_supervisor_and_changes_nothing(local: Local) -> None:
    before = local.status()
    local.ok("up", str(local.folder / "stores.yaml"))
    after = local.status()
    assert after["supervisor"] == before["supervisor"]
    assert [row["pid"] for row in after["resources"]] == [row["pid"] for row in before["resources"]]


def test_killed_store_comes_back_with_what_it_had_acknowledged(local: Local) -> None:
    with local.client("limits") as client:
        client.put("/usage/openai/key-1/req", json={"value": 41}).raise_for_status()
        client.post("/usage/openai/key-1/req/increment", json={"delta": 1}).raise_for_status()
    pid = local.row("limits")["pid"]
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: local.row("limits")["pid"] not in (0, pid) and local.row("limits")["ready"], "back")
    assert eventually(lambda: count(local), "counted") == 42


def test_changed_spec_restarts_the_store_with_its_data(local: Local) -> None:
    pid = local.row("limits")["pid"]
    local.ok("up", local.write(STORES.replace("windows: [1m]", "windows: [1m, 1h]")))
    assert local.row("limits")["pid"] != pid
    with local.client("limits") as client:
        client.put("/usage/openai/key-2/req", json={"value": 5}).raise_for_status()
        assert client.get("/usage/openai/key-2/req/window", params={"seconds": 3600}).is_success


def test_bad_yaml_is_refused_with_its_line_and_nothing_changes(local: Local) -> None:
    before = local.status()
    done = local("up", local.write(STORES.replace("type: file", "type: flie")))
    assert done.returncode == 2
    assert "stores.yaml:14: spec.backend.type: must be one of" in done.stderr
    assert local.status() == before


def test_immutable_field_is_refused(local: Local) -> None:
    done = local("apply", local.write(STORES.replace("logStoreRef: {name: gateway}", "logStoreRef: {name: other}")))
    assert done.returncode == 2
    assert "Stream default/system: spec.logStoreRef.name: " in done.stderr


def test_not_ready_in_time_says_which_and_why(local: Local) -> None:
    path = local.write(NEEDS_SECRET)

    def refused() -> "subprocess.CompletedProcess[str] | None":
        """How soon the pod's trouble is known depends on the machine; that it is not ready does not."""
        done = local("up", path, "--timeout", "3s")
        assert done.returncode == 1
        assert "LogStore remote" in done.stderr
        return done if "SecretMissing" in done.stderr else None

    done = eventually(refused, "the reason is told")
    assert "logs-db" in done.stderr
    assert "not ready within 3s" in done.stderr
    assert local("delete", "ls/remote").returncode == 0
    assert "remote" not in local.ok("status")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("delete", "gateway2"), "gateway2 is not there"),
        (("delete", "pod/gateway"), "'pod' is no kind"),
        (("up", "absent.yaml"), "absent.yaml: cannot be read"),
        (("up", "--timeout", "soon"), "not a duration"),
        (("logs", "nobody"), "nobody is not there"),
    ],
)
def test_wrong_words_are_answered_with_what_there_is(local: Local, arguments: tuple[str, ...], words: str) -> None:
    done = local(*arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_logs_show_what_the_store_wrote(local: Local) -> None:
    assert "serving" in local.ok("logs", "limits")
    assert "==>" in local.ok("logs", "rts/limits")


def test_killed_supervisor_takes_its_stores_along_and_up_brings_them_back(local: Local) -> None:
    local.ok("up", local.write(STORES))
    with local.client("limits") as client:
        client.put("/usage/openai/key-1/req", json={"value": 7}).raise_for_status()
    os.kill(local.status()["supervisor"]["pid"], signal.SIGKILL)
    eventually(lambda: not processes_of(local.state), "no orphan")
    assert local.status()["supervisor"]["pid"] is None
    assert "does not run" in local.ok("status")
    local.ok("up")
    assert count(local) == 7


def test_down_keeps_the_data_and_up_without_a_file_starts_it_again(local: Local) -> None:
    with local.client("limits") as client:
        client.put("/usage/openai/key-1/req", json={"value": 9}).raise_for_status()
    port = local.row("limits")["url"]
    assert local.ok("down").strip() == "stopped"
    assert processes_of(local.state) == []
    assert local.ok("down").strip() == "nothing was running"
    moved = local.state.rename(local.folder / "moved while nothing ran")
    local.state = moved
    local.ok("up")
    assert local.row("limits")["url"] == port
    assert count(local) == 9


def test_deleted_store_obeys_its_policy(local: Local) -> None:
    """Deletes the stores: the last of this module's tests on them."""
    with local.client("limits") as client:
        client.put("/usage/openai/key-1/req", json={"value": 3}).raise_for_status()
    (directory,) = local.row("limits")["dataDirectories"]
    local.ok("delete", "rts/limits")
    assert Path(directory).is_dir()
    store_id = json.loads((local.state / "objects/PersistentVolumeClaim/default/limits-usage-data.json").read_text())[
        "object"
    ]["metadata"]["labels"]["storekeeper.dev/store-id"]
    adopting = STORES.replace("windows: [1m]", f"windows: [1m], deletionPolicy: Delete, adoptStoreID: {store_id}")
    local.ok("up", local.write(adopting))
    assert count(local) == 3
    local.ok("delete", "rts/limits")
    eventually(lambda: not Path(directory).exists(), "data deleted")


def test_state_folder_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    local = Local(tmp_path)
    local.state = tmp_path
    (tmp_path / "precious").touch()
    done = local("up", local.write(STORES))
    assert done.returncode == 2
    assert "was not made by storekeeper" in done.stderr
    local.state = tmp_path / "precious"
    assert local("up", local.write(STORES)).returncode == 2
    local.state = tmp_path / "nothing here"
    done = local("status")
    assert done.returncode == 2
    assert "there are no local stores" in done.stderr
