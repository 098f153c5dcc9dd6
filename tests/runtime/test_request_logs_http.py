"""Request logs over a real server: bodies, batches, filters, pages, limits, and ids of any text."""

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from store_runtime.http.bodies import BODY_BYTES_MAX
from store_runtime.logstore.model import BATCH_MAX, PAGE_MAX, PAYLOAD_BYTES_MAX
from tests.runtime.serving import Served, log_store_config

TIME = "2026-01-01T12:00:00.000001Z"
LOGS = "/v1/request-logs"
NDJSON = {"Content-Type": "application/x-ndjson"}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("request-logs")
    with Served(log_store_config(folder), folder) as server:
        yield server


@pytest.fixture
def client(served: Served) -> Iterator[httpx.Client]:
    """With the scopes of a gateway; what a test leaves behind is deleted."""
    with served.client("read write") as made:
        yield made
        while logs := made.get(LOGS, params={"limit": PAGE_MAX}).json()["logs"]:
            for log in logs:
                made.delete(path(log["id"])).raise_for_status()


def path(id_: str) -> str:
    return f"{LOGS}/{quote(id_, safe='')}"


def log(id_: str, **fields: Any) -> dict[str, Any]:
    return {"id": id_, "timestamp": TIME, **fields}


def ids(client: httpx.Client, **params: Any) -> list[str]:
    return [found["id"] for found in client.get(LOGS, params=params).raise_for_status().json()["logs"]]


def refused(response: httpx.Response, status: int, code: str, field: str | None = None) -> str:
    """The detail of a problem document."""
    document = response.json()
    assert (response.status_code, document["code"], document.get("field")) == (status, code, field), document
    assert response.headers["content-type"] == "application/problem+json"
    return str(document["detail"])


# -- create -------------------------------------------------------------------------------------------------------


def test_one_object_is_stored_once_and_comes_back(client):
    document = log("a", model="m", status="success", cost=0.25, stream=False, payload={"input": "hi", "n": [1, None]})
    nothing_new = {"created": 0, "existing": 1, "rejected": []}
    assert client.post(LOGS, json=document).json() == nothing_new | {"created": 1, "existing": 0}
    assert client.post(LOGS, json=document | {"model": "other"}).json() == nothing_new
    found = client.get(path("a")).json()
    assert found.pop("created_at").endswith("Z")
    assert found == document
    del document["payload"]
    for found in (client.get(path("a"), params={"payload": "false"}).json(), client.get(LOGS).json()["logs"][0]):
        found.pop("created_at")
        assert found == document


def test_a_list_with_bad_items_stores_the_good_ones(client):
    response = client.post(LOGS, json=[log("a"), log("b", colour="red"), log("a"), 5, log("c", cost=-1), log("d")])
    assert response.status_code == 200
    result = response.json()
    assert (result["created"], result["existing"]) == (2, 1)
    told = [(item["index"], item["id"], item["code"]) for item in result["rejected"]]
    assert told == [(1, "b", "InvalidInput"), (3, None, "InvalidInput"), (4, "c", "InvalidInput")]
    assert "colour" in result["rejected"][0]["message"]
    assert ids(client) == ["d", "a"]


def test_lines_with_a_broken_one_store_the_others(client):
    """Indexes are those of lines, also behind a broken one."""
    lines = [json.dumps(log("a")), "{broken", json.dumps(log("b", tokens=1)), "", json.dumps(log("c")), "[1]", "\xff"]
    body = "\n".join(lines[:-1]).encode() + b"\n\xff\xfe\r\n"
    response = client.post(LOGS, content=body, headers=NDJSON)
    assert response.status_code == 200
    result = response.json()
    assert result["created"] == 2
    assert [item["index"] for item in result["rejected"]] == [1, 2, 4, 5]
    assert "not JSON" in result["rejected"][0]["message"]
    assert ids(client) == ["c", "a"]


