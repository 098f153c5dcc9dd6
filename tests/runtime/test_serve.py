"""Real serving processes on loopback: start, ready, stop, kill, refuse, TLS, and who may call what."""

import http.client
import json
import re
import signal
import socket
import ssl
import subprocess
import threading
import time
from pathlib import Path

import httpx
import pytest

from tests.runtime.serving import Served, free_ports, provision, run, token, usage_store_config, write_config

METRIC = "/usage/p/k/tokens"


@pytest.fixture(scope="module")
def memory_store(tmp_path_factory):
    with Served(usage_store_config(), tmp_path_factory.mktemp("memory")) as store:
        yield store


# -- start and stop -----------------------------------------------------------------------------------------------


def test_what_was_acknowledged_survives_a_stop_and_a_kill(tmp_path):
    config = usage_store_config(tmp_path)
    with Served(config, tmp_path) as store, store.client("write") as client:
        assert client.post(f"{METRIC}/increment", json={"delta": 2.0}).status_code == 200
    for total in (3.0, 4.0):
        again = Served(config, tmp_path, provisioned=True).start().wait_until_ready()
        try:
            with again.client("write") as client:
                assert client.post(f"{METRIC}/increment", json={"delta": 1.0}).status_code == 200
            with again.client("read") as client:
                assert client.get(METRIC, headers={"Accept": "application/json"}).json() == {"value": total}
        finally:
            again.kill()
        assert again.process.returncode == -signal.SIGKILL


def test_a_request_under_way_is_answered_before_the_server_stops(tmp_path):
    config = usage_store_config(tmp_path)
    store = Served(config, tmp_path).start().wait_until_ready()
    try:
        connection = http.client.HTTPConnection("127.0.0.1", config["server"]["port"], timeout=60)
        body = json.dumps({"delta": 5.0}).encode()
        connection.putrequest("POST", f"{METRIC}/increment")
        connection.putheader("Authorization", f"Bearer {store.token('write')}")
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body[:4])
        _until_in_flight(store)
        store.process.send_signal(signal.SIGTERM)
        _until_refused(config["server"]["port"])
        assert store.process.poll() is None, "it waits for the request"
        connection.send(body[4:])
        response = connection.getresponse()
        assert (response.status, json.loads(response.read())) == (200, {"applied": True})
        assert store.wait() == 0, store.log()
    finally:
        store.kill()
    with Served(config, tmp_path, provisioned=True) as again, again.client("read") as client:
        assert client.get(METRIC).text == "5.0"


def test_a_request_that_never_ends_does_not_hold_it_beyond_the_grace(tmp_path):
    config = usage_store_config(tmp_path)
    store = Served(config, tmp_path, arguments=("--grace", "0.3")).start().wait_until_ready()
    try:
        with socket.create_connection(("127.0.0.1", config["server"]["port"]), timeout=60) as connection:
            head = f"POST {METRIC}/increment HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n"
            head += f"Content-Type: application/json\r\nAuthorization: Bearer {store.token('write')}\r\n\r\n{{"
            connection.sendall(head.encode())
            _until_in_flight(store)
            assert store.stop() == 0, store.log()
    finally:
        store.kill()
    assert any("cut off" in line["event"] for line in store.log_lines())


