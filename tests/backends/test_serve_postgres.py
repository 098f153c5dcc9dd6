"""A whole LogStore on PostgreSQL: jobs, a serving process, and a database that goes away and comes back meanwhile."""

import json
import time

import httpx
import pytest

from store_runtime.config.wire import JobReport
from tests.runtime.serving import Served, config_of, provision, run, write_config

LOG = {"provider": "openai", "model": "gpt", "timestamp": "2026-01-01T00:00:00Z"}


@pytest.fixture
def config(postgres_database):
    backend = {"type": "postgres", "postgres": postgres_database.backend().document()}
    return config_of("LogStore", backend=backend)


def create(client: httpx.Client, number: int) -> httpx.Response:
    return client.post("/v1/request-logs", json=LOG | {"id": f"log-{number}"})


def until_created(client: httpx.Client, number: int) -> None:
    """As a client does who goes by Retry-After; what was refused was not stored."""
    deadline = time.monotonic() + 60
    while (response := create(client, number)).status_code == 503:
        assert response.headers["retry-after"] == "1"
        assert time.monotonic() < deadline, response.text
        time.sleep(0.1)
    assert response.json()["created"] == 1


def until_unreachable(client: httpx.Client) -> dict[str, object]:
    """The status may be a second old."""
    deadline = time.monotonic() + 30
    while (backend := client.get("/v1/status").json()["backend"])["reachable"]:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return backend


def ids(client: httpx.Client) -> list[str]:
    return sorted(log["id"] for log in client.get("/v1/request-logs").json()["logs"])


def test_a_serving_store_outlives_its_database(config, tmp_path, postgres_database):
    with Served(config, tmp_path) as store, store.client() as client:
        until_created(client, 1)
        postgres_database.stop()
        refused = create(client, 2)
        assert (refused.status_code, refused.json()["code"]) == (503, "BackendUnreachable")
        assert client.get("/readyz").status_code == 200
        backend = until_unreachable(client)
        assert (backend["code"], backend["role"], backend["epoch"]) == ("BackendUnreachable", "active", 1)
        postgres_database.start()
        until_created(client, 3)
        postgres_database.terminate_connections()
        until_created(client, 4)
        assert ids(client) == ["log-1", "log-3", "log-4"]


def test_a_store_that_starts_before_its_database(config, tmp_path, postgres_database):
    provision(config, tmp_path)
    postgres_database.stop()
    try:
        with Served(config, tmp_path, provisioned=True) as store, store.client() as client:
            assert create(client, 1).status_code == 503
            postgres_database.start()
            until_created(client, 2)
            assert ids(client) == ["log-2"]
    finally:
        postgres_database.start()


def test_retention_by_a_job_of_its_own(config, tmp_path):
    policy, report = tmp_path / "policy.json", tmp_path / "retain.json"
    policy.write_text(json.dumps({"maxAge": "1h"}))
    with Served(config, tmp_path) as store, store.client() as client:
        until_created(client, 1)
        done = run("retain", "--config", str(store.config_file), "--policy", str(policy), "--report", str(report))
        assert (done.returncode, "1 by age" in done.stdout) == (0, True), done.stderr
        assert ids(client) == []
    assert JobReport.model_validate_json(report.read_bytes()).store_id == "store-1"


def test_another_store_in_the_same_database_is_refused(config, tmp_path):
    path = provision(config, tmp_path)
    path.write_text(json.dumps(config | {"store": config["store"] | {"id": "store-2", "owner": "owner-2"}}))
    for command in ("provision", "migrate", "serve"):
        report = tmp_path / f"{command}.json"
        done = run(command, "--config", str(path), "--report", str(report))
        assert (done.returncode, JobReport.model_validate_json(report.read_bytes()).code) == (3, "OwnedByAnother")
    assert run("destroy", "--config", str(path)).returncode == 0
    path.write_text(json.dumps(config))
    assert run("check", "--config", str(path)).returncode == 0, "and it is still there"


def test_a_role_without_rights_is_refused_at_once(config, tmp_path, postgres_database):
    role = f"reader_{postgres_database.database}"
    postgres_database.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'of-a-test'")
    try:
        (tmp_path / "username").write_text(role)
        (tmp_path / "password").write_text("of-a-test")
        config["backend"]["postgres"]["credentialsDirectory"] = str(tmp_path)
        report = tmp_path / "report.json"
        done = run("provision", "--config", str(write_config(config, tmp_path)), "--report", str(report))
        assert (done.returncode, JobReport.model_validate_json(report.read_bytes()).code) == (
            3, "InsufficientPrivileges",
        )  # fmt: skip
        assert "trying again" not in done.stderr
        assert "of-a-test" not in done.stdout + done.stderr + report.read_text()
    finally:
        postgres_database.execute(f"DROP ROLE {role}")


def test_release_adoption_and_destruction(config, tmp_path, postgres_database):
    path = provision(config, tmp_path)
    for _ in range(2):
        assert run("release", "--config", str(path)).returncode == 0
    assert run("serve", "--config", str(path)).returncode == 3
    path.write_text(json.dumps(config | {"store": config["store"] | {"owner": "owner-2"}}))
    for job in ("provision", "migrate", "destroy", "destroy"):
        assert run(job, "--config", str(path)).returncode == 0
    assert postgres_database.tables() == []
