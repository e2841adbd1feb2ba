"""JSON request bodies, parsed strictly: exact integers, a depth limit, and the position of what is wrong.

Two parsers share the work, since neither does it alone. msgspec is as fast as orjson and
keeps integers above 64 bits exact, but it names no line, and its depth limit is the
interpreter's recursion limit, which a predictor may have raised past what the C stack
holds. orjson names line and column, and refuses depth at 1,024 whatever the limit says.
"""

from contextlib import suppress
from typing import Any

import msgspec
import orjson

MAX_DEPTH = 1000
_SLACK = 24
"""orjson's own depth limit less ours: wrapped in so many lists, a document meets ours."""

_SHALLOW_BYTES = 2 * MAX_DEPTH
"""A body of this size cannot nest deeper than the limit."""

_COUNT_BYTES = 1 << 16
"""From here on the few brackets of a large body are found faster one by one than by counting."""

_DIGITS_TO_ZERO = bytes(ord("0") if chr(byte).isdigit() and byte < 128 else 0 for byte in range(256))
_LONG_INTEGER = b"0" * 19
"""As many digits as the first integer has that does not fit in 64 bits."""


def parse_json(body: bytes | bytearray | memoryview) -> Any:
    """The document in `body`; of duplicate keys the last wins.

    Raises ValueError, whose text says what is wrong and where: anything but one JSON document
    in UTF-8, NaN and infinities, numbers that no double holds, lone surrogates, more than
    `MAX_DEPTH` levels.
    """
    if isinstance(body, memoryview):
        body = bytes(body)
    if len(body) <= _SHALLOW_BYTES or not _may_be_deep(body):
        try:
            return msgspec.json.decode(body)
        except (ValueError, RecursionError):
            return _parse_wrapped(body)
    return _parse_wrapped(body)


def _may_be_deep(body: bytes | bytearray) -> bool:
    if len(body) < _COUNT_BYTES:
        return body.count(b"[") + body.count(b"{") > MAX_DEPTH
    found = 0
    for bracket in (b"[", b"{"):
        position = body.find(bracket)
        while position >= 0:
            found += 1
            if found > MAX_DEPTH:
                return True
            position = body.find(bracket, position + 1)
    return False


def _parse_wrapped(body: bytes | bytearray) -> Any:
    # A body that closes a wrapper must open another to balance it, beside the first: then
    # a wrapper has two items, and unpacking one raises ValueError.
    try:
        value = orjson.loads(b"".join((b"[" * _SLACK, body, b"]" * _SLACK)))
        for _ in range(_SLACK):
            (value,) = value
    except ValueError as error:
        raise ValueError(_explain(body, error)) from None
    if _LONG_INTEGER in body.translate(_DIGITS_TO_ZERO):
        with suppress(RecursionError):  # close to the depth limit such integers stay floats
            return msgspec.json.decode(body)
    return value


def _explain(body: bytes | bytearray, error: ValueError) -> str:
    if not body.strip():
        return "the body is empty; JSON was expected"
    if body.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")) or 0 in body[:2]:
        return "invalid JSON at line 1, column 1 (byte 0): send UTF-8 without a byte order mark, not UTF-16 or UTF-32"
    try:
        text = body.decode()
    except UnicodeDecodeError as fault:
        return f"invalid JSON at {_position(body[: fault.start].decode())}: not UTF-8 ({fault.reason})"
    if isinstance(error, orjson.JSONDecodeError) and error.msg.startswith("depth limit"):
        return f"invalid JSON at {_position(text[: error.pos - _SLACK])}: nested deeper than {MAX_DEPTH:,} levels"
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError as fault:
        return f"invalid JSON at {_position(text[: fault.pos])}: {fault.msg}"
    return f"invalid JSON: {error}"


def _position(before: str) -> str:
    line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
    return f"line {line}, column {column} (byte {len(before.encode())})"
