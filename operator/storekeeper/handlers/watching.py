"""kopf, kept to what it is best at: watch streams that stay alive. The only module that imports it.

It runs in a thread with an event loop of its own (it cancels every task of the loop it is in) and knows one handler,
`on.event`: no finalizer, no annotation, no status of kopf's is ever written. Secrets are not watched.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import kopf
import structlog

from storekeeper.adapters.kubernetes_api import api_version, plural
from storekeeper.api.group import GROUP
from storekeeper.manifests.objects import CHILD_KINDS, LABEL_MANAGED_BY, MANAGED_BY, Manifest

RESOURCE_KINDS = ("LogStore", "RuntimeStore", "Stream")
WATCHED_KINDS = (*RESOURCE_KINDS, *CHILD_KINDS, "Pod")

CHUNK_SIZE = 500
INACTIVITY_SECONDS = 70.0
"""A healthy stream has a bookmark every 60 s; without one it is dead and is opened anew."""
WORKER_IDLE_SECONDS = 0.5
"""kopf has a task for each object with events; it goes this soon after the last one."""
BEAT_SECONDS = 1.0
KOPF_IDENTITY: Any = "storekeeper"
"""Only peering uses it, which is off; left to itself kopf asks for the user's name, which a pod's user has not."""

Seen = Callable[[Manifest, bool], None]
"""(the object, whether it was deleted), from kopf's thread."""

log = structlog.get_logger(__name__)


def label_selector(kind: str) -> str:
    """Only children of ours are watched; of the resources, all."""
    return "" if kind in RESOURCE_KINDS else f"{LABEL_MANAGED_BY}={MANAGED_BY}"


def registry_of(kinds: Iterable[str], seen: Seen) -> kopf.OperatorRegistry:
    """One event handler a kind."""
    registry = kopf.OperatorRegistry()
    kopf.on.login(registry=registry, id="login")(kopf.login_via_client)

    for kind in kinds:

        async def handle(event: kopf.RawEvent, kind: str = kind, **_: Any) -> None:
            manifest = {**event["object"], "apiVersion": api_version(kind), "kind": kind}
            seen(manifest, event["type"] == "DELETED")

        group, version = _group_version(kind)
        kopf.on.event(group, version, plural(kind), registry=registry, id=f"seen-{kind}")(handle)
    return registry


def settings_of(kinds: Iterable[str]) -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.scanning.disabled = True  # no list or watch of CRDs and namespaces: the Role has no right to it
    settings.watching.chunk_size = CHUNK_SIZE
    settings.watching.inactivity_timeout = INACTIVITY_SECONDS
    settings.queueing.idle_timeout = WORKER_IDLE_SECONDS
    settings.queueing.worker_limit = None  # one starves the healthy; concurrency is bounded in our own queue
    settings.posting.enabled = False
    settings.posting.loggers = False
    settings.process.ultimate_exiting_timeout = None  # the process has its own way out
    # Nothing is persisted with event handlers only. Should kopf ever do so, it is under names of our own, and not
    # under our finalizer, which it would take off.
    settings.persistence.finalizer = f"{GROUP}/kopf"
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=f"kopf.{GROUP}")
    settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix=f"kopf.{GROUP}")
    for kind in kinds:
        if selector := label_selector(kind):
            group, version = _group_version(kind)
            settings.watching.label_selectors[group, version, plural(kind)] = selector
    return settings


class Watching(threading.Thread):
    """Runs kopf until stopped; `failed` is called if it ends by itself."""

    def __init__(self, namespaces: tuple[str | None, ...], seen: Seen, failed: Callable[[str], None]) -> None:
        super().__init__(name="watching", daemon=True)
        self._namespaces = [n for n in namespaces if n is not None]
        self._seen, self._failed = seen, failed
        self._stop_flag = threading.Event()
        self.beat_at = time.monotonic()
        """When kopf's loop last turned."""

    def run(self) -> None:
        why = "kopf ended without a reason"
        try:
            asyncio.run(self._operate())
        except Exception as error:
            log.exception("watching broke")
            why = f"{type(error).__name__}: {error}"
        if not self._stop_flag.is_set():
            self._failed(why)

    def stop(self) -> None:
        self._stop_flag.set()

    async def _operate(self) -> None:
        beating = asyncio.create_task(self._beat(), name="beat")
        try:
            await kopf.operator(
                registry=registry_of(WATCHED_KINDS, self._seen),
                settings=settings_of(WATCHED_KINDS),
                identity=KOPF_IDENTITY,
                standalone=True,
                clusterwide=not self._namespaces,
                namespaces=self._namespaces,
                stop_flag=self._stop_flag,
            )
        finally:
            beating.cancel()

    async def _beat(self) -> None:
        while True:
            self.beat_at = time.monotonic()
            await asyncio.sleep(BEAT_SECONDS)


def _group_version(kind: str) -> tuple[str, str]:
    group, _, version = api_version(kind).rpartition("/")
    return group, version
