"""Streams over HTTP: the wire of the seed's system, ingestion, scopes, and names of any text."""

import asyncio
import gzip
import json
from datetime import timedelta
from urllib.parse import quote

import httpx
import jwt
import pyarrow as pa
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fastapi import FastAPI

from store_runtime.clock import ManualClock
from store_runtime.config.runtime import Auth, Entries, StoreIdentity
from store_runtime.config.wire import ISSUER, SIGNING_ALGORITHM, DeclaredStream, Role, StreamSync
from store_runtime.engine.entry_engine import Engine
from store_runtime.http import problems
from store_runtime.http import streams as routes
from store_runtime.http.auth import Authenticator
from store_runtime.streams import opening
from store_runtime.streams.drivers.entry_engine import EntryEngineDriver
from store_runtime.switch import ownership

KEY = Ed25519PrivateKey.generate()
PUBLIC = KEY.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
STORE = StoreIdentity(namespace="n", name="s", id="store-1", owner="owner-1")
LOGS = "/api/v1/streams/app/logs"
START = 1_767_225_600  # ManualClock's


class Api:
    """Requests to the routes in this process."""

    def __init__(self, directory) -> None:
        self.clock = ManualClock()
        Engine.create(directory)
        engine = Engine(directory)
        ownership.claim(EntryEngineDriver(engine), STORE, epoch=1, schema_version="1")
        engine.close()
        self.store = opening.open_streams(Entries(directory=str(directory)), STORE, 1, self.clock)
        self.app = FastAPI()
        self.app.state.authenticator = Authenticator(Auth(audience="a", public_keys=(PUBLIC.decode(),)))
        problems.install(self.app)
        self.app.include_router(routes.router(self.store))

    def __call__(self, method: str, path: str, body=None, scope: str = "read write", **headers: str) -> httpx.Response:
        content = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        claims = {"iss": ISSUER, "aud": "a", "sub": "test", "scope": scope}
        if method == "PUT":
            headers["content_type"] = "application/json"
        headers["Authorization"] = f"Bearer {jwt.encode(claims, KEY, SIGNING_ALGORITHM)}"
        named = {name.replace("_", "-"): value for name, value in headers.items()}

        async def request() -> httpx.Response:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://s") as client:
                return await client.request(method, path, content=content, headers=named)

        return asyncio.run(request())


@pytest.fixture
def api(tmp_path):
    made = Api(tmp_path / "entries")
    yield made
    made.store.close()


def problem(response: httpx.Response) -> tuple[int, str, str | None]:
    assert response.headers["content-type"] == "application/problem+json"
    return response.status_code, response.json()["code"], response.json().get("field")


def test_configs_on_the_wire_of_the_seed(api):
    path = "/api/v1/streams/app"
    assert problem(api("GET", path)) == (404, "NotFound", None)
    config = {"ttl": 300, "size": 1024, "indexed_fields": ["foo", "bar"]}
    assert api("PUT", path, {"config": config}).json() == {"success": True}
    assert api("GET", path).json() == {"success": True, "config": config}
    assert api("GET", "/api/v1/streams").json() == {"success": True, "streams": {"app": config}}
    assert problem(api("PUT", path, {"config": {"ttl": -1}})) == (400, "InvalidInput", "config.ttl")
    assert problem(api("PUT", path, {"config": {"tll": 1}})) == (400, "InvalidInput", "config.tll")
    assert api("DELETE", path).json() == {"success": True}
    assert problem(api("GET", path))[0] == 404


def test_entries_in_and_out(api):
    body = b'{"level":"error","_time":"2026-11-21T10:00:00.5Z"}\n{"level":"info","_time":"2026-11-21T10:00:01Z"}'
    sent = api("POST", LOGS, body, content_type="application/x-ndjson")
    assert sent.json() == {"success": True, "accepted": 2, "rejected": 0, "reasons": []}
    window = "from=2026-11-21T10:00:00Z&to=2026-11-21T10:00:01Z"
    (record,) = api("GET", f"{LOGS}?{window}").json()["records"]
    assert record["fields"] == {"level": "error"}
    assert record["timestamp"] == "2026-11-21T10:00:00.5Z"
    assert record["key"].startswith("00000001795255200500:")
    assert api("GET", f"{LOGS}/count?{window}").json() == {"success": True, "count": 1}
    indexing = quote('{"level": ["info", "warn"]}')
    assert [r["fields"]["level"] for r in api("GET", f"{LOGS}?indexing={indexing}").json()["records"]] == ["info"]
    assert api("GET", "/api/v1/streams/app/fields").json() == {"success": True, "fields": ["level"]}
    assert api("GET", "/api/v1/streams/app/usage").json()["usage"] > 0
    api("PUT", "/api/v1/streams/app", {"config": {"indexed_fields": ["level"]}})
    assert api("GET", "/api/v1/streams/app/indices").json()["indices"] == {"level": ["error", "info"]}
    assert api("DELETE", LOGS).json() == {"success": True}
    assert api("GET", LOGS).json() == {"success": True, "records": [], "cursor": None}


