"""What the end-to-end tests do to a cluster, in a platform team's words: apply, wait, reach, break, look."""

import base64
import contextlib
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.cluster.access import ClusterAccess
from tests.cluster.localkube.commands import LocalkubeError

ROOT = Path(__file__).parents[2]
READY_SECONDS = 180.0
POLL_SECONDS = 0.5


def eventually(question: Callable[[], Any], what: str, seconds: float = READY_SECONDS) -> Any:
    """Ask until the answer is neither None nor False; else fail naming `what` and the last answer or error."""
    deadline, last = time.monotonic() + seconds, "nothing was asked"
    while time.monotonic() < deadline:
        try:
            answer = question()
            if answer is not None and answer is not False:
                return answer
            last = repr(answer)
        except (httpx.HTTPError, LocalkubeError, KeyError) as error:
            last = f"{type(error).__name__}: {error}"
        time.sleep(POLL_SECONDS)
    raise AssertionError(f"not within {seconds:.0f} s: {what}; last: {last}")


@dataclass(frozen=True)
class Namespace:
    """One namespace of the cluster, and the stores in it."""

    cluster: ClusterAccess
    name: str

    def kubectl(self, *arguments: str, text: str | None = None) -> str:
        return self.cluster.kubectl(*arguments, "--namespace", self.name, text=text)

    # -- resources ----------------------------------------------------------------------------------------------------

    def apply(self, text: str) -> None:
        self.kubectl("apply", "--server-side", "--filename=-", text=text)

    def patch(self, kind: str, name: str, **spec: Any) -> None:
        body = json.dumps({"spec": spec})
        self.kubectl("patch", kind, name, "--type=merge", "--patch", body)

    def get(self, kind: str, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.kubectl("get", kind, name, "--output=json"))
        return found

    def names(self, kind: str, labels: str = "") -> list[str]:
        listing = self.kubectl("get", kind, "--selector", labels, "--output=name")
        return [line.split("/", 1)[1] for line in listing.split()]

    def delete(self, kind: str, name: str, *more: str) -> None:
        self.kubectl("delete", kind, name, *more)

    def exists(self, kind: str, name: str) -> bool:
        return name in self.names(kind)

    def condition(self, kind: str, name: str, type_: str) -> dict[str, Any]:
        conditions = self.get(kind, name).get("status", {}).get("conditions", [])
        return next((c for c in conditions if c["type"] == type_), {})

    def wait_ready(self, kind: str, name: str, seconds: float = READY_SECONDS) -> dict[str, Any]:
        """Ready for the newest generation, as `kubectl wait` and GitOps tools see it."""

        def ready() -> dict[str, Any] | None:
            resource = self.get(kind, name)
            conditions = {c["type"]: c["status"] for c in resource.get("status", {}).get("conditions", [])}
            current = resource["status"].get("observedGeneration") == resource["metadata"]["generation"]
            settled = conditions.get("Reconciling") == "False" and conditions.get("Stalled") == "False"
            return resource if current and settled and conditions.get("Ready") == "True" else None

        try:
            found: dict[str, Any] = eventually(ready, f"{kind} {name} Ready", seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.story(kind, name)}") from error
        return found

    def wait_reason(self, kind: str, name: str, type_: str, reason: str, seconds: float = READY_SECONDS) -> str:
        """The message of a condition once it has this reason."""

        def told() -> str | None:
            condition = self.condition(kind, name, type_)
            return condition["message"] or "-" if condition.get("reason") == reason else None

        try:
            return str(eventually(told, f"{kind} {name}: {type_} because of {reason}", seconds))
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.story(kind, name)}") from error

    def story(self, kind: str, name: str) -> str:
        """What a person would look at: the status, the pods, the Events."""
        status = json.dumps(self.get(kind, name).get("status"), indent=1)
        pods = self.kubectl("get", "pods", "--output=wide")
        events = self.kubectl("get", "events", "--sort-by=.lastTimestamp")
        return f"{status}\n{pods}\n{events[-6000:]}"

    # -- breaking -----------------------------------------------------------------------------------------------------

    def kill(self, pod: str) -> int:
        """SIGKILL to every process of a store's pod, from outside of it; how many there were.

        The container's first process cannot be killed from inside. Only for a cluster on this machine.
        """
        uid = self.get("pod", pod)["metadata"]["uid"]
        victims = [int(folder.name) for folder in Path("/proc").glob("[0-9]*") if _belongs_to(folder, uid)]
        for process in victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        return len(victims)

    def restarts(self, pod: str) -> int:
        """How often the serving container of a pod was started again."""
        statuses = self.get("pod", pod)["status"].get("containerStatuses", [])
        return sum(status["restartCount"] for status in statuses)

    # -- applications -------------------------------------------------------------------------------------------------

    def binding(self, kind: str, name: str) -> dict[str, str]:
        """What an application that mounts the binding Secret finds in its files."""
        secret = self.get("secret", self.get(kind, name)["status"]["binding"]["name"])
        return {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}

    @contextlib.contextmanager
    def client(self, kind: str, name: str) -> Iterator[httpx.Client]:
        """HTTP to the store's Service with the token of its binding, through a port forward."""
        binding = self.binding(kind, name)
        service = binding["host"].split(".")[0]
        headers = {"Authorization": f"Bearer {binding['token']}"}
        with (
            self.forwarded(f"service/{service}", int(binding["port"])) as base,
            httpx.Client(base_url=base, headers=headers, timeout=30) as client,
        ):
            yield client

    @contextlib.contextmanager
    def forwarded(self, target: str, port: int) -> Iterator[str]:
        """A port of this machine that leads to `target`; `kubectl port-forward` ends when its pod does."""
        command = [self.cluster.kubectl_program, "port-forward", "--address=127.0.0.1", target, f":{port}"]
        command += ["--namespace", self.name]
        environment = self.cluster.environment
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as it:
            assert it.stdout is not None
            line = it.stdout.readline()
            found = re.search(r"127\.0\.0\.1:(\d+)", line)
            try:
                if found is None:
                    raise LocalkubeError(f"port-forward to {target}: {line}")
                yield f"http://127.0.0.1:{found[1]}"
            finally:
                it.terminate()


def _belongs_to(folder: Path, pod_uid: str) -> bool:
    """Whether a process is one of the product's in this pod."""
    try:
        ours = f"pod{pod_uid}" in (folder / "cgroup").read_text()
        return ours and b"store" in (folder / "cmdline").read_bytes()
    except OSError:  # it has ended meanwhile
        return False
