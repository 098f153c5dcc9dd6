"""What every request leaves behind: metrics, one log line at DEBUG, and a problem document when the unexpected happens.

The outermost layer of the app. Routes are named by their template, never by their path, which may hold names of keys;
tokens, bodies and query values are neither logged nor counted.
"""

import time

import structlog
from prometheus_client import Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from store_runtime.http.problems import unexpected

REQUESTS = Counter("storekeeper_http_requests_total", "Requests answered.", ["method", "route", "status"])
SECONDS = Histogram(
    "storekeeper_http_request_seconds",
    "Time from a request's first byte to its answer's last.",
    ["method", "route"],
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 30),
)
IN_FLIGHT = Gauge("storekeeper_http_requests_in_flight", "Requests under way.")
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""Others are counted as OTHER: a label's values have to be few."""
_log = structlog.get_logger(__name__)


class Observed:
    """ASGI middleware around the whole app."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, send)
        with IN_FLIGHT.track_inprogress():
            try:
                await self._app(scope, receive, exchange.send)
            except Exception as error:
                response = unexpected(error)
                if exchange.status:  # the head is sent: only a broken connection can tell the client
                    raise ConnectionAbortedError("the response could not be finished") from None
                await response(scope, receive, exchange.send)
            finally:
                exchange.record()


class _Exchange:
    """One request and what becomes of it."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self._scope = scope
        self._send = send
        self._began = time.perf_counter()
        self.status = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        await self._send(message)

    def record(self) -> None:
        seconds = time.perf_counter() - self._began
        method = self._scope["method"] if self._scope["method"] in METHODS else "OTHER"
        route = route_template(self._scope)
        REQUESTS.labels(method, route, self.status or "none").inc()
        SECONDS.labels(method, route).observe(seconds)
        _log.debug("request", method=method, route=route, status=self.status, seconds=round(seconds, 6))


def route_template(scope: Scope) -> str:
    """`/v1/export` or `/usage/{provider}/{key}/{metric}`; `unmatched` for what no route takes.

    FastAPI keeps the template with its prefixes in a place of its own; the route alone knows its last part only.
    """
    context = (scope.get("fastapi") or {}).get("effective_route_context")
    matched = context or scope.get("route")
    return getattr(matched, "path_format", None) or getattr(matched, "path", None) or "unmatched"