def _until_in_flight(store: Served) -> None:
    """Until a request is counted as under way."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        found = re.search(
            r"^storekeeper_http_requests_in_flight (\S+)$", httpx.get(store.metrics_url).text, re.MULTILINE
        )
        if found and float(found[1]) >= 1:
            return
        time.sleep(0.02)
    raise AssertionError("the request did not arrive")


def _until_refused(port: int) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
        except OSError:
            return
        time.sleep(0.02)
    raise AssertionError("the port still accepts connections")


def test_it_says_when_it_serves_and_when_it_stops(tmp_path):
    store = Served(usage_store_config(), tmp_path)
    with store:
        pass
    events = [line["event"] for line in store.log_lines()]
    assert events[0] == "serving"
    assert events[-2:] == ["stopping", "stopped"]
    assert not store.report_file.exists(), "a clean stop leaves no report"


# -- refusing to start --------------------------------------------------------------------------------------------


def refused(config: dict, directory: Path) -> tuple[int, dict, subprocess.CompletedProcess]:
    report = directory / "refusal.json"
    done = run("serve", "--config", str(write_config(config, directory)), "--report", str(report))
    assert done.stderr.splitlines()[-1].startswith("store-runtime: serve: ")
    assert "Traceback" not in done.stderr
    return done.returncode, json.loads(report.read_text()), done


def test_serving_creates_nothing(tmp_path):
    config = usage_store_config(tmp_path)
    status, report, _ = refused(config, tmp_path)
    assert (status, report["job"], report["ok"], report["code"]) == (1, "serve", False, "NotFound")
    assert not (tmp_path / "usage").exists()


def test_somebody_elses_data_is_refused_with_a_report(tmp_path):
    config = usage_store_config(tmp_path)
    provision(config, tmp_path)
    config["store"] = config["store"] | {"id": "store-2", "owner": "owner-2"}
    status, report, _ = refused(config, tmp_path)
    assert (status, report["code"], report["storeId"]) == (3, "OwnedByAnother", "store-2")
    assert "store-1" in report["message"]


def test_released_data_is_refused(tmp_path):
    config = usage_store_config(tmp_path)
    path = provision(config, tmp_path)
    assert run("release", "--config", str(path)).returncode == 0
    status, report, _ = refused(config, tmp_path)
    assert (status, report["code"]) == (3, "Released")


def test_a_config_that_is_wrong_is_named(tmp_path):
    config = usage_store_config(tmp_path) | {"windows": ["5 minutes"]}
    status, report, done = refused(config, tmp_path)
    assert (status, report["code"]) == (2, "InvalidInput")
    assert "windows" in report["message"]
    assert str(tmp_path / "config.json") in done.stderr


@pytest.mark.parametrize(("member", "field"), [("port", "port"), ("metricsPort", "metrics")])
def test_a_port_that_is_taken_is_not_shared(tmp_path, memory_store, member, field):
    config = usage_store_config()
    config["server"][member] = memory_store.config["server"][member]
    status, report, _ = refused(config, tmp_path)
    assert (status, report["code"]) == (1, "CannotListen")
    assert str(config["server"][member]) in report["message"]


# -- what is served -----------------------------------------------------------------------------------------------


def test_metrics_have_a_port_of_their_own(memory_store):
    with memory_store.client("read") as client:
        client.get(METRIC)
        assert client.get("/metrics").status_code == 404
    text = httpx.get(memory_store.metrics_url).text
    assert 'storekeeper_http_requests_total{method="GET",route="/usage/{provider}/{key}/{metric}",status="200"}' in text
    assert "storekeeper_http_request_seconds_bucket" in text
    assert "storekeeper_runtimestore_operation_seconds_count" in text
    assert "/usage/p/k" not in text


def test_the_documentation_needs_no_other_host(memory_store):
    with memory_store.client(None) as client:
        page = client.get("/docs").text
        assert "://" not in page.replace("http://www.w3.org", "")
        for asset in re.findall(r'(?:src|href)="([^"]+)"', page):
            assert client.get(asset).status_code == 200, asset
        document = client.get("/openapi.json").json()
    assert {"/healthz", "/readyz", "/v1/status", "/v1/export", "/v1/admin/fence"} <= document["paths"].keys()


def test_neither_tokens_nor_query_values_are_logged(memory_store):
    with memory_store.client("read") as client:
        client.get(METRIC, params={"seconds": "hunter2"})
        client.get(METRIC + "/window", params={"seconds": "hunter2"})
    log = memory_store.log()
    assert "/usage/{provider}/{key}/{metric}/window" in log
    assert "hunter2" not in log
    assert "eyJ" not in log


@pytest.mark.parametrize(
    "raw",
    [
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"NONSENSE\r\n\r\n",
        b"GET /usage/%ff/k/m HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer \xff\xfe\r\n\r\n",
        b"POST /v1/increments HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 1_000_000 + b"\r\n\r\n",
    ],
)
def test_bytes_that_are_no_request_do_not_harm_it(memory_store, raw):
    with socket.create_connection(("127.0.0.1", memory_store.config["server"]["port"]), timeout=30) as connection:
        try:
            connection.sendall(raw)
            answer = connection.recv(65_536)
        except ConnectionError:
            answer = b""
    assert not answer or re.match(rb"HTTP/1.[01] 4\d\d", answer)
    with memory_store.client(None) as client:
        assert client.get("/healthz").text == "ok\n"


# -- who may call what --------------------------------------------------------------------------------------------

OPEN = {"/healthz", "/readyz"}
READS_BY_POST = {"/v1/windows"}


def scope_of(method: str, path: str) -> str:
    if path.startswith("/v1/admin/") or path == "/v1/export":
        return "admin"
    return "read" if method == "get" or path in READS_BY_POST else "write"


def test_every_route_asks_for_a_token_of_its_scope(memory_store):
    """Each route × no token, another audience's, an expired one, one of a lesser scope."""
    check_auth_matrix(memory_store, scope_of)


