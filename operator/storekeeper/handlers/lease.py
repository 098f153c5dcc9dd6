"""One leader: a Lease of coordination.k8s.io, held by renewing it.

As in client-go, clocks of other machines are not believed: a candidate takes a lease over only when it has itself seen
it unchanged for its whole duration. A leader that cannot renew in time ends its process at once (`os._exit`): threads
that are in the middle of a write cannot be stopped in any other way. On a clean stop the lease is given back, so a
restart does not wait for its end.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog

from storekeeper.adapters.cluster import ClusterError
from storekeeper.adapters.kubernetes_api import KubernetesApi, path
from storekeeper.manifests.objects import Manifest

DURATION_SECONDS = 15
"""How long a lease lasts after a renewal: how long nobody leads after a crash."""
RENEW_DEADLINE_SECONDS = 10.0
"""A leader that has not renewed for so long stops, well before another can take over."""
RETRY_SECONDS = 2.0
"""Between two attempts, of leaders and of candidates."""
PATIENCE = (2.0, 2.0)
"""With an API server that accepts calls and does not answer, two attempts must fail before the lease ends."""

log = structlog.get_logger(__name__)


class Lease:
    """One candidate's view of the Lease. Not thread-safe."""

    def __init__(
        self,
        api: KubernetesApi,
        namespace: str,
        name: str,
        identity: str,
        *,
        duration_seconds: int = DURATION_SECONDS,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = api
        self._duration_seconds = duration_seconds
        self._namespace, self._name, self._identity = namespace, name, identity
        self._now = now
        self._seen: Manifest | None = None
        self._seen_at = 0.0

    def hold(self, *, seize: bool = False) -> bool:
        """Take or renew it; False: another holds it. `seize` takes it from its holder. Raises ClusterError."""
        if self._seen is not None and self._is_mine(self._seen) and self._write("PUT", self._seen):
            return True  # what we wrote last still stood: nothing to read first
        live = self._api.get("Lease", self._namespace, self._name, patience=PATIENCE)
        if live is None:
            return self._write("POST", {"metadata": {"name": self._name, "namespace": self._namespace}})
        self._look_at(live)
        if not (seize or self._is_mine(live) or self._is_free(live)):
            return False
        return self._write("PUT", live)

    def release(self) -> None:
        """Give it back, if it is ours. Raises ClusterError."""
        live = self._api.get("Lease", self._namespace, self._name, patience=PATIENCE)
        if live is not None and self._is_mine(live):
            spec = {**live["spec"], "holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _micro_time()}
            self._send("PUT", {**live, "spec": spec})

    def _look_at(self, live: Manifest) -> None:
        if self._seen is None or self._seen.get("spec") != live.get("spec"):
            self._seen, self._seen_at = live, self._now()

    def _is_mine(self, live: Manifest) -> bool:
        return bool((live.get("spec") or {}).get("holderIdentity") == self._identity)

    def _is_free(self, live: Manifest) -> bool:
        spec = live.get("spec") or {}
        duration = spec.get("leaseDurationSeconds") or DURATION_SECONDS
        return not spec.get("holderIdentity") or self._now() - self._seen_at > duration

    def _write(self, method: str, live: Manifest) -> bool:
        """Optimistic: the resourceVersion in `live` makes the slower of two candidates lose."""
        spec = dict(live.get("spec") or {})
        now = _micro_time()
        if spec.get("holderIdentity") != self._identity:
            spec["leaseTransitions"] = spec.get("leaseTransitions", -1) + 1
            spec["acquireTime"] = now
        spec |= {"holderIdentity": self._identity, "leaseDurationSeconds": self._duration_seconds, "renewTime": now}
        try:
            self._send(method, {**live, "spec": spec})
        except ClusterError as error:
            if error.status in (404, 409):  # gone, or somebody was faster
                return False
            raise
        return True

    def _send(self, method: str, lease: Manifest) -> None:
        name = "" if method == "POST" else self._name
        body: dict[str, Any] = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", **lease}
        where = path("Lease", self._namespace, name)
        answer = self._api.request(method, "Lease", where, body=body, patience=PATIENCE)
        self._look_at(answer.body)


@dataclass(frozen=True, slots=True)
class Turns:
    """What to call when leadership comes and goes; from the election's thread."""

    on_elected: Callable[[], None]
    on_lost: Callable[[str], None]
    """Must not return while anything of this process still writes."""


class Election(threading.Thread):
    """Candidate, then leader, until stopped. A thread of its own: a busy event loop must not cost the lease."""

    def __init__(
        self,
        lease: Lease,
        turns: Turns,
        *,
        now: Callable[[], float] = time.monotonic,
        wait: Callable[[float], bool] | None = None,
    ) -> None:
        """`wait(seconds)` returns True when it is time to stop (tests bring their own)."""
        super().__init__(name="election", daemon=True)
        self._lease, self._turns, self._now = lease, turns, now
        self._stopping = threading.Event()
        self._wait = wait or self._stopping.wait
        self._renewed_at: float | None = None
        self.tried_at = now()

    @property
    def leads(self) -> bool:
        """Whether this process may write now; also right in a process that was paused for a while."""
        renewed_at = self._renewed_at
        return renewed_at is not None and self._now() - renewed_at < DURATION_SECONDS

    def run(self) -> None:
        while True:
            self.attempt()
            if self._wait(RETRY_SECONDS):
                return

    def attempt(self) -> None:
        """One try; calls `on_elected` or `on_lost` when it changes something."""
        was_leader = self._renewed_at is not None
        began = self._now()
        try:
            held = self._lease.hold()
        except ClusterError as error:
            log.warning("lease not renewed" if was_leader else "lease not asked for", error=str(error))
            if self._renewed_at is not None and self._now() - self._renewed_at > RENEW_DEADLINE_SECONDS:
                self._turns.on_lost(f"not renewed for {RENEW_DEADLINE_SECONDS:.0f} s")
            return
        self.tried_at = self._now()
        if held:
            self._renewed_at = began  # the lease runs from when it was sent, not from when the answer came
            if not was_leader:
                self._turns.on_elected()
        elif was_leader:
            self._turns.on_lost("another replica holds it")

    def stop(self, *, release: bool) -> None:
        self._stopping.set()
        if self.is_alive():
            self.join()
        if release and self._renewed_at is not None:
            self._renewed_at = None
            try:
                self._lease.release()
            except ClusterError as error:
                log.warning("lease not released", error=str(error))


def _micro_time() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
