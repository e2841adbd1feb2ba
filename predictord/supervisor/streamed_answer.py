"""One streamed answer's way onto a connection: its framing, its length if it has promised one, its end."""

import asyncio
import socket
from collections.abc import Sequence

from predictord.problem import BODILESS
from predictord.supervisor import reply
from predictord.supervisor.call import Buffer, Call
from predictord.wire import StreamStart

_KERNEL_BYTES = 1 << 18
"""What the kernel may hold for a slow reader; left alone it grows to megabytes."""


class StreamedAnswer:
    """Writes a stream as chunks, as a body of known length, or, for HTTP/1.0, until the connection closes."""

    def __init__(
        self, transport: asyncio.Transport, call: Call, start: StreamStart, extra: bytes, *, keep_alive: bool
    ) -> None:
        self.status = start.status
        self._transport = transport
        self._bodiless = start.status in BODILESS
        self._owed = None if self._bodiless else start.length
        self._chunked = not self._bodiless and start.length is None and call.head.http_version != "1.0"
        self._last_piece = b""
        sock = transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _KERNEL_BYTES)
        head = reply.stream(
            call, start.status, start.header_block, self._owed, extra, chunked=self._chunked, keep_alive=keep_alive
        )
        transport.write(head)

    def send(self, chunks: Sequence[Buffer]) -> bool:
        """Write pieces; False when they are more than the announced length, and nothing is written."""
        size = sum(map(len, chunks))
        if not size or self._bodiless:
            return True
        if self._owed is not None:
            self._owed -= size
            if self._owed < 0:
                return False
            if not self._owed:
                # A client that has every byte sends its next request, which must find this one ended.
                self._last_piece = b"".join(chunks)
                return True
        self._transport.write(b"".join([b"%x\r\n" % size, *chunks, b"\r\n"] if self._chunked else chunks))
        return True

    def end(self) -> bool:
        """Write the end; False when less came than was announced."""
        if self._owed:
            return False
        self._transport.write(b"0\r\n\r\n" if self._chunked else self._last_piece)
        return True

    def cut(self) -> None:
        """Close the connection so that the client sees an incomplete answer."""
        if self._chunked or self._owed is not None:
            self._transport.close()
        else:
            # Where the end of the connection is the end of the body, only a reset tells a cut from it.
            self._transport.abort()
