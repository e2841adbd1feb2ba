"""Serves a sync predictor: each data socket has one thread that reads, predicts and answers in turn."""

import logging
from collections.abc import Callable, Generator
from time import monotonic
from typing import TYPE_CHECKING, Any

from predictord.wire import (
    Buffer,
    CommitSwap,
    Free,
    Ping,
    Pong,
    Predict,
    PrepareSwap,
    Recall,
    Recalled,
    RequestHead,
    StreamEnd,
    ToSupervisor,
    header,
)
from predictord.worker.asgi import ClientLeft, run_response
from predictord.worker.batch import Batch
from predictord.worker.channel import Channel, ChannelClosed
from predictord.worker.exchange import (
    NOTHING,
    WHOLE,
    Exchange,
    Returned,
    classify,
    sent_nothing,
    stream_chunk,
)
from predictord.worker.json_tree import dumps
from predictord.worker.outcome import Outcome, Stopping, failure, of_problem, success
from predictord.worker.predictor import Arguments, LoadedPredictor
from predictord.worker.response import background_of
from predictord.worker.stream_format import StreamFormat

if TYPE_CHECKING:
    import asyncio

    from predictord.worker.swapping import Swapping

log = logging.getLogger("predictord.worker")

_LOOK_S = 0.001
"""How often a stream looks whether its client has left."""


class SyncServer:
    """One thread's loop; the thread is the main one when concurrency is 1."""

    def __init__(self, predictor: LoadedPredictor, channel: Channel, swapping: "Swapping | None" = None) -> None:
        self._predictor = predictor
        self._channel = channel
        self._swapping = swapping
        self._batching = predictor.contract.max_batch_size > 1
        self._exchange = Exchange()
        self._runner: asyncio.Runner | None = None

    def run(self) -> None:
        """Serve until the supervisor closes the socket."""
        channel, exchange = self._channel, self._exchange
        try:
            while True:
                message, body = channel.receive()
                if type(message) is Predict:
                    if not exchange.is_fit:
                        continue  # it came ahead; the supervisor takes it back
                    exchange.begin()
                    if self._batching:
                        self._serve_batch(message, body)
                    else:
                        self._serve(message.requests[0], body)
                elif isinstance(message, Recall):
                    channel.send(Recalled())
                elif isinstance(message, Ping):
                    channel.send(Pong())
                elif isinstance(message, PrepareSwap | CommitSwap) and self._swapping is not None:
                    channel.send(self._swapping.answer(message))
                # A Cancel here came too late: its exchange has ended.
        except ChannelClosed:
            return

    def _serve(self, head: RequestHead, body: Buffer) -> None:
        exchange, predictor = self._exchange, self._predictor
        try:
            filled = predictor.fill(head, body)
            returned = predictor.predict(**predictor.predict_arguments(filled))
            if type(returned) is dict and predictor.post_predict is None:
                answer = exchange.answer_json(dumps(returned))
            else:
                answer = None
                kind = classify(returned)
        except BaseException as error:
            self._answer(exchange, [failure(error)])
            return
        if answer is not None:
            self._channel.send_parts(answer)
        elif kind is WHOLE:
            background = background_of(returned)
            busy = predictor.post_predict is not None or background is not None
            self._answer(exchange, [success(returned)], busy=busy)
            if busy:
                self._finish(filled, returned, background)
        elif kind is Returned.RESPONSE:
            self._stream_response(exchange, returned, head)
            self._finish(filled, returned)
        else:
            items = returned if kind is Returned.GENERATOR else self._drive(returned)
            self._stream(exchange, items, head)
            self._finish(filled, None)

    def _serve_batch(self, message: Predict, body: Buffer) -> None:
        exchange = self._exchange
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
        self._answer(exchange, outcomes, busy=busy)
        if busy:
            self._finish(batch.filled, returned)

    def _answer(self, exchange: Exchange, outcomes: list[Outcome], *, busy: bool = False) -> None:
        self._channel.send_parts(exchange.answer(outcomes, busy=busy))

    def _stream(self, exchange: Exchange, generator: Generator[Any, Any, Any], head: RequestHead) -> None:
        """Send what a generator yields; its first item decides the kind, or is a plain error."""
        channel = self._channel
        try:
            first = next(generator, NOTHING)
            if first is NOTHING:
                self._answer(exchange, [success(b"")], busy=True)
                return
            form = StreamFormat.choose(first, header(head.headers, b"accept"))
            piece = form.encode(first)
        except BaseException as error:
            self._answer(exchange, [failure(error)], busy=True)
            _close(generator)
            return
        channel.send_parts(exchange.stream_start(form, piece))
        end = StreamEnd(busy=True)
        try:
            look_at = 0.0
            while (item := next(generator, NOTHING)) is not NOTHING:
                channel.send_parts(stream_chunk(form.encode(item)))
                if (now := monotonic()) >= look_at:  # to look costs as much as to send
                    look_at = now + _LOOK_S
                    if channel.cancelled(exchange.number):
                        break
        except (ChannelClosed, Stopping):
            raise
        except BaseException as error:
            end = exchange.stream_failure(error)
        _close(generator)
        channel.send(end)

    def _stream_response(self, exchange: Exchange, response: Any, head: RequestHead) -> None:
        """Run a starlette response and send what it sends."""
        begun = cancelled = False

        async def send(message: ToSupervisor, body: Buffer) -> None:
            nonlocal begun
            begun = True
            self._channel.send(message, body)

        def client_left() -> bool:
            nonlocal cancelled
            cancelled = cancelled or (begun and self._channel.cancelled(exchange.number))
            return cancelled

        ended, end = False, StreamEnd(busy=True)
        outcome = of_problem(sent_nothing())
        try:
            ended = self._loop().run(run_response(response, head, send, client_left, exchange))
        except (ChannelClosed, Stopping):
            raise
        except BaseException as error:
            outcome = failure(error)
            if not isinstance(error, ClientLeft) and not cancelled:
                end = exchange.stream_failure(error)
        if not begun:
            self._answer(exchange, [outcome], busy=True)
        elif not ended:
            self._channel.send(end)

    def _finish(self, filled: Arguments, returned: Any, background: Any = None) -> None:
        """What follows a `busy` answer: `post_predict`, a background task, and then the slot is free."""
        post_predict = self._predictor.post_predict
        if post_predict is not None:
            _guarded("post_predict", lambda: post_predict(**self._predictor.post_arguments(filled, returned)))
        if background is not None:
            _guarded("the response's background task", lambda: self._loop().run(background()))
        self._channel.send(Free())

    def _drive(self, items: Any) -> Generator[Any, None, None]:
        """An async generator that a sync `predict` returned, item by item."""
        runner = self._loop()

        async def following() -> Any:
            return await anext(items, NOTHING)

        async def close() -> None:
            await items.aclose()

        try:
            while (item := runner.run(following())) is not NOTHING:
                yield item
        finally:
            runner.run(close())

    def _loop(self) -> "asyncio.Runner":
        # Starlette's responses are coroutines; the thread gets a loop of its own when one first turns up.
        if self._runner is None:
            import asyncio

            self._runner = asyncio.Runner()
        return self._runner


def _close(generator: Generator[Any, Any, Any]) -> None:
    _guarded("closing the stream's generator", generator.close)


def _guarded(what: str, call: Callable[[], object]) -> None:
    """Run user code whose failure concerns nobody's answer any more."""
    try:
        call()
    except (ChannelClosed, Stopping):
        raise
    except BaseException:
        log.exception("%s failed", what)
