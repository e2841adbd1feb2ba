"""What both servers make of a prediction, without I/O: its kind, its answer's frames, its times."""

import inspect
from enum import Enum
from time import perf_counter
from typing import Any

from predictord.problem import Code, Problem
from predictord.wire import PREFIX, AnswerHead, Answers, Buffer, StreamChunk, StreamEnd, StreamStart, encode, frame_head
from predictord.worker.failure import is_sticky_cuda
from predictord.worker.outcome import Outcome, problem_of
from predictord.worker.response import JSON_HEADERS, MAX_BODY_BYTES, is_streaming_response, too_large
from predictord.worker.stream_format import StreamFormat

NOTHING: Any = object()
"""What a stream yields that yields no more."""


class Returned(Enum):
    """How the return value of `predict` is sent."""

    WHOLE = 1
    GENERATOR = 2
    ASYNC_GENERATOR = 3
    RESPONSE = 4
    """A starlette response that is more than a body."""


WHOLE = Returned.WHOLE  # by name each use would cost a request a tenth of a microsecond
_JOINED_BYTES = 1 << 14
_CHUNK_HEADER: bytes = encode(StreamChunk())
_PLAIN_TYPES = frozenset({dict, list, tuple, str, bytes, int, float, bool, type(None)})
"""What is sent whole, and nothing follows it."""


def classify(returned: Any) -> Returned:
    """How to send what `predict` returned."""
    if type(returned) in _PLAIN_TYPES:
        return WHOLE
    if inspect.isgenerator(returned):
        return Returned.GENERATOR
    if inspect.isasyncgen(returned):
        return Returned.ASYNC_GENERATOR
    return Returned.RESPONSE if is_streaming_response(returned) else Returned.WHOLE


class Exchange:
    """The clock of the exchange in hand, and the frames that it is answered with.

    `number` is the socket's count of them.
    """

    def __init__(self) -> None:
        self.number = 0
        self.is_fit = True
        """False once an answer has said that the process cannot go on."""
        self._started = 0.0

    def begin(self) -> None:
        """The next one has come."""
        self.number += 1
        self._started = perf_counter()

    def elapsed_ms(self) -> float:
        """Milliseconds since the worker had the whole frame."""
        return (perf_counter() - self._started) * 1e3

    def answer(self, outcomes: list[Outcome], *, busy: bool = False) -> list[Buffer]:
        """The frame with one answer for each request; `busy` when the slot is not free yet."""
        unfit = any(outcome.unfit for outcome in outcomes)
        self.is_fit = self.is_fit and not unfit
        message = Answers([outcome.head for outcome in outcomes], self.elapsed_ms(), self.number, busy, unfit)
        bodies: list[Buffer] = [outcome.body for outcome in outcomes if outcome.head.body_bytes]
        return [frame_head(message, sum(map(len, bodies))), *bodies]

    def answer_json(self, body: bytes) -> list[Buffer]:
        """The frame with the one answer that nearly all are: JSON, and nothing follows."""
        size = len(body)
        if size > MAX_BODY_BYTES:
            raise too_large(size)
        head = AnswerHead(200, JSON_HEADERS, size)
        header = encode(Answers([head], (perf_counter() - self._started) * 1e3, self.number))
        if size > _JOINED_BYTES:
            return [PREFIX.pack(len(header), size) + header, body]
        return [PREFIX.pack(len(header), size) + header + body]  # one copy is cheaper than two buffers

    def stream_start(self, form: StreamFormat, piece: bytes) -> list[Buffer]:
        """The head of a stream and its first piece, which go out together."""
        start = StreamStart(200, form.header_block, self.elapsed_ms(), self.number)
        return [frame_head(start), *stream_chunk(piece)]

    def stream_failure(self, error: BaseException) -> StreamEnd:
        """The end of a stream that has begun and then failed."""
        unfit = is_sticky_cuda(error)
        self.is_fit = self.is_fit and not unfit
        return StreamEnd(problem_of(error), busy=True, unfit=unfit)


def stream_chunk(piece: Buffer) -> list[Buffer]:
    """The frame with the next piece of a stream."""
    size = len(piece)
    head = PREFIX.pack(len(_CHUNK_HEADER), size) + _CHUNK_HEADER
    return [head, piece] if size > _JOINED_BYTES else [head + piece]


def sent_nothing() -> Problem:
    """A response that was run and never began its answer."""
    return Problem(Code.PREDICTOR_ERROR, "the response that predict returned sent nothing")
