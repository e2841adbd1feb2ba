"""Renders the heads of answers and the bodies of errors, as bytes ready for the socket."""

from http import HTTPStatus

from predictord.problem import BODILESS, MEDIA_TYPE, RETRY_AFTER_S, Code, Problem
from predictord.supervisor.call import Call, Origin
from predictord.wire import AnswerHead, Buffer


def _status_line(status: int) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    return f"HTTP/1.1 {status} {phrase}\r\n".encode()


_STATUS_LINES = {status: _status_line(status) for status in range(100, 600)}


_SMALL = b"%b%b%bcontent-length: %d\r\nx-request-id: %b\r\nserver-timing: queue;dur=%.2f, predict;dur=%.2f\r\n%b\r\n%b"


def small(call: Call, origin: Origin, head: AnswerHead, extra: bytes, body: Buffer) -> bytes:
    """A worker's whole answer, head and body, for a client that keeps its connection: what nearly all get."""
    queue_ms = (call.handed - call.arrived) * 1e3
    return _SMALL % (
        _STATUS_LINES[head.status],
        head.header_block,
        origin.header_block,
        len(body),
        call.id,
        queue_ms,
        call.predict_ms,
        extra,
        body,
    )


def whole(call: Call, status: int, block: bytes, body_bytes: int, extra: bytes, *, keep_alive: bool) -> bytes:
    """The head of an answer whose body is there; `block` and `extra` are rendered header lines."""
    length = b"" if status in BODILESS else b"content-length: %d\r\n" % body_bytes
    close = b"" if keep_alive else b"connection: close\r\n"
    return b"".join((_STATUS_LINES[status], block, length, _origin(call), extra, close, b"\r\n"))


def stream(
    call: Call, status: int, block: bytes, length: int | None, extra: bytes, *, chunked: bool, keep_alive: bool
) -> bytes:
    """The head of a streamed answer: chunked, of known length, or until the connection closes (HTTP/1.0)."""
    framing = b""
    if length is not None:
        framing = b"content-length: %d\r\n" % length
    elif chunked:
        framing = b"transfer-encoding: chunked\r\n"
    close = b"" if keep_alive else b"connection: close\r\n"
    return b"%b%b%b%b%b%b\r\n" % (_STATUS_LINES[status], block, framing, _origin(call), extra, close)


def problem(
    what: Problem,
    request_id: bytes,
    call: Call | None,
    extra: bytes,
    *,
    debug: bool,
    keep_alive: bool,
    with_body: bool = True,
) -> bytes:
    """A whole error answer, head and `application/problem+json` body."""
    place_id = None if call is None else call.place_id
    body = what.body(request_id.decode("ascii"), worker=place_id, debug=debug)
    origin = b"x-request-id: %b\r\n" % request_id if call is None else _origin(call)
    head = b"%bcontent-type: %b\r\ncontent-length: %d\r\n%b%b%b%b\r\n" % (
        _STATUS_LINES[what.status],
        MEDIA_TYPE.encode(),
        len(body),
        origin,
        _advice(what),
        extra,
        b"" if keep_alive else b"connection: close\r\n",
    )
    return head + body if with_body else head


def _advice(what: Problem) -> bytes:
    if what.status == 503:
        return b"retry-after: %d\r\n" % RETRY_AFTER_S
    if what.code is Code.TOKEN_REQUIRED:
        return b"www-authenticate: Bearer\r\n"
    return b""


def _origin(call: Call) -> bytes:
    """Which request this answers, who ran it, and where its time went."""
    if call.origin is None:
        return b"x-request-id: %b\r\n" % call.id
    queue_ms = (call.handed - call.arrived) * 1e3
    timing = b"queue;dur=%.2f" % queue_ms
    if call.predict_ms is not None:
        timing = b"queue;dur=%.2f, predict;dur=%.2f" % (queue_ms, call.predict_ms)
    return b"x-request-id: %b\r\n%bserver-timing: %b\r\n" % (call.id, call.origin.header_block, timing)
