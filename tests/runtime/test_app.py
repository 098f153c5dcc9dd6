"""The app around any store: offloading, health, status, export and the steps of a switch."""

import asyncio
import json
import threading
from types import SimpleNamespace

import httpx
import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

from store_runtime.clock import ManualClock
from store_runtime.config.runtime import RuntimeStoreConfig
from store_runtime.config.wire import Role
from store_runtime.errors import BackendUnreachable, Overloaded
from store_runtime.http.app import create_app
from store_runtime.http.endings import EndsEventStreams
from store_runtime.http.health import FRESH_SECONDS, BackendWatch
from store_runtime.http.offload import Offloader, calls_under_way
from store_runtime.jobs.kinds import Runtime, open_runtime
from tests.runtime.serving import token, usage_store_config


@pytest.fixture
def runtime():
    opened = open_runtime(RuntimeStoreConfig.model_validate(usage_store_config()), ManualClock())
    yield opened
    opened.close()


@pytest.fixture
def call(runtime):
    app = create_app(runtime)
    headers = {"Authorization": f"Bearer {token(runtime.config.auth.audience)}"}

    def request(method: str, path: str, body: object = None) -> httpx.Response:
        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://store", headers=headers) as client:
                return await client.request(method, path, json=body)

        return asyncio.run(send())

    return request


# -- offloading ---------------------------------------------------------------------------------------------------


