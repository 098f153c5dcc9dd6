"""One pod: its init containers in order, then its container, restarted with back-off, probed, stopped when told to.

A thread a pod, so that the sequence reads as one. What happens is written to the Pod object's status, from which the
controllers and `observe` learn it.
"""

import fcntl
import os
import socket
import threading
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storekeeper.adapters.cluster import ClusterError
from storekeeper.adapters.processes.backoff import Backoff
from storekeeper.adapters.processes.container import Command, Container, inherited_environment, rotate
from storekeeper.adapters.processes.folders import Folders, MountFailed
from storekeeper.adapters.processes.objectfiles import ObjectFiles, timestamp
from storekeeper.adapters.processes.podstatus import ContainerRecord, Phase, record_of
from storekeeper.adapters.processes.probes import Health, health_of
from storekeeper.manifests.objects import Manifest, ref_of

WARNINGS_MAX = 20
"""Newest warnings that are kept of a pod."""
MOUNT_RETRY_SECONDS = 1.0
PREDECESSOR_POLL_SECONDS = 0.05
GRACE_SECONDS_DEFAULT = 30
"""terminationGracePeriodSeconds, as in Kubernetes."""


@dataclass(frozen=True, slots=True)
class Site:
    """Where pods run: the objects, and the folders under the state directory."""

    objects: ObjectFiles
    folders: Folders

    def pod_folder(self, pod: Manifest) -> Path:
        return self._folder("pods", pod)

    def log_folder(self, pod: Manifest) -> Path:
        """`<container>.log` each."""
        return self._folder("logs", pod)

    def _folder(self, name: str, pod: Manifest) -> Path:
        ref = ref_of(pod)
        return self.folders.root / name / ref.namespace / ref.name


class Stopped(Exception):
    """The pod was told to stop while it was waiting for something."""


