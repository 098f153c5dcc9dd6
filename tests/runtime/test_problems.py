"""Errors on the wire, whatever raised them, and that nothing of the inside gets out."""

import asyncio
import json
import re
from http import HTTPStatus

import httpx
import pytest
import structlog
from fastapi import APIRouter, FastAPI, Query
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from store_runtime import errors
from store_runtime.http import openapi, problems
from store_runtime.http.bodies import BoundedBodies
from store_runtime.http.metrics import Observed

SECRET = "password=hunter2"


class Item(BaseModel):
    name: str
    sizes: list[int]


@pytest.fixture
def app():
    routes = APIRouter(prefix="/v1")

    @routes.get("/raise/{name}")
    async def raising(name: str):
        error = getattr(errors, name)
        raise error("it went wrong", field="here") if error is not errors.Overloaded else error("busy", retry_after=2.3)

    @routes.get("/unexpected")
    async def unexpected():
        raise RuntimeError(SECRET)

    @routes.get("/broken-off")
    async def broken_off():
        async def body():
            yield b"first"
            raise RuntimeError(SECRET)

        return StreamingResponse(body())

    @routes.post("/items")
    async def items(item: Item, limit: int = Query(1, le=5)):
        return item

    made = FastAPI()
    problems.install(made)
    openapi.install(made)
    made.add_middleware(BoundedBodies, bytes_max=1000)
    made.add_middleware(Observed)
    made.include_router(routes)
    return made


@pytest.fixture
def call(app):
    def request(method: str, path: str, content: bytes | None = None) -> httpx.Response:
        async def send() -> httpx.Response:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://store") as client:
                return await client.request(
                    method, path, content=content, headers={"content-type": "application/json"} if content else {}
                )

        return asyncio.run(send())

    return request


ALL_ERRORS = [
    name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, errors.StoreError)
]


@pytest.mark.parametrize("name", ALL_ERRORS)
def test_every_error_of_ours_is_a_problem_document(call, name):
    response = call("GET", f"/v1/raise/{name}")
    kind = getattr(errors, name)
    assert response.status_code == kind.status
    assert response.headers["content-type"] == "application/problem+json"
    document = response.json()
    assert (document["status"], document["code"], document["type"]) == (kind.status, kind.code, "about:blank")
    assert document["title"] == HTTPStatus(kind.status).phrase
    if name != "Overloaded":
        assert (document["detail"], document["field"]) == ("it went wrong", "here")


@pytest.mark.parametrize(
    ("name", "seconds"), [("Overloaded", "3"), ("Fenced", "1"), ("BackendUnreachable", "1"), ("NotFound", None)]
)
def test_what_may_be_tried_again_says_when(call, name, seconds):
    assert call("GET", f"/v1/raise/{name}").headers.get("retry-after") == seconds


@pytest.mark.parametrize(
    ("path", "body", "field", "says"),
    [
        ("/v1/items", b'{"name": "a", "sizes": [1, "x"]}', "sizes.1", "integer"),
        ("/v1/items", b'{"sizes": []}', "name", "required"),
        ("/v1/items", b'{"name": "a", ', "body", "not JSON"),
        ("/v1/items", b"\xff\xfe", "body", ""),
        ("/v1/items", b"", "body", "required"),
        ("/v1/items?limit=9", b'{"name": "a", "sizes": []}', "limit", "less than or equal to 5"),
    ],
)
def test_input_that_does_not_validate_names_the_field(call, path, body, field, says):
    response = call("POST", path, body)
    document = response.json()
    assert (response.status_code, document["code"], document["field"]) == (400, "InvalidInput", field)
    assert says in document["detail"]


def test_the_unexpected_tells_nothing_but_an_id_under_which_it_is_logged_once(call):
    with structlog.testing.capture_logs() as logs:
        response = call("GET", "/v1/unexpected")
    document = response.json()
    assert (response.status_code, document["code"]) == (500, "InternalError")
    assert SECRET not in response.text
    assert "RuntimeError" not in response.text
    errors_logged = [line for line in logs if line["log_level"] == "error"]
    assert len(errors_logged) == 1
    assert document["instance"] == f"urn:uuid:{errors_logged[0]['error_id']}"
    assert SECRET in str(errors_logged[0]["exc_info"])


def test_an_answer_that_cannot_be_finished_breaks_the_connection(call):
    with structlog.testing.capture_logs() as logs, pytest.raises(ConnectionAbortedError):
        call("GET", "/v1/broken-off")
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["request failed"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/nothing", None, 404, "NotFound"),
        ("DELETE", "/v1/items", None, 405, "MethodNotAllowed"),
        ("POST", "/v1/items", b"[" + b"1," * 600 + b"1]", 413, "TooLarge"),
    ],
)
def test_errors_of_the_framework_have_the_same_form(call, method, path, body, status, code):
    response = call(method, path, body)
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert response.headers["content-type"] == "application/problem+json"


def test_a_body_of_undeclared_length_is_cut_off_at_the_limit(app):
    async def send() -> httpx.Response:
        async def chunks():
            for _ in range(30):
                yield b"[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17]"

        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://store") as client:
            return await client.post("/v1/items", content=chunks(), headers={"content-type": "application/json"})

    response = asyncio.run(send())
    assert (response.status_code, response.json()["code"], response.json()["field"]) == (413, "TooLarge", "body")


def test_requests_are_counted_and_logged_by_template_and_without_values(call):
    with structlog.testing.capture_logs() as logs:
        call("GET", "/v1/raise/NotFound?token=hunter2")
    line = next(line for line in logs if line["event"] == "request")
    assert (line["route"], line["status"], line["log_level"]) == ("/v1/raise/{name}", 404, "debug")
    assert "hunter2" not in str(logs)


def test_the_openapi_document_knows_problems_and_no_422(app):
    document = app.openapi()
    text = json.dumps(document)
    assert "HTTPValidationError" not in text
    assert '"422"' not in text
    responses = document["paths"]["/v1/items"]["post"]["responses"]
    assert re.search(r"schemas/Problem", json.dumps(responses["4XX"]))
    assert document is app.openapi(), "made once"
