"""The operator as a whole: candidate → lists → watches → queue, and the way out of it.

    election (thread) ─▶ elected ─▶ prime the cache ─▶ watching (thread, kopf) ─▶ keys ─▶ workers ─▶ reconcile

A standby does nothing but ask for the lease. A leader that loses it, or whose watches end, leaves at once and is
started anew by the kubelet: a fresh start is the one recovery that is always tested.
"""

import asyncio
import os
import random
import time
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from storekeeper.adapters.cluster import ClusterError
from storekeeper.adapters.kubernetes_api import KubernetesApi
from storekeeper.handlers.health import HealthServer
from storekeeper.handlers.lease import DURATION_SECONDS, Election, Lease, Turns
from storekeeper.handlers.routing import keys_of
from storekeeper.handlers.sweep import Sweep
from storekeeper.handlers.watching import RESOURCE_KINDS, Watching
from storekeeper.handlers.workers import Workers
from storekeeper.manifests.objects import Manifest, ObjectRef
from storekeeper.metrics import Metrics
from storekeeper.observe.cache import Cache
from storekeeper.reconcile import NotDone
from storekeeper.settings import Settings

BEAT_SECONDS = 1.0
HUNG_SECONDS = 30.0
"""An event loop that has not turned for so long is hung."""
ELECTION_SILENT_SECONDS = 120.0
"""A candidate tries every 2 s; its calls have deadlines."""
PRIME_RETRY_SECONDS = 5.0
FIRST_SWEEP_SECONDS = 30.0
"""After the start: what was deleted between our lists and kopf's shows in no watch."""
DRAIN_SECONDS = 20.0
"""For reconciles under way at a clean stop; shorter than the pod's grace period."""
EXIT_LOST = 1

Reconcile = Callable[[ObjectRef], float | None]
log = structlog.get_logger(__name__)


