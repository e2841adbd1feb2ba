"""From what `predict` returned to an answer's status, headers and body."""

import re
import sys
from collections.abc import Iterable
from typing import Any, NamedTuple

from predictord.problem import BODILESS
from predictord.wire import Buffer
from predictord.worker.json_tree import UnserializablePrediction, dumps

MAX_BODY_BYTES = 2 << 30
"""One answer; more is a stream's work, since supervisor and client would hold it whole."""

JSON_HEADERS = b"content-type: application/json\r\n"
TEXT_HEADERS = b"content-type: text/plain; charset=utf-8\r\n"
BINARY_HEADERS = b"content-type: application/octet-stream\r\n"

_FRAMING = frozenset(
    {b"connection", b"keep-alive", b"transfer-encoding", b"content-length", b"upgrade", b"te", b"trailer"}
)
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")

_BINARY = (bytes, bytearray, memoryview)


class Encoded(NamedTuple):
    """An answer that is known whole. `header_block` has no content-length; `len(body)` is its bytes."""

    status: int
    header_block: bytes
    body: Buffer


def encode(value: Any) -> Encoded:
    """The answer for a prediction that is neither a generator nor a streaming response.

    Bodies are not copied. Raises UnserializablePrediction, or what converting a foreign value raises.
    """
    if isinstance(value, str):
        return _encoded(200, TEXT_HEADERS, _encode_text(value))
    if isinstance(value, _BINARY):
        return _encoded(200, BINARY_HEADERS, value)
    if _is_response(value):
        return _encode_response(value)
    return _encoded(200, JSON_HEADERS, dumps(value))


def is_streaming_response(value: Any) -> bool:
    """Whether this is a starlette response that only running it as an ASGI application can answer."""
    if not _is_response(value):
        return False
    plain = sys.modules["starlette.responses"].Response
    return type(value).__call__ is not plain.__call__


def encode_http_exception(exception: Any) -> Encoded:
    """The answer for a raised `starlette.exceptions.HTTPException`, as starlette gives it."""
    status = check_status(exception.status_code)
    headers = [(_latin(name).lower(), _latin(value)) for name, value in (exception.headers or {}).items()]
    block = render_headers(headers)
    if status in BODILESS:
        return Encoded(status, block, b"")
    if all(name != b"content-type" for name, _ in headers):
        block += TEXT_HEADERS
    detail = exception.detail
    return _encoded(status, block, detail if isinstance(detail, bytes) else _encode_text(str(detail)))


def render_headers(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """`name: value` lines, without those that frame a connection: the supervisor frames anew.

    Raises UnserializablePrediction for a name or value that could forge another header.
    """
    lines = []
    for name, value in headers:
        if not _NAME.fullmatch(name):
            raise UnserializablePrediction(
                f"predict's response has the header name {_shown(name)}, which is not a token"
            )
        if _CONTROL.search(value):
            raise UnserializablePrediction(
                f"predict's response has a control character in header {_shown(name)}: {_shown(value)}"
            )
        if (lowered := name.lower()) not in _FRAMING and not lowered.startswith(b"proxy-"):
            lines.append(b"%b: %b\r\n" % (lowered, value.strip(b" \t")))
    return b"".join(lines)


def check_status(status: Any) -> int:
    """`status` if a final answer may carry it; raises UnserializablePrediction else."""
    if not isinstance(status, int) or not 200 <= status <= 599:
        raise UnserializablePrediction(f"predict answered with status {status!r}; a status is 200 to 599")
    return int(status)


def background_of(value: Any) -> Any:
    """The background task of a starlette response, or `None`; other objects' attributes are their own."""
    return value.background if _is_response(value) else None


def _is_response(value: Any) -> bool:
    response = getattr(sys.modules.get("starlette.responses"), "Response", None)
    return response is not None and isinstance(value, response)


def _encode_response(response: Any) -> Encoded:
    status = check_status(response.status_code)
    block = render_headers(response.raw_headers)
    if status in BODILESS:
        return Encoded(status, block, b"")
    if not isinstance(response.body, _BINARY):
        raise UnserializablePrediction(f"the response's body is of type {type(response.body).__name__}, not bytes")
    return _encoded(status, block, response.body)


def _encoded(status: int, header_block: bytes, body: Buffer) -> Encoded:
    if (
        type(body) is not bytes
        and isinstance(body, memoryview)
        and (body.format != "B" or body.ndim != 1 or not body.c_contiguous)
    ):
        body = body.cast("B") if body.c_contiguous and body.nbytes else body.tobytes()
    if len(body) > MAX_BODY_BYTES:
        raise too_large(len(body))
    return Encoded(status, header_block, body)


def too_large(size: int) -> UnserializablePrediction:
    """The error for a body of more than `MAX_BODY_BYTES`."""
    return UnserializablePrediction(
        f"predict returned {size:,} bytes; one answer holds at most {MAX_BODY_BYTES:,}: yield it in pieces"
    )


def _encode_text(text: str) -> bytes:
    if len(text) > MAX_BODY_BYTES:
        raise too_large(len(text))
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise UnserializablePrediction(f"$ is a str with a lone surrogate at character {error.start}") from error


def _latin(text: str) -> bytes:
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError as error:
        raise UnserializablePrediction(f"a header of the raised HTTPException is not Latin-1: {text!r}") from error


def _shown(raw: bytes) -> str:
    return repr(raw[:80].decode("latin-1"))
