"""Runs a starlette `Response` that is more than a body (streaming, files) and passes on what it sends."""

from collections.abc import Awaitable, Callable
from typing import Any

from predictord.wire import Buffer, RequestHead, StreamChunk, StreamEnd, StreamStart, ToSupervisor
from predictord.worker.exchange import Exchange
from predictord.worker.predictor import scope_of
from predictord.worker.response import check_status, render_headers

Send = Callable[[ToSupervisor, Buffer], Awaitable[None]]


class ClientLeft(OSError):
    """Starlette's own sign for a client that is gone: an OSError out of `send`."""


async def run_response(
    response: Any, head: RequestHead, send: Send, cancelled: Callable[[], bool], exchange: Exchange
) -> bool:
    """Run the response's ASGI call, background task included; True if its last chunk was sent.

    `StreamEnd(busy=True)` goes out with the last chunk, so that a background task costs the
    client nothing.
    """
    started = ended = False

    async def asgi_send(message: dict[str, Any]) -> None:
        nonlocal started, ended
        if not ended and cancelled():
            raise ClientLeft("the client left")
        if started != (message["type"] != "http.response.start"):
            raise RuntimeError(f"the response sent {message['type']} out of turn")
        if message["type"] == "http.response.start":
            started = True
            check_status(message["status"])
            headers = list(message.get("headers", []))
            block, length = render_headers(headers), _length(headers)
            start = StreamStart(message["status"], block, exchange.elapsed_ms(), exchange.number, length)
            await send(start, b"")
        elif message["type"] == "http.response.body" and not ended:
            if message.get("body"):
                await send(StreamChunk(), message["body"])
            if not message.get("more_body", False):
                ended = True
                await send(StreamEnd(busy=True), b"")

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    await response(scope_of(head), receive, asgi_send)
    return ended


def _length(headers: list[tuple[bytes, bytes]]) -> int | None:
    for name, value in headers:
        if name.lower() == b"content-length" and value.isdigit():
            return int(value)
    return None
