"""A client that sends exactly the bytes it is told to, and reads answers as strictly as h11 does."""

import contextlib
import socket
import struct
from collections.abc import Iterable
from types import TracebackType
from typing import NamedTuple, Self

import h11

Fields = Iterable[tuple[str | bytes, str | bytes]]


class Answer(NamedTuple):
    """One whole answer; header names are lower case."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes

    def header(self, name: str) -> str | None:
        """The value of the only header of that name, or `None`."""
        values = [value for key, value in self.headers if key == name.lower().encode()]
        assert len(values) <= 1, f"{name} came {len(values)} times"
        return values[0].decode("latin-1") if values else None


def request(
    method: str = "POST", target: str = "/predict", headers: Fields = (), body: bytes = b"", host: str = "localhost"
) -> bytes:
    """The bytes of a request, unchecked; `Host` and `Content-Length` come first unless `headers` has them."""
    given = [(_bytes(name), _bytes(value)) for name, value in headers]
    names = {name.lower() for name, _ in given}
    usual = [(b"Host", host.encode())] if b"host" not in names else []
    if not names & {b"content-length", b"transfer-encoding"}:
        usual.append((b"Content-Length", str(len(body)).encode()))
    head = b"".join(name + b": " + value + b"\r\n" for name, value in [*usual, *given])
    return f"{method} {target} HTTP/1.1\r\n".encode() + head + b"\r\n" + body


class RawConnection:
    """One TCP connection to a daemon on this machine; every read ends within `timeout_s`."""

    def __init__(self, port: int, host: str = "127.0.0.1", timeout_s: float = 15) -> None:
        self.socket = socket.create_connection((host, port), timeout_s)
        self._unread = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Send these bytes; a peer that has already hung up is no error."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.socket.sendall(data)

    def answer(self, method: str = "POST") -> Answer:
        """The next whole answer, to a request of that method.

        Raises `h11.RemoteProtocolError` when the answer is malformed or cut short.
        """
        parser = self._expecting(method)
        status, headers, body = 0, list[tuple[bytes, bytes]](), b""
        while True:
            event = parser.next_event()
            if event is h11.NEED_DATA:
                parser.receive_data(self._receive())
            elif isinstance(event, h11.Response):
                status, headers = event.status_code, [(bytes(name), bytes(value)) for name, value in event.headers]
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                self._unread = parser.trailing_data[0]
                return Answer(status, headers, body)
            elif event in (h11.PAUSED, h11.ConnectionClosed()):
                raise h11.RemoteProtocolError("the connection was closed without an answer")

    def read_to_end(self) -> bytes:
        """Every byte until the peer hangs up, properly or by a reset."""
        data, self._unread = self._unread, b""
        with contextlib.suppress(ConnectionResetError):
            while chunk := self.socket.recv(65536):
                data += chunk
        return data

    def half_close(self) -> None:
        """Say that nothing more will be sent, and go on reading."""
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Hang up with RST in place of FIN."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def _expecting(self, method: str) -> h11.Connection:
        """A parser that believes to have sent a request; only answers interest us."""
        parser = h11.Connection(h11.CLIENT)
        parser.send(h11.Request(method=method, target="/", headers=[("host", "x")]))
        parser.send(h11.EndOfMessage())
        if self._unread:
            parser.receive_data(self._unread)
        return parser

    def _receive(self) -> bytes:
        try:
            return self.socket.recv(65536)
        except ConnectionResetError as error:
            raise h11.RemoteProtocolError("the connection was reset in the middle of an answer") from error


def exchange(port: int, data: bytes, method: str = "POST") -> Answer:
    """Send these bytes on a new connection and return the one answer."""
    with RawConnection(port) as connection:
        connection.send(data)
        return connection.answer(method)


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("latin-1")
