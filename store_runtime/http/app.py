"""The application: which routers a config's kind has, put together with authentication, problems and documentation.

Observed ▸ EndsEventStreams ▸ BoundedBodies ▸ route: token and scope ▸ validation ▸ offload ▸ store
"""

import asyncio
from collections.abc import Iterator
from importlib.metadata import version

from fastapi import APIRouter, FastAPI
from fastapi_offline import FastAPIOffline

from store_runtime.config.runtime import RuntimeStoreConfig
from store_runtime.http import admin, health, openapi, problems
from store_runtime.http.auth import Authenticator
from store_runtime.http.bodies import BoundedBodies
from store_runtime.http.endings import EndsEventStreams
from store_runtime.http.metrics import Observed
from store_runtime.jobs.kinds import Runtime

NO_TELEMETRY = {"tracing": False, "metrics": False, "logs": False, "operation_spans": False}
"""FastAPI's own: ours is in metrics, and bodies must not get into anything."""


def create_app(runtime: Runtime) -> FastAPI:
    """An ASGI application over opened stores; closing them is the caller's.

    `app.state.stopping` is an event that the server sets when it begins to stop.
    """
    config = runtime.config
    app = FastAPIOffline(
        title=f"Storekeeper {config.kind}",
        version=version("storekeeper"),
        redoc_url=None,
        telemetry=NO_TELEMETRY,
    )
    app.state.authenticator = Authenticator(config.auth)
    app.state.stopping = asyncio.Event()
    problems.install(app)
    openapi.install(app)
    app.add_middleware(BoundedBodies)
    app.add_middleware(EndsEventStreams, stopping=app.state.stopping)
    app.add_middleware(Observed)
    for router in _routers(runtime):
        app.include_router(router)
    return app


def _routers(runtime: Runtime) -> Iterator[APIRouter]:
    watch = health.BackendWatch(runtime)
    yield health.probes(watch)
    yield health.status_route(runtime, watch)
    yield from _store_routers(runtime)
    yield admin.router(runtime)


def _store_routers(runtime: Runtime) -> Iterator[APIRouter]:
    """Imported here: a kind's routers bring its store's libraries."""
    if isinstance(runtime.config, RuntimeStoreConfig):
        from store_runtime.http import cache, usage

        yield usage.router(runtime.store)
        yield cache.router(runtime.store)
    else:
        from store_runtime.http import request_logs

        yield request_logs.router(runtime.store)
    if runtime.streams is not None:
        from store_runtime.http import streams

        yield streams.router(runtime.streams)
