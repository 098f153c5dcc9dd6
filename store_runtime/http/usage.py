"""Usage counters over HTTP: `/usage/…` as gateways of the seed speak it, and batches below `/v1`.

The single-metric routes answer 200 and nothing else when all went well, and a plain number (no newline) unless the
caller accepts JSON by name: that is what the seed's client parses. A batch counts wholly or not at all, so one bad item
is a 400 that names it. An op_id (or the header Idempotency-Key) makes a repetition safe for ten minutes.
"""

from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from store_runtime.config.wire import Scope
from store_runtime.errors import InvalidInput
from store_runtime.http.auth import require
from store_runtime.http.encoded_paths import EncodedPathRoute
from store_runtime.http.offload import offload
from store_runtime.runtimestore.model import PAGE_MAX, Increment, WindowQuery
from store_runtime.runtimestore.store import RuntimeStore

Number = Annotated[float, Field(strict=True)]
OpId = Annotated[str | None, Header(alias="Idempotency-Key", description="The operation's op_id.")]
_READ, _WRITE = [Depends(require(Scope.READ))], [Depends(require(Scope.WRITE))]


class Body(BaseModel):
    """A request body: unknown fields are errors, numbers are numbers."""

    model_config = ConfigDict(extra="forbid")


class ValueBody(Body):
    value: Number


class DeltaBody(Body):
    delta: Number


class IncrementBody(Body):
    provider: str
    key: str
    metric: str
    delta: Number


class IncrementsBody(Body):
    """All of them count or none; `op_id` may also come as the header Idempotency-Key."""

    increments: list[IncrementBody]
    op_id: str | None = None


class WindowBody(Body):
    provider: str
    key: str
    metric: str
    seconds: Number


class WindowsBody(Body):
    windows: list[WindowBody]


class Value(BaseModel):
    """A total or what a window holds."""

    value: float


class Applied(BaseModel):
    """`applied` is false when the op_id had been counted before."""

    applied: bool


class Values(BaseModel):
    """One value a window, in the order asked."""

    values: list[float]


class UsageItem(BaseModel):
    provider: str
    key: str
    metric: str
    value: float


class UsagePageBody(BaseModel):
    """Totals in key order; `cursor`, unless null, goes on after them."""

    items: list[UsageItem]
    cursor: str | None


def router(store: RuntimeStore) -> APIRouter:
    """The routes of usage counters."""
    routes = APIRouter(tags=["usage"])
    routes.include_router(_metric_routes(store))
    routes.include_router(_batch_routes(store))
    return routes


def _metric_routes(store: RuntimeStore) -> APIRouter:
    routes = APIRouter(prefix="/usage/{provider}/{key}/{metric}", route_class=EncodedPathRoute)

    @routes.get("", dependencies=_READ, response_model=Value)
    async def get_usage(request: Request, provider: str, key: str, metric: str) -> Response:
        """The lifetime total; 0 for a metric that is not known."""
        return _number(request, await offload(store.get_usage, provider, key, metric))

    @routes.put("", dependencies=_WRITE)
    async def set_usage(provider: str, key: str, metric: str, body: ValueBody) -> Value:
        """Set the lifetime total; windows stay as they are."""
        await offload(store.set_usage, provider, key, metric, body.value)
        return Value(value=body.value)

    @routes.delete("", dependencies=_WRITE)
    async def reset_usage(provider: str, key: str, metric: str) -> Applied:
        """Forget total and windows."""
        return Applied(applied=await offload(store.reset_usage, provider, key, metric))

    @routes.post("/increment", dependencies=_WRITE)
    async def increment(provider: str, key: str, metric: str, body: DeltaBody, op_id: OpId = None) -> Applied:
        """Count a delta; negative is a refund."""
        return Applied(applied=await offload(store.increment, provider, key, metric, body.delta, op_id=op_id))

    @routes.get("/window", dependencies=_READ, response_model=Value)
    async def window(request: Request, provider: str, key: str, metric: str, seconds: float) -> Response:
        """What was counted in the last `seconds`: never too little, at most a sixtieth of the window too old."""
        return _number(request, await offload(store.window, provider, key, metric, seconds))

    return routes


def _batch_routes(store: RuntimeStore) -> APIRouter:
    routes = APIRouter(prefix="/v1")

    @routes.post("/increments", dependencies=_WRITE)
    async def increments(body: IncrementsBody, header_op_id: OpId = None) -> Applied:
        """Count several deltas at once."""
        items = [Increment(item.provider, item.key, item.metric, item.delta) for item in body.increments]
        op_id = _one_op_id(body.op_id, header_op_id)
        return Applied(applied=await offload(store.increment_many, items, op_id=op_id))

    @routes.post("/windows", dependencies=_READ)
    async def windows(body: WindowsBody) -> Values:
        """Several windows as of the same moment."""
        queries = [WindowQuery(item.provider, item.key, item.metric, item.seconds) for item in body.windows]
        return Values(values=await offload(store.windows, queries))

    @routes.get("/usage", dependencies=_READ)
    async def find_usage(
        provider: str | None = None,
        key_prefix: str = "",
        limit: Annotated[int, Query(ge=1, le=PAGE_MAX)] = 100,
        cursor: str | None = None,
    ) -> UsagePageBody:
        """Totals: of all metrics, of a provider, or of its keys that begin with `key_prefix`."""
        page = await offload(store.find_usage, provider, key_prefix, limit=limit, cursor=cursor)
        items = [UsageItem(**usage._asdict()) for usage in page.items]
        return UsagePageBody(items=items, cursor=page.cursor)

    return routes


def _number(request: Request, value: float) -> Response:
    """JSON for who accepts it by name, else the plain number that the seed's client parses."""
    accepted = request.headers.get("accept", "")
    if "application/json" in accepted:
        return Response(Value(value=value).model_dump_json(), media_type="application/json")
    return Response(repr(value), media_type="text/plain")


def _one_op_id(in_body: str | None, in_header: str | None) -> str | None:
    if in_body is not None and in_header is not None and in_body != in_header:
        raise InvalidInput("op_id and Idempotency-Key differ; send one of them", field="op_id")
    return in_body if in_body is not None else in_header