class PodRunner:
    """Runs one pod until it has finished or is stopped; `on_end` is set when nothing of it runs any more."""

    def __init__(self, pod: Manifest, site: Site, on_end: threading.Event) -> None:
        self._pod, self._site, self._on_end = pod, site, on_end
        self._ref = ref_of(pod)
        self._record = record_of(pod, timestamp())
        self._stopping, self._over = threading.Event(), threading.Event()
        self._wake, self._waker = socket.socketpair()
        self._warnings: deque[tuple[str, str]] = deque(maxlen=WARNINGS_MAX)
        self._thread = threading.Thread(target=self._run, name=f"pod {self._ref}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ask it to end; `finished` tells when it has."""
        self._stopping.set()
        self._waker.close()  # which makes the other end readable

    @property
    def finished(self) -> bool:
        return self._over.is_set()

    def join(self, timeout_seconds: float) -> None:
        self._thread.join(timeout_seconds)

    @property
    def warnings(self) -> list[tuple[str, str]]:
        return list(self._warnings)

    # -- the sequence ---------------------------------------------------------------------------------------------

    def _run(self) -> None:
        backoff = Backoff()
        try:
            while not self._record.finished:
                try:
                    self._run_exclusively()
                except (OSError, ClusterError, ValueError, KeyError) as error:  # e.g. a full disk, a port not named
                    self._warn("FailedRun", f"{type(error).__name__}: {error}")
                    self._pause(backoff.next(0))
        except Stopped:
            pass
        finally:
            for end in (self._wake, self._waker):
                end.close()
            self._over.set()
            self._on_end.set()

    def _run_exclusively(self) -> None:
        self._publish()
        folder = self._site.pod_folder(self._pod)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            self._run_locked(lock)
        finally:
            os.close(lock)

    def _run_locked(self, lock: int) -> None:
        self._outwait_predecessor(lock)
        self._mount()
        spec = self._pod["spec"]
        for container, record in zip(spec.get("initContainers", []), self._record.init, strict=True):
            self._run_container(container, record, lock, again="OnFailure")
        self._record.phase = Phase.RUNNING
        (container,), (record,) = spec["containers"], self._record.main
        exit_code = self._run_container(container, record, lock, again=spec.get("restartPolicy", "Always"))
        self._record.phase = Phase.FAILED if exit_code else Phase.SUCCEEDED
        self._publish()

    def _outwait_predecessor(self, lock: int) -> None:
        """At most one pod of a name runs: its leashes hold the lock, also when their supervisor was killed."""
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                self._pause(PREDECESSOR_POLL_SECONDS)

    def _mount(self) -> None:
        while True:
            try:
                self._site.folders.mount(self._pod)
                return
            except MountFailed as error:
                self._warn("FailedMount", str(error))
                self._pause(MOUNT_RETRY_SECONDS)

    def _run_container(self, container: dict[str, Any], record: ContainerRecord, lock: int, again: str) -> int:
        """Run until it has ended for good; its exit code. `again`: Always, OnFailure or Never."""
        backoff = Backoff()
        while True:
            began = time.monotonic()
            exit_code = self._run_once(container, record, lock)
            if self._stopping.is_set():
                raise Stopped
            if again == "Never" or (again == "OnFailure" and exit_code == 0):
                return exit_code
            delay_seconds = backoff.next(time.monotonic() - began)
            message = (
                f"back-off {delay_seconds:g}s restarting failed container={container['name']} pod={self._ref.name}"
            )
            self._warn("BackOff", message)
            record.waits("CrashLoopBackOff", message)
            self._publish()
            self._pause(delay_seconds)

    def _run_once(self, container: dict[str, Any], record: ContainerRecord, lock: int) -> int:
        process = Container(self._command(container), lock)
        record.began(timestamp(), process.pid)
        health = health_of(container, time.monotonic())
        self._publish()
        exit_code = self._watch(process, record, health)
        record.ended(exit_code, process.last_words(exit_code), timestamp())
        self._publish()
        return exit_code

    def _watch(self, process: Container, record: ContainerRecord, health: Health) -> int:
        wait_seconds = 0.0
        while (exit_code := process.wait(wait_seconds, self._wake)) is None:
            if self._stopping.is_set():
                return process.stop()
            wait_seconds = health.check(time.monotonic())
            if not health.alive:
                self._warn("Unhealthy", f"container {record.name} does not answer its probes and is restarted")
                return process.stop()
            if health.ready != record.ready:
                record.ready = health.ready
                self._publish()
            rotate(self._log(record.name))
        return exit_code

    # -- details --------------------------------------------------------------------------------------------------

    def _command(self, container: dict[str, Any]) -> Command:
        folder = self._site.pod_folder(self._pod)
        mounted = container.get("terminationMessagePath", "/dev/termination-log")
        termination_log = folder / f"{container['name']}.termination"
        argv = [*container.get("command", []), *container.get("args", [])]
        environment = inherited_environment() | {v["name"]: v.get("value", "") for v in container.get("env", [])}
        return Command(
            argv=tuple(part.replace(mounted, str(termination_log)) for part in argv),
            environment={k: v.replace(mounted, str(termination_log)) for k, v in environment.items()},
            directory=folder,
            log=self._log(container["name"]),
            termination_log=termination_log,
            fallback_to_log=container.get("terminationMessagePolicy") == "FallbackToLogsOnError",
            grace_seconds=self._pod["spec"].get("terminationGracePeriodSeconds", GRACE_SECONDS_DEFAULT),
        )

    def _log(self, container: str) -> Path:
        return self._site.log_folder(self._pod) / f"{container}.log"

    def _pause(self, seconds: float) -> None:
        if self._stopping.wait(seconds):
            raise Stopped

    def _warn(self, reason: str, message: str) -> None:
        if (reason, message) not in self._warnings:
            self._warnings.appendleft((reason, message))

    def _publish(self) -> None:
        self._site.objects.set_status(self._ref, self._record.document())
