"""Frames on a non-blocking socket: what arrived is taken as it comes, large bodies land where they stay."""

import socket

import msgspec

from predictord.errors import WorkerError
from predictord.wire import MAX_HEADER_BYTES, PREFIX, ToSupervisor, decode_to_supervisor

Buffer = bytes | bytearray | memoryview
Frame = tuple[ToSupervisor, Buffer]

_CHUNK_BYTES = 1 << 16
"""Below malloc's threshold for mmap: a larger buffer would cost a system call each way, and page faults."""

_MOST_BODY_BYTES = 1 << 40
"""Far above what fits in memory; a larger length is a broken peer."""


class FrameReader:
    """Cuts the bytes of one socket into frames."""

    def __init__(self) -> None:
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
        data = sock.recv(_CHUNK_BYTES)
        if not data:
            return None
        return self.feed(data)

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that `data` completes."""
        if self._data:
            data = self._data + data
            self._data = b""
        frames: list[Frame] = []
        at, size = 0, len(data)
        while size - at >= PREFIX.size:
            header_bytes, body_bytes = PREFIX.unpack_from(data, at)
            if header_bytes > MAX_HEADER_BYTES or body_bytes > _MOST_BODY_BYTES:
                raise WorkerError(f"sent a frame of {header_bytes} + {body_bytes} bytes")
            body_at = at + PREFIX.size + header_bytes
            if size < body_at:
                break
            message = _decode(data[at + PREFIX.size : body_at])
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


def _decode(header: bytes) -> ToSupervisor:
    try:
        return decode_to_supervisor(header)
    except msgspec.DecodeError as error:
        raise WorkerError(f"sent a frame that is no message: {error}") from error
