"""The OpenAPI document: what FastAPI knows of the routes, with our errors in place of its own.

FastAPI documents 422 for input that does not validate; here that is a 400, and every error is a problem document.
"""

from typing import Any

from fastapi import FastAPI

from store_runtime.http.problems import MEDIA_TYPE

PROBLEM = {
    "type": "object",
    "description": "RFC 9457. Act on `code`, which is stable; `detail` is for people.",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string", "examples": ["InvalidInput", "Fenced", "BackendUnreachable"]},
        "field": {"type": "string", "description": "What was wrong in the request."},
        "instance": {"type": "string", "description": "Of an InternalError: the id under which the log has more."},
    },
}
"""JSON schema of a problem document."""
_ERROR = {"description": "A problem", "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}}


def install(app: FastAPI) -> None:
    """Make `/openapi.json` this document; it is made once, at the first request for it."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _with_problems(generate())
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _with_problems(document: dict[str, Any]) -> dict[str, Any]:
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas.pop("HTTPValidationError", None)
    schemas.pop("ValidationError", None)
    schemas["Problem"] = PROBLEM
    for methods in document["paths"].values():
        for operation in methods.values():
            operation["responses"].pop("422", None)
            operation["responses"].setdefault("4XX", _ERROR)
            operation["responses"].setdefault("5XX", _ERROR)
    return document