def test_pages(api):
    api("POST", LOGS, b"\n".join(b'{"n":"%d"}' % n for n in range(5)))
    for order, wanted in (("desc", "43210"), ("asc", "01234")):
        got, cursor = "", ""
        while cursor is not None:
            page = api("GET", f"{LOGS}?limit=2&order={order}" + (f"&cursor={cursor}" if cursor else "")).json()
            got += "".join(record["fields"]["n"] for record in page["records"])
            cursor = page["cursor"]
        assert got == wanted


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", b'{"records": [{"content": "a b"}]}'),
        ("application/json; charset=utf-8", b'{"content": "a b"}'),
        ("text/plain", b"  a b  \n"),
        ("", b'{"content":"a b"}'),
    ],
)
@pytest.mark.parametrize(
    ("encoding", "compress"),
    [("", bytes), ("gzip", gzip.compress), ("zstd", lambda data: bytes(pa.Codec("zstd").compress(data)))],
)
def test_forms_of_bodies(api, content_type, body, encoding, compress):
    sent = api("POST", LOGS, compress(body), content_type=content_type, content_encoding=encoding)
    assert sent.json()["accepted"] == 1, sent.text
    assert [r["fields"] for r in api("GET", LOGS).json()["records"]] == [{"content": "a b"}]


def test_bodies_that_are_none(api):
    assert problem(api("POST", LOGS, b"x", content_type="application/xml")) == (415, "UnsupportedMediaType", None)
    assert problem(api("POST", LOGS, b"x", content_encoding="br")) == (415, "UnsupportedMediaType", None)
    assert problem(api("POST", LOGS, b"x", content_encoding="gzip")) == (400, "InvalidInput", "body")
    assert problem(api("POST", LOGS, gzip.compress(b"{}" * 99)[:-9], content_encoding="gzip"))[0] == 400
    assert problem(api("POST", LOGS, b"(\xb5/\xfd0000", content_encoding="zstd")) == (400, "InvalidInput", "body")
    bomb = gzip.compress(b" " * (33 << 20))
    assert problem(api("POST", LOGS, bomb, content_encoding="gzip")) == (413, "TooLarge", None)
    assert problem(api("POST", LOGS, b'{"records": 5}', content_type="application/json")) == (
        400, "InvalidInput", "records",
    )  # fmt: skip
    assert problem(api("POST", LOGS, b"nonsense")) == (400, "InvalidInput", "body")
    assert api("GET", "/api/v1/streams").json()["streams"] == {}, "nothing was made of it"


def test_bad_entries_are_counted_and_strict_refuses_all(api):
    body = b'{"a":"1"}\nnonsense\n{"a":"2"}'
    assert problem(api("POST", f"{LOGS}?strict=true", body)) == (400, "InvalidInput", "body")
    sent = api("POST", LOGS, body).json()
    assert (sent["success"], sent["accepted"], sent["rejected"]) == (True, 2, 1)
    assert sent["reasons"][0].startswith("line 2: ")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("from=yesterday", "from"),
        ("to=9999-01-01T00:00:00Z", "to"),
        ("from=20&to=10", "from"),
        ("indexing=level", "indexing"),
        ("indexing=" + quote('{"level":"error"}'), "indexing"),
        ("indexing=" + quote('{"level":[]}'), "indexing"),
        ("limit=0", "limit"),
        ("limit=10001", "limit"),
        ("order=up", "order"),
        ("cursor=nonsense", "cursor"),
        ("filter=level", "filter"),
    ],
)
def test_queries_that_are_none(api, query, field):
    api("POST", LOGS, b"{}")
    assert problem(api("GET", f"{LOGS}?{query}")) == (400, "InvalidInput", field)


def test_times_in_an_address_may_be_numbers(api):
    api.clock.advance(timedelta(seconds=10))
    api("POST", LOGS, b"{}")
    assert api("GET", f"{LOGS}/count?from={START + 10}&to={START + 11}").json()["count"] == 1
    assert api("GET", f"{LOGS}/count?from={START + 11}000").json()["count"] == 0
    assert api("GET", f"{LOGS}/count?to={START + 10}").json()["count"] == 0


@pytest.mark.parametrize("name", ["a/b", "a..b", "ü🎉 x", "a%2Fb", "logs"])
def test_names_of_any_text(api, name):
    path = f"/api/v1/streams/{quote(name, safe='')}/logs"
    assert api("POST", path, b'{"a":"1"}').json()["accepted"] == 1
    assert list(api("GET", "/api/v1/streams").json()["streams"]) == [name]
    assert len(api("GET", path).json()["records"]) == 1


def test_scopes(api):
    for method, path in (("GET", "/api/v1/streams"), ("GET", LOGS), ("GET", f"{LOGS}/count")):
        assert problem(api(method, path, scope="write"))[0] == 403
    for method, path in (("POST", LOGS), ("DELETE", LOGS), ("PUT", "/api/v1/streams/app")):
        assert problem(api(method, path, b"{}", scope="read"))[0] == 403


def test_declared_streams_are_not_changed_here(api):
    declared = DeclaredStream(name="app", max_age=timedelta(milliseconds=1500), max_size=1, indexed_fields=("a",))
    api.store.sync(StreamSync(streams=(declared,)))
    path = "/api/v1/streams/app"
    assert api("GET", path).json()["config"] == {"ttl": 2, "size": 1, "indexed_fields": ["a"]}
    assert problem(api("PUT", path, {"config": {}})) == (409, "ManagedByResource", None)
    assert problem(api("DELETE", path)) == (409, "ManagedByResource", None)
    assert api("POST", LOGS, b"{}").json()["accepted"] == 1
    assert api("DELETE", LOGS).json() == {"success": True}


def test_a_fenced_store_says_when_to_come_back(api):
    meta = api.store.meta()
    assert api.store.driver.change_meta(meta, meta.changed(role=Role.FENCED))
    answer = api("POST", LOGS, b"{}")
    assert problem(answer) == (503, "Fenced", None)
    assert int(answer.headers["retry-after"]) >= 1
