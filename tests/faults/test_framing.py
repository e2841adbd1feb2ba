"""Requests whose framing is broken, ambiguous or of another protocol.

Each vector is sent whole, byte by byte and cut at random places. One request in is one
request at the worker, and whatever is not on the list of what passes runs nothing.
"""

import random
import socket
from collections.abc import Iterator

import pytest

from tests.daemon import Daemon
from tests.ledger import PRELUDE
from tests.raw_http import RawConnection, request

SOURCE = (
    PRELUDE
    + """
class PythonPredictor:
    def predict(self, payload, headers):
        record("ran")
        return [payload.decode(), headers.keys()]
"""
)


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with Daemon(SOURCE) as daemon:
        yield daemon


@pytest.fixture(autouse=True)
def _new_ledger(daemon: Daemon) -> None:
    daemon.ledger.clear()


def post(*fields: str, body: str = "", line: str = "POST /predict HTTP/1.1", host: str = "Host: localhost") -> bytes:
    return "\r\n".join([line, host, *fields, "", body]).encode("latin-1")


CHUNKED = "Transfer-Encoding: chunked"
PASSES = {
    "plain": post("Content-Length: 2", body="hi"),
    "length in spaces": post("Content-Length:  2  ", body="hi"),
    "chunked": post(CHUNKED, body="2\r\nhi\r\n0\r\n\r\n"),
    "CHUNKED": post("Transfer-Encoding: CHUNKED", body="1\r\nh\r\n1\r\ni\r\n0\r\n\r\n"),
    "chunk extension": post(CHUNKED, body='2;a=b;c="d"\r\nhi\r\n0\r\n\r\n'),
    "zeros before a chunk size": post(CHUNKED, body="0002\r\nhi\r\n0\r\n\r\n"),
    "trailer, which is dropped": post(CHUNKED, body="2\r\nhi\r\n0\r\nX-Trailer: 1\r\n\r\n"),
    "trailer that forges, which is dropped": post(CHUNKED, body="2\r\nhi\r\n0\r\nHost: evil.example\r\n\r\n"),
    "CRLF before the request (RFC 9112, 2.2)": b"\r\n\r\n" + post("Content-Length: 2", body="hi"),
    "two spaces in the request line (RFC 9112, 3)": post(
        "Content-Length: 2", body="hi", line="POST  /predict HTTP/1.1"
    ),
    "HTTP/1.0": post("Content-Length: 2", body="hi", line="POST /predict HTTP/1.0"),
    "RTSP/1.0, taken for HTTP/1.0": post("Content-Length: 2", body="hi", line="POST /predict RTSP/1.0"),
    "another field, Content_Length": post("Content-Length: 2", "Content_Length: 5", body="hi"),
    "Upgrade alone, which is ignored": post("Upgrade: h2c", "Content-Length: 2", body="hi"),
    "Connection: upgrade alone": post("Connection: upgrade", "Content-Length: 2", body="hi"),
}
"""All that may be answered with 2xx, and why; the body is always `hi`."""