@pytest.mark.parametrize("form", ["object", "list", "lines"])
def test_if_all_is_bad_nothing_is_stored(client, form):
    bad = [{"id": "a"}, {"id": "b", "timestamp": "yesterday"}]
    if form == "object":
        response = client.post(LOGS, json=bad[0])
    elif form == "list":
        response = client.post(LOGS, json=bad)
    else:
        response = client.post(LOGS, content="\n".join(map(json.dumps, bad)) + "\n{broken", headers=NDJSON)
    detail = refused(response, 400, "InvalidInput")
    assert "item 0" in detail
    assert "timestamp" in detail
    assert ids(client) == []


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", "application/json"),
        (b"[]", "application/json"),
        (b"{", "application/json"),
        (b"\xff", "application/json"),
        (b'[{"id": "a", "timestamp": "' + TIME.encode() + b'"}, NaN]', "application/json"),
        (b"[" * 100_000, "application/json"),
        (b"", "application/x-ndjson"),
        (b"\n \r\n", "application/x-ndjson"),
    ],
)
def test_a_body_that_says_nothing_is_refused(client, body, kind):
    refused(client.post(LOGS, content=body, headers={"Content-Type": kind}), 400, "InvalidInput", "body")
    assert ids(client) == []


@pytest.mark.parametrize("kind", ["text/plain", "application/xml", "multipart/form-data; boundary=x", "json", ""])
def test_another_content_type_is_refused(client, kind):
    response = client.post(LOGS, content=json.dumps(log("a")), headers={"Content-Type": kind})
    detail = refused(response, 400, "InvalidInput", "Content-Type")
    assert "application/json" in detail
    assert ids(client) == []


def test_a_content_type_may_have_parameters(client):
    headers = {"Content-Type": "Application/JSON; charset=utf-8"}
    assert client.post(LOGS, content=json.dumps(log("a")), headers=headers).json()["created"] == 1


def test_answers_that_were_cut_in_the_middle_of_an_emoji_and_large_integers_are_kept(client):
    payload = {"output": "cut \ud83d", "whole": "😀", "big": 2**80, "nul": "\0"}
    assert client.post(LOGS, content=json.dumps(log("a", payload=payload)).encode()).json()["created"] == 1
    assert json.loads(client.get(path("a")).content) == log("a", payload=payload) | {
        name: client.get(path("a")).json()[name] for name in ("created_at", "status")
    }
    bad = [log("b\udfff"), log("b", **{"x\ud800": 1}), log("nul\0"), log("c")]
    rejected = client.post(LOGS, content=json.dumps(bad).encode()).json()["rejected"]
    assert [item["index"] for item in rejected] == [0, 1, 2]
    refused(client.post(LOGS, content=json.dumps(bad[1]).encode()), 400, "InvalidInput")


# -- limits -------------------------------------------------------------------------------------------------------


def test_a_batch_has_a_limit(client):
    items = [log(str(number)) for number in range(BATCH_MAX + 1)]
    assert str(BATCH_MAX) in refused(client.post(LOGS, json=items), 413, "TooLarge")
    lines = "\n".join(map(json.dumps, items))
    assert str(BATCH_MAX) in refused(client.post(LOGS, content=lines, headers=NDJSON), 413, "TooLarge", "body")
    assert ids(client) == []


def test_a_body_has_a_limit(client):
    assert refused(client.post(LOGS, content=b" " * (BODY_BYTES_MAX + 1)), 413, "TooLarge", "body")


def test_a_payload_and_metadata_have_limits(client):
    large = log("large", payload={"x": "x" * PAYLOAD_BYTES_MAX})
    result = client.post(LOGS, json=[log("a"), large, log("b", metadata={"x": "x" * 70_000})]).json()
    assert [(item["index"], item["code"]) for item in result["rejected"]] == [(1, "TooLarge"), (2, "InvalidInput")]
    assert ids(client) == ["a"]
    five = {"image": "x" * 5_000_000}
    assert client.post(LOGS, json=log("five", payload=five)).json()["created"] == 1
    assert client.get(path("five")).json()["payload"] == five


