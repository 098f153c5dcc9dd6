"""Request logs over HTTP: `/v1/request-logs`.

A body is one JSON object, an array of them, or NDJSON (a line that is no JSON is rejected alone, like any bad item). A
batch answers 200 as long as one of its items is stored or known; if all are bad it is a 400 and nothing was stored.
"""

import json
from collections.abc import Mapping
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, TypeAdapter, ValidationError

from store_runtime.config.wire import Scope
from store_runtime.errors import InvalidInput, StoreError, TooLarge
from store_runtime.http.auth import require
from store_runtime.http.encoded_paths import EncodedPathRoute
from store_runtime.http.offload import offload
from store_runtime.logstore.model import (
    BATCH_MAX,
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

NDJSON = ("application/x-ndjson", "application/ndjson", "application/jsonl")
FILTERS = frozenset({"start_time", "end_time", "id", "provider", "model", "status"})
PAGING = frozenset({"limit", "order", "cursor"})
ONCE = frozenset({"start_time", "end_time", "limit", "order", "cursor", "payload"})
"""Parameters that may not be repeated: of two values one would be ignored."""
_TIME: TypeAdapter[Any] = TypeAdapter(Time)
_READ, _WRITE = [Depends(require(Scope.READ))], [Depends(require(Scope.WRITE))]

Values = Annotated[list[str], Query(default_factory=list)]


class LogPage(BaseModel):
    """A page; give `cursor` back to get the next one, null at the end."""

    logs: list[RequestLog]
    cursor: str | None


class Deleted(BaseModel):
    """How many there were."""

    deleted: int


def router(store: LogStore) -> APIRouter:
    """The routes of one LogStore."""
    routes = APIRouter(prefix="/v1/request-logs", tags=["request logs"], route_class=EncodedPathRoute)
    _add_batches(routes, store)
    _add_queries(routes, store)
    _add_one(routes, store)
    return routes


def _add_batches(routes: APIRouter, store: LogStore) -> None:
    @routes.post("", dependencies=_WRITE, response_model=BatchResult, openapi_extra=_BODY)
    async def create(request: Request) -> Response:
        """Store request logs; each id is created once, so it is safe to send them again."""
        _refuse_unknown(request, frozenset())
        kind = request.headers.get("content-type", "application/json").split(";")[0].strip().lower()
        return _written(await offload(_create, store, kind, await request.body()))


def _add_queries(routes: APIRouter, store: LogStore) -> None:
    @routes.get("", dependencies=_READ, response_model=LogPage)
    async def search(
        request: Request,
        id: Values,
        provider: Values,
        model: Values,
        status: Values,
        start_time: str | None = None,
        end_time: str | None = None,
        limit: Annotated[int, Query(ge=1, le=PAGE_MAX)] = PAGE_DEFAULT,
        order: Order = Order.NEWEST,
        cursor: str | None = None,
    ) -> Response:
        """Those with start_time ≤ timestamp < end_time, newest first, without payloads."""
        _refuse_unknown(request, FILTERS | PAGING)
        filters = _filters(start_time, end_time, ids=id, providers=provider, models=model, statuses=status)
        return await offload(_search, store, filters, order, limit, cursor)

    @routes.get("/stats", dependencies=_READ, response_model=Stats)
    async def stats(
        request: Request,
        id: Values,
        provider: Values,
        model: Values,
        status: Values,
        start_time: str | None = None,
        end_time: str | None = None,
    ) -> Response:
        """Sums over those that match."""
        _refuse_unknown(request, FILTERS)
        filters = _filters(start_time, end_time, ids=id, providers=provider, models=model, statuses=status)
        return _json(await offload(store.stats, filters))


def _add_one(routes: APIRouter, store: LogStore) -> None:
    @routes.get("/{log_id}", dependencies=_READ, response_model=RequestLog)
    async def get(request: Request, log_id: str, payload: bool = True) -> Response:
        """One request log, with its payload unless that is not wanted."""
        _refuse_unknown(request, frozenset({"payload"}))
        return _written(await offload(_get, store, log_id, payload))

    @routes.patch("/{log_id}", dependencies=_WRITE, response_model=RequestLog)
    async def update(request: Request, log_id: str, change: RequestLogChange) -> Response:
        """Change the given fields; parts of the payload are replaced by name. Answers with what is there now."""
        _refuse_unknown(request, frozenset())
        return _written(await offload(_update, store, log_id, change))

    @routes.delete("/{log_id}", dependencies=_WRITE, response_model=Deleted)
    async def delete(request: Request, log_id: str) -> Response:
        """Delete one; no error if it is not there."""
        _refuse_unknown(request, frozenset())
        return _json(Deleted(deleted=await offload(store.delete, [log_id])))


# -- in a thread of the pool: what may take long ------------------------------------------------------------------


def _create(store: LogStore, kind: str, body: bytes) -> bytes:
    items, unreadable = _items(kind, body)
    result = store.create_many(list(items.values())) if items else BatchResult(created=0, existing=0)
    places = list(items)
    refused = [item.model_copy(update={"index": places[item.index]}) for item in result.rejected]
    rejected = tuple(sorted([*unreadable, *refused], key=lambda item: item.index))
    if rejected and not result.created and not result.existing:
        first = rejected[0]
        more = f" (and {len(rejected) - 1} more)" if len(rejected) > 1 else ""
        raise InvalidInput(f"nothing was stored: item {first.index}: {first.message}{more}", code=first.code)
    return _dumped(result.model_copy(update={"rejected": rejected}).model_dump())


def _search(store: LogStore, filters: Filters, order: Order, limit: int, cursor: str | None) -> Response:
    page: Page = store.search(filters, order=order, limit=limit, cursor=cursor)
    body = {"logs": [_document(log) for log in page.logs], "cursor": page.cursor}
    return Response(_dumped(body), media_type="application/json")


def _get(store: LogStore, log_id: str, payload: bool) -> bytes:
    return _dumped(_document(store.get(log_id, payload=payload)))


def _update(store: LogStore, log_id: str, change: RequestLogChange) -> bytes:
    store.update(log_id, change)
    return _get(store, log_id, payload=True)


# -- bodies and parameters ----------------------------------------------------------------------------------------


def _items(kind: str, body: bytes) -> tuple[dict[int, Any], list[Rejected]]:
    """What the body says, by its index: of elements, or of lines that are not blank; and lines that say nothing."""
    if kind in NDJSON:
        return _lines(body)
    if kind != "application/json":
        raise InvalidInput(f"content type {kind!r}: send application/json or {NDJSON[0]}", field="Content-Type")
    parsed = _parsed(body)
    items = parsed if isinstance(parsed, list) else [parsed]
    if not items:
        raise InvalidInput("the body is an empty list; send at least one request log", field="body")
    return dict(enumerate(items)), []


def _lines(body: bytes) -> tuple[dict[int, Any], list[Rejected]]:
    lines = [line for line in body.split(b"\n") if line.strip()]
    if not lines:
        raise InvalidInput("the body is empty; send one request log a line", field="body")
    if len(lines) > BATCH_MAX:
        raise TooLarge(f"a batch has at most {BATCH_MAX} request logs, this one has {len(lines)} lines", field="body")
    items: dict[int, Any] = {}
    unreadable = []
    for index, line in enumerate(lines):
        try:
            items[index] = _parsed(line)
        except StoreError as error:
            unreadable.append(Rejected(index=index, code=error.specific_code, message=error.message))
    return items, unreadable


def _parsed(text: bytes) -> Any:
    """By json, which for long strings is as fast as orjson: it keeps integers of any size and halves of emojis, which
    cut off answers have."""
    try:
        return json.loads(text.decode(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"it is not JSON: {error}", field="body") from error


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number")


def _refuse_unknown(request: Request, known: frozenset[str]) -> None:
    """A parameter that is not understood must not be ignored: the answer would be of another question."""
    for name in request.query_params:
        if name not in known:
            wanted = ", ".join(sorted(known)) or "none"
            raise InvalidInput(f"unknown parameter {name!r}; known here: {wanted}", field=name)
        if name in ONCE and len(request.query_params.getlist(name)) > 1:
            raise InvalidInput(f"the parameter {name!r} is given more than once", field=name)


def _filters(start: str | None, end: str | None, **lists: list[str]) -> Filters:
    given: dict[str, Any] = {"start_time": _time(start, "start_time"), "end_time": _time(end, "end_time")}
    try:
        return Filters.model_validate(given | lists)
    except ValidationError as error:
        raise invalid(error) from error


def _time(text: str | None, field: str) -> Any:
    """RFC 3339; a `+` of an offset that was not encoded arrives as a space."""
    if text is None:
        return None
    try:
        return _TIME.validate_python(text.replace(" ", "+") if "T" in text else text)
    except ValidationError as error:
        said = error.errors(include_input=False)[0]["msg"]
        raise InvalidInput(f"{field}: {said}; write for example 2026-01-31T12:00:00Z", field=field) from error


# -- answers ------------------------------------------------------------------------------------------------------


def _json(model: BaseModel) -> Response:
    return Response(model.model_dump_json(), media_type="application/json")


def _written(document: bytes) -> Response:
    return Response(document, media_type="application/json")


def _document(log: RequestLog) -> dict[str, Any]:
    """Without what is not known; times as RFC 3339 in UTC."""
    fields = {name: value for name, value in log.__dict__.items() if value is not None}
    for name in ("timestamp", "created_at"):
        fields[name] = fields[name].isoformat().replace("+00:00", "Z")
    return fields


def _dumped(document: Mapping[str, Any]) -> bytes:
    """JSON; what orjson cannot write (a lone surrogate, an integer of more than 64 bits) json can."""
    try:
        return orjson.dumps(document)
    except TypeError:
        return json.dumps(document).encode()


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
