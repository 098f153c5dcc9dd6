"""The response cache over HTTP: `/cache/{namespace}/{key}`. A miss is a 404, an empty value is a value."""

from fastapi import APIRouter, Depends
from pydantic import BaseModel

from store_runtime.config.wire import Scope
from store_runtime.errors import NotFound
from store_runtime.http.auth import require
from store_runtime.http.encoded_paths import EncodedPathRoute
from store_runtime.http.offload import offload
from store_runtime.http.usage import Body, Number
from store_runtime.runtimestore.store import RuntimeStore


class CacheBody(Body):
    """`ttl_seconds` 0 is no expiry, absent is as configured."""

    value: str
    ttl_seconds: Number | None = None


class Cached(BaseModel):
    """A value that was kept."""

    value: str


class Stored(BaseModel):
    stored: bool = True


class Deleted(BaseModel):
    """`deleted` is false when there was nothing."""

    deleted: bool


def router(store: RuntimeStore) -> APIRouter:
    """The routes of the cache."""
    routes = APIRouter(prefix="/cache/{namespace}/{key}", tags=["cache"], route_class=EncodedPathRoute)

    @routes.get("", dependencies=[Depends(require(Scope.READ))])
    async def get_cached(namespace: str, key: str) -> Cached:
        """The value; 404 on a miss."""
        value = await offload(store.cache_get, namespace, key)
        if value is None:
            raise NotFound("not in the cache, or not any more", code="CacheMiss")
        return Cached(value=value)

    @routes.put("", dependencies=[Depends(require(Scope.WRITE))])
    async def set_cached(namespace: str, key: str, body: CacheBody) -> Stored:
        """Keep a value."""
        await offload(store.cache_set, namespace, key, body.value, body.ttl_seconds)
        return Stored()

    @routes.delete("", dependencies=[Depends(require(Scope.WRITE))])
    async def delete_cached(namespace: str, key: str) -> Deleted:
        """Forget a value."""
        return Deleted(deleted=await offload(store.cache_delete, namespace, key))

    return routes