def check_auth_matrix(store: Served, needed_scope) -> None:
    """For any store: what `needed_scope(method, path)` says is needed, and nothing less will do."""
    with store.client(None) as client:
        paths = client.get("/openapi.json").json()["paths"]
        routes = [(method, path) for path, methods in paths.items() for method in methods if path not in OPEN]
        assert len(routes) >= 10
        for method, path in routes:
            scope = needed_scope(method, path)
            lesser = {"admin": "read write", "read": "write", "write": "read"}[scope]
            refusals = {
                "none": ({}, 401),
                "no bearer": ({"Authorization": "Basic eDp5"}, 401),
                "audience": (_bearer(token("LogStore/test/another", scope)), 401),
                "expired": (_bearer(store.token(scope, exp=int(time.time()) - 1)), 401),
                "scope": (_bearer(store.token(lesser)), 403),
                "no scope": (_bearer(store.token("")), 403),
            }
            concrete = re.sub(r"\{[^}]+\}", "x", path)
            for name, (headers, status) in refusals.items():
                response = client.request(method, concrete, headers=headers)
                found = (response.status_code, response.headers["content-type"])
                assert found == (status, "application/problem+json"), (method, path, name)
                assert (response.headers.get("www-authenticate") == "Bearer") == (status == 401)


def _bearer(value: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {value}"}


# -- TLS ----------------------------------------------------------------------------------------------------------


def certificate(directory: Path, serial: int) -> None:
    """A self-signed certificate for 127.0.0.1, as `tls.crt` and `tls.key`."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-set_serial", str(serial), "-subj", "/CN=store", "-addext", "subjectAltName=IP:127.0.0.1",
         "-keyout", str(directory / "tls.key"), "-out", str(directory / "tls.crt")],
        check=True, capture_output=True,
    )  # fmt: skip


def tls_config(directory: Path) -> dict:
    config = usage_store_config()
    config["server"]["tls"] = {
        "certificateFile": str(directory / "tls.crt"), "keyFile": str(directory / "tls.key")
    }  # fmt: skip
    return config


def served_serial(port: int) -> int:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with context.wrap_socket(plain) as connection:
            from cryptography import x509

            return x509.load_der_x509_certificate(connection.getpeercert(binary_form=True)).serial_number


def test_tls_and_a_renewed_certificate_without_a_failed_request(tmp_path):
    certificate(tmp_path, 1)
    config = tls_config(tmp_path)
    store = Served(config, tmp_path)
    with store:
        store.ca_file = str(tmp_path / "tls.crt")
        with store.client("read") as client:
            assert client.get("/v1/status").status_code == 200
        with pytest.raises(httpx.TransportError), httpx.Client(trust_env=False) as plain:
            plain.get(store.url.replace("https", "http") + "/healthz")
        assert served_serial(config["server"]["port"]) == 1
        (tmp_path / "tls.key").write_text("half written")
        certificate(tmp_path, 2)
        _until_serial(store, 2)
    assert any(line["event"] == "certificate renewed" for line in store.log_lines())


def _until_serial(store: Served, serial: int) -> None:
    """New connections go on being answered while it is renewed."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with httpx.Client(trust_env=False, verify=False, timeout=10) as client:
            assert client.get(f"{store.url}/healthz").status_code == 200
        if served_serial(store.config["server"]["port"]) == serial:
            return
        time.sleep(0.1)
    raise AssertionError(f"certificate {serial} is not served:\n{store.log()}")


def test_a_certificate_that_does_not_fit_its_key_is_refused_at_the_start(tmp_path):
    certificate(tmp_path, 1)
    (tmp_path / "tls.key").write_text("no key")
    status, report, _ = refused(tls_config(tmp_path), tmp_path)
    assert (status, report["code"]) == (1, "CannotListen")
    assert "tls.key" in report["message"]


# -- many at once -------------------------------------------------------------------------------------------------


def test_writers_at_the_same_time_are_all_counted(memory_store):
    def write() -> None:
        with memory_store.client("write") as client:
            for _ in range(25):
                assert client.post("/usage/many/k/n/increment", json={"delta": 1.0}).status_code == 200

    writers = [threading.Thread(target=write) for _ in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    with memory_store.client("read") as client:
        assert client.get("/usage/many/k/n").text == "200.0"


def test_free_ports_differ():
    assert len(set(free_ports(5))) == 5
