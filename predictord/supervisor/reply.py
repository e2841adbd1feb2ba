"""Renders the heads of answers and the bodies of errors, as bytes ready for the socket."""

from http import HTTPStatus

from predictord.problem import BODILESS, MEDIA_TYPE, RETRY_AFTER_S, Code, Problem
from predictord.supervisor.call import Call


def _status_line(status: int) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    return f"HTTP/1.1 {status} {phrase}\r\n".encode()


_STATUS_LINES = {status: _status_line(status) for status in range(100, 600)}


def whole(call: Call, status: int, block: bytes, body_bytes: int, extra: bytes, *, keep_alive: bool) -> bytes:
    """The head of an answer whose body is there; `block` and `extra` are rendered header lines."""
    length = b"" if status in BODILESS else b"content-length: %d\r\n" % body_bytes
    close = b"" if keep_alive else b"connection: close\r\n"
    return b"%b%b%b%b%b%b\r\n" % (_STATUS_LINES[status], block, length, _origin(call), extra, close)


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
    request_id: str,
    call: Call | None,
    extra: bytes,
    *,
    debug: bool,
    keep_alive: bool,
    with_body: bool = True,
) -> bytes:
    """A whole error answer, head and `application/problem+json` body."""
    place_id = None if call is None else call.place_id
    body = what.body(request_id, worker=place_id, debug=debug)
    origin = f"x-request-id: {request_id}\r\n".encode() if call is None else _origin(call)
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
    request_id = call.head.id.encode()
    if call.place_id is None:
        return b"x-request-id: %b\r\n" % request_id
    return (
        b"x-request-id: %b\r\nx-predictord-worker: %d\r\nx-predictord-generation: %d\r\n"
        b"server-timing: queue;dur=%.2f%b\r\n"
        % (
            request_id,
            call.place_id,
            call.generation or 0,
            (call.handed - call.arrived) * 1e3,
            b"" if call.predict_ms is None else b", predict;dur=%.2f" % call.predict_ms,
        )
    )
