"""Errors on the wire: RFC 9457 problem documents, `{type, title, status, detail, code, field?}`.

`code` is stable and what callers act on (store_runtime.errors), so `type` stays `about:blank` and `title` the status's
phrase, as section 4.2.1 has it. What nobody expected becomes a 500 that says nothing of the inside but an id, under
which the log has everything.
"""

import math
import uuid
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import orjson
import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from store_runtime.errors import BackendUnreachable, Fenced, InvalidInput, Overloaded, StoreError, Unauthorized

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 1
"""For a fence or a database that does not answer: a cutover's pause is some seconds, so ask often."""
_CODES = {404: "NotFound", 405: "MethodNotAllowed", 413: "TooLarge", 415: "UnsupportedMediaType"}
_log = structlog.get_logger(__name__)


def problem(error: StoreError) -> Response:
    """The response to an error of ours."""
    return _response(error.status, error.specific_code, error.message, error.field, _headers(error))


def unexpected(error: Exception) -> Response:
    """The response to an error that is a fault of ours; logs it, once, under the id that the response carries."""
    identifier = uuid.uuid4()
    _log.error("request failed", error_id=str(identifier), exc_info=error)
    detail = f"the store failed in a way it should not; its log tells more under the id {identifier}"
    return _response(500, "InternalError", detail, extra={"instance": f"urn:uuid:{identifier}"})


def install(app: FastAPI) -> None:
    """Make every error of the app a problem document (unexpected ones: see metrics, the outermost layer)."""
    app.add_exception_handler(StoreError, _on_store_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_exception)


async def _on_store_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, StoreError)
    if error.status == HTTPStatus.INTERNAL_SERVER_ERROR:
        _log.error("store failed", code=error.specific_code, detail=error.message, exc_info=error)
    return problem(error)


async def _on_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return problem(invalid_request(error.errors()))


def invalid_request(errors: Sequence[Any]) -> InvalidInput:
    """The first of pydantic's errors, with its place as the field: `limit`, `streams.0.name`, `body`."""
    first = errors[0]
    if first["type"] == "json_invalid":
        said = (first.get("ctx") or {}).get("error", "it cannot be parsed")
        return InvalidInput(f"the body is not JSON: {said} (at character {first['loc'][-1]})", field="body")
    field = ".".join(str(part) for part in first["loc"][1:]) or str(first["loc"][0])
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return InvalidInput(f"{field}: {first['msg']}{more}", field=field)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if isinstance(error.__cause__, StoreError):  # FastAPI's way with what reading the body raised
        return problem(error.__cause__)
    if error.status_code == HTTPStatus.NOT_FOUND:
        detail = f"there is no {request.url.path} here; /docs lists what there is"
    else:
        detail = str(error.detail)
    code = _CODES.get(error.status_code, "InvalidInput" if error.status_code < 500 else "InternalError")
    return _response(error.status_code, code, detail, headers=dict(error.headers or {}))


def _headers(error: StoreError) -> dict[str, str]:
    if isinstance(error, Overloaded):
        return {"Retry-After": str(max(1, math.ceil(error.retry_after)))}
    if isinstance(error, Fenced | BackendUnreachable):
        return {"Retry-After": str(RETRY_AFTER_SECONDS)}
    return {"WWW-Authenticate": "Bearer"} if isinstance(error, Unauthorized) else {}


def _response(
    status: int,
    code: str,
    detail: str,
    field: str | None = None,
    headers: dict[str, str] | None = None,
    extra: dict[str, str] | None = None,
) -> Response:
    document: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
    }
    if field is not None:
        document["field"] = field
    return Response(orjson.dumps(document | (extra or {})), status, headers, MEDIA_TYPE)
