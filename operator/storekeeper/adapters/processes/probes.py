"""Probes of a container, as the kubelet makes them: HTTP GET on the machine's own address; 2xx and 3xx are good."""

import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from math import inf
from typing import Any

from storekeeper.adapters.processes.podstatus import HOST_IP

STARTING_PERIOD_SECONDS = 0.1
"""Until a container is ready it is asked more often than its manifest says, ever less often: people wait for it."""
STARTING_SLOWDOWN = 20.0
"""The period grows by a second in so many seconds of waiting."""


@dataclass(slots=True)
class Probe:
    """One probe and its failures in a row."""

    get: Callable[[], bool]
    period_seconds: float
    failures_max: int
    failures: int = 0
    due_at: float = -inf

    def ask(self, now: float, period_seconds: float) -> bool:
        self.due_at = now + period_seconds
        good = self.get()
        self.failures = 0 if good else self.failures + 1
        return good

    @property
    def failed(self) -> bool:
        return self.failures >= self.failures_max


@dataclass(slots=True)
class Health:
    """What a container's three probes have said since it began, at `began` of a monotonic clock."""

    began: float
    startup: Probe | None = None
    readiness: Probe | None = None
    liveness: Probe | None = None
    started: bool = field(default=False, init=False)
    ready: bool = field(default=False, init=False)
    alive: bool = field(default=True, init=False)

    def check(self, now: float) -> float:
        """Ask the probes that are due; how many seconds until it wants to be called again."""
        hasty = STARTING_PERIOD_SECONDS + (now - self.began) / STARTING_SLOWDOWN
        if not self.started:
            self._check_start(now, hasty)
        if self.started:
            self._check_readiness(now, hasty)
            self._check_liveness(now)
        due = [p.due_at for p in (self.startup, self.readiness, self.liveness) if p is not None and p.due_at > now]
        return max(min(due, default=now + 1) - now, 0.01)

    def _check_start(self, now: float, hasty: float) -> None:
        """Patience is the manifest's period times its threshold, however often it is asked here."""
        if self.startup is None:
            self.started = True
            return
        self.started = self.startup.ask(now, min(hasty, self.startup.period_seconds))
        patience_seconds = self.startup.period_seconds * self.startup.failures_max
        self.alive = self.started or now - self.began < patience_seconds

    def _check_readiness(self, now: float, hasty: float) -> None:
        probe = self.readiness
        if probe is None:
            self.ready = True
        elif now >= probe.due_at:
            period = probe.period_seconds if self.ready else min(hasty, probe.period_seconds)
            self.ready = probe.ask(now, period) or (self.ready and not probe.failed)

    def _check_liveness(self, now: float) -> None:
        if (probe := self.liveness) is not None and now >= probe.due_at:
            probe.ask(now, probe.period_seconds)
            self.alive = not probe.failed


def health_of(container: dict[str, Any], began: float) -> Health:
    probes = (_probe_of(container, name) for name in ("startupProbe", "readinessProbe", "livenessProbe"))
    return Health(began, *probes)


def _probe_of(container: dict[str, Any], name: str) -> Probe | None:
    spec = container.get(name)
    if spec is None:
        return None
    http, timeout_seconds = spec["httpGet"], spec.get("timeoutSeconds", 1)
    port = _port_number(container, http["port"])
    secure = http.get("scheme", "HTTP") == "HTTPS"
    return Probe(
        lambda: _answers(secure, port, http.get("path", "/"), timeout_seconds),
        spec.get("periodSeconds", 10),
        spec.get("failureThreshold", 3),
    )


def _port_number(container: dict[str, Any], port: int | str) -> int:
    if isinstance(port, int):
        return port
    return int(next(p["containerPort"] for p in container.get("ports", []) if p.get("name") == port))


def _answers(secure: bool, port: int, path: str, timeout_seconds: float) -> bool:
    connection = _connection(secure, port, timeout_seconds)
    try:
        connection.request("GET", path)
        return 200 <= connection.getresponse().status < 400
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def _connection(secure: bool, port: int, timeout_seconds: float) -> HTTPConnection:
    if not secure:
        return HTTPConnection(HOST_IP, port, timeout=timeout_seconds)
    unverified = ssl.create_default_context()  # as the kubelet: it asks whether it answers, not who it is
    unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
    return HTTPSConnection(HOST_IP, port, timeout=timeout_seconds, context=unverified)
