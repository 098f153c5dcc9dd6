"""Streams over HTTP: the wire of the seed's system for configs and queries, and ingestion straight into a stream.

Names may be any text: a stream's is percent-encoded in the path. The route that ingests reads the raw body once and
hands it on; nothing here looks into entries.
"""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any

import msgspec
import orjson
from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from store_runtime.config.wire import Scope
from store_runtime.errors import InvalidInput
from store_runtime.http.auth import require
from store_runtime.http.encoded_paths import EncodedPathRoute
from store_runtime.http.offload import offload
from store_runtime.streams.bodies import CONTENT_ENCODINGS, BodyKind, decompressed
from store_runtime.streams.event_time import NotATime, parse_time_ns
from store_runtime.streams.model import (
    BODY_BYTES_MAX,
    PAGE_DEFAULT,
    PAGE_MAX,
    TIME_NS_MAX,
    Entry,
    EntryPage,
    IngestReport,
    StreamConfig,
    Window,
)
from store_runtime.streams.store import Streams

_SECOND_NS = 1_000_000_000
_MEBIBYTE = 1024 * 1024
_KINDS = {
    "": BodyKind.NDJSON,
    "application/x-ndjson": BodyKind.NDJSON,
    "application/ndjson": BodyKind.NDJSON,
    "application/jsonl": BodyKind.NDJSON,
    "application/json": BodyKind.JSON,
    "text/plain": BodyKind.TEXT,
}
_Conditions = msgspec.json.Decoder(dict[str, list[str]])


class Order(StrEnum):
    """Newest or oldest entries first."""

    DESC = "desc"
    ASC = "asc"


