"""What is said of a return annotation, held against what becomes of a value that it describes."""

import enum
import socket
import types
import typing
from collections import deque
from collections.abc import AsyncIterator, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from pathlib import PurePath
from typing import Annotated, Any, Literal, NamedTuple, NewType, Protocol, TypedDict, TypeVar
from uuid import UUID

import numpy
import numpy.typing
import pytest
from pydantic import BaseModel
from starlette.responses import Response, StreamingResponse

from predictord.worker.json_tree import UnserializablePrediction
from predictord.worker.response import encode
from predictord.worker.return_type import unsendable


class Color(enum.Enum):
    RED = "red"


class Plain:
    pass


class Asked(Protocol):
    def ask(self) -> str: ...


@dataclass
class Point:
    x: float
    _hidden: Plain | None = None


@dataclass
class Blob:
    raw: bytes


class Row(NamedTuple):
    raw: complex


class Entry(TypedDict):
    raw: "set[bytes]"


class Model(BaseModel):
    raw: bytes


Score = NewType("Score", float)
T = TypeVar("T")


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (None, None),
        (str, "a"),
        (bytes, b"a"),
        (memoryview, memoryview(b"a")),
        (str | bytes | None, b""),
        (Response, Response()),
        (dict, {}),
        (dict[str, Any], {"a": 1}),
        (dict[str | int, float], {1: 2.0}),
        (dict[Color, Color], {Color.RED: Color.RED}),
        (dict[numpy.int64, int], {numpy.int64(1): 1}),
        (list[dict[str, tuple[int, ...]]], [{"a": (1,)}]),
        (set[int], {1}),
        (Literal["a"], "a"),
        (Score, 1.0),
        (Annotated[list[int], "few"], [1]),
        (numpy.ndarray, numpy.zeros(2)),
        (numpy.typing.NDArray[numpy.float32], numpy.zeros(2, numpy.float32)),
        (Point, Point(1.0)),
        (Model, Model(raw=b"a")),
        (dict[str, UUID | date | PurePath], {"a": PurePath("/")}),
        (Any, 1),
        (object, 1),
        (T, 1),
        (Mapping[str, Any], {"a": 1}),
        (Sequence[float], [1.0]),
        (Asked, 1),
    ],
)
def test_what_can_be_sent_is_not_complained_of(annotation: Any, value: Any) -> None:
    encode(value)
    assert unsendable(annotation, streams=False, batched=False) is None


@pytest.mark.parametrize(
    ("annotation", "value", "part"),
    [
        (complex, 1j, "complex"),
        (set[bytes], {b"a"}, "bytes, in set[bytes]"),
        (socket.socket, types.SimpleNamespace(), "socket.socket"),
        (dict[str, complex | None], {"a": 1j}, "complex, in dict[str, complex | None]"),
        (dict[tuple[int, int], int], {(1, 2): 3}, "keys of type tuple[int, int], in dict[tuple[int, int], int]"),
        (dict[str, dict[date, int]], {"a": {date.min: 3}}, "keys of type datetime.date, in "),
        (str | Plain, Plain(), "test_return_type.Plain"),
        (Plain, Plain(), "test_return_type.Plain"),
        (Decimal, Decimal(1), "decimal.Decimal"),
        (timedelta, timedelta(1), "datetime.timedelta"),
        (deque[int], deque([1]), "collections.deque[int]"),
        (range, range(3), "range"),
        (Blob, Blob(b""), "bytes, in "),
        (Row, Row(1j), "complex, in "),
        (list[Entry], [{"raw": {b""}}], "bytes, in "),
        (type[int], int, "type[int]"),
        (tuple[int, bytes], (1, b""), "bytes, in tuple[int, bytes]"),
        (dict[str, Response], {"a": Response()}, "starlette.responses.Response, in "),
    ],
)
def test_what_cannot_be_sent_is_named(annotation: Any, value: Any, part: str) -> None:
    with pytest.raises(UnserializablePrediction):
        encode(value)
    fault = unsendable(annotation, streams=False, batched=False)
    assert fault is not None
    assert part in fault
    assert fault.startswith("promises ") and fault.endswith(
        ", which JSON cannot carry; convert it, or return bytes or a Response"
    )


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (Iterator[str], None),
        (Iterator[bytes], None),
        (AsyncIterator[dict[str, int]], None),
        (Generator[list[bytes], None, None], "promises bytes, in list[bytes]"),
        (typing.Iterator[complex], "promises complex"),
        (StreamingResponse, None),
        (Generator, None),
    ],
)
def test_a_streams_items_are_judged(annotation: Any, words: str | None) -> None:
    fault = unsendable(annotation, streams=True, batched=False)
    assert fault is None if words is None else words in str(fault)


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (list[bytes], None),
        (list, None),
        (Any, None),
        (Sequence[dict[str, int]], None),
        (tuple[str, ...], None),
        (numpy.ndarray, None),
        (Iterator[str], None),
        (Asked, None),
        (list[str] | None, None),
        (list[set[bytes]], "promises bytes, in set[bytes]"),
        (str, "is str, but with max_batch_size > 1 predict returns a list"),
        (dict[str, int], "is dict[str, int], but with"),
        (set[str], "is set[str], but with"),
        (Point, "but with max_batch_size > 1 predict returns a list with one result for each item"),
        (None, "is None, but with"),
    ],
)
def test_a_batch_returns_a_list(annotation: Any, words: str | None) -> None:
    fault = unsendable(annotation, streams=False, batched=True)
    assert fault is None if words is None else words in str(fault)
