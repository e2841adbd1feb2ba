"""Streams: which format the first item and `Accept` choose, and how items look in it."""

from typing import Any

import pytest

from predictord.problem import Code
from predictord.worker.json_tree import UnserializablePrediction
from predictord.worker.stream_format import BinaryStream, EventStream, JsonLines, StreamFormat, TextStream

SSE = b"text/event-stream"


@pytest.mark.parametrize(
    ("first", "accept", "kind", "content_type"),
    [
        ("a", None, TextStream, b"text/plain; charset=utf-8"),
        (b"a", "*/*", BinaryStream, b"application/octet-stream"),
        (memoryview(b"a"), b"", BinaryStream, b"application/octet-stream"),
        ({"a": 1}, b"*/*", JsonLines, b"application/x-ndjson"),
        (None, b"text/*", JsonLines, b"application/x-ndjson"),
        ("a", SSE, EventStream, b"text/event-stream; charset=utf-8"),
        (b"a", "Text/Event-Stream", EventStream, b"text/event-stream; charset=utf-8"),
        ({}, b"text/html, text/event-stream;q=0.5, */*", EventStream, b"text/event-stream; charset=utf-8"),
        ({}, b"text/event-stream; charset=utf-8", EventStream, b"text/event-stream; charset=utf-8"),
        ("a", b"text/event-stream;q=0", TextStream, b"text/plain; charset=utf-8"),
        ("a", b"text/event-stream; Q=0.000, */*", TextStream, b"text/plain; charset=utf-8"),
        ("a", b"text/event-stream;q=0.001", EventStream, b"text/event-stream; charset=utf-8"),
        ("a", b"text/event-streams", TextStream, b"text/plain; charset=utf-8"),
        ("a", b"application/x;v=text/event-stream", TextStream, b"text/plain; charset=utf-8"),
        ("a", b"text/event-stream;q=0, text/event-stream", EventStream, b"text/event-stream; charset=utf-8"),
    ],
)
def test_choose(first: Any, accept: bytes | str | None, kind: type[StreamFormat], content_type: bytes) -> None:
    chosen = StreamFormat.choose(first, accept)
    assert type(chosen) is kind
    assert chosen.header_block.startswith(b"content-type: %b\r\n" % content_type)
    assert chosen.header_block.endswith(b"\r\n")


@pytest.mark.parametrize(
    ("chosen", "item", "data"),
    [
        (TextStream(), "é\n", "é\n".encode()),
        (TextStream(), "", b""),
        (TextStream(), "é".encode(), "é".encode()),
        (BinaryStream(), b"\xff", b"\xff"),
        (BinaryStream(), memoryview(b"ab"), b"ab"),
        (BinaryStream(), "é", "é".encode()),
        (JsonLines(), {"a": "b\nc"}, b'{"a":"b\\nc"}\n'),
        (JsonLines(), "text", b'"text"\n'),
        (JsonLines(), None, b"null\n"),
        (JsonLines(), [2**70, float("nan")], b"[%d,null]\n" % 2**70),
        (EventStream(), "text", b"data: text\n\n"),
        (EventStream(), "", b"data: \n\n"),
        (EventStream(), "a\nb\r\nc\rd\n", b"data: a\ndata: b\ndata: c\ndata: d\ndata: \n\n"),
        (EventStream(), " \u2028\x0b:", "data:  \u2028\x0b:\n\n".encode()),
        (EventStream(), "é".encode(), "data: é\n\n".encode()),
        (EventStream(), {"a": "b\nc"}, b'data: {"a":"b\\nc"}\n\n'),
        (EventStream(), None, b"data: null\n\n"),
    ],
)
def test_encode(chosen: StreamFormat, item: Any, data: bytes) -> None:
    assert chosen.encode(item) == data


@pytest.mark.parametrize(
    ("chosen", "good", "bad", "place"),
    [
        (TextStream(), "a", {"b": 1}, "$[1] "),
        (TextStream(), "a", "\ud800", "$[1] "),
        (TextStream(), "a", b"\xff", "$[1] "),
        (BinaryStream(), b"a", {"b": 1}, "$[1] "),
        (JsonLines(), {}, {"b": [object()]}, "$[1].b[0] "),
        (JsonLines(), {}, b"a", "$[1] "),
        (EventStream(), "a", b"\xff", "$[1] "),
        (EventStream(), {}, object(), "$[1] "),
    ],
)
def test_item_of_another_kind_is_refused_by_place(chosen: StreamFormat, good: Any, bad: Any, place: str) -> None:
    chosen.encode(good)
    with pytest.raises(UnserializablePrediction) as caught:
        chosen.encode(bad)
    assert place in str(caught.value)
    assert caught.value.problem.code is Code.UNSERIALIZABLE_PREDICTION
