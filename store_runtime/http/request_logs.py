"""Request logs over HTTP: `/v1/request-logs`.

A body is one JSON object, an array of them, or NDJSON (a line that is no JSON is rejected alone, like any bad item). A
batch answers 200 as long as one of its items is stored or known; if all are bad it is a 400 and nothing was stored.
"""

from collections.abc import Sequence
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, TypeAdapter, ValidationError

from store_runtime.config.wire import Scope
from store_runtime.errors import InvalidInput, StoreError, TooLarge
from store_runtime.http.auth import require
from store_runtime.http.encoded_paths import EncodedPathRoute
from store_runtime.http.offload import offload
from store_runtime.logstore.model import (
    PAGE_DEFAULT,
    PAGE_MAX,
    BatchResult,
    Filters,
    Order,
    Page,
    Rejected,
    RequestLog,
    RequestLogChange,
    Stats,
    Time,
)
from store_runtime.logstore.store import LogStore, invalid

BODY_BYTES_MAX = 64 * 1024 * 1024
NDJSON = ("application/x-ndjson", "application/ndjson", "application/jsonl")
PARAMETERS = {"start_time", "end_time", "id", "provider", "model", "status"}
PAGING = {"limit", "order", "cursor", "payload"}
_TIME: TypeAdapter[Any] = TypeAdapter(Time)
_READ, _WRITE = [Depends(require(Scope.READ))], [Depends(require(Scope.WRITE))]

Values = Annotated[list[str] | None, Query()]


class LogPage(BaseModel):
    """A page; give `cursor` back to get the next one, null at the end."""

    logs: list[dict[str, Any]]
    cursor: str | None


class Deleted(BaseModel):
    """How many there were."""

    deleted: int


def router(store: LogStore) -> APIRouter:
    """The routes of one LogStore."""
    routes = APIRouter(prefix="/v1/request-logs", tags=["request logs"], route_class=EncodedPathRoute)

    @routes.post("", dependencies=_WRITE, response_model=BatchResult, openapi_extra=_BODY)
    async def create(request: Request) -> BatchResult:
        """Store request logs; each id is created once, so it is safe to send them again."""
        items, unreadable = _items(request, await request.body())
        return await offload(_create, store, items, unreadable)

    @routes.get("", dependencies=_READ, response_model=LogPage)
    async def search(
        request: Request,
        start_time: str | None = None,
        end_time: str | None = None,
        id: Values = None,
        provider: Values = None,
        model: Values = None,
        status: Values = None,
        limit: Annotated[int, Query(ge=1, le=PAGE_MAX)] = PAGE_DEFAULT,
        order: Order = Order.NEWEST,
        cursor: str | None = None,
    ) -> LogPage:
        """Those with start_time ≤ timestamp < end_time, newest first, without payloads."""
        _refuse_unknown(request, PARAMETERS | PAGING)
        filters = _filters(start_time, end_time, id, provider, model, status)
        return _page(await offload(_search, store, filters, order, limit, cursor))

    @routes.get("/stats", dependencies=_READ, response_model=Stats)
    async def stats(
        request: Request,
        start_time: str | None = None,
        end_time: str | None = None,
        id: Values = None,
        provider: Values = None,
        model: Values = None,
        status: Values = None,
    ) -> Stats:
        """Sums over those that match."""
        _refuse_unknown(request, PARAMETERS)
        return await offload(store.stats, _filters(start_time, end_time, id, provider, model, status))

    @routes.get("/{log_id}", dependencies=_READ)
    async def get(request: Request, log_id: str) -> dict[str, Any]:
        """One request log with its payload."""
        _refuse_unknown(request, set())
        return _document(await offload(store.get, log_id))

    @routes.patch("/{log_id}", dependencies=_WRITE)
    async def update(log_id: str, change: RequestLogChange) -> dict[str, Any]:
        """Change the given fields; parts of the payload are replaced by name. Answers with what is there now."""
        await offload(store.update, log_id, change)
        return _document(await offload(store.get, log_id))

    @routes.delete("/{log_id}", dependencies=_WRITE, response_model=Deleted)
    async def delete(log_id: str) -> Deleted:
        """Delete one; no error if it is not there."""
        return Deleted(deleted=await offload(store.delete, [log_id]))

    return routes


