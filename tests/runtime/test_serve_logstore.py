"""A LogStore with entries, from its jobs to its end: two stores behind one address, which live and go together."""

import json

import pytest

from store_runtime.config.wire import JobReport
from tests.runtime.serving import Served, log_store_config, provision, run
from tests.runtime.test_serve import check_auth_matrix, scope_of

NDJSON = {"Content-Type": "application/x-ndjson"}
LOG = {"id": "log-1", "provider": "openai", "model": "gpt", "timestamp": "2026-01-01T00:00:00Z"}


@pytest.fixture
def config(tmp_path):
    return log_store_config(tmp_path, entries=True)


@pytest.fixture
def store(config, tmp_path):
    with Served(config, tmp_path) as served:
        yield served


def write(store: Served, number: int) -> None:
    with store.client("write") as client:
        assert client.post("/v1/request-logs", json=LOG | {"id": f"log-{number}"}).json()["created"] == 1
        line = json.dumps({"number": str(number)})
        assert client.post("/api/v1/streams/web/logs", content=line, headers=NDJSON).json()["accepted"] == 1


def counts(store: Served) -> tuple[int, int]:
    with store.client("read") as client:
        logs = client.get("/v1/request-logs").json()
        return len(logs["logs"]), client.get("/api/v1/streams/web/logs/count").json()["count"]


def test_both_parts_survive_kills(config, tmp_path):
    provision(config, tmp_path)
    for number in range(1, 4):
        store = Served(config, tmp_path, provisioned=True).start().wait_until_ready()
        try:
            write(store, number)
            assert counts(store) == (number, number)
        finally:
            store.kill()
    with Served(config, tmp_path, provisioned=True) as store:
        assert counts(store) == (3, 3)


def test_serving_needs_both_parts(config, tmp_path):
    """An entry engine that was switched on later is provisioned before it is served."""
    without = {name: value for name, value in config.items() if name != "entries"}
    provision(without, tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    report = tmp_path / "report.json"
    done = run("serve", "--config", str(path), "--report", str(report))
    assert (done.returncode, JobReport.model_validate_json(report.read_bytes()).code) == (1, "NotFound")
    assert not (tmp_path / "entries").exists()
    with Served(config, tmp_path) as store:
        write(store, 1)


def test_without_entries_there_are_no_streams(tmp_path):
    with Served(log_store_config(tmp_path), tmp_path) as store, store.client() as client:
        assert client.put("/v1/admin/streams", json={}).json()["code"] == "EntriesDisabled"
        assert client.get("/api/v1/streams").status_code == 404


def test_the_operators_sync_and_what_it_declared(store):
    with store.client() as client:
        declared = {"streams": [{"name": "web", "maxAge": "5m", "maxSize": "1Gi", "indexedFields": ["level"]}]}
        assert client.put("/v1/admin/streams", json=declared).json() == {
            "outcomes": [{"name": "web", "code": "", "message": ""}]
        }
        config = client.get("/api/v1/streams/web").json()["config"]
        assert config == {"ttl": 300, "size": 1024, "indexed_fields": ["level"]}
        refused = client.put("/api/v1/streams/web", json={"config": {"ttl": 1}})
        assert (refused.status_code, refused.json()["code"]) == (409, "ManagedByResource")
        wrong = client.put("/v1/admin/streams", json={"streams": [{"name": "web", "maxAge": "5 minutes"}]})
        assert (wrong.status_code, wrong.json()["field"]) == (400, "streams.0.maxAge")


def test_each_part_is_exported_and_fenced_by_itself(store):
    write(store, 1)
    with store.client() as client:
        for part, status in (("entries", (200, 503)), ("store", (503, 503))):
            *items, last = [json.loads(line) for line in client.get(f"/v1/export?part={part}").text.splitlines()]
            assert items
            assert last == {"cursor": None}
            change = {"expectedRole": "active", "role": "fenced"}
            assert client.post(f"/v1/admin/fence?part={part}", json=change).json()["role"] == "fenced"
            logs = client.post("/v1/request-logs", json=LOG | {"id": part})
            entries = client.post("/api/v1/streams/web/logs", content="{}", headers=NDJSON)
            assert (logs.status_code, entries.status_code) == status
        assert client.get("/readyz").status_code == 200


def test_retention_through_the_serving_store(store, tmp_path):
    write(store, 1)
    policy, token_file, report = tmp_path / "policy.json", tmp_path / "token", tmp_path / "retain.json"
    policy.write_text(json.dumps({"maxAge": "1h"}))
    token_file.write_text(store.token())
    arguments = ("retain", "--url", store.url, "--token-file", str(token_file), "--policy", str(policy))
    dry = run(*arguments, "--dry-run", "--report", str(report))
    assert (dry.returncode, "1 by age" in dry.stdout, "would go" in dry.stdout) == (0, True, True)
    assert counts(store) == (1, 1)
    done = run(*arguments, "--report", str(report))
    assert (done.returncode, "1 by age" in done.stdout) == (0, True)
    assert counts(store) == (0, 1)
    assert JobReport.model_validate_json(report.read_bytes()).ok
    token_file.write_text(store.token("read"))
    assert run(*arguments, "--report", str(report)).returncode == 1
    assert JobReport.model_validate_json(report.read_bytes()).code == "Forbidden"


def test_jobs_leave_a_served_store_alone(store):
    """Its entries belong to the one process that serves them."""
    for job in ("release", "destroy"):
        done = run(job, "--config", str(store.config_file))
        assert done.returncode == 1
        assert "InUse" in done.stderr
    write(store, 1)
    assert counts(store) == (1, 1)


def test_release_and_destroy_concern_both_parts(config, tmp_path):
    path = provision(config, tmp_path)
    assert run("release", "--config", str(path)).returncode == 0
    done = run("serve", "--config", str(path), "--report", str(tmp_path / "report.json"))
    assert done.returncode == 3, done.stderr
    found = json.loads(run("check", "--config", str(path), "-o", "json").stdout)
    assert [part["code"] for part in found["parts"]] == ["Released", "Released"]
    adopter = config | {"store": config["store"] | {"owner": "owner-2"}}
    path.write_text(json.dumps(adopter))
    assert run("provision", "--config", str(path)).returncode == 0
    assert run("destroy", "--config", str(path)).returncode == 0
    assert not [file for file in tmp_path.glob("*/**/*") if file.is_file()]


def test_every_route_asks_for_a_token_of_its_scope(store):
    check_auth_matrix(store, scope_of)


def test_bad_input_stores_nothing(store):
    with store.client("write") as client:
        for body in (b"", b"{", b'{"provider": 1}', b"[]", b"\xff", b'[{"id": "a"}, 7]'):
            response = client.post("/v1/request-logs", content=body, headers={"Content-Type": "application/json"})
            assert response.status_code == 400, (body, response.text)
            assert response.json()["code"]
    with store.client("read") as client:
        assert client.get("/v1/request-logs").json()["logs"] == []