class ConfigDocument(BaseModel):
    """A stream's config as the seed has it. 0 is unlimited."""

    model_config = ConfigDict(extra="forbid")

    ttl: int = Field(0, ge=0, le=TIME_NS_MAX // _SECOND_NS, description="Seconds that entries are kept.")
    size: int = Field(0, ge=0, le=2**63 // _MEBIBYTE - 1, description="Mebibytes on disk; the oldest entries go first.")
    indexed_fields: tuple[str, ...] = Field((), description="Fields that are looked up by their value.")


class ConfigRequest(BaseModel):
    """PUT of a config."""

    model_config = ConfigDict(extra="forbid")

    config: ConfigDocument


class Queried:
    """The parameters of a query, from the address."""

    def __init__(
        self,
        start: Annotated[str | None, Query(alias="from", description="Inclusive: RFC 3339, or since 1970")] = None,
        to: Annotated[str | None, Query(description="Exclusive: RFC 3339, or since 1970")] = None,
        indexing: Annotated[str | None, Query(description='Exact values: {"level": ["error", "warn"]}')] = None,
        filter: Annotated[str | None, Query(description="Not yet: use indexing")] = None,
    ) -> None:
        if filter is not None:
            raise InvalidInput(
                "this version has no filter language yet; exact values work with "
                'indexing={"field":["value"]}, percent-encoded',
                field="filter",
            )
        to_ns = TIME_NS_MAX if to is None else _time_ns(to, "to")
        from_ns = 0 if start is None else _time_ns(start, "from")
        self.window = Window(from_ns, to_ns, _conditions(indexing))


def router(streams: Streams) -> APIRouter:
    """The routes of a LogStore's streams."""
    routes = APIRouter(prefix="/api/v1/streams", tags=["streams"], route_class=EncodedPathRoute)
    _add_configs(routes, streams)
    _add_facts(routes, streams)
    _add_queries(routes, streams)
    _add_ingestion(routes, streams)
    return routes


def _add_configs(routes: APIRouter, streams: Streams) -> None:
    reading, writing = [Depends(require(Scope.READ))], [Depends(require(Scope.WRITE))]

    @routes.get("", dependencies=reading)
    async def list_streams() -> Response:
        """Every stream with its config: `{"success": true, "streams": {name: config}}`."""
        configs = await offload(streams.streams)
        return _success(streams={name: _document(config) for name, config in configs.items()})

    @routes.get("/{stream}", dependencies=reading)
    async def get_config(stream: str) -> Response:
        """A stream's config. Unlike in the seed, reading does not make the stream."""
        return _success(config=_document(await offload(streams.config, stream)))

    @routes.put("/{stream}", dependencies=writing)
    async def put_config(stream: str, request: ConfigRequest) -> Response:
        """Create or change a stream; retention applies to what is there at once."""
        wanted = request.config
        config = StreamConfig(wanted.ttl * _SECOND_NS, wanted.size * _MEBIBYTE, wanted.indexed_fields)
        await offload(streams.configure, stream, config)
        return _success()

    @routes.delete("/{stream}", dependencies=writing)
    async def delete_stream(stream: str) -> Response:
        """Remove a stream, its entries and its config."""
        await offload(streams.delete, stream)
        return _success()


def _add_facts(routes: APIRouter, streams: Streams) -> None:
    reading = [Depends(require(Scope.READ))]

    @routes.get("/{stream}/fields", dependencies=reading)
    async def list_fields(stream: str) -> Response:
        """Names of the fields of what is kept."""
        return _success(fields=await offload(streams.fields, stream))

    @routes.get("/{stream}/indices", dependencies=reading)
    async def list_indices(stream: str) -> Response:
        """The values of each indexed field, at most 1,000 of each."""
        return _success(indices=await offload(streams.indices, stream))

    @routes.get("/{stream}/usage", dependencies=reading)
    async def get_usage(stream: str) -> Response:
        """Bytes on disk."""
        return _success(usage=await offload(streams.usage_bytes, stream))


def _add_queries(routes: APIRouter, streams: Streams) -> None:
    reading = [Depends(require(Scope.READ))]

    @routes.get("/{stream}/logs/count", dependencies=reading)
    async def count_logs(stream: str, query: Annotated[Queried, Depends()]) -> Response:
        """How many entries a window has."""
        return _success(count=await offload(streams.count, stream, query.window))

    @routes.get("/{stream}/logs", dependencies=reading)
    async def query_logs(
        stream: str,
        query: Annotated[Queried, Depends()],
        limit: Annotated[int, Query(ge=1, le=PAGE_MAX)] = PAGE_DEFAULT,
        order: Order = Order.DESC,
        cursor: Annotated[str | None, Query(description="From the page before; null there was the end")] = None,
    ) -> Response:
        """Entries with from ≤ time < to: `{"success": true, "records": [{key, timestamp, fields}], "cursor"}`."""
        return await offload(_page, streams, stream, query.window, limit, order is Order.ASC, cursor)

    @routes.delete("/{stream}/logs", dependencies=[Depends(require(Scope.WRITE))])
    async def purge_logs(stream: str) -> Response:
        """Remove all entries and keep the config."""
        await offload(streams.purge, stream)
        return _success()


def _add_ingestion(routes: APIRouter, streams: Streams) -> None:
    body = {
        media: {"schema": {"type": "string"}} for media in ("application/x-ndjson", "application/json", "text/plain")
    }

    @routes.post(
        "/{stream}/logs",
        dependencies=[Depends(require(Scope.WRITE))],
        openapi_extra={"requestBody": {"required": True, "content": body}},
    )
    async def ingest_logs(request: Request, stream: str, strict: bool = False) -> Response:
        """Store entries; answers when they are on disk: `{"success", "accepted", "rejected", "reasons"}`.

        NDJSON (an object a line), JSON (`{"records": [{…}]}` or an array), or text (a line an entry, as the field
        `content`); gzip, deflate or zstd. `_time` is an entry's time. With `strict=true` one bad entry refuses all.
        """
        kind = _kind(request.headers.get("content-type", ""))
        encoding = _encoding(request.headers.get("content-encoding", ""))
        report = await offload(_ingest, streams, stream, await request.body(), kind, encoding, strict)
        return _success(accepted=report.accepted, rejected=report.rejected, reasons=report.reasons)


def _ingest(streams: Streams, stream: str, body: bytes, kind: BodyKind, encoding: str, strict: bool) -> IngestReport:
    return streams.ingest(stream, decompressed(body, encoding, BODY_BYTES_MAX), kind, strict=strict)


def _page(streams: Streams, stream: str, window: Window, limit: int, ascending: bool, cursor: str | None) -> Response:
    """Made in the thread of the query: writing ten thousand entries takes longer than the event loop should stand."""
    page: EntryPage = streams.find(stream, window, limit=limit, ascending=ascending, cursor=cursor)
    return _success(records=[_record(entry) for entry in page.entries], cursor=page.cursor)


def _kind(content_type: str) -> BodyKind:
    kind = _KINDS.get(content_type.partition(";")[0].strip().lower())
    if kind is None:
        accepted = ", ".join(name for name in _KINDS if name)
        raise HTTPException(415, f"entries are not read from {content_type!r}; send one of {accepted}")
    return kind


def _encoding(content_encoding: str) -> str:
    encoding = content_encoding.strip().lower()
    if encoding not in CONTENT_ENCODINGS:
        raise HTTPException(415, f"bodies may be gzip, deflate or zstd, not {content_encoding!r}")
    return encoding


def _time_ns(text: str, field: str) -> int:
    try:
        return parse_time_ns(text)
    except NotATime as error:
        raise InvalidInput(f"{field}: {error}; a + in an address has to be written as %2B", field=field) from error


def _conditions(indexing: str | None) -> dict[str, tuple[str, ...]]:
    if indexing is None:
        return {}
    try:
        return {field: tuple(values) for field, values in _Conditions.decode(indexing).items()}
    except msgspec.DecodeError as error:
        raise InvalidInput(
            'indexing is a JSON object of arrays of text, for example {"level":["error"]}', field="indexing"
        ) from error


def _document(config: StreamConfig) -> dict[str, Any]:
    """In whole seconds and mebibytes, rounded up: a limit is never told smaller than it is."""
    return {
        "ttl": -(-config.max_age_ns // _SECOND_NS),
        "size": -(-config.max_bytes // _MEBIBYTE),
        "indexed_fields": config.indexed_fields,
    }


def _record(entry: Entry) -> dict[str, Any]:
    return {"key": entry.key, "timestamp": _timestamp(entry.position.time_ns), "fields": entry.fields}


def _timestamp(time_ns: int) -> str:
    """RFC 3339 with as many digits as are needed, none if there are none."""
    seconds, fraction = divmod(time_ns, _SECOND_NS)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{f'{fraction:09d}'.rstrip('0')}Z" if fraction else f"{text}Z"


def _success(**members: Any) -> Response:
    return Response(orjson.dumps({"success": True, **members}), media_type="application/json")
