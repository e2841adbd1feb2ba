"""Load by clients that read streams, on one event loop."""

import asyncio
import statistics
import time
from typing import NamedTuple, cast

import uvloop

from benchmarks.server import Server, ServerFailed

TOKENS = 1000
TOKEN = b"token "
_LIMIT_S = 60


class StreamLoad(NamedTuple):
    """What the clients have seen."""

    tokens_per_s: float
    first_token_ms: float
    """From the request to the first byte of the body, median."""


class _Reader(asyncio.Protocol):
    """One connection, which asks again as soon as a stream has ended."""

    def __init__(self, request: bytes, until: float) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.first_token_ms: list[float] = []
        self.streams = 0
        self._request = request
        self._until = until
        self._received: list[bytes] = []
        self._seen_first = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class
        self._ask()

    def data_received(self, data: bytes) -> None:
        self._received.append(data)
        if not self._seen_first:
            if not b"".join(self._received).partition(b"\r\n\r\n")[2]:
                return
            self._seen_first = True
            self.first_token_ms.append((time.perf_counter() - self._asked) * 1e3)
        if data.endswith(b"0\r\n\r\n") or len(data) < 5:
            self._end_if_whole(b"".join(self._received))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_exception(ServerFailed("a stream was cut"))

    def _ask(self) -> None:
        self._received = []
        self._seen_first = False
        self._asked = time.perf_counter()
        self._transport.write(self._request)

    def _end_if_whole(self, answer: bytes) -> None:
        if not answer.endswith(b"\r\n0\r\n\r\n"):
            return
        if not answer.startswith(b"HTTP/1.1 200 ") or answer.count(TOKEN) != TOKENS:
            self.ended.set_exception(ServerFailed(f"a stream was not what it should be: {answer[:100]!r} …"))
            self._transport.close()
            return
        self.streams += 1
        if time.perf_counter() < self._until:
            self._ask()
        else:
            self.ended.set_result(None)
            self._transport.close()


def load(server: Server, connections: int, duration_s: float) -> StreamLoad:
    """Read streams on so many connections for a while; raises ServerFailed if any was wrong."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_load(server, connections, duration_s))


async def _load(server: Server, connections: int, duration_s: float) -> StreamLoad:
    loop = asyncio.get_running_loop()
    started = time.perf_counter()
    readers = []
    for _ in range(connections):
        _, reader = await loop.create_connection(
            lambda: _Reader(server.request, started + duration_s), "127.0.0.1", server.port
        )
        readers.append(reader)
    try:
        async with asyncio.timeout(duration_s + _LIMIT_S):
            await asyncio.gather(*(reader.ended for reader in readers))
    except TimeoutError:
        raise ServerFailed(f"streams had not ended {_LIMIT_S} s after the last was asked for") from None
    took_s = time.perf_counter() - started
    tokens = TOKENS * sum(reader.streams for reader in readers)
    first = statistics.median(ms for reader in readers for ms in reader.first_token_ms)
    return StreamLoad(tokens / took_s, first)
