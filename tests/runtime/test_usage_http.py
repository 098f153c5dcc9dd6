"""Usage and cache over HTTP: the wire of the seed's client, batches, and paths of any text."""

import asyncio
import json
import math
import os
import socket
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from store_runtime.clock import ManualClock, SystemClock
from store_runtime.config.runtime import RuntimeStoreConfig
from store_runtime.config.wire import ISSUER, SIGNING_ALGORITHM
from store_runtime.http.app import create_app
from store_runtime.jobs.kinds import Runtime
from store_runtime.runtimestore.opening import open_store

KEY = Ed25519PrivateKey.generate()
PUBLIC = KEY.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
CONFIG = {
    "kind": "RuntimeStore",
    "store": {"namespace": "n", "name": "s", "id": "store-1", "owner": "owner-1"},
    "auth": {"audience": "runtimestore/n/s", "publicKeys": [PUBLIC.decode()]},
    "backend": {"type": "memory", "memory": {}},
}
NAMES = ("a/b", "c:d?e#f%", " ü🎉")
METRIC = "/usage/" + "/".join(quote(name, safe="") for name in NAMES)


def headers(scope: str = "read write", **more: str) -> dict[str, str]:
    claims = {"iss": ISSUER, "aud": "runtimestore/n/s", "sub": "test", "scope": scope}
    return {"Authorization": f"Bearer {jwt.encode(claims, KEY, SIGNING_ALGORITHM)}", **more}