class Operator:
    """One replica. `reconcile` is called from the workers' threads, for one key once at a time."""

    def __init__(
        self,
        settings: Settings,
        api: KubernetesApi,
        cache: Cache,
        reconcile: Reconcile,
        metrics: Metrics,
        identity: str,
    ) -> None:
        self._settings, self._cache, self._metrics = settings, cache, metrics
        self._reconcile = reconcile
        self._sweep = Sweep(api, cache, settings.watched_namespaces, metrics)
        lease = Lease(api, settings.namespace, settings.lease_name, identity)
        self._election = Election(lease, Turns(self._elected, self._lost))
        self._watching = Watching(settings.watched_namespaces, self._seen, self._lost)
        self._primed = False
        self._beat_at = time.monotonic()

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set; then everything under way is ended and the lease given back."""
        self._loop = asyncio.get_running_loop()
        self._is_elected = asyncio.Event()
        self._workers: Workers[ObjectRef] = Workers(
            self._work, concurrency=self._settings.concurrency, metrics=self._metrics
        )
        self._metrics.leader.labels(self._settings.lease_name).set(0)
        health = HealthServer(
            self._settings.http_host,
            self._settings.http_port,
            alive={"loop": self._loop_alive, "election": self._election_alive, "watches": self._watches_alive},
            ready={"lists": self._lists_complete},
            metrics=self._metrics,
        )
        log.info("started", port=health.port, namespaces=self._settings.watched_namespaces)
        self._election.start()
        tasks = [asyncio.create_task(work) for work in (self._beat(), self._lead())]
        try:
            await _first(stop.wait(), *tasks)
        finally:
            await self._leave(tasks)
            health.close()

    # -- leading ------------------------------------------------------------------------------------------------------

    async def _lead(self) -> None:
        await self._is_elected.wait()
        log.info("leading")
        self._metrics.leader.labels(self._settings.lease_name).set(1)
        await self._prime()
        self._watching.start()
        await asyncio.gather(self._workers.run(), self._resync(), self._sweep_now_and_then())

    async def _prime(self) -> None:
        while not self._primed:
            try:
                await asyncio.to_thread(self._sweep.prime)
                self._primed = True
            except ClusterError as error:
                log.warning("cannot list yet", error=str(error))
                await asyncio.sleep(PRIME_RETRY_SECONDS)

    async def _resync(self) -> None:
        """Every key at the start, then each once a period, spread over it."""
        spread = 0.0
        while True:
            for key in self._keys():
                self._workers.add(key, random.uniform(0, spread))
            spread = self._settings.resync_seconds
            await asyncio.sleep(spread)

    async def _sweep_now_and_then(self) -> None:
        pause = FIRST_SWEEP_SECONDS
        while True:
            await asyncio.sleep(pause)
            pause = self._settings.sweep_seconds
            try:
                missed = await asyncio.to_thread(self._sweep.sweep)
            except ClusterError as error:
                log.warning("sweep not done", error=str(error))
                continue
            for key in {key for manifest in missed for key in keys_of(manifest)}:
                self._workers.add(key)

    def _keys(self) -> set[ObjectRef]:
        resources = (manifest for kind in RESOURCE_KINDS for manifest in self._cache.find(kind))
        return {key for manifest in resources for key in keys_of(manifest)}

    def _work(self, key: ObjectRef) -> float | None:
        if not self._election.leads:
            raise NotDone("this replica does not lead now")
        with structlog.contextvars.bound_contextvars(object=str(key)):
            return self._reconcile(key)

    # -- called from other threads ------------------------------------------------------------------------------------

    def _elected(self) -> None:
        self._loop.call_soon_threadsafe(self._is_elected.set)

    def _lost(self, why: str) -> None:
        log.error("leaving at once", why=why)
        os._exit(EXIT_LOST)

    def _seen(self, manifest: Manifest, deleted: bool) -> None:
        ref = ObjectRef(manifest["kind"], manifest["metadata"].get("namespace", ""), manifest["metadata"]["name"])
        before = self._cache.get(ref)
        if self._cache.discard(manifest) if deleted else self._cache.put(manifest):
            for key in keys_of(manifest, before):
                self._workers.add_from_thread(key)

    # -- health -------------------------------------------------------------------------------------------------------

    async def _beat(self) -> None:
        while True:
            self._beat_at = time.monotonic()
            await asyncio.sleep(BEAT_SECONDS)

    def _loop_alive(self) -> str | None:
        return _silence("the event loop has not turned", self._beat_at, HUNG_SECONDS)

    def _election_alive(self) -> str | None:
        if self._is_elected.is_set() and not self._election.leads:
            return f"the lease was not renewed for {DURATION_SECONDS} s"
        if not self._election.is_alive():
            return "its thread has ended"
        return None

    def _watches_alive(self) -> str | None:
        if not self._watching.is_alive():
            return "their thread has ended" if self._primed and self._watching.ident else None
        if deaf := self._sweep.deaf_kinds():
            return f"the watch of {', '.join(deaf)} misses events"
        return _silence("their loop has not turned", self._watching.beat_at, HUNG_SECONDS)

    def _lists_complete(self) -> str | None:
        return "listing" if self._is_elected.is_set() and not self._primed else None

    # -- the way out --------------------------------------------------------------------------------------------------

    async def _leave(self, tasks: list[asyncio.Task[None]]) -> None:
        log.info("stopping")
        self._watching.stop()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        drained = await self._workers.drain(DRAIN_SECONDS)
        await asyncio.to_thread(self._election.stop, release=drained)
        log.info("stopped", released=drained)


def _silence(what: str, since: float, limit: float) -> str | None:
    seconds = time.monotonic() - since
    return f"{what} for {seconds:.0f} s" if seconds > limit else None


async def _first(*awaitables: Any) -> None:
    """Until one of them ends; its exception is raised here."""
    tasks = [a if isinstance(a, asyncio.Task) else asyncio.create_task(_as_coroutine(a)) for a in awaitables]
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()


async def _as_coroutine(awaitable: Coroutine[Any, Any, Any]) -> None:
    await awaitable
