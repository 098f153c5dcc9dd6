"""How endless answers end: a server that stops tells event streams that the client is gone, so that it can go itself.

Without this a subscriber who stays would hold a stopping server until its grace period is over.
"""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class EndsEventStreams:
    """ASGI middleware: once `stopping` is set, `http.disconnect` for answers of type text/event-stream."""

    def __init__(self, app: ASGIApp, stopping: asyncio.Event) -> None:
        self._app = app
        self._stopping = stopping

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        endless = False

        async def watched_send(message: Message) -> None:
            nonlocal endless
            if message["type"] == "http.response.start":
                endless = any(
                    name.lower() == b"content-type" and value.startswith(b"text/event-stream")
                    for name, value in message["headers"]
                )
            await send(message)

        async def watched_receive() -> Message:
            return await self._message_or_end(receive) if endless else await receive()

        await self._app(scope, watched_receive, watched_send)

    async def _message_or_end(self, receive: Receive) -> Message:
        message, stop = asyncio.ensure_future(receive()), asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait((message, stop), return_when=asyncio.FIRST_COMPLETED)
            return message.result() if message.done() else {"type": "http.disconnect"}
        finally:
            message.cancel()
            stop.cancel()
