"""Frames on a non-blocking socket: what arrived is taken as it comes, large bodies land where they stay."""

import asyncio
import socket
from collections import deque
from collections.abc import Sequence

import msgspec

from predictord.errors import WorkerError
from predictord.wire import (
    CHUNK_BYTES,
    MAX_BODY_BYTES,
    MAX_HEADER_BYTES,
    MOST_BUFFERS,
    PREFIX,
    PREFIX_BYTES,
    Buffer,
    ToSupervisor,
    decode_to_supervisor,
)

Frame = tuple[ToSupervisor, Buffer]


class FrameReader:
    """Cuts the bytes of one socket into frames."""

    def __init__(self) -> None:
        self.most_bytes = CHUNK_BYTES
        """The most that one `read` takes, but for a body that it knows the length of."""
        self._data = b""
        self._message: ToSupervisor | None = None
        self._body = bytearray()
        self._filled = 0

    def read(self, sock: socket.socket) -> list[Frame] | None:
        """One `recv`, and the frames it completes; `None` at the end of file.

        Raises BlockingIOError, other OSErrors as the socket does, and `WorkerError` for
        bytes that are no frame.
        """
        if self._message is not None:
            return self._read_body(sock)
        data = sock.recv(self.most_bytes)
        size = len(data)
        if size > PREFIX_BYTES and not self._data:
            header_bytes, body_bytes = PREFIX.unpack_from(data)
            body_at = PREFIX_BYTES + header_bytes
            if size == body_at + body_bytes:  # one whole frame, as nearly always
                return [(_decode(data[PREFIX_BYTES:body_at]), data[body_at:])]
        return self.feed(data) if data else None

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that `data` completes."""
        if self._data:
            data = self._data + data
            self._data = b""
        frames: list[Frame] = []
        at, size = 0, len(data)
        while size - at >= PREFIX_BYTES:
            header_bytes, body_bytes = PREFIX.unpack_from(data, at)
            if header_bytes > MAX_HEADER_BYTES or body_bytes > MAX_BODY_BYTES:
                raise WorkerError(f"sent a frame of {header_bytes} + {body_bytes} bytes")
            body_at = at + PREFIX_BYTES + header_bytes
            if size < body_at:
                break
            message = _decode(data[at + PREFIX_BYTES : body_at])
            at = body_at + body_bytes
            if size < at:
                self._begin_body(message, data[body_at:], body_bytes)
                return frames
            frames.append((message, data[body_at:at]))
        self._data = data[at:]
        return frames

    def _begin_body(self, message: ToSupervisor, start: bytes, body_bytes: int) -> None:
        self._message = message
        try:
            self._body = bytearray(body_bytes)
        except MemoryError as error:
            raise WorkerError(f"sent a body of {body_bytes} bytes, for which there is no memory") from error
        self._body[: len(start)] = start
        self._filled = len(start)

    def _read_body(self, sock: socket.socket) -> list[Frame] | None:
        count = sock.recv_into(memoryview(self._body)[self._filled :])
        if not count:
            return None
        self._filled += count
        if self._filled < len(self._body):
            return []
        assert self._message is not None
        frame = (self._message, self._body)
        self._message, self._body = None, bytearray()
        return [frame]


class FrameWriter:
    """Writes buffers to a socket without waiting: what does not fit now follows when the loop says so."""

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
        self._loop = loop
        self._socket = sock
        self._unsent: deque[Buffer] = deque()

    @property
    def is_pending(self) -> bool:
        """Whether something is still to be sent; to a peer that is gone, for ever."""
        return bool(self._unsent)

    def send(self, parts: Sequence[Buffer]) -> None:
        """Write these after all that was written before."""
        if self._unsent:
            self._unsent.extend(parts)
            return
        try:
            sent = self._socket.sendmsg(parts[:MOST_BUFFERS])
        except BlockingIOError:
            sent = 0
        except OSError:
            # The peer is gone, which its pid says soon; nothing of this was read.
            self._unsent.extend(parts)
            return
        self._keep_unsent(parts, sent)
        if self._unsent:
            self._loop.add_writer(self._socket.fileno(), self._on_writable)

    def send_whole(self, data: bytes) -> bool:
        """Write one buffer after all that was written before; True when it has left whole."""
        if not self._unsent:
            try:
                sent = self._socket.send(data)
            except OSError:
                self.send([data])
                return not self._unsent
            if sent == len(data):
                return True
            data = data[sent:]
        self.send([data])
        return not self._unsent

    def stop(self) -> None:
        """Send no more; before the socket is closed."""
        self._loop.remove_writer(self._socket.fileno())

    def _keep_unsent(self, parts: Sequence[Buffer], sent: int) -> None:
        for index, part in enumerate(parts):
            if sent < len(part):
                self._unsent.append(memoryview(part)[sent:])
                self._unsent.extend(parts[index + 1 :])
                return
            sent -= len(part)

    def _on_writable(self) -> None:
        some = [self._unsent[index] for index in range(min(len(self._unsent), MOST_BUFFERS))]
        try:
            sent = self._socket.sendmsg(some)
        except BlockingIOError:
            return
        except OSError:
            self.stop()
            return
        while self._unsent and sent >= len(self._unsent[0]):
            sent -= len(self._unsent.popleft())
        if sent:
            self._unsent[0] = memoryview(self._unsent[0])[sent:]
        if not self._unsent:
            self.stop()


def _decode(header: bytes) -> ToSupervisor:
    try:
        return decode_to_supervisor(header)
    except msgspec.DecodeError as error:
        raise WorkerError(f"sent a frame that is no message: {error}") from error