# -- one by its id ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("id_", ["a/b", "a%2Fb", "stats", "...", "/", "ü 😀?x=1&y#z", "%", "+", "x" * 255, "\n", "'--"])
def test_an_id_may_be_any_text(client, id_):
    assert client.post(LOGS, json=log(id_)).json()["created"] == 1
    if id_ == "stats":  # the route of that name is in the way; it is found by the filter
        assert ids(client, id=id_) == [id_]
        return
    assert client.get(path(id_)).json()["id"] == id_
    assert client.patch(path(id_), json={"model": "m"}).json()["model"] == "m"
    assert ids(client, id=id_) == [id_]
    assert client.delete(path(id_)).json() == {"deleted": 1}
    assert ids(client) == []


def test_ids_that_cannot_be(client):
    for path_ in ("/nul%00", "/" + "x" * 256, "/none"):
        refused(client.get(LOGS + path_), 404, "NotFound", "id")
        refused(client.patch(LOGS + path_, json={"model": "m"}), 404, "NotFound", "id")
        assert client.delete(LOGS + path_).json() == {"deleted": 0}
    refused(client.get(LOGS + "/%ff"), 400, "InvalidInput", "log_id")


def test_a_patch_changes_what_it_names_and_answers_with_all(client):
    client.post(LOGS, json=log("a", model="m", payload={"input": "hi"}))
    change = {"status": "success", "completion_tokens": 7, "payload": {"output": "ho"}}
    changed = client.patch(path("a"), json=change).json()
    assert changed.pop("created_at")
    expected = {"model": "m", "status": "success", "completion_tokens": 7, "total_tokens": 7}
    assert changed == log("a", **expected, payload={"input": "hi", "output": "ho"})


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({}, "body"),
        ({"id": "b"}, "id"),
        ({"timestamp": TIME}, "timestamp"),
        ({"status": None}, "status"),
        ({"status": "done"}, "status"),
        ({"cost": -1}, "cost"),
        ({"payload": "text"}, "payload"),
        ([], "body"),
    ],
)
def test_a_patch_that_is_not_understood_changes_nothing(client, change, field):
    client.post(LOGS, json=log("a", model="m"))
    before = client.get(path("a")).json()
    refused(client.patch(path("a"), json=change), 400, "InvalidInput", field)
    refused(
        client.patch(path("a"), content=b"{", headers={"Content-Type": "application/json"}), 400, "InvalidInput", "body"
    )
    assert client.get(path("a")).json() == before


# -- queries ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("route", [LOGS, f"{LOGS}/stats", f"{LOGS}/a"])
def test_an_unknown_parameter_is_refused_by_name(client, route):
    client.post(LOGS, json=log("a"))
    for name in ("colour", "start", "Model", "models[]", "limits"):
        assert name in refused(client.get(route, params={name: "x"}), 400, "InvalidInput", name)
    refused(client.post(LOGS, params={"dry": "1"}, json=log("b")), 400, "InvalidInput", "dry")
    refused(client.delete(path("a"), params={"id": "b"}), 400, "InvalidInput", "id")
    refused(client.get(LOGS, params={"limit": ["1", "2"]}), 400, "InvalidInput", "limit")


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": PAGE_MAX + 1}, "limit"),
        ({"limit": "many"}, "limit"),
        ({"order": "up"}, "order"),
        ({"cursor": "x"}, "cursor"),
        ({"cursor": ""}, "cursor"),
        ({"start_time": "yesterday"}, "start_time"),
        ({"start_time": "2026-01-01T00:00:00"}, "start_time"),
        ({"end_time": "0000-01-01T00:00:00Z"}, "end_time"),
        ({"status": "done"}, "statuses.0"),
        ({"start_time": "2026-01-02T00:00:00Z", "end_time": "2026-01-01T00:00:00Z"}, "start_time"),
    ],
)
def test_parameters_that_are_not_understood_are_refused(client, params, field):
    refused(client.get(LOGS, params=params), 400, "InvalidInput", field)