def test_more_than_threads_and_queue_hold_is_refused_at_once_and_room_is_made_again():
    release = threading.Event()
    offloader = Offloader(threads=2, queue_max=1, name="test")

    async def scenario() -> None:
        held = [asyncio.create_task(offloader.run(release.wait, 30)) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await offloader.run(int)
        release.set()
        assert await asyncio.gather(*held) == [True, True, True]
        await asyncio.sleep(0)
        assert await offloader.run(lambda a, b: a - b, 5, b=3) == 2

    asyncio.run(scenario())
    offloader.close()


def test_a_cancelled_call_counts_until_its_thread_is_done():
    release, began = threading.Event(), threading.Event()
    offloader = Offloader(threads=1, queue_max=0, name="test")

    def work() -> None:
        began.set()
        release.wait(30)

    async def scenario() -> None:
        task = asyncio.create_task(offloader.run(work))
        await asyncio.to_thread(began.wait, 30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(Overloaded):
            await offloader.run(int)
        release.set()
        while offloader.under_way:  # noqa: ASYNC110 — the end of a thread is no event of this loop
            await asyncio.sleep(0.001)

    asyncio.run(asyncio.wait_for(scenario(), 30))
    offloader.close()


def test_a_call_that_outlives_the_loop_still_counts_and_harms_nobody(caplog):
    release, began = threading.Event(), threading.Event()
    offloader = Offloader(threads=1, queue_max=0, name="test")

    def work() -> None:
        began.set()
        release.wait(30)

    async def cut_off() -> None:
        task = asyncio.create_task(offloader.run(work))
        await asyncio.to_thread(began.wait, 30)
        task.cancel()

    before = calls_under_way()
    asyncio.run(cut_off())
    assert calls_under_way() == before + 1
    release.set()
    offloader.close()
    assert not caplog.records


def test_what_a_call_raises_reaches_the_caller():
    offloader = Offloader(threads=1, queue_max=0, name="test")
    with pytest.raises(ZeroDivisionError):
        asyncio.run(offloader.run(lambda: 1 // 0))
    offloader.close()


# -- health -------------------------------------------------------------------------------------------------------


class Backend:
    """A store whose backend does what the test says."""

    def __init__(self) -> None:
        self.looks = 0
        self.role = Role.ACTIVE
        self.failure: Exception | None = None
        self.may_answer = threading.Event()
        self.may_answer.set()

    def check_backend(self) -> None:
        self.looks += 1
        self.may_answer.wait(30)
        if self.failure:
            raise self.failure

    def meta(self):
        return SimpleNamespace(schema_version="7", role=self.role, epoch=3)


class Monotonic:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def backend():
    return Backend()


@pytest.fixture
def monotonic():
    return Monotonic()


@pytest.fixture
def watch(runtime, backend, monotonic):
    return BackendWatch(Runtime(runtime.config, backend), monotonic)


def test_an_unreachable_backend_keeps_what_was_known_of_it(watch, backend, monotonic):
    async def scenario() -> None:
        assert (await watch.status()).reachable
        backend.failure = BackendUnreachable("no route")
        monotonic.seconds += FRESH_SECONDS
        found = await watch.status()
        assert (found.reachable, found.code, found.message) == (False, "BackendUnreachable", "no route")
        assert (found.role, found.epoch, found.schema_version) == (Role.ACTIVE, 3, "7")
        backend.failure = None
        monotonic.seconds += FRESH_SECONDS
        assert (await watch.status()).reachable

    asyncio.run(scenario())


def test_an_unexpected_failure_of_a_check_is_a_status_without_its_words(watch, backend):
    backend.failure = RuntimeError("password=hunter2")
    found = asyncio.run(watch.status())
    assert (found.reachable, found.code) == (False, "InternalError")
    assert "hunter2" not in found.message


def test_a_backend_that_hangs_costs_one_look_however_many_ask(watch, backend):
    backend.may_answer.clear()

    async def scenario() -> None:
        found = await asyncio.gather(*(watch.status(0.01) for _ in range(20)))
        assert {(each.reachable, each.code) for each in found} == {(False, "BackendUnreachable")}
        assert backend.looks == 1
        backend.may_answer.set()
        assert (await watch.status(30)).reachable

    asyncio.run(scenario())


def test_looks_are_good_for_a_moment(watch, backend, monotonic):
    async def scenario() -> None:
        for _ in range(5):
            await watch.status()
        assert backend.looks == 1
        monotonic.seconds += FRESH_SECONDS
        await watch.status()
        assert backend.looks == 2

    asyncio.run(scenario())


@pytest.mark.parametrize("role", Role)
def test_ready_is_who_may_be_asked(runtime, role):
    driver = runtime.store.driver
    driver.change_meta(driver.read_meta(), driver.read_meta().changed(role=role))
    app = create_app(runtime)

    async def probe() -> int:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://store") as client:
            return (await client.get("/readyz")).status_code

    assert asyncio.run(probe()) == (503 if role in (Role.RETIRED, Role.RELEASED) else 200)


def test_a_database_outage_does_not_make_it_unready(runtime, monkeypatch, call):
    def unreachable() -> None:
        raise BackendUnreachable("no route")

    monkeypatch.setattr(runtime.store.driver, "check", unreachable)
    assert call("GET", "/readyz").status_code == 200
    assert call("GET", "/healthz").status_code == 200
    backend = call("GET", "/v1/status").json()["backend"]
    assert (backend["reachable"], backend["code"]) == (False, "BackendUnreachable")


def test_the_status_says_who_the_store_is(call):
    status = call("GET", "/v1/status").json()
    assert (status["kind"], status["namespace"], status["name"], status["storeId"]) == (
        "RuntimeStore", "test", "store", "store-1",
    )  # fmt: skip
    assert (status["backend"]["type"], status["backend"]["role"], status["backend"]["epoch"]) == ("memory", "active", 1)


# -- export and the steps of a switch -----------------------------------------------------------------------------


def fill(runtime, count: int) -> None:
    for number in range(count):
        runtime.store.increment("p", f"{number:05}", "tokens", 1.0)


def lines(response: httpx.Response) -> list[dict]:
    assert response.status_code == 200
    return [json.loads(line) for line in response.text.splitlines()]


def test_an_export_ends_with_its_cursor_and_resumes_there(runtime, call):
    fill(runtime, 1203)
    *items, last = lines(call("GET", "/v1/export"))
    assert last == {"cursor": None}
    keys = [item["key"] for item in items]
    assert len(keys) == 1203
    assert keys == sorted(keys)
    assert all(item["state"] for item in items)

    resumed, cursor = [], ""
    while cursor is not None:
        *page, last = lines(call("GET", f"/v1/export?limit=500{cursor and '&cursor=' + cursor}"))
        assert len(page) <= 500
        resumed += [item["key"] for item in page]
        cursor = last["cursor"]
    assert resumed == keys


@pytest.mark.parametrize("query", ["limit=0", "limit=-1", "limit=10000000", "limit=x", "part=nothing"])
def test_an_export_that_cannot_be_is_refused(call, query):
    response = call("GET", f"/v1/export?{query}")
    assert (response.status_code, response.json()["code"]) == (400, "InvalidInput")
    assert response.json()["field"] in query


def test_a_runtime_store_has_no_entries_and_nothing_to_retain(call):
    assert call("GET", "/v1/export?part=entries").json()["code"] == "EntriesDisabled"
    assert call("PUT", "/v1/admin/streams", {"streams": []}).json()["code"] == "EntriesDisabled"
    assert call("POST", "/v1/admin/retain", {}).json()["code"] == "NothingToRetain"


def increment(call) -> httpx.Response:
    return call("POST", "/usage/p/k/tokens/increment", {"delta": 1.0})


def test_a_fence_stops_writes_and_activation_lets_them_on(call):
    fenced = call("POST", "/v1/admin/fence", {"expectedRole": "active", "role": "fenced"})
    assert (fenced.status_code, fenced.json()["role"]) == (200, "fenced")
    refused = increment(call)
    assert (refused.status_code, refused.json()["code"], refused.headers["retry-after"]) == (503, "Fenced", "1")
    assert call("GET", "/usage/p/k/tokens").text == "0.0"
    active = call("POST", "/v1/admin/activate", {"expectedRole": "fenced", "role": "active", "expectedEpoch": 1})
    assert (active.status_code, active.json()["role"]) == (200, "active")
    assert increment(call).status_code == 200


def test_a_step_that_is_repeated_answers_the_same(call):
    for expected in ("active", "fenced"):
        response = call("POST", "/v1/admin/fence", {"expectedRole": expected, "role": "fenced"})
        assert (response.status_code, response.json()["role"]) == (200, "fenced")


@pytest.mark.parametrize(
    ("route", "body", "status", "code", "field"),
    [
        ("activate", {"expectedRole": "fenced", "role": "active"}, 409, "RoleChanged", "expectedRole"),
        ("fence", {"expectedRole": "active", "role": "fenced", "expectedEpoch": 2}, 409, "RoleChanged", "expectedRole"),
        ("fence", {"expectedRole": "active", "role": "released"}, 400, "InvalidInput", "role"),
        ("activate", {"expectedRole": "retired", "role": "active"}, 400, "InvalidInput", "role"),
        ("fence", {"expectedRole": "active"}, 400, "InvalidInput", "role"),
        ("fence", {"expectedRole": "active", "role": "fenced", "epoch": 2**40}, 400, "InvalidInput", "epoch"),
        ("fence", {"expectedRole": "active", "role": "fenced", "force": True}, 400, "InvalidInput", "force"),
        ("capture", {"expectedRole": "fenced", "capture": True}, 409, "RoleChanged", "expectedRole"),
        ("capture", {"expectedRole": "active", "capture": "x"}, 400, "InvalidInput", "capture"),
    ],
)
def test_a_step_that_does_not_fit_changes_nothing(runtime, call, route, body, status, code, field):
    before = runtime.store.meta()
    response = call("POST", f"/v1/admin/{route}", body)
    document = response.json()
    assert (response.status_code, document["code"], document["field"]) == (status, code, field)
    assert runtime.store.meta() == before


def test_an_epoch_goes_up_and_never_down(runtime, call):
    driver = runtime.store.driver
    driver.change_meta(driver.read_meta(), driver.read_meta().changed(epoch=5))
    down = call("POST", "/v1/admin/fence", {"expectedRole": "active", "role": "fenced", "epoch": 4})
    assert (down.status_code, down.json()["field"]) == (400, "epoch")
    up = call("POST", "/v1/admin/fence", {"expectedRole": "active", "role": "fenced", "epoch": 6})
    assert (up.status_code, up.json()["epoch"]) == (200, 6)


def test_capture_marks_what_is_written_from_then_on_and_twice_is_once(runtime, call):
    increment(call)
    assert call("POST", "/v1/admin/capture", {"expectedRole": "active", "capture": True}).json()["capture"] is True
    assert runtime.store.driver.dirty_marks(10) == ()
    increment(call)
    marks = runtime.store.driver.dirty_marks(10)
    assert len(marks) == 1
    call("POST", "/v1/admin/capture", {"expectedRole": "active", "capture": True})
    assert runtime.store.driver.dirty_marks(10) == marks
    call("POST", "/v1/admin/capture", {"expectedRole": "active", "capture": False})
    assert runtime.store.driver.dirty_marks(10) == ()


# -- answers without an end ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("media_type", "ends"), [("text/event-stream", True), ("application/x-ndjson", False)])
def test_only_event_streams_end_when_the_server_stops(media_type, ends):
    app, stopping, finish = FastAPI(), asyncio.Event(), asyncio.Event()

    @app.get("/events")
    async def events() -> StreamingResponse:
        async def body():
            yield b"first\n"
            await finish.wait()
            yield b"last\n"

        return StreamingResponse(body(), media_type=media_type)

    scope = {"type": "http", "method": "GET", "path": "/events", "raw_path": b"/events", "query_string": b"",
             "headers": [], "asgi": {"spec_version": "2.3"}, "http_version": "1.1", "scheme": "http",
             "server": ("store", 80), "client": ("test", 1), "root_path": ""}  # fmt: skip

    async def scenario() -> bytes:
        sent, began, requests = [], asyncio.Event(), asyncio.Queue()
        requests.put_nowait({"type": "http.request", "body": b"", "more_body": False})

        async def send(message) -> None:
            sent.append(message.get("body", b""))
            if sent[-1]:
                began.set()

        answered = asyncio.create_task(EndsEventStreams(app, stopping)(scope, requests.get, send))
        await began.wait()
        stopping.set()
        if not ends:
            done, _ = await asyncio.wait({answered}, timeout=0.05)
            assert not done
            finish.set()
        await asyncio.wait_for(answered, 30)
        return b"".join(sent)

    assert asyncio.run(scenario()) == (b"first\n" if ends else b"first\nlast\n")
