"""Real `store-runtime` processes for tests: configs, tokens, start, wait until ready, stop, kill.

with Served(usage_store_config(tmp_path), tmp_path) as store:
    store.client("read").get("/v1/status")
"""

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from store_runtime.config.wire import ISSUER, SIGNING_ALGORITHM

START_SECONDS = 60.0
"""For a machine that does several other things; a start takes a second and a half."""
STOP_SECONDS = 60.0
KEY = Ed25519PrivateKey.generate()
PUBLIC_PEM = (
    KEY.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()
)


def token(audience: str, scope: str = "admin", *, key: Ed25519PrivateKey = KEY, **claims: Any) -> str:
    """A token as the operator signs them; `claims` replace or, with None, remove."""
    all_claims = {"iss": ISSUER, "aud": audience, "sub": "test", "scope": scope, "iat": int(time.time()) - 30} | claims
    return jwt.encode({k: v for k, v in all_claims.items() if v is not None}, key, SIGNING_ALGORITHM)


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on now; all are held until all are found, so they differ."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def config_of(kind: str, **more: Any) -> dict[str, Any]:
    """What all configs share, on ports of its own; `more` is the rest."""
    port, metrics_port = free_ports(2)
    return {
        "kind": kind,
        "store": {"namespace": "test", "name": "store", "id": "store-1", "owner": "owner-1"},
        "server": {"host": "127.0.0.1", "port": port, "metricsPort": metrics_port},
        "auth": {"audience": f"{kind}/test/store", "publicKeys": [PUBLIC_PEM]},
    } | more


def usage_store_config(directory: Path | None = None) -> dict[str, Any]:
    """A RuntimeStore in memory, or in files below `directory`."""
    if directory is None:
        return config_of("RuntimeStore", backend={"type": "memory", "memory": {}})
    return config_of("RuntimeStore", backend={"type": "file", "file": {"directory": str(directory / "usage")}})


def log_store_config(directory: Path, *, entries: bool = False) -> dict[str, Any]:
    """A LogStore on SQLite below `directory`, with or without the entry engine."""
    config = config_of("LogStore", backend={"type": "sqlite", "sqlite": {"path": str(directory / "logs" / "logs.db")}})
    if entries:
        config["entries"] = {"directory": str(directory / "entries")}
    return config


def run(*arguments: str, timeout: float = 60.0, **environment: str) -> subprocess.CompletedProcess[str]:
    """`store-runtime …` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "store_runtime", *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env=os.environ | {"COLUMNS": "200"} | environment,
    )


def write_config(config: dict[str, Any], directory: Path) -> Path:
    path = directory / "config.json"
    path.write_text(json.dumps(config))
    return path


def provision(config: dict[str, Any], directory: Path) -> Path:
    """Provision and migrate as the operator's jobs do; returns the config's file."""
    path = write_config(config, directory)
    for job in ("provision", "migrate"):
        done = run(job, "--config", str(path))
        assert done.returncode == 0, done.stderr
    return path


class Served:
    """A serving process on loopback. As a context manager it is stopped at the end and has to have stopped well."""

    def __init__(
        self, config: dict[str, Any], directory: Path, *, provisioned: bool = False, arguments: tuple[str, ...] = ()
    ) -> None:
        self.config = config
        self.arguments = arguments
        self.audience = config["auth"]["audience"]
        self.config_file = write_config(config, directory) if provisioned else provision(config, directory)
        self.report_file = directory / "report.json"
        self.log_file = directory / "serve.log"
        self.tls = "tls" in config["server"]
        self.url = f"{'https' if self.tls else 'http'}://127.0.0.1:{config['server']['port']}"
        self.metrics_url = f"http://127.0.0.1:{config['server']['metricsPort']}/metrics"
        self.ca_file: str | None = None
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> "Served":
        """Start without waiting; `wait_until_ready` waits."""
        command = ["--debug", "serve", "--config", str(self.config_file), "--report", str(self.report_file)]
        command += self.arguments
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "store_runtime", *command], stdout=log, stderr=log, start_new_session=True
            )
        return self

    def wait_until_ready(self) -> "Served":
        deadline = time.monotonic() + START_SECONDS
        with self.client(None) as client:
            while time.monotonic() < deadline:
                assert self.process is not None
                assert self.process.poll() is None, f"it ended with {self.process.returncode}:\n{self.log()}"
                try:
                    if client.get("/readyz").status_code == 200:
                        return self
                except httpx.TransportError:
                    pass
                time.sleep(0.02)
        raise AssertionError(f"not ready within {START_SECONDS:g} s:\n{self.log()}")

    def token(self, scope: str = "admin", **claims: Any) -> str:
        return token(self.audience, scope, **claims)

    def client(self, scope: str | None = "admin", **settings: Any) -> httpx.Client:
        """A client with a token of that scope; None sends none."""
        headers = {} if scope is None else {"Authorization": f"Bearer {self.token(scope)}"}
        verify: Any = ssl.create_default_context(cafile=self.ca_file) if self.ca_file else not self.tls
        return httpx.Client(
            base_url=self.url, headers=headers, trust_env=False, timeout=30.0, verify=verify, **settings
        )

    def log(self) -> str:
        return self.log_file.read_text() if self.log_file.exists() else ""

    def log_lines(self) -> Iterator[dict[str, Any]]:
        """The log's events; lines that are not JSON (the error for people) are left out."""
        for line in self.log().splitlines():
            if line.startswith("{"):
                yield json.loads(line)

    def stop(self) -> int:
        """SIGTERM, and the exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self) -> int:
        assert self.process is not None
        return self.process.wait(STOP_SECONDS)

    def kill(self) -> None:
        """SIGKILL to the process and what it started."""
        assert self.process is not None
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(STOP_SECONDS)

    def __enter__(self) -> "Served":
        try:
            return self.start().wait_until_ready()
        except BaseException:
            self.kill()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self.process is not None
        if kind is not None or self.process.poll() is not None:
            self.kill()
            return
        try:
            assert self.stop() == 0, self.log()
        finally:
            self.kill()