def test_filters_may_be_repeated_and_times_have_offsets(client):
    times = [f"2026-01-01T12:00:00.00000{number}Z" for number in range(4)]
    items = [log(str(n), model=f"m{n % 2}", provider="p") | {"timestamp": time} for n, time in enumerate(times)]
    client.post(LOGS, json=items)
    assert ids(client, start_time=times[1], end_time=times[3]) == ["2", "1"]
    assert ids(client, start_time="2026-01-01T17:45:00.000001+05:45", order="asc") == ["1", "2", "3"]
    unencoded = f"{LOGS}?start_time=2026-01-01T17:45:00.000003+05:45"
    assert [found["id"] for found in client.get(unencoded).json()["logs"]] == ["3"]
    assert ids(client, model=["m0", "none"], provider="p") == ["2", "0"]
    assert ids(client, id=["3", "0", "9"]) == ["3", "0"]
    assert ids(client, status=["success", "error"]) == []


def test_pages_follow_their_cursor(client):
    client.post(LOGS, json=[log(f"r{number:03}") for number in range(25)])
    seen: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = client.get(LOGS, params={"limit": 10, "order": "asc", **cursor}).json()
        seen += [found["id"] for found in page["logs"]]
        if page["cursor"] is None:
            break
        cursor = {"cursor": page["cursor"]}
        client.post(LOGS, json=log(f"r{len(seen) - 1:03}+"))
    assert [id_ for id_ in seen if "+" not in id_] == [f"r{number:03}" for number in range(25)]
    assert len(seen) == len(set(seen))
    refused(client.get(LOGS, params={"order": "desc", **cursor}), 400, "InvalidInput", "cursor")


def test_statistics_of_what_is_filtered(client):
    client.post(
        LOGS,
        json=[
            log("a", model="m", status="success", latency_ms=100, prompt_tokens=3, completion_tokens=4, cost=0.5),
            log("b", model="m", status="error", latency_ms=300),
            log("c", model="n", status="processing", prompt_tokens=100),
        ],
    )
    assert client.get(f"{LOGS}/stats", params={"model": "m"}).json() == {
        "total_requests": 2,
        "success_rate": 50.0,
        "average_latency_ms": 200.0,
        "prompt_tokens": 3,
        "completion_tokens": 4,
        "total_tokens": 7,
        "total_cost": 0.5,
    }
    assert client.get(f"{LOGS}/stats").json()["prompt_tokens"] == 103


# -- who may ------------------------------------------------------------------------------------------------------


def test_scopes_are_those_of_reading_and_writing(served, client):
    client.post(LOGS, json=log("a"))
    with served.client("write") as writer, served.client("read") as reader, served.client(None) as nobody:
        for allowed in (client, reader):
            assert allowed.get(path("a")).status_code == 200
        for call in (writer.get(LOGS), writer.get(f"{LOGS}/stats"), writer.get(path("a"))):
            refused(call, 403, "Forbidden")
        for call in (reader.post(LOGS, json=log("b")), reader.patch(path("a"), json={}), reader.delete(path("a"))):
            refused(call, 403, "Forbidden")
        for call in (nobody.get(LOGS), nobody.post(LOGS, json=log("b")), nobody.delete(path("a"))):
            refused(call, 401, "Unauthorized")
    assert ids(client) == ["a"]


def test_a_served_store_keeps_what_was_acknowledged_when_it_is_killed(tmp_path):
    config = log_store_config(tmp_path)
    server = Served(config, tmp_path)
    try:
        server.start().wait_until_ready()
        with server.client("write") as writer:
            for number in range(20):
                assert writer.post(LOGS, json=log(f"r{number:02}", payload={"n": number})).json()["created"] == 1
            server.kill()
        with Served(config, tmp_path, provisioned=True) as again, again.client("read") as reader:
            assert ids(reader, order="asc") == [f"r{number:02}" for number in range(20)]
            assert reader.get(path("r19")).json()["payload"] == {"n": 19}
    finally:
        server.kill()
