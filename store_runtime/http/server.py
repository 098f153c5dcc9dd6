"""Serving: opened stores behind granian, in this one process, until SIGTERM.

The engines are single-process, so the server is too: granian is embedded instead of supervising a worker, and a crash
is a crash of the process, which the kubelet sees. Stopping: no new connections, requests under way are finished, event
streams are told to end, then the stores are closed, which flushes them.
"""

import asyncio
import signal
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import structlog
from fastapi import FastAPI
from granian.constants import Interfaces, SSLProtocols
from granian.http import HTTP2Settings
from granian.server.embed import Server as Granian
from prometheus_client import start_http_server

from store_runtime.clock import SystemClock
from store_runtime.config.runtime import Server, Tls
from store_runtime.errors import StoreError
from store_runtime.http.app import create_app
from store_runtime.jobs.kinds import Config, open_runtime

GRACE_SECONDS = 20.0
"""For requests under way when the server stops; the kubelet kills after 30 seconds, and closing takes time too."""
CONNECTIONS_MAX = 4096
"""Accepted connections that wait or are served; above it the kernel's backlog holds them."""
HEADERS_BYTES_MAX = 64 * 1024
CERTIFICATE_POLL_SECONDS = 5.0
"""How often a mounted certificate is looked at: two small reads; renewals come days before the end."""
HANDOVER_SECONDS = 2.0
"""How long a listener with a renewed certificate runs beside the old one before that one stops accepting."""
_log = structlog.get_logger(__name__)


class CannotListen(StoreError):
    """An address is taken or not ours."""

    code = "CannotListen"


def serve(config: Config, grace_seconds: float = GRACE_SECONDS) -> None:
    """Serve until SIGTERM or SIGINT. Raises what opening the stores raises, and CannotListen."""
    server = config.server
    for port, field in ((server.port, "server.port"), (server.metrics_port, "server.metricsPort")):
        _require_free(server.host, port, field)
    if server.tls is not None:
        _require_pair(server.tls)
    runtime = open_runtime(config, SystemClock())
    try:
        with _metrics_served(server):
            asyncio.run(_serve(create_app(runtime), server, grace_seconds))
    finally:
        runtime.close()
        _log.info("stopped")


async def _serve(app: FastAPI, server: Server, grace_seconds: float) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    listeners = Listeners(app, server)
    listeners.start()
    _log.info("serving", host=server.host, port=server.port, tls=server.tls is not None)
    renewals = asyncio.create_task(_follow_renewals(listeners, server.tls)) if server.tls else None
    try:
        await listeners.until(stop)
    finally:
        if renewals:
            renewals.cancel()
    _log.info("stopping", grace_seconds=grace_seconds)
    app.state.stopping.set()
    await listeners.stop(grace_seconds)


class Listeners:
    """The one listener, or two of them on the same port while a certificate is renewed."""

    def __init__(self, app: FastAPI, server: Server) -> None:
        self._app = app
        self._server = server
        self._running: dict[asyncio.Task[Any], Any] = {}  # its serving task: the listener

    def start(self) -> None:
        """A new listener, with the certificate as it is now."""
        tls = self._server.tls
        listener = Granian(
            self._app,
            address=self._server.host,
            port=self._server.port,
            interface=Interfaces.ASGINL,
            backlog=CONNECTIONS_MAX,
            backpressure=CONNECTIONS_MAX,
            websockets=False,
            http2_settings=HTTP2Settings(max_headers_size=HEADERS_BYTES_MAX),
            log_enabled=False,
            ssl_cert=Path(tls.certificate_file) if tls else None,
            ssl_key=Path(tls.key_file) if tls else None,
            ssl_protocol_min=SSLProtocols.tls12,
        )
        self._running[asyncio.create_task(listener.serve())] = listener

    async def renew(self) -> None:
        """Start another and let the ones before it finish what they have."""
        before = list(self._running.values())
        self.start()
        _log.info("certificate renewed")
        await asyncio.sleep(HANDOVER_SECONDS)
        for listener in before:
            listener.stop()

    async def until(self, stop: asyncio.Event) -> None:
        """Returns when `stop` is set; raises what ended the newest listener, if that comes first."""
        stopped = asyncio.create_task(stop.wait())
        while not stopped.done():
            done, _ = await asyncio.wait({stopped, *self._running}, return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopped}:
                self._running.pop(task).stop()
                task.result()
            if not self._running:
                raise CannotListen("the HTTP server ended by itself; the process has to be started again")

    async def stop(self, grace_seconds: float) -> None:
        """No new connections; returns when the requests under way are done, at the latest after `grace_seconds`."""
        for listener in self._running.values():
            listener.stop()
        if self._running:
            _, late = await asyncio.wait(self._running, timeout=grace_seconds)
            if late:
                _log.warning("requests were cut off: they took longer than the grace period")


async def _follow_renewals(listeners: Listeners, tls: Tls) -> None:
    """A file that cannot be read or does not fit the other is reported and the old certificate served on."""
    served = _fingerprint(tls)
    while True:
        await asyncio.sleep(CERTIFICATE_POLL_SECONDS)
        if (found := _fingerprint(tls)) == served:
            continue
        try:
            _require_pair(tls)
        except StoreError as error:
            _log.error("certificate not renewed", detail=error.message)
            continue
        await listeners.renew()
        served = found


def _fingerprint(tls: Tls) -> tuple[bytes, ...]:
    found = []
    for file in (tls.certificate_file, tls.key_file):
        with suppress(OSError):
            found.append(Path(file).read_bytes())
    return tuple(found)


def _require_pair(tls: Tls) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tls.certificate_file, tls.key_file)
    except (OSError, ssl.SSLError) as error:
        raise CannotListen(
            f"{tls.certificate_file} and {tls.key_file} are not a certificate and its key in PEM: {error.strerror}",
            field="server.tls",
        ) from error


def _require_free(host: str, port: int, field: str) -> None:
    """Granian shares ports (SO_REUSEPORT), so two stores could answer on one: looked at before."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise CannotListen(f"cannot listen on {host} port {port}: {error.strerror}", field=field) from error


@contextmanager
def _metrics_served(server: Server) -> Iterator[None]:
    """`/metrics`, from a thread of its own: it answers also when the event loop does not."""
    http, thread = start_http_server(server.metrics_port, server.host)
    try:
        yield
    finally:
        http.shutdown()
        http.server_close()
        thread.join()
