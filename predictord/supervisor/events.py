"""`GET /events`: what the daemon is doing, pushed to every page that shows it.

One task looks and encodes, for all listeners together, and only while there are any. A
listener takes the latest document whenever its connection takes more, and misses those
before it: one that reads nothing costs no memory.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, cast

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Send

from predictord.supervisor.details import Details
from predictord.supervisor.tally import WINDOW_S

_LOOK_S = 0.2
"""How often changes are looked for, so also the time between two documents at least."""
_FLOW_S = 1.0
"""How often a document is sent while requests flow."""
_NEWEST_S = 5
"""Of the history, how much goes with each document: the second that is over, and those a slow listener missed."""
_COMMENT_S = 15.0
_HEADERS = {"cache-control": "no-store", "content-type": "text/event-stream; charset=utf-8"}


class Events:
    """Tells all listeners of what changes."""

    def __init__(self, details: Details) -> None:
        self._details = details
        self._listeners = 0
        self._someone = asyncio.Event()
        self._news = asyncio.Event()
        """Set, and replaced, when there is a newer document."""
        self._latest = b""
        self._closed = False

    async def run(self) -> None:
        """Look for changes until cancelled; sleeps for good while nobody listens."""
        while True:
            await self._someone.wait()
            await self._watch()

    def close(self) -> None:
        """End all streams, now and from now on."""
        self._closed = True
        self._news.set()

    async def answer(self, request: Request) -> Response:
        """The endpoint."""
        if request.method == "HEAD":
            return Response(headers=_HEADERS)
        return _EventStream(self._stream(), headers=_HEADERS)

    async def _watch(self) -> None:
        signature, activity = self._details.signature(), self._details.activity
        sent_at = active_at = time.monotonic()
        while self._listeners and not self._closed:
            await asyncio.sleep(_LOOK_S)
            now = time.monotonic()
            before, signature = signature, self._details.signature()
            before_activity, activity = activity, self._details.activity
            if activity != before_activity or self._details.is_busy:
                active_at = now
            flows = now - active_at <= WINDOW_S + _FLOW_S  # until the rates are back at nothing
            if signature != before or (flows and now - sent_at >= _FLOW_S):
                sent_at = now
                await self._publish()
        self._someone.clear()

    async def _publish(self) -> None:
        status = _event("status", await self._details.document())
        self._latest = status + _event("history", self._details.history(_NEWEST_S))
        if not self._closed:  # else what is set already ends all streams
            news, self._news = self._news, asyncio.Event()
            news.set()

    async def _stream(self) -> AsyncIterator[bytes]:
        self._listeners += 1
        self._someone.set()
        try:
            news = self._news
            yield _event("history", self._details.history())
            yield _event("status", await self._details.document())
            while True:
                try:
                    async with asyncio.timeout(_COMMENT_S):
                        await news.wait()
                except TimeoutError:
                    yield b":\n\n"
                    continue
                if self._closed:
                    return
                news = self._news
                yield self._latest
        finally:
            self._listeners -= 1


class _EventStream(StreamingResponse):
    """Ends the listener with the connection, not when its generator happens to be collected."""

    async def stream_response(self, send: Send) -> None:
        async with aclosing(cast(Any, self.body_iterator)):
            await super().stream_response(send)


def _event(name: str, document: dict[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), orjson.dumps(document))
