"""The local supervisor: the operator's reconciler on a cluster of processes, until SIGTERM.

    objects change ─▶ keys ─▶ workers ─▶ reconcile          (in this process: told by the cluster's files;
                                                              by another command: told by the doorbell)

It is started in the background by `storekeeper local up`; one a state folder, by its lock.
"""

import asyncio
import os
import signal
import sys
import threading
from contextlib import suppress

import structlog

from store_runtime.clock import SystemClock
from storekeeper.adapters.processes.cluster import ProcessCluster
from storekeeper.adapters.processes.doorbell import Doorbell
from storekeeper.adapters.processes.ports import Ports
from storekeeper.adapters.processes.statefolder import StateFolder, SupervisorLock
from storekeeper.adapters.runtime_api import RuntimeApi
from storekeeper.cli.local_places import LocalPlaces, signer_of
from storekeeper.cli.logs import configure_logs
from storekeeper.handlers.routing import keys_of
from storekeeper.handlers.workers import Workers
from storekeeper.manifests.objects import Manifest, ObjectRef, ref_of
from storekeeper.metrics import Metrics
from storekeeper.reconcile import Reconciler
from storekeeper.settings import LogFormat, LogLevel

CONCURRENCY = 4
"""Reconciles at the same time: they wait for stores' answers, not for a processor."""
RESOURCE_KINDS = ("LogStore", "RuntimeStore", "Stream")
BELL_SECONDS_MAX = 1.0
"""How long the listening thread may take to see that it is over."""
DRAIN_SECONDS = 10.0
EXIT_OK = 0
EXIT_HELD = 3
"""Another supervisor runs this state folder."""
READY = b"ready\n"

log = structlog.get_logger(__name__)


def supervise(folder: StateFolder, ready_fd: int | None) -> int:
    """Run until SIGTERM or SIGINT; READY is written to `ready_fd` when commands are listened to."""
    configure_logs(LogLevel.INFO, LogFormat.CONSOLE)
    lock = SupervisorLock(folder)
    if not lock.acquire():
        log.error("another supervisor runs this state folder", pid=lock.holder())
        return EXIT_HELD
    asyncio.run(Supervisor(folder).run(ready_fd))
    return EXIT_OK


class Supervisor:
    """Puts the parts together; everything it knows is in the state folder."""

    def __init__(self, folder: StateFolder) -> None:
        self._bell = Doorbell(folder.doorbell)
        self._cluster = ProcessCluster(folder)
        signer = signer_of(folder)
        ports = Ports(folder.ports)
        if taken := ports.replace_taken():
            log.warning("ports were taken by other programs; these stores move", stores=taken)
        self._runtime_api = RuntimeApi(signer.operator_token, verify=False)
        self._metrics = Metrics()
        places = LocalPlaces(folder, ports, (signer.public_pem,))
        places.prune([ref_of(store) for kind in RESOURCE_KINDS for store in self._cluster.find(kind)])
        self._reconciler = Reconciler(self._cluster, places, self._runtime_api, signer, SystemClock(), self._metrics)
        self._over = threading.Event()

    async def run(self, ready_fd: int | None) -> None:
        stop, loop = asyncio.Event(), asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        self._workers: Workers[ObjectRef] = Workers(
            self._reconciler.reconcile, concurrency=CONCURRENCY, metrics=self._metrics
        )
        working = asyncio.create_task(self._workers.run())
        self._cluster.subscribe(self._changed)
        self._cluster.start()
        self._add_all()
        listening = threading.Thread(target=self._listen, name="doorbell", daemon=True)
        listening.start()
        _announce(ready_fd)
        log.info("started", pid=os.getpid())
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({stopping, working}, return_when=asyncio.FIRST_COMPLETED)
        await self._leave(working, listening)

    async def _leave(self, working: "asyncio.Task[None]", listening: threading.Thread) -> None:
        log.info("stopping")
        self._over.set()
        working.cancel()
        with suppress(asyncio.CancelledError):
            await working
        await self._workers.drain(DRAIN_SECONDS)
        await asyncio.to_thread(self._cluster.close)
        await asyncio.to_thread(listening.join)
        self._runtime_api.close()
        self._bell.close()
        log.info("stopped")

    # -- called from other threads ------------------------------------------------------------------------------------

    def _changed(self, manifest: Manifest) -> None:
        for key in keys_of(manifest):
            self._workers.add_from_thread(key)

    def _listen(self) -> None:
        while not self._over.is_set():
            if self._bell.wait(BELL_SECONDS_MAX):
                self._cluster.wake()
                self._add_all()

    def _add_all(self) -> None:
        """Another process changed something: what it was is in the files, and a reconcile too many changes nothing."""
        for kind in RESOURCE_KINDS:
            for manifest in self._cluster.find(kind):
                self._changed(manifest)


def _announce(ready_fd: int | None) -> None:
    """Tell the command that started us, and let go of what it may be waiting to see closed."""
    if ready_fd is not None:
        os.write(ready_fd, READY)
        os.close(ready_fd)
    sys.stdout.flush()
