"""The daemon's private door: verbs of its own user over a Unix socket, one request and one reply a connection."""

import asyncio
import logging
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from predictord.runtime import socket_address

log = logging.getLogger("predictord")

Handler = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]

MAX_REQUEST_BYTES = 64 << 10
_CLIENT_LIMIT_S = 5.0
"""For the request line to come in, and for the reply to be taken."""
_BACKLOG = 64
_FULL_PAUSE_S = 0.1
_PEER = struct.Struct("3i")
"""`struct ucred`: pid, uid, gid (`unix(7)`)."""


class ControlServer:
    """Answers each verb with what its handler returns, however long that takes.

    What a handler raises, and a request that can't be understood, is answered
    `{"refused": sentence}`. A handler runs to its end also when its client has left.
    """

    def __init__(self, handlers: Mapping[str, Handler]) -> None:
        self._handlers = handlers

    async def run(self, path: Path) -> None:
        """Serve at `path` until cancelled; whoever chose the path removes the socket's file."""
        loop = asyncio.get_running_loop()
        with _listen(path) as listener:
            async with asyncio.TaskGroup() as group:
                while True:
                    try:
                        connection, _ = await loop.sock_accept(listener)
                    except OSError:
                        # Out of descriptors: the client stays in the backlog, where it would wake us at once.
                        await asyncio.sleep(_FULL_PAUSE_S)
                    else:
                        group.create_task(self._serve(connection))

    async def _serve(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with connection:
            if not _is_trusted(connection):
                return
            try:
                async with asyncio.timeout(_CLIENT_LIMIT_S):
                    line = await _read_line(connection)
                reply = await self._answer(line)
                async with asyncio.timeout(_CLIENT_LIMIT_S):
                    await loop.sock_sendall(connection, reply + b"\n")
            except (TimeoutError, OSError):
                return  # the client hangs, or has left; both are its own affair

    async def _answer(self, line: bytes) -> bytes:
        try:
            request = msgspec.json.decode(line, type=dict[str, Any])
        except (msgspec.DecodeError, RecursionError) as error:
            return _refusal(f"the request is no JSON object: {error}")
        verb = request.get("verb")
        if not isinstance(verb, str) or verb not in self._handlers:
            return _refusal(f"this daemon knows no verb {verb!r}; is it of another version?")
        try:
            return msgspec.json.encode(await self._handlers[verb](request))
        except Exception as error:
            # One verb that fails must not end the service that others use.
            log.exception("the verb %s failed", verb, extra={"event": "verb_failed"})
            return _refusal(f"{type(error).__name__}: {error}")


def _listen(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    try:
        # Before it has a name: Linux gives the file this mode (less the umask), so it is never open to others.
        os.fchmod(listener.fileno(), 0o600)
        with socket_address(path) as address:
            listener.bind(address)
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


def _refusal(sentence: str) -> bytes:
    return msgspec.json.encode({"refused": sentence})


def _is_trusted(connection: socket.socket) -> bool:
    """Whether the other end is our own user or root; the folder's mode says so too, this says it again."""
    _, uid, _ = _PEER.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
    return uid in (os.getuid(), 0)


async def _read_line(connection: socket.socket) -> bytes:
    loop = asyncio.get_running_loop()
    line = bytearray()
    while b"\n" not in line:
        piece = await loop.sock_recv(connection, MAX_REQUEST_BYTES)
        line += piece
        if not piece or len(line) > MAX_REQUEST_BYTES:
            raise ConnectionError("no request")
    return bytes(line)
