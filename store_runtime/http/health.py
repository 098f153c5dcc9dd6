"""Is it alive, is it ready, how is its backend: three questions with three answers.

`/healthz` only says that the event loop turns. `/readyz` says whether requests may come: a database that does not
answer does not make it unready, for the pod that could spool or answer from memory must not be taken away. How the
backend is stands in `/v1/status`.
"""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version

import structlog
from fastapi import APIRouter, Depends, Response
from fastapi.responses import PlainTextResponse

from store_runtime.config.wire import BackendStatus, Role, Scope, StoreStatus, Warned
from store_runtime.errors import BackendUnreachable, StoreError
from store_runtime.http.auth import require
from store_runtime.http.offload import Offloader
from store_runtime.jobs.kinds import Runtime

CHECK_SECONDS = 3.0
"""How long a status waits for a look at the backend; the operator waits five seconds for a status."""
PROBE_SECONDS = 0.5
"""How long a probe waits for it, then it goes by what was last known; the kubelet waits one second."""
FRESH_SECONDS = 1.0
"""A look is good for this long, so that probes and pollers do not add up to load."""
READY_ROLES = frozenset({Role.ACTIVE, Role.FENCED, Role.TARGET})
"""A fenced store answers reads and a target waits for its cutover; a retired or released one is served elsewhere."""
_log = structlog.get_logger(__name__)


class BackendWatch:
    """Looks at the backend, one look at a time: a database that hangs costs one thread, however many ask."""

    def __init__(self, runtime: Runtime, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._runtime = runtime
        self._monotonic = monotonic
        self._thread = Offloader(1, 1, "backend-watch")
        self._look: asyncio.Task[BackendStatus] | None = None
        self._looked_at = float("-inf")
        self._last = self._status()

    async def status(self, within_seconds: float = CHECK_SECONDS) -> BackendStatus:
        """The backend now, or at most FRESH_SECONDS ago; unreachable if it takes longer than `within_seconds`."""
        if self._look is None and self._monotonic() - self._looked_at < FRESH_SECONDS:
            return self._last
        if self._look is None:
            self._look = asyncio.create_task(self._take_look())
        try:
            return await asyncio.wait_for(asyncio.shield(self._look), within_seconds)
        except TimeoutError:
            return self._unreachable(BackendUnreachable(f"the backend did not answer in {within_seconds:g} s"))

    async def _take_look(self) -> BackendStatus:
        try:
            self._last = await self._thread.run(self._check)
        except StoreError as error:
            self._last = self._unreachable(error)
        except Exception:
            _log.exception("backend check failed")
            self._last = self._unreachable(StoreError("the backend's check failed; the store's log tells more"))
        self._looked_at = self._monotonic()
        self._look = None
        return self._last

    def _check(self) -> BackendStatus:
        for store in self._runtime.stores:
            store.check_backend()
        meta = self._runtime.store.meta()
        return self._status(reachable=True, schema_version=meta.schema_version, role=meta.role, epoch=meta.epoch)

    def _status(self, **fields: object) -> BackendStatus:
        return BackendStatus.model_validate(
            {"type": self._runtime.config.backend.type.value, "reachable": False} | fields
        )

    def _unreachable(self, error: StoreError) -> BackendStatus:
        """What was last known of role and epoch stays: they do not change without the backend."""
        known = {"role": self._last.role, "epoch": self._last.epoch, "schema_version": self._last.schema_version}
        return self._status(code=error.specific_code, message=error.message, **known)


def probes(watch: BackendWatch) -> APIRouter:
    """`/healthz` and `/readyz`, without tokens: the kubelet has none, and they tell nothing."""
    routes = APIRouter(tags=["health"], default_response_class=PlainTextResponse)

    @routes.get("/healthz")
    async def healthz() -> PlainTextResponse:
        """The process is alive."""
        return PlainTextResponse("ok\n")

    @routes.get("/readyz", responses={503: {"description": "another backend serves this store"}})
    async def readyz() -> PlainTextResponse:
        """Requests may come."""
        role = (await watch.status(PROBE_SECONDS)).role
        if role is not None and role not in READY_ROLES:
            return PlainTextResponse(f"the data's role is {role.value}: it is served elsewhere, or nowhere\n", 503)
        return PlainTextResponse("ready\n")

    return routes


def status_route(runtime: Runtime, watch: BackendWatch) -> APIRouter:
    """`/v1/status`."""
    routes = APIRouter(tags=["store"])
    started_at = datetime.now(UTC)
    store = runtime.config.store

    @routes.get("/v1/status", response_model=StoreStatus, dependencies=[Depends(require(Scope.READ))])
    async def status() -> Response:
        """Who this store is and how its backend is now."""
        found = StoreStatus(
            kind=runtime.config.kind,
            namespace=store.namespace,
            name=store.name,
            store_id=store.id,
            version=version("storekeeper"),
            started_at=started_at,
            backend=await watch.status(),
            warnings=_warnings(runtime),
        )
        return Response(found.model_dump_json(by_alias=True, exclude_none=True), media_type="application/json")

    return routes


def _warnings(runtime: Runtime) -> tuple[Warned, ...]:
    """What the stores themselves want a person to know, e.g. a segment that was put aside."""
    found = []
    for store in runtime.stores:
        found += [Warned(reason=reason, message=message) for reason, message in getattr(store, "warnings", tuple)()]
    return tuple(found)
