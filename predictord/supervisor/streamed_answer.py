"""One streamed answer's way onto a connection: its framing, its length if it has promised one, its end."""

import asyncio
import socket
from collections.abc import Sequence

from predictord.problem import BODILESS
from predictord.supervisor import reply
from predictord.supervisor.call import Call
from predictord.wire import Buffer, StreamStart

_UNSENT_BYTES = 1 << 12
"""What the kernel may hold for a slow reader beyond what is under way; left alone it takes megabytes.

The rest waits in the worker's socket, where neighbouring pieces become one.
"""


class StreamedAnswer:
    """Writes a stream as chunks, as a body of known length, or, for HTTP/1.0, until the connection closes."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        transport: asyncio.Transport,
        call: Call,
        start: StreamStart,
        extra: bytes,
        *,
        keep_alive: bool,
    ) -> None:
        self.status = start.status
        self._loop = loop
        self._transport = transport
        self._bodiless = start.status in BODILESS
        self._owed = None if self._bodiless else start.length
        self._chunked = not self._bodiless and start.length is None and call.head.http_version != "1.0"
        self._last_piece = b""
        self._hold_back(_UNSENT_BYTES, 0)
        head = reply.stream(
            call, start.status, start.header_block, self._owed, extra, chunked=self._chunked, keep_alive=keep_alive
        )
        self._unsent: list[Buffer] = []
        self._put(head)

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
        if self._chunked:
            self._put(b"%x\r\n" % size, *chunks, b"\r\n")
        else:
            self._put(*chunks)
        return True

    def end(self) -> bool:
        """Write the end; False when less came than was announced."""
        if self._owed:
            return False
        self._put(b"0\r\n\r\n" if self._chunked else self._last_piece)
        self._flush()
        self._hold_back(0, None)
        return True

    def cut(self) -> None:
        """Close the connection so that the client sees an incomplete answer."""
        self._flush()
        if self._chunked or self._owed is not None:
            self._transport.close()
        else:
            # Where the end of the connection is the end of the body, only a reset tells a cut from it.
            self._transport.abort()

    def _put(self, *parts: Buffer) -> None:
        """Send these with all else that the worker's socket holds now: the head goes with the first piece."""
        if not self._unsent:
            self._loop.call_soon(self._flush)
        self._unsent += parts

    def _flush(self) -> None:
        parts, self._unsent = self._unsent, []
        if parts and not self._transport.is_closing():
            self._transport.write(b"".join(parts))

    def _hold_back(self, kernel_bytes: int, own_bytes: int | None) -> None:
        """Let so much wait for a slow reader; 0 and `None` are the defaults."""
        sock = self._transport.get_extra_info("socket")
        if sock is not None and not self._transport.is_closing():
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, kernel_bytes)
            self._transport.set_write_buffer_limits(own_bytes)
