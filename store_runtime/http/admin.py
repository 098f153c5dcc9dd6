"""What jobs and the operator ask of a serving store: streams, retention, export, and the steps of a switch.

All of it needs the scope `admin`. A LogStore with entries has two parts, `store` (the request logs) and `entries`; what
concerns one backend's data takes the part as a query parameter.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Query, Response
from fastapi.responses import StreamingResponse

from store_runtime.config.model import Document
from store_runtime.config.runtime import LogStoreConfig
from store_runtime.config.wire import (
    CaptureChange,
    MetaDocument,
    RetainRequest,
    RetainResult,
    Role,
    RoleChange,
    Scope,
    StreamSync,
    StreamSyncResult,
)
from store_runtime.errors import Conflict, InvalidInput, NotFound
from store_runtime.http.auth import require
from store_runtime.http.offload import offload
from store_runtime.jobs.kinds import Runtime
from store_runtime.jobs.retain import retain
from store_runtime.switch.driver import StoreMeta, Switchable

EXPORT_LIMIT_MAX = 1_000_000
EXPORT_LIMIT = 10_000
"""Items of one answer: some megabytes, so that a broken connection costs seconds."""
EXPORT_PAGE = 500
"""Items read at once: what is in memory of an export of any length."""
FENCED_FROM = frozenset({(Role.ACTIVE, Role.FENCED), (Role.FENCED, Role.FENCED)})
ACTIVATED_FROM = frozenset({(Role.FENCED, Role.ACTIVE), (Role.TARGET, Role.ACTIVE), (Role.ACTIVE, Role.ACTIVE)})
"""Changes of role that each route may do; the same role again is a repetition, and its answer the same."""


class Part(StrEnum):
    """Which data of a LogStore: request logs, or the entries of its streams."""

    STORE = "store"
    ENTRIES = "entries"


def router(runtime: Runtime) -> APIRouter:
    """The admin routes of any kind; what a kind does not have answers 409."""
    routes = APIRouter(tags=["admin"], dependencies=[Depends(require(Scope.ADMIN))])
    _add_store_routes(routes, runtime)
    _add_export(routes, runtime)
    _add_switch_routes(routes, runtime)
    return routes


def _add_store_routes(routes: APIRouter, runtime: Runtime) -> None:
    @routes.put("/v1/admin/streams", response_model=StreamSyncResult)
    async def sync_streams(sync: StreamSync) -> Response:
        """Make the declared streams be as their resources say; others are left alone."""
        return _json(await offload(_streams(runtime).sync, sync))

    @routes.post("/v1/admin/retain", response_model=RetainResult)
    async def retain_now(request: RetainRequest) -> Response:
        """Apply retention now: the request's to request logs, each stream's own to its entries."""
        return _json(await offload(retain, runtime, request))


def _add_export(routes: APIRouter, runtime: Runtime) -> None:
    @routes.get("/v1/export", response_class=StreamingResponse)
    async def export(
        cursor: str | None = None,
        limit: Annotated[int, Query(ge=1, le=EXPORT_LIMIT_MAX)] = EXPORT_LIMIT,
        part: Part = Part.STORE,
    ) -> StreamingResponse:
        """Items in key order, one JSON line each: `{"key", "state"}`. The last line is `{"cursor"}`: where to go on,
        null at the end. An answer without it was cut off: ask again from the last cursor."""
        driver = _driver(runtime, part)
        first = await offload(_read_lines, driver, cursor, min(limit, EXPORT_PAGE))  # here errors are still problems
        return StreamingResponse(_export(driver, first, limit), media_type="application/x-ndjson")


@dataclass(frozen=True, slots=True)
class _Lines:
    """A page of an export as it is sent."""

    text: bytes
    count: int
    cursor: str | None


def _read_lines(driver: Switchable, cursor: str | None, limit: int) -> _Lines:
    page = driver.export(cursor, limit)
    # Names of columns are a kind of str of SQLAlchemy's own, which orjson takes as keys only when told to.
    options = orjson.OPT_NON_STR_KEYS | orjson.OPT_APPEND_NEWLINE
    text = b"".join(orjson.dumps({"key": item.key, "state": item.state}, option=options) for item in page.items)
    return _Lines(text, len(page.items), page.cursor)


async def _export(driver: Switchable, page: _Lines, limit: int) -> AsyncIterator[bytes]:
    left = limit - page.count
    yield page.text
    while page.cursor is not None and left > 0:
        page = await offload(_read_lines, driver, page.cursor, min(left, EXPORT_PAGE))
        left -= page.count
        yield page.text
    yield orjson.dumps({"cursor": page.cursor}) + b"\n"


def _add_switch_routes(routes: APIRouter, runtime: Runtime) -> None:
    @routes.post("/v1/admin/fence", response_model=MetaDocument)
    async def fence(change: RoleChange, part: Part = Part.STORE) -> Response:
        """Stop writes: `active` to `fenced`. When this returns, no write is under way any more."""
        return _json(await offload(_change_role, _driver(runtime, part), change, FENCED_FROM))

    @routes.post("/v1/admin/activate", response_model=MetaDocument)
    async def activate(change: RoleChange, part: Part = Part.STORE) -> Response:
        """Let writes begin: `fenced` or `target` to `active`."""
        return _json(await offload(_change_role, _driver(runtime, part), change, ACTIVATED_FROM))

    @routes.post("/v1/admin/capture", response_model=MetaDocument)
    async def capture(change: CaptureChange, part: Part = Part.STORE) -> Response:
        """Dirty marks on or off. Off forgets the marks."""
        return _json(await offload(_change_capture, _driver(runtime, part), change))


def _change_role(driver: Switchable, change: RoleChange, allowed: frozenset[tuple[Role, Role]]) -> MetaDocument:
    """Compare-and-set; done already is done. Raises Conflict (RoleChanged), InvalidInput."""
    if (change.expected_role, change.role) not in allowed:
        possible = ", ".join(f"{old.value} to {new.value}" for old, new in sorted(allowed))
        raise InvalidInput(f"this changes {possible}; not {change.expected_role} to {change.role}", field="role")
    meta = _expected(driver, change.expected_role, change.expected_epoch)
    epoch = meta.epoch if change.epoch is None else change.epoch
    if epoch < meta.epoch:
        raise InvalidInput(f"the epoch is {meta.epoch} and never goes down", field="epoch")
    changed = meta.changed(role=change.role, epoch=epoch)
    if changed != meta and not driver.change_meta(meta, changed):
        raise Conflict("somebody else changed the store's role at the same time; look again", code="RoleChanged")
    return _document(changed)


def _change_capture(driver: Switchable, change: CaptureChange) -> MetaDocument:
    """A repetition changes nothing: switching on twice keeps the marks."""
    meta = _expected(driver, change.expected_role, None)
    if meta.capture != change.capture:
        driver.set_capture(change.capture)
    return _document(meta.changed(capture=change.capture))


def _expected(driver: Switchable, role: Role, epoch: int | None) -> StoreMeta:
    meta = driver.read_meta()
    if meta is None:
        raise NotFound("this backend carries no store yet; provision it first")
    if meta.role is not role or epoch not in (None, meta.epoch):
        raise Conflict(
            f"the store's role is {meta.role} at epoch {meta.epoch}", code="RoleChanged", field="expectedRole"
        )
    return meta


def _document(meta: StoreMeta) -> MetaDocument:
    return MetaDocument(
        store_id=meta.store_id,
        role=meta.role,
        epoch=meta.epoch,
        capture=meta.capture,
        schema_version=meta.schema_version,
        successor=meta.successor,
    )


def _driver(runtime: Runtime, part: Part) -> Switchable:
    driver: Switchable = runtime.store.driver if part is Part.STORE else _streams(runtime).driver
    return driver


def _streams(runtime: Runtime) -> Any:
    if runtime.streams is None:
        remedy = (
            "set spec.entries.enabled" if isinstance(runtime.config, LogStoreConfig) else "only a LogStore has them"
        )
        raise Conflict(f"this store hosts no streams: {remedy}", code="EntriesDisabled")
    return runtime.streams


def _json(document: Document) -> Response:
    return Response(document.model_dump_json(by_alias=True, exclude_none=True), media_type="application/json")
