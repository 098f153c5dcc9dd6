"""How much a request may send: refused at its declared length, or once more than that has come.

Routers have limits of their own on what they decode; this one bounds memory whatever they do.
"""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from store_runtime.errors import TooLarge
from store_runtime.http.problems import problem

BODY_BYTES_MAX = 64 * 1024 * 1024
"""Of any request, as sent (compressed or not)."""


class BoundedBodies:
    """ASGI middleware: 413 TooLarge for bodies above `bytes_max`."""

    def __init__(self, app: ASGIApp, bytes_max: int = BODY_BYTES_MAX) -> None:
        self._app = app
        self._bytes_max = bytes_max

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if _declared_bytes(scope) > self._bytes_max:
            await problem(self._too_large())(scope, receive, send)
            return
        received = 0

        async def bounded() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._bytes_max:
                raise self._too_large()
            return message

        await self._app(scope, bounded, send)

    def _too_large(self) -> TooLarge:
        return TooLarge(f"the body is larger than {self._bytes_max} bytes; send several smaller ones", field="body")


def _declared_bytes(scope: Scope) -> int:
    """Of the Content-Length header; 0 where there is none or it is no number (the server has refused that)."""
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value) if value.isdigit() else 0
    return 0
