"""A database that does not answer: jobs wait and give up in time, a serving pod stays ready and says what is wrong."""

import threading

import pytest

from store_runtime.config.wire import JobReport
from tests.runtime.serving import Served, config_of, free_ports, run, write_config


@pytest.fixture
def config(tmp_path):
    """A LogStore on a PostgreSQL that is not there."""
    (port,) = free_ports(1)
    (tmp_path / "username").write_text("logs")
    (tmp_path / "password").write_text("hunter2")
    postgres = {
        "host": "127.0.0.1", "port": port, "database": "logs", "sslMode": "disable",
        "credentialsDirectory": str(tmp_path),
    }  # fmt: skip
    return config_of("LogStore", backend={"type": "postgres", "postgres": postgres})


def test_a_job_waits_gives_up_and_says_so(config, tmp_path):
    path, report = write_config(config, tmp_path), tmp_path / "report.json"
    answers = []
    job = threading.Thread(
        target=lambda: answers.append(run("provision", "--config", str(path), "--report", str(report)))
    )
    job.start()
    checked = run("check", "--config", str(path))
    assert checked.returncode == 1
    assert "BackendUnreachable" in checked.stdout
    job.join()
    done = answers[0]
    assert done.returncode == 1
    assert JobReport.model_validate_json(report.read_bytes()).code == "BackendUnreachable"
    assert "trying again" in done.stderr
    assert "hunter2" not in done.stderr + done.stdout + report.read_text()


def test_a_serving_pod_stays_ready_and_says_what_is_wrong(config, tmp_path):
    with Served(config, tmp_path, provisioned=True) as store, store.client() as client:
        for path in ("/healthz", "/readyz"):
            assert client.get(path).status_code == 200
        backend = client.get("/v1/status").json()["backend"]
        assert (backend["reachable"], backend["code"]) == (False, "BackendUnreachable")
        for method, path, body in (
            ("GET", "/v1/request-logs", None),
            (
                "POST",
                "/v1/request-logs",
                {"id": "a", "provider": "p", "model": "m", "timestamp": "2026-01-01T00:00:00Z"},
            ),
            ("GET", "/v1/export", None),
            ("POST", "/v1/admin/fence", {"expectedRole": "active", "role": "fenced"}),
        ):
            response = client.request(method, path, json=body)
            assert (response.status_code, response.json()["code"]) == (503, "BackendUnreachable"), (method, path)
            assert response.headers["retry-after"]
    assert "hunter2" not in store.log()
