"""uvicorn as predictord runs it: our door as its protocol, our sockets, our signals."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

from predictord.supervisor.door import Door
from predictord.supervisor.proxy import Proxy


class HttpServer(uvicorn.Server):
    """Serves until told to close; leaves signals to the supervisor."""

    def __init__(self, app: ASGIApp, proxy: Proxy) -> None:
        door = type("BoundDoor", (Door,), {"proxy": proxy})
        config = uvicorn.Config(
            app,
            http=door,
            ws="none",
            lifespan="off",
            loop="none",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            timeout_graceful_shutdown=1,
        )
        super().__init__(config)
        self._closing = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """The supervisor decides what a signal means."""
        yield

    async def main_loop(self) -> None:
        """Wait for `close`; the parent looks ten times a second, which an idle service should not cost."""
        await self._closing.wait()

    async def run_on(self, sockets: list[socket.socket]) -> None:
        """Accept connections on these sockets until `close`."""
        await self.serve(sockets)

    def close(self) -> None:
        """Accept nothing more and let `run_on` return."""
        self.should_exit = True
        self._closing.set()
