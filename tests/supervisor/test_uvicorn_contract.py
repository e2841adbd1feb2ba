"""Everything of uvicorn that door.py and http_server.py build on, most of it no public API.

A release of uvicorn that changes one of these fails here first, and by name.
"""

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from typing import Any

import httptools
import pytest
import uvicorn
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from predictord.supervisor.door import Door

REQUEST = b"POST /x%20y?z=1 HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi"


async def app(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body"})


class Transport(asyncio.Transport):
    """Keeps what is written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


def make_config(http: type[asyncio.Protocol]) -> uvicorn.Config:
    """With every argument that `HttpServer` gives."""
    config = uvicorn.Config(
        app,
        http=http,
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
    config.load()
    return config


def connect() -> tuple[HttpToolsProtocol, Transport]:
    """A connection as uvicorn's server makes one."""
    config = make_config(HttpToolsProtocol)
    assert config.http_protocol_class is HttpToolsProtocol
    loop = asyncio.get_running_loop()
    protocol = HttpToolsProtocol(config=config, server_state=ServerState(), app_state={}, _loop=loop)
    transport = Transport()
    protocol.connection_made(transport)
    return protocol, transport


def on_loop(check: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Run an async test."""

    def run() -> None:
        asyncio.run(check())

    return run


# --- the server


def test_the_server_serves_our_sockets_until_told_to_exit() -> None:
    assert inspect.iscoroutinefunction(uvicorn.Server.serve)
    assert list(inspect.signature(uvicorn.Server.serve).parameters) == ["self", "sockets"]
    server = uvicorn.Server(make_config(HttpToolsProtocol))
    assert (server.should_exit, server.force_exit) == (False, False)


def test_the_server_takes_its_signals_in_the_method_that_ours_overrides() -> None:
    assert "with self.capture_signals():" in inspect.getsource(uvicorn.Server.serve)


def test_the_server_waits_in_the_method_that_ours_overrides() -> None:
    assert "await self.main_loop()" in inspect.getsource(uvicorn.Server._serve)
    assert "should_exit" in inspect.getsource(uvicorn.Server.on_tick)


# --- one connection


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (HttpToolsProtocol, name)
        for name in (
            "connection_made",
            "connection_lost",
            "data_received",
            "eof_received",
            "on_message_begin",
            "on_url",
            "on_header",
            "on_headers_complete",
            "on_body",
            "on_message_complete",
            "on_response_complete",
            "pause_writing",
            "resume_writing",
            "shutdown",
            "send_400_response",
        )
    ],
)
def test_the_door_overrides_what_the_parent_has(owner: type, name: str) -> None:
    ours, theirs = getattr(Door, name), getattr(owner, name)
    assert ours is not theirs
    assert list(inspect.signature(ours).parameters) == list(inspect.signature(theirs).parameters)


@pytest.mark.parametrize("name", ["feed_data", "get_method", "get_http_version", "should_keep_alive", "should_upgrade"])
def test_the_parser_has(name: str) -> None:
    assert callable(getattr(httptools.HttpRequestParser, name))


def test_the_parsers_errors_are_of_one_kind() -> None:
    assert issubclass(httptools.HttpParserCallbackError, httptools.HttpParserError)
    assert issubclass(httptools.HttpParserUpgrade, Exception)


@on_loop
async def test_a_connection_has_what_the_door_uses() -> None:
    protocol, transport = connect()
    assert protocol.transport is transport
    assert protocol.loop is asyncio.get_running_loop()
    assert isinstance(protocol.parser, httptools.HttpRequestParser)
    assert isinstance(protocol.flow, FlowControl)
    assert all(getattr(protocol, name) is None for name in ("server", "client", "cycle"))


@on_loop
async def test_the_flow_tells_what_is_paused() -> None:
    protocol, _ = connect()
    protocol.pause_writing()
    assert protocol.flow.write_paused
    protocol.resume_writing()
    assert not protocol.flow.write_paused
    protocol.flow.pause_reading()
    assert protocol.flow.read_paused
    protocol.flow.resume_reading()
    assert not protocol.flow.read_paused


@on_loop
async def test_a_messages_begin_makes_its_scope() -> None:
    protocol, _ = connect()
    protocol.on_message_begin()
    assert (protocol.url, protocol.headers, protocol.expect_100_continue) == (b"", [], False)
    assert protocol.scope["headers"] is protocol.headers
    assert protocol.scope["state"] == {}


@on_loop
async def test_a_head_becomes_a_cycle_with_its_scope() -> None:
    protocol, _ = connect()
    protocol.data_received(REQUEST)
    assert protocol.url == b"/x%20y?z=1"
    assert protocol.headers == [(b"host", b"localhost"), (b"expect", b"100-continue"), (b"content-length", b"2")]
    assert protocol.expect_100_continue
    scope = protocol.scope
    assert (scope["method"], scope["path"], scope["query_string"]) == ("POST", "/x y", b"z=1")
    assert isinstance(protocol.cycle, RequestResponseCycle)
    assert protocol.cycle.scope is scope
    assert protocol.cycle.keep_alive
    assert (bytes(protocol.cycle.body), protocol.cycle.more_body) == (b"hi", False)
    await asyncio.gather(*protocol.tasks)


@on_loop
async def test_an_answer_calls_back_and_arms_the_keep_alive_timer() -> None:
    protocol, transport = connect()
    protocol.data_received(REQUEST)
    await asyncio.gather(*protocol.tasks)
    assert transport.written.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")
    assert protocol.server_state.total_requests == 1  # counted in on_response_complete
    assert protocol.timeout_keep_alive_task is not None
    protocol._unset_keepalive_if_required()
    assert protocol.timeout_keep_alive_task is None
    assert not transport.closed


@on_loop
async def test_a_cycle_without_keep_alive_says_so_and_closes() -> None:
    protocol, transport = connect()
    protocol.data_received(REQUEST)
    protocol.cycle.keep_alive = False
    await asyncio.gather(*protocol.tasks)
    assert b"\r\nconnection: close\r\n" in transport.written
    assert transport.closed


@on_loop
async def test_shutdown_closes_an_idle_connection_and_lets_a_busy_one_finish() -> None:
    idle, transport = connect()
    idle.shutdown()
    assert transport.closed
    busy, transport = connect()
    busy.data_received(REQUEST)
    busy.shutdown()
    assert not transport.closed
    await asyncio.gather(*busy.tasks)
    assert transport.closed
