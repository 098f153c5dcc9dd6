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
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        endless, complete = asyncio.Event(), False

        async def watched_send(message: Message) -> None:
            if message["type"] == "http.response.start" and _is_event_stream(message):
                endless.set()
            await send(message)

        async def watched_receive() -> Message:
            nonlocal complete
            if complete:  # who still listens, listens for the client to go
                return await self._message_or_end(receive, endless)
            message = await receive()
            complete = not message.get("more_body", False)
            return message

        await self._app(scope, watched_receive, watched_send)

    async def _message_or_end(self, receive: Receive, endless: asyncio.Event) -> Message:
        async def end() -> Message:
            await self._stopping.wait()
            await endless.wait()
            return {"type": "http.disconnect"}

        either = {asyncio.ensure_future(receive()), asyncio.ensure_future(end())}
        try:
            done, _ = await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            return done.pop().result()
        finally:
            for task in either:
                task.cancel()


def _is_event_stream(message: Message) -> bool:
    return any(
        name.lower() == b"content-type" and value.startswith(b"text/event-stream") for name, value in message["headers"]
    )