REFUSED = {
    "length and coding": post("Content-Length: 2", CHUNKED, body="0\r\n\r\n"),
    "coding and length": post(CHUNKED, "Content-Length: 2", body="0\r\n\r\n"),
    "two lengths": post("Content-Length: 2", "Content-Length: 3", body="hi!"),
    "two equal lengths": post("Content-Length: 2", "Content-Length: 2", body="hi"),
    "list of lengths": post("Content-Length: 2, 2", body="hi"),
    "length +2": post("Content-Length: +2", body="hi"),
    "length -2": post("Content-Length: -2", body="hi"),
    "length 0x2": post("Content-Length: 0x2", body="hi"),
    "length 1_0": post("Content-Length: 1_0", body="0123456789"),
    "length 2 2": post("Content-Length: 2 2", body="hi"),
    "length empty": post("Content-Length: ", body="hi"),
    "length overflows": post("Content-Length: 18446744073709551618", body="hi"),
    "gzip, chunked": post("Transfer-Encoding: gzip, chunked", body="2\r\nhi\r\n0\r\n\r\n"),
    "chunked, identity": post("Transfer-Encoding: chunked, identity", body="2\r\nhi\r\n0\r\n\r\n"),
    "identity": post("Transfer-Encoding: identity", body="hi"),
    "identity, then chunked": post("Transfer-Encoding: identity", CHUNKED, body="2\r\nhi\r\n0\r\n\r\n"),
    "chunked twice": post(CHUNKED, CHUNKED, body="2\r\nhi\r\n0\r\n\r\n"),
    "xchunked": post("Transfer-Encoding: xchunked", body="2\r\nhi\r\n0\r\n\r\n"),
    "chunked after a vertical tab": post("Transfer-Encoding: \x0bchunked", body="2\r\nhi\r\n0\r\n\r\n"),
    "chunked in quotes": post('Transfer-Encoding: "chunked"', body="2\r\nhi\r\n0\r\n\r\n"),
    "coding empty": post("Transfer-Encoding: ", body="2\r\nhi\r\n0\r\n\r\n"),
    "coding in HTTP/1.0": post(CHUNKED, body="2\r\nhi\r\n0\r\n\r\n", line="POST /predict HTTP/1.0"),
    "coding with a space before the colon": post("Transfer-Encoding : chunked", body="2\r\nhi\r\n0\r\n\r\n"),
    "chunk size ends in LF": post(CHUNKED, body="2\nhi\r\n0\r\n\r\n"),
    "chunk ends in LF": post(CHUNKED, body="2\r\nhi\n0\r\n\r\n"),
    "extension ends in LF": post(CHUNKED, body="2;a\nhi\r\n0\r\n\r\n"),
    "chunk size 0x2": post(CHUNKED, body="0x2\r\nhi\r\n0\r\n\r\n"),
    "chunk size 0_2": post(CHUNKED, body="0_2\r\nhi\r\n0\r\n\r\n"),
    "chunk size +2": post(CHUNKED, body="+2\r\nhi\r\n0\r\n\r\n"),
    "chunk size and space": post(CHUNKED, body="2 \r\nhi\r\n0\r\n\r\n"),
    "chunk size overflows": post(CHUNKED, body="fffffffffffffffff2\r\nhi\r\n0\r\n\r\n"),
    "chunk longer than its size": post(CHUNKED, body="2\r\nhi!!\r\n0\r\n\r\n"),
    "trailer with a length": post(CHUNKED, body="2\r\nhi\r\n0\r\nContent-Length: 5\r\n\r\n"),
    "folded field": post("X-A: b", " c", "Content-Length: 2", body="hi"),
    "folded host": post("Content-Length: 2", body="hi", host="Host:\r\n localhost"),
    "fold before the first field": post("Content-Length: 2", body="hi", host=" Host: localhost"),
    "bare CR": post("X-A: b\rc", "Content-Length: 2", body="hi"),
    "bare LF": post("X-A: b\nX-B: c", "Content-Length: 2", body="hi"),
    "LF throughout": post("Content-Length: 2", body="hi").replace(b"\r\n", b"\n"),
    "NUL in a value": post("X-A: b\0c", "Content-Length: 2", body="hi"),
    "NUL in a name": post("X\0A: b", "Content-Length: 2", body="hi"),
    "space before the colon": post("Content-Length: 2", body="hi", host="Host : localhost"),
    "no colon": post("Nonsense", "Content-Length: 2", body="hi"),
    "no name": post(": x", "Content-Length: 2", body="hi"),
    "non-ASCII name": post("X-\xe9: x", "Content-Length: 2", body="hi"),
    "HTTP/0.9": b"GET /\r\n\r\n",
    "HTTP/9.9": post("Content-Length: 2", body="hi", line="POST /predict HTTP/9.9"),
    "HTTP/2.0": post("Content-Length: 2", body="hi", line="POST /predict HTTP/2.0"),
    "HTTP/1.2": post("Content-Length: 2", body="hi", line="POST /predict HTTP/1.2"),
    "http/1.1": post("Content-Length: 2", body="hi", line="POST /predict http/1.1"),
    "tabs in the request line": post("Content-Length: 2", body="hi", line="POST\t/predict\tHTTP/1.1"),
    "space before the method": post("Content-Length: 2", body="hi", line=" POST /predict HTTP/1.1"),
    "lower-case method": post("Content-Length: 2", body="hi", line="post /predict HTTP/1.1"),
    "space in the method": post("Content-Length: 2", body="hi", line="PO ST /predict HTTP/1.1"),
    "non-ASCII target": post("Content-Length: 2", body="hi", line="POST /pr\xe9dict HTTP/1.1"),
    "HTTP/2's preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": bytes.fromhex("16030100c8010000c40303") + bytes(range(100)),
    "h2c": post("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk", "Content-Length: 2"),
    "WebSocket": post(
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
        line="GET / HTTP/1.1",
    ),
}
"""All of it is 400 and the end of the connection; what is sent behind it is never a request."""

SPLITS = ["whole", "bytes", "random"]


def pieces(data: bytes, split: str) -> list[bytes]:
    if split == "whole":
        return [data]
    if split == "bytes":
        return [data[at : at + 1] for at in range(len(data))]
    chance = random.Random(data)
    cuts = sorted(chance.sample(range(1, len(data)), 5))
    return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def send(connection: RawConnection, data: bytes, split: str) -> None:
    connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for piece in pieces(data, split):
        connection.send(piece)


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("vector", PASSES)
def test_one_request_in_is_one_prediction(daemon: Daemon, vector: str, split: str) -> None:
    with RawConnection(daemon.port) as connection:
        send(connection, PASSES[vector], split)
        answer = connection.answer()
        connection.half_close()
        assert connection.read_to_end() == b""
    assert answer.status == 200, answer
    assert answer.body.startswith(b'["hi",'), answer
    assert b"x-trailer" not in answer.body
    assert daemon.ledger.lines() == ["ran"]


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("vector", REFUSED)
def test_broken_framing_ends_the_connection_and_runs_nothing(daemon: Daemon, vector: str, split: str) -> None:
    with RawConnection(daemon.port) as connection:
        send(connection, REFUSED[vector], split)
        connection.send(request(headers=[("X-Smuggled", "1")], body=b"x"))
        answer = connection.answer()
        assert connection.read_to_end() == b""
    assert (answer.status, answer.header("connection")) == (400, "close"), answer
    assert b'"code":"bad_request"' in answer.body
    assert daemon.ledger.lines() == []
