"""A data socket as the worker's threads use it: blocking, whole frames, one after another."""

import contextlib
import os
import select
import socket
from collections import deque

from predictord.wire import (
    CHUNK_BYTES,
    MAX_HEADER_BYTES,
    MOST_BUFFERS,
    PREFIX,
    PREFIX_BYTES,
    Buffer,
    Cancel,
    Recall,
    Recalled,
    ToSupervisor,
    ToWorker,
    frame_head,
)
from predictord.worker.known_messages import KnownMessages
from predictord.worker.spin import Spin


class ChannelClosed(Exception):
    """The supervisor closed its end: the worker is asked to end."""


class Channel:
    """Reads and writes frames with blocking calls, so that nothing stands between the socket and `predict`."""

    def __init__(self, sock: socket.socket, known: KnownMessages, *, spins: bool = False) -> None:
        sock.settimeout(None)  # which a predictor's `socket.setdefaulttimeout` has set for all sockets made since
        self._socket = sock
        self._rest = b""
        """The start of a frame whose end has not come."""
        self._ahead: deque[tuple[ToWorker, Buffer]] = deque()
        """Whole frames that came while another was in hand."""
        # A thread that waits in `recv` is woken for nothing each time that the supervisor takes an answer: the
        # kernel tells of room to write by the same queue. Who polls is not.
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        self._poll = poll.poll
        self._wait = Spin(poll.poll).wait if spins else poll.poll
        self._known = known

    def receive(self) -> tuple[ToWorker, Buffer]:
        """The next message and its body; blocks without limit. Raises `ChannelClosed`."""
        if self._ahead:
            self._look()  # what has come ahead may be recalled until it is begun
            if self._ahead:
                return self._ahead.popleft()
        data = self._rest or self._receive_some()
        size = len(data)
        if size > PREFIX_BYTES:
            header_bytes, body_bytes = PREFIX.unpack_from(data)
            body_at = PREFIX_BYTES + header_bytes
            if size == body_at + body_bytes:  # one whole frame, as nearly always
                self._rest = b""
                return self._known[data[PREFIX_BYTES:body_at]], data[body_at:]
        return self._receive_more(data)

    def _receive_more(self, data: bytes) -> tuple[ToWorker, Buffer]:
        while len(data) < PREFIX_BYTES:
            data += self._receive_some()
        header_bytes, body_bytes = PREFIX.unpack_from(data)
        if header_bytes > MAX_HEADER_BYTES:
            raise ChannelClosed(f"a header of {header_bytes} bytes")
        body_at = PREFIX_BYTES + header_bytes
        while len(data) < body_at:
            data += self._receive_some()
        if body_bytes <= CHUNK_BYTES:
            while len(data) < body_at + body_bytes:
                data += self._receive_some()
        if len(data) < body_at + body_bytes:
            self._rest = b""
            return self._known[data[PREFIX_BYTES:body_at]], self._receive_body(data[body_at:], body_bytes)
        self._split(data)
        return self._ahead.popleft() if self._ahead else self.receive()

    def _split(self, data: bytes) -> None:
        """Take the whole frames out of what has come."""
        at, size = 0, len(data)
        while size - at > PREFIX_BYTES:
            header_bytes, body_bytes = PREFIX.unpack_from(data, at)
            body_at = at + PREFIX_BYTES + header_bytes
            end = body_at + body_bytes
            if size < end:
                break
            message = self._known[data[at + PREFIX_BYTES : body_at]]
            if type(message) is Recall:
                self._ahead.clear()
                self.send(Recalled())
            else:
                self._ahead.append((message, data[body_at:end]))
            at = end
        self._rest = data[at:]

    def _look(self) -> None:
        """Take what has come by now; never blocks."""
        if self._poll(0):
            self._split(self._rest + self._receive_some())

    def send(self, message: ToSupervisor, body: Buffer = b"") -> None:
        """Write one frame; blocks while the supervisor takes nothing. Raises `ChannelClosed`."""
        self.send_parts([frame_head(message, len(body)), body] if body else [frame_head(message)])

    def send_parts(self, parts: list[Buffer]) -> None:
        """Write several buffers one after another in as few system calls as they fit in."""
        try:
            if len(parts) == 1:
                self._socket.sendall(parts[0])
                return
            for start in range(0, len(parts), MOST_BUFFERS):
                self._send_vector(parts[start : start + MOST_BUFFERS])
        except OSError as error:
            raise ChannelClosed(str(error)) from error

    def cancelled(self, number: int) -> bool:
        """Whether a `Cancel` has come for the exchange with this number; never blocks."""
        self._look()
        return any(type(message) is Cancel and message.number == number for message, _ in self._ahead)

    def close(self) -> None:
        """Close the socket; children forked by user code do so at once, or they would hold it open."""
        self._socket.close()

    def _receive_some(self) -> bytes:
        try:
            self._wait()
            data = self._socket.recv(CHUNK_BYTES)
        except OSError as error:
            raise ChannelClosed(str(error)) from error
        if not data:
            raise ChannelClosed("end of file")
        return data

    def _receive_body(self, start: bytes, body_bytes: int) -> bytearray:
        body = bytearray(body_bytes)
        filled = len(start)
        body[:filled] = start
        view = memoryview(body)
        while filled < body_bytes:
            try:
                count = self._socket.recv_into(view[filled:])
            except OSError as error:
                raise ChannelClosed(str(error)) from error
            if not count:
                raise ChannelClosed("end of file")
            filled += count
        return body

    def _send_vector(self, parts: list[Buffer]) -> None:
        sent = self._socket.sendmsg(parts)
        for part in parts:
            if sent >= len(part):
                sent -= len(part)
            else:
                self._socket.sendall(memoryview(part)[sent:])
                sent = 0


def close_in_forked_children(*sockets: socket.socket) -> None:
    """Let a plain fork by user code (multiprocessing) drop these, so that their end is seen at once."""

    def close() -> None:
        for sock in sockets:
            with contextlib.suppress(OSError):
                os.close(sock.detach())

    os.register_at_fork(after_in_child=close)
