"""A client of one keep-alive connection that costs little: blocking calls, and answers read with as few."""

import socket
import statistics
import time
from types import TracebackType
from typing import NamedTuple, Self


class Latency(NamedTuple):
    """Of requests one after another, in milliseconds."""

    p50_ms: float
    p99_ms: float


class Connection:
    """Sends requests made by `post`, and returns status and body; used as a context."""

    def __init__(self, port: int, timeout_s: float = 60) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=timeout_s)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def ask(self, request: bytes) -> tuple[int, bytes | bytearray]:
        """The status and the body of an answer that tells its length."""
        head, body = self._head(request)
        at = head.index(b"\r\ncontent-length:") + 17
        length = int(head[at:].partition(b"\r\n")[0])
        return _status(head), body if len(body) >= length else self._rest(body, length)

    def status(self, request: bytes) -> int:
        """The status of an answer, whose body may be still on its way: nothing more can be asked here."""
        return _status(self._head(request)[0])

    def latency(self, request: bytes, count: int) -> Latency:
        """Make so many requests, each when the one before is answered; raises ConnectionError on any that fails."""
        times = []
        for _ in range(count):
            started = time.perf_counter()
            status, _ = self.ask(request)
            times.append((time.perf_counter() - started) * 1e3)
            if status != 200:
                raise ConnectionError(f"answered with {status}")
        times.sort()
        return Latency(statistics.median(times), times[min(count - 1, count * 99 // 100)])

    def _head(self, request: bytes) -> tuple[bytes, bytes]:
        """An answer's head, in lower case, and what has come of its body."""
        self._socket.sendall(request)
        data = self._receive()
        while (end := data.find(b"\r\n\r\n")) < 0:
            data += self._receive()
        return data[:end].lower(), data[end + 4 :]

    def _rest(self, start: bytes, length: int) -> bytearray:
        body = bytearray(length)
        body[: len(start)] = start
        view, filled = memoryview(body), len(start)
        while filled < length:
            count = self._socket.recv_into(view[filled:])
            if not count:
                raise ConnectionError("closed in the middle of an answer")
            filled += count
        return body

    def _receive(self) -> bytes:
        data = self._socket.recv(65536)
        if not data:
            raise ConnectionError("closed without an answer")
        return data


def post(port: int, body: bytes, content_type: str) -> bytes:
    """The bytes of a request."""
    head = f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: {content_type}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def _status(head: bytes) -> int:
    return int(head[9:12])
