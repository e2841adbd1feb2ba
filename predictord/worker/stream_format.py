"""How the items of a generator become bytes on the wire; the first item and `Accept` decide."""

import re
from typing import Any, ClassVar

from predictord.worker.json_tree import UnserializablePrediction, dumps

_BINARY = (bytes, bytearray, memoryview)
_EVENT_STREAM = re.compile(rb"\s*text/event-stream\s*(?:;(.*))?", re.IGNORECASE | re.DOTALL)
_ZERO_WEIGHT = re.compile(rb"(?:.*;)?\s*q\s*=\s*0(?:\.0*)?\s*(?:;.*)?", re.IGNORECASE | re.DOTALL)
_LINE_END = re.compile("\r\n|\r|\n")
"""The line ends of the event-stream format; `str.splitlines` knows more of them."""


class StreamFormat:
    """One stream's format. `header_block` is for its head; items are encoded in order."""

    header_block: ClassVar[bytes]

    def __init__(self) -> None:
        self._count = 0

    @staticmethod
    def choose(first_item: Any, accept: bytes | str | None) -> "StreamFormat":
        """The format of a stream that begins with `first_item`, for a client that sent this `Accept`."""
        if accept and _names_event_stream(accept):
            return EventStream()
        if isinstance(first_item, str):
            return TextStream()
        if isinstance(first_item, _BINARY):
            return BinaryStream()
        return JsonLines()

    def encode(self, item: Any) -> bytes:
        """The bytes of the next item, maybe none; raises UnserializablePrediction naming its place."""
        place = f"$[{self._count}]"
        self._count += 1
        return self._encode(item, place)

    def _encode(self, item: Any, place: str) -> bytes:
        raise NotImplementedError


class TextStream(StreamFormat):
    """Chunked text: `str`, and bytes that are UTF-8."""

    header_block = b"content-type: text/plain; charset=utf-8\r\n"

    def _encode(self, item: Any, place: str) -> bytes:
        return _text(item, place).encode()


class BinaryStream(StreamFormat):
    """Bytes as they are; `str` as UTF-8."""

    header_block = b"content-type: application/octet-stream\r\n"

    def _encode(self, item: Any, place: str) -> bytes:
        if isinstance(item, _BINARY):
            return bytes(item)
        return _text(item, place).encode()


class JsonLines(StreamFormat):
    """One JSON document a line."""

    header_block = b"content-type: application/x-ndjson\r\n"

    def _encode(self, item: Any, place: str) -> bytes:
        return dumps(item, place) + b"\n"


class EventStream(StreamFormat):
    """Server-Sent Events (WHATWG HTML, 9.2): text as it is, objects as JSON."""

    header_block = b"content-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n"

    def _encode(self, item: Any, place: str) -> bytes:
        if not isinstance(item, (str, *_BINARY)):
            return b"data: %b\n\n" % dumps(item, place)
        lines = _LINE_END.split(_text(item, place))
        return "".join(f"data: {line}\n" for line in lines).encode() + b"\n"


def _names_event_stream(accept: bytes | str) -> bool:
    if isinstance(accept, str):
        accept = accept.encode("latin-1", "replace")
    for choice in accept.split(b","):
        named = _EVENT_STREAM.fullmatch(choice)
        if named and not (named[1] and _ZERO_WEIGHT.fullmatch(named[1])):
            return True
    return False


def _text(item: Any, place: str) -> str:
    """`str` that UTF-8 can carry, from `str` or bytes."""
    try:
        if isinstance(item, str):
            item.encode()
            return item
        if isinstance(item, _BINARY):
            return bytes(item).decode()
    except UnicodeError as error:
        raise UnserializablePrediction(f"{place} is not text that UTF-8 can carry: {error}") from error
    raise UnserializablePrediction(
        f"{place} is of type {type(item).__name__} in a stream that began with text or bytes; yield one kind"
    )
