"""Serves a sync predictor: each data socket has one thread that reads, predicts and answers in turn."""

import inspect
import logging
from collections.abc import Generator
from time import perf_counter
from typing import TYPE_CHECKING, Any

from predictord.wire import (
    Answers,
    Free,
    Ping,
    Pong,
    Predict,
    RequestHead,
    StreamChunk,
    StreamEnd,
    StreamStart,
    ToSupervisor,
    frame_head,
)
from predictord.worker.asgi import ClientLeft, run_response
from predictord.worker.batch import Batch
from predictord.worker.channel import Buffer, Channel, ChannelClosed
from predictord.worker.failure import is_sticky_cuda
from predictord.worker.outcome import Outcome, Stopping, failure, problem_of, success
from predictord.worker.predictor import Arguments, LoadedPredictor, header
from predictord.worker.response import is_streaming_response
from predictord.worker.stream_format import StreamFormat

if TYPE_CHECKING:
    import asyncio

log = logging.getLogger("predictord.worker")


class SyncServer:
    """One thread's loop; the thread is the main one when concurrency is 1."""

    def __init__(self, predictor: LoadedPredictor, channel: Channel) -> None:
        self._predictor = predictor
        self._channel = channel
        self._batching = predictor.contract.max_batch_size > 1
        self._runner: asyncio.Runner | None = None

    def run(self) -> None:
        """Serve until the supervisor closes the socket."""
        channel = self._channel
        try:
            while True:
                message, body = channel.receive()
                if isinstance(message, Predict):
                    if self._batching:
                        self._serve_batch(message, body)
                    else:
                        self._serve(message.requests[0], body)
                elif isinstance(message, Ping):
                    channel.send(Pong())
                # A Cancel here came too late: its exchange has ended.
        except ChannelClosed:
            return

    def _serve(self, head: RequestHead, body: Buffer) -> None:
        started = perf_counter()
        try:
            filled = self._predictor.fill(head, body)
        except BaseException as error:
            self._answer([failure(error)], started, busy=False)
            return
        try:
            returned = self._predictor.predict(**self._predictor.predict_arguments(filled))
        except BaseException as error:
            self._answer([failure(error)], started, busy=False)
            return
        if inspect.isasyncgen(returned):
            returned = self._drive(returned)
        if inspect.isgenerator(returned):
            self._stream(returned, head, started)
            self._after_stream(filled, None)
        elif is_streaming_response(returned):
            self._stream_response(returned, head, started)
            self._after_stream(filled, returned)
        else:
            background = getattr(returned, "background", None)
            busy = self._predictor.post_predict is not None or background is not None
            self._answer([success(returned)], started, busy)
            if busy:
                self._post_predict(filled, returned)
                if background is not None:
                    self._run_background(background)
                self._channel.send(Free())

    def _serve_batch(self, message: Predict, body: Buffer) -> None:
        started = perf_counter()
        batch = Batch(self._predictor, message, body)
        returned, called = None, False
        try:
            if batch.size:
                returned = self._predictor.predict(**self._predictor.predict_arguments(batch.filled))
                called = True
            outcomes = batch.finish(returned if batch.size else [])
        except BaseException as error:
            outcomes = batch.fail(error)
        busy = called and self._predictor.post_predict is not None
        self._answer(outcomes, started, busy)
        if busy:
            self._post_predict(batch.filled, returned)
            self._channel.send(Free())

    def _answer(self, outcomes: list[Outcome], started: float, busy: bool) -> None:
        unfit = any(outcome.unfit for outcome in outcomes)
        message = Answers([outcome.head for outcome in outcomes], _elapsed_ms(started), busy, unfit)
        bodies: list[Buffer] = [outcome.body for outcome in outcomes if outcome.head.body_bytes]
        size = sum(map(len, bodies))
        self._channel.send_parts([frame_head(message, size), *bodies])

    def _stream(self, generator: Generator[Any, Any, Any], head: RequestHead, started: float) -> None:
        """Send what a generator yields; its first item decides the kind, or is a plain error."""
        channel = self._channel
        try:
            first = next(generator, _NOTHING)
            if first is _NOTHING:
                self._answer([success(b"")], started, busy=True)
                return
            form = StreamFormat.choose(first, header(head.headers, b"accept"))
            piece = form.encode(first)
        except BaseException as error:
            self._answer([failure(error)], started, busy=True)
            _close(generator)
            return
        start = StreamStart(200, form.header_block, _elapsed_ms(started))
        channel.send_parts([frame_head(start), frame_head(StreamChunk(), len(piece)), piece])
        end: ToSupervisor = StreamEnd(busy=True)
        try:
            while not channel.cancelled():
                item = next(generator, _NOTHING)
                if item is _NOTHING:
                    break
                piece = form.encode(item)
                channel.send(StreamChunk(), piece)
        except (ChannelClosed, Stopping):
            raise
        except BaseException as error:
            problem = problem_of(error)
            end = StreamEnd(problem, form.error_tail(problem, head.id), busy=True, unfit=is_sticky_cuda(error))
        _close(generator)
        channel.send(end)

    def _stream_response(self, response: Any, head: RequestHead, started: float) -> None:
        begun = False
        cancelled = False

        async def send(message: ToSupervisor, body: Buffer) -> None:
            nonlocal begun
            begun = True
            self._channel.send(message, body)

        def client_left() -> bool:
            nonlocal cancelled
            cancelled = cancelled or (begun and self._channel.cancelled())
            return cancelled

        ended = False
        try:
            ended = self._loop().run(run_response(response, head, send, client_left, lambda: _elapsed_ms(started)))
        except (ChannelClosed, Stopping):
            raise
        except BaseException as error:
            if not begun:
                self._answer([failure(error)], started, busy=True)
            elif not isinstance(error, ClientLeft) and not cancelled:
                self._channel.send(StreamEnd(problem_of(error), busy=True))
                return
        if begun and not ended:
            self._channel.send(StreamEnd(busy=True))

    def _after_stream(self, filled: Arguments, returned: Any) -> None:
        if self._predictor.post_predict is not None:
            self._post_predict(filled, returned)
        self._channel.send(Free())

    def _post_predict(self, filled: Arguments, returned: Any) -> None:
        if self._predictor.post_predict is None:
            return
        try:
            self._predictor.post_predict(**self._predictor.post_arguments(filled, returned))
        except Stopping:
            raise
        except BaseException:
            log.exception("post_predict failed")

    def _run_background(self, background: Any) -> None:
        try:
            self._loop().run(background())
        except Stopping:
            raise
        except BaseException:
            log.exception("the response's background task failed")

    def _drive(self, items: Any) -> Generator[Any, None, None]:
        """An async generator that a sync `predict` returned, item by item."""
        runner = self._loop()

        async def following() -> Any:
            return await anext(items, _NOTHING)

        async def close() -> None:
            await items.aclose()

        try:
            while (item := runner.run(following())) is not _NOTHING:
                yield item
        finally:
            runner.run(close())

    def _loop(self) -> "asyncio.Runner":
        # Starlette's responses are coroutines; the thread gets a loop of its own when one first turns up.
        if self._runner is None:
            import asyncio

            self._runner = asyncio.Runner()
        return self._runner


_NOTHING: Any = object()


def _elapsed_ms(started: float) -> float:
    return (perf_counter() - started) * 1e3


def _close(generator: Generator[Any, Any, Any]) -> None:
    try:
        generator.close()
    except Stopping:
        raise
    except BaseException:
        log.exception("closing the stream's generator failed")