class Api:
    """Requests to an app in this process; `clock` is the store's."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        config = RuntimeStoreConfig.model_validate(CONFIG)
        self.store = open_store(config, self.clock)
        self.app = create_app(Runtime(config, self.store))

    def __call__(self, method: str, path: str, body=None, scope: str = "read write", **more: str) -> httpx.Response:
        content = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        if content is not None:
            more.setdefault("Content-Type", "application/json")

        async def request() -> httpx.Response:
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://store") as client:
                return await client.request(method, path, content=content, headers=headers(scope, **more))

        return asyncio.run(request())


@pytest.fixture
def api():
    made = Api()
    yield made
    made.store.close()


def code(response: httpx.Response) -> tuple[int, str, str | None]:
    assert response.headers["content-type"] == "application/problem+json"
    document = response.json()
    return response.status_code, document["code"], document.get("field")


def test_c17_the_wire_of_the_seed(api):
    """What its client does: 200 only, a body that strconv.ParseFloat takes as it is, 0 for what is not known."""
    unknown = api("GET", METRIC)
    assert (unknown.status_code, unknown.text) == (200, "0.0")
    assert unknown.headers["content-type"].startswith("text/plain")
    assert api("PUT", METRIC, {"value": 45}).status_code == 200
    assert api("POST", METRIC + "/increment", {"delta": 1e-7}).status_code == 200
    assert api("GET", METRIC).text == repr(45 + 1e-7)
    assert float(api("GET", METRIC + "/window?seconds=60").text) == 1e-7
    assert api.store.get_usage(*NAMES) == 45 + 1e-7


def test_json_for_who_asks_for_it_by_name(api):
    api("PUT", METRIC, {"value": 45})
    for accepted in ("application/json", "text/html, application/json;q=0.9"):
        assert api("GET", METRIC, Accept=accepted).json() == {"value": 45.0}
        assert api("GET", METRIC + "/window?seconds=60", Accept=accepted).json() == {"value": 0.0}
    assert api("GET", METRIC, Accept="*/*").text == "45.0"


def test_c17_paths_of_any_text(api):
    names = [("a", "b/c", "m"), ("a/b", "c", "m"), ("a%2Fb", "c", "m"), ("a", "b", "c/increment"), ("ä b+c", "{}", "%")]
    for value, name in enumerate(names):
        path = "/usage/" + "/".join(quote(part, safe="") for part in name)
        assert api("PUT", path, {"value": value}).status_code == 200
    assert [api.store.get_usage(*name) for name in names] == list(range(len(names)))
    assert code(api("GET", "/usage/%FF/k/m")) == (400, "InvalidInput", "provider")
    assert code(api("GET", "/usage/a/b"))[0] == 404


def test_an_increment_with_an_idempotency_key_counts_once(api):
    for applied in (True, False):
        response = api("POST", METRIC + "/increment", {"delta": 2}, **{"Idempotency-Key": "once"})
        assert response.json() == {"applied": applied}
    reused = api("POST", METRIC + "/increment", {"delta": 3}, **{"Idempotency-Key": "once"})
    assert code(reused) == (409, "OperationReused", "op_id")
    assert api.store.get_usage(*NAMES) == 2.0
    assert api("DELETE", METRIC).json() == {"applied": True}
    assert api("GET", METRIC).text == "0.0"


def test_batches_of_increments_and_windows(api):
    increments = [
        {"provider": "openai", "key": "k1", "metric": "req", "delta": 1},
        {"provider": "openai", "key": "k1", "metric": "tokens", "delta": 150.5},
    ]
    body = {"increments": increments, "op_id": "op"}
    assert [api("POST", "/v1/increments", body).json()["applied"] for _ in range(2)] == [True, False]
    again = {"increments": increments}
    assert api("POST", "/v1/increments", again, **{"Idempotency-Key": "op"}).json() == {"applied": False}
    differing = api("POST", "/v1/increments", body, **{"Idempotency-Key": "other"})
    assert code(differing) == (400, "InvalidInput", "op_id")
    api.clock.advance(timedelta(seconds=70))
    asked = [{"provider": "openai", "key": "k1", "metric": "tokens", "seconds": seconds} for seconds in (60, 3600)]
    assert api("POST", "/v1/windows", {"windows": asked}).json() == {"values": [0.0, 150.5]}


def test_a_bad_item_stops_the_batch_and_is_named(api):
    good = {"provider": "p", "key": "k", "metric": "m", "delta": 1}
    for bad, field in (
        ({**good, "delta": math.nan}, "increments[1].delta"),
        ({**good, "delta": 1e400}, "increments[1].delta"),
        ({**good, "key": ""}, "increments[1].key"),
        ({**good, "delta": "1"}, "increments.1.delta"),
        ({**good, "delta": True}, "increments.1.delta"),
        ({**good, "more": 1}, "increments.1.more"),
    ):
        response = api("POST", "/v1/increments", {"increments": [good, bad]})
        assert code(response) == (400, "InvalidInput", field)
    assert code(api("POST", "/v1/increments", b"{"))[0] == 400
    too_long = {"windows": [{"provider": "p", "key": "k", "metric": "m", "seconds": 90_000}]}
    refused = api("POST", "/v1/windows", too_long)
    assert code(refused) == (400, "InvalidInput", "windows[0].seconds")
    assert "86400" in refused.json()["detail"]
    assert code(api("GET", "/usage/p/k/m/window?seconds=-1")) == (400, "InvalidInput", "seconds")
    assert api.store.find_usage().items == ()


def test_totals_are_listed(api):
    for key in ("a/1", "a/2", "b"):
        api.store.set_usage("openai", key, "req", 1)
    first = api("GET", "/v1/usage?provider=openai&key_prefix=a/&limit=1").json()
    assert first["items"] == [{"provider": "openai", "key": "a/1", "metric": "req", "value": 1.0}]
    rest = api("GET", f"/v1/usage?provider=openai&key_prefix=a/&cursor={quote(first['cursor'], safe='')}").json()
    assert [item["key"] for item in rest["items"]] == ["a/2"]
    assert rest["cursor"] is None
    assert code(api("GET", "/v1/usage?limit=5000")) == (400, "InvalidInput", "limit")


def test_the_cache(api):
    path = "/cache/answers/" + quote("what/is?", safe="")
    assert code(api("GET", path)) == (404, "CacheMiss", None)
    assert api("PUT", path, {"value": "", "ttl_seconds": 0}).status_code == 200
    assert api("GET", path).json() == {"value": ""}
    assert api("PUT", path, {"value": "42"}).status_code == 200
    assert api("GET", path).json() == {"value": "42"}
    assert api.store.cache_get("answers", "what/is?") == "42"
    api.clock.advance(timedelta(seconds=10))
    assert code(api("GET", path)) == (404, "CacheMiss", None)
    api("PUT", path, {"value": "43", "ttl_seconds": 1.5})
    assert [api("DELETE", path).json() for _ in range(2)] == [{"deleted": True}, {"deleted": False}]
    assert code(api("PUT", path, {"value": "x", "ttl_seconds": -1})) == (400, "InvalidInput", "ttl_seconds")
    assert code(api("PUT", path, {"value": 1})) == (400, "InvalidInput", "value")
    assert code(api("PUT", path, {"value": "x" * 400_000}))[:2] == (413, "TooLarge")


def test_scopes(api):
    reads = [("GET", METRIC), ("GET", METRIC + "/window?seconds=1"), ("GET", "/v1/usage"), ("GET", "/cache/n/k")]
    writes = [("PUT", METRIC), ("DELETE", METRIC), ("POST", METRIC + "/increment"), ("POST", "/v1/increments")]
    writes += [("PUT", "/cache/n/k"), ("DELETE", "/cache/n/k")]
    for method, path in reads:
        assert code(api(method, path, scope="write"))[:2] == (403, "Forbidden")
    for method, path in writes:
        assert code(api(method, path, {}, scope="read"))[:2] == (403, "Forbidden")
    assert code(api("POST", "/v1/windows", {"windows": []}, scope="write"))[:2] == (403, "Forbidden")


def test_a_real_server_hands_on_paths_as_they_were_sent(tmp_path):
    """The routes need ASGI's raw_path; the server we deploy has to give it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "PUBLIC_KEY": PUBLIC.decode()}
    command = [sys.executable, "-m", "granian", "--interface", "asgi", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--factory", "tests.runtime.test_usage_http:application"]
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers()) as client:
            wait_for(client)
            assert client.put("/usage/a%2Fb/c/m", json={"value": 7}).status_code == 200
            assert client.get("/usage/a%2Fb/c/m").text == "7.0"
            assert client.get("/v1/usage").json()["items"][0]["provider"] == "a/b"
    finally:
        server.terminate()
        server.wait(20)


def wait_for(client: httpx.Client) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            client.get("/v1/usage")
        except httpx.TransportError:
            assert time.monotonic() < deadline, "the server does not come up"
            time.sleep(0.05)
        else:
            return


def application():
    """What granian serves in the test above."""
    auth = {"audience": "runtimestore/n/s", "publicKeys": [os.environ["PUBLIC_KEY"]]}
    config = RuntimeStoreConfig.model_validate({**CONFIG, "auth": auth})
    return create_app(Runtime(config, open_store(config, SystemClock())))
