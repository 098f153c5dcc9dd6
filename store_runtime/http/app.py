"""The application: which routers a config's kind has, put together with authentication, problems and documentation."""

from collections.abc import Iterator
from importlib.metadata import version

from fastapi import APIRouter, FastAPI
from fastapi_offline import FastAPIOffline

from store_runtime.config.runtime import RuntimeStoreConfig
from store_runtime.http import problems
from store_runtime.http.auth import Authenticator
from store_runtime.jobs.kinds import Runtime


def create_app(runtime: Runtime) -> FastAPI:
    """An ASGI application over opened stores; closing them is the caller's."""
    config = runtime.config
    app = FastAPIOffline(title=f"Storekeeper {config.kind}", version=version("storekeeper"), redoc_url=None)
    app.state.authenticator = Authenticator(config.auth)
    problems.install(app)
    for router in _routers(runtime):
        app.include_router(router)
    return app


def _routers(runtime: Runtime) -> Iterator[APIRouter]:
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
