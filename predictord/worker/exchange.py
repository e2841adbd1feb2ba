"""What both servers make of a prediction, without I/O: its kind, its answer's frames, its times."""

import inspect
from enum import Enum
from time import perf_counter
from typing import Any

from predictord.problem import Code, Problem
from predictord.wire import Answers, StreamChunk, StreamEnd, StreamStart, frame_head
from predictord.worker.channel import Buffer
from predictord.worker.failure import is_sticky_cuda
from predictord.worker.outcome import Outcome, problem_of
from predictord.worker.response import is_streaming_response
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


def classify(returned: Any) -> Returned:
    """How to send what `predict` returned."""
    if inspect.isgenerator(returned):
        return Returned.GENERATOR
    if inspect.isasyncgen(returned):
        return Returned.ASYNC_GENERATOR
    return Returned.RESPONSE if is_streaming_response(returned) else Returned.WHOLE


class Exchange:
    """The clock of one exchange, and the frames that it is answered with; `number` is the socket's count of them."""

    def __init__(self, number: int) -> None:
        self.number = number
        self._started = perf_counter()

    def elapsed_ms(self) -> float:
        """Milliseconds since the worker had the whole frame."""
        return (perf_counter() - self._started) * 1e3

    def answer(self, outcomes: list[Outcome], *, busy: bool = False) -> list[Buffer]:
        """The frame with one answer for each request; `busy` when the slot is not free yet."""
        unfit = any(outcome.unfit for outcome in outcomes)
        message = Answers([outcome.head for outcome in outcomes], self.elapsed_ms(), self.number, busy, unfit)
        bodies: list[Buffer] = [outcome.body for outcome in outcomes if outcome.head.body_bytes]
        return [frame_head(message, sum(map(len, bodies))), *bodies]

    def stream_start(self, form: StreamFormat, piece: bytes) -> list[Buffer]:
        """The head of a stream and its first piece, which go out together."""
        start = StreamStart(200, form.header_block, self.elapsed_ms(), self.number)
        return [frame_head(start), frame_head(StreamChunk(), len(piece)), piece]


def stream_failure(error: BaseException) -> StreamEnd:
    """The end of a stream that has begun and then failed."""
    return StreamEnd(problem_of(error), busy=True, unfit=is_sticky_cuda(error))


def sent_nothing() -> Problem:
    """A response that was run and never began its answer."""
    return Problem(Code.PREDICTOR_ERROR, "the response that predict returned sent nothing")