def _create(store: LogStore, items: Sequence[Any], unreadable: Sequence[Rejected]) -> BatchResult:
    result = store.create_many(items) if items else BatchResult(created=0, existing=0)
    rejected = (*unreadable, *result.rejected)
    if rejected and not result.created and not result.existing:
        first = rejected[0]
        raise InvalidInput(f"nothing was stored; item {first.index}: {first.message}", code=first.code)
    return result.model_copy(update={"rejected": rejected})


def _search(store: LogStore, filters: Filters, order: Order, limit: int, cursor: str | None) -> Page:
    return store.search(filters, order=order, limit=limit, cursor=cursor)


def _items(request: Request, body: bytes) -> tuple[list[Any], list[Rejected]]:
    """What the body says, and the lines of NDJSON that say nothing. Indexes count lines or elements from 0."""
    if len(body) > BODY_BYTES_MAX:
        raise TooLarge(f"a body has at most {BODY_BYTES_MAX} bytes; send several smaller ones")
    kind = request.headers.get("content-type", "application/json").split(";")[0].strip().lower()
    if kind in NDJSON:
        return _lines(body)
    if kind != "application/json":
        raise InvalidInput(f"content type {kind!r}; send application/json or {NDJSON[0]}", field="Content-Type")
    parsed = _parsed(body)
    items = parsed if isinstance(parsed, list) else [parsed]
    if not items:
        raise InvalidInput("the body is an empty list; send at least one request log", field="body")
    return items, []


def _lines(body: bytes) -> tuple[list[Any], list[Rejected]]:
    items: list[Any] = []
    unreadable = []
    for index, line in enumerate(line for line in body.split(b"\n") if line.strip()):
        try:
            items.append(_parsed(line))
        except StoreError as error:
            unreadable.append(Rejected(index=index, code=error.specific_code, message=error.message))
    if not items and not unreadable:
        raise InvalidInput("the body is empty; send one request log a line", field="body")
    return items, unreadable


def _parsed(text: bytes) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"not JSON: {error}", field="body") from error


def _refuse_unknown(request: Request, known: set[str]) -> None:
    """A filter that is not understood must not be ignored: the answer would be of another question."""
    for name in request.query_params:
        if name not in known:
            wanted = ", ".join(sorted(known)) or "none"
            raise InvalidInput(f"unknown parameter {name!r}; known here: {wanted}", field=name)


def _filters(
    start: str | None,
    end: str | None,
    ids: list[str] | None,
    providers: list[str] | None,
    models: list[str] | None,
    statuses: list[str] | None,
) -> Filters:
    given = {
        "start_time": None if start is None else _time(start, "start_time"),
        "end_time": None if end is None else _time(end, "end_time"),
        "ids": ids or (),
        "providers": providers or (),
        "models": models or (),
        "statuses": statuses or (),
    }
    try:
        return Filters.model_validate(given)
    except ValidationError as error:
        raise invalid(error) from error


def _time(text: str, field: str) -> Any:
    """RFC 3339; a `+` of an offset that was not encoded arrives as a space."""
    try:
        return _TIME.validate_python(text.replace(" ", "+") if "T" in text else text)
    except ValidationError as error:
        said = error.errors(include_input=False)[0]["msg"]
        raise InvalidInput(f"{field}: {said}; write for example 2026-01-31T12:00:00Z", field=field) from error


def _page(page: Page) -> LogPage:
    return LogPage(logs=[_document(log) for log in page.logs], cursor=page.cursor)


def _document(log: RequestLog) -> dict[str, Any]:
    """Without what is not known; times as RFC 3339 in UTC."""
    fields = {name: value for name, value in log.__dict__.items() if value is not None}
    for name in ("timestamp", "created_at"):
        fields[name] = fields[name].isoformat().replace("+00:00", "Z")
    return fields


_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"oneOf": [{"type": "object"}, {"type": "array", "items": {"type": "object"}}]}
            },
            NDJSON[0]: {"schema": {"type": "string", "description": "One request log a line."}},
        },
    }
}
