"""/healthz, /readyz and /metrics on one port, from a thread of their own: a hung event loop must be seen from outside.

A check is a function that returns what is wrong, or nothing.
"""

import threading
from collections.abc import Callable, Iterable, Mapping
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CONTENT_TYPE_LATEST

from storekeeper.metrics import Metrics

REQUEST_SECONDS = 5.0
"""A client that sends nothing for so long is hung up on."""

Check = Callable[[], str | None]
StartResponse = Callable[[str, list[tuple[str, str]]], Any]


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = 16


class _Handler(WSGIRequestHandler):
    timeout = REQUEST_SECONDS

    def log_message(self, format: str, *args: Any) -> None:
        """Probes every few seconds are no news."""


class HealthServer:
    """Serves until closed. `port` 0 takes a free one; `.port` says which."""

    def __init__(
        self, host: str, port: int, *, alive: Mapping[str, Check], ready: Mapping[str, Check], metrics: Metrics
    ) -> None:
        self._alive, self._ready, self._metrics = alive, ready, metrics
        self._server = make_server(host, port, self._answer, server_class=_Server, handler_class=_Handler)
        self.port: int = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, name="health", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, environ: Mapping[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        match environ["REQUEST_METHOD"], environ["PATH_INFO"]:
            case "GET", "/healthz":
                status, kind, body = _verdict(self._alive)
            case "GET", "/readyz":
                status, kind, body = _verdict(self._ready)
            case "GET", "/metrics":
                status, kind, body = "200 OK", CONTENT_TYPE_LATEST, self._metrics.render()
            case _:
                status, kind, body = "404 Not Found", "text/plain", b"try /healthz, /readyz or /metrics\n"
        start_response(status, [("Content-Type", kind), ("Content-Length", str(len(body)))])
        return [body]


def _verdict(checks: Mapping[str, Check]) -> tuple[str, str, bytes]:
    found = {name: check() for name, check in checks.items()}
    lines = [f"{name}: {wrong or 'ok'}\n" for name, wrong in found.items()]
    status = "503 Service Unavailable" if any(found.values()) else "200 OK"
    return status, "text/plain; charset=utf-8", "".join(lines).encode()
