"""Serves an async predictor: one event loop, one task for each data socket."""

import asyncio
import inspect
import logging
import socket
from collections.abc import AsyncGenerator, Callable
from typing import TYPE_CHECKING, Any

from predictord.problem import Code, Problem
from predictord.wire import (
    Buffer,
    CommitSwap,
    Free,
    Ping,
    Pong,
    Predict,
    PrepareSwap,
    RequestHead,
    StreamEnd,
    ToSupervisor,
    frame_head,
    header,
)
from predictord.worker.asgi import ClientLeft, run_response
from predictord.worker.async_channel import AsyncChannel
from predictord.worker.batch import Batch
from predictord.worker.channel import ChannelClosed
from predictord.worker.exchange import (
    NOTHING,
    WHOLE,
    Exchange,
    Returned,
    classify,
    sent_nothing,
    stream_chunk,
)
from predictord.worker.failure import predictor_traceback
from predictord.worker.json_tree import dumps
from predictord.worker.known_messages import KnownMessages
from predictord.worker.outcome import Outcome, Stopping, failure, of_problem, success
from predictord.worker.predictor import Arguments, LoadedPredictor
from predictord.worker.response import background_of
from predictord.worker.stream_format import StreamFormat

if TYPE_CHECKING:
    from predictord.worker.swapping import Swapping

log = logging.getLogger("predictord.worker")


class AsyncServer:
    """One data socket's task."""

    def __init__(self, predictor: LoadedPredictor, channel: AsyncChannel, swapping: "Swapping | None" = None) -> None:
        self._predictor = predictor
        self._channel = channel
        self._swapping = swapping
        self._batching = predictor.contract.max_batch_size > 1
        self._exchange = Exchange()
        self._begun = False
        """Whether a stream has begun in this exchange."""

    async def run(self) -> None:
        """Serve until the supervisor closes the socket."""
        channel = self._channel
        try:
            while True:
                message, body = await channel.receive()
                if isinstance(message, Predict):
                    self._exchange.begin()
                    await self._answer_to(message, body)
                elif isinstance(message, Ping):
                    await channel.send(Pong())
                elif isinstance(message, PrepareSwap | CommitSwap) and self._swapping is not None:
                    await channel.send(self._swapping.answer(message))
        except ChannelClosed:
            return
        finally:
            channel.close()  # a task that was cancelled ends without a word: its request must not wait for an answer

    async def _answer_to(self, message: Predict, body: Buffer) -> None:
        """One request or batch; a `Cancel` ends it with an answer nobody reads, which frees the slot."""
        channel, exchange = self._channel, self._exchange
        self._begun = False
        task = asyncio.current_task()
        assert task is not None
        channel.in_hand = task
        try:
            if channel.was_cancelled:
                raise asyncio.CancelledError
            if self._batching:
                await self._serve_batch(exchange, message, body)
            else:
                await self._serve(exchange, message.requests[0], body)
        except asyncio.CancelledError as error:
            if not channel.was_cancelled:
                raise
            self._end_cancelled(exchange, error, len(message.requests))
        finally:
            channel.in_hand = None
            channel.was_cancelled = False
            while task.cancelling():  # also where the predictor has swallowed it
                task.uncancel()

    def _end_cancelled(self, exchange: Exchange, error: asyncio.CancelledError, requests: int) -> None:
        """The traceback of the cancelled task is its stack: where it was when its time was up."""
        if self._begun:
            self._channel.write([frame_head(StreamEnd())])
            return
        problem = Problem(Code.PREDICT_TIMEOUT, "the prediction was cancelled", predictor_traceback(error))
        self._answer(exchange, [of_problem(problem)] * requests)

    async def _serve(self, exchange: Exchange, head: RequestHead, body: Buffer) -> None:
        try:
            filled = self._predictor.fill(head, body)
            returned = self._predictor.predict(**self._predictor.predict_arguments(filled))
            if inspect.isawaitable(returned):
                returned = await returned
            if type(returned) is dict and self._predictor.post_predict is None:
                answer = exchange.answer_json(dumps(returned))
            else:
                answer = None
                kind = classify(returned)
        except BaseException as error:
            _raise_if_ours(error)
            self._answer(exchange, [failure(error)])
            return
        if answer is not None:
            self._channel.write(answer)
        elif kind is WHOLE:
            background = background_of(returned)
            busy = self._predictor.post_predict is not None or background is not None
            self._answer(exchange, [success(returned)], busy=busy)
            if busy:
                await self._finish(filled, returned, background)
        elif kind is Returned.RESPONSE:
            await self._stream_response(exchange, returned, head)
            await self._finish(filled, returned)
        else:
            await self._stream(exchange, _as_async(returned), head)
            await self._finish(filled, None)

    async def _serve_batch(self, exchange: Exchange, message: Predict, body: Buffer) -> None:
        batch = Batch(self._predictor, message, body)
        returned, called = None, False
        try:
            if batch.size:
                returned = self._predictor.predict(**self._predictor.predict_arguments(batch.filled))
                if inspect.isawaitable(returned):
                    returned = await returned
                called = True
            outcomes = batch.finish(returned if batch.size else [])
        except BaseException as error:
            _raise_if_ours(error)
            outcomes = batch.fail(error)
        busy = called and self._predictor.post_predict is not None
        self._answer(exchange, outcomes, busy=busy)
        if busy:
            await self._finish(batch.filled, returned)

    def _answer(self, exchange: Exchange, outcomes: list[Outcome], *, busy: bool = False) -> None:
        self._channel.write(exchange.answer(outcomes, busy=busy))
        # The answer is out: a Cancel that comes now must not interrupt post_predict.
        self._channel.in_hand = None

    async def _stream(self, exchange: Exchange, items: AsyncGenerator[Any, None], head: RequestHead) -> None:
        """Send what a generator yields; its first item decides the kind, or is a plain error."""
        channel = self._channel
        try:
            first = await anext(items, NOTHING)
            if first is NOTHING:
                self._answer(exchange, [success(b"")], busy=True)
                return
            form = StreamFormat.choose(first, header(head.headers, b"accept"))
            piece = form.encode(first)
        except BaseException as error:
            await _close(items)
            _raise_if_ours(error)
            self._answer(exchange, [failure(error)], busy=True)
            return
        self._begun = True
        channel.write(exchange.stream_start(form, piece))
        end = StreamEnd(busy=True)
        try:
            async for item in items:
                await channel.send_parts(stream_chunk(form.encode(item)))
                await asyncio.sleep(0)  # one that never waits must not keep the others, or its `Cancel`, waiting
        except BaseException as error:
            await _close(items)
            _raise_if_ours(error)
            end = exchange.stream_failure(error)
        await _close(items)
        channel.in_hand = None
        await channel.send(end)

    async def _stream_response(self, exchange: Exchange, response: Any, head: RequestHead) -> None:
        """Run a starlette response and send what it sends."""

        async def send(message: ToSupervisor, body: Buffer) -> None:
            self._begun = True
            if isinstance(message, StreamEnd):
                self._channel.in_hand = None  # a Cancel that comes now must not interrupt the background task
            await self._channel.send(message, body)

        ended, end = False, StreamEnd(busy=True)
        outcome = of_problem(sent_nothing())
        try:
            ended = await run_response(response, head, send, lambda: self._channel.was_cancelled, exchange)
        except BaseException as error:
            _raise_if_ours(error)
            outcome = failure(error)
            if not isinstance(error, ClientLeft):
                end = exchange.stream_failure(error)
        self._channel.in_hand = None
        if not self._begun:
            self._answer(exchange, [outcome], busy=True)
        elif not ended:
            await self._channel.send(end)

    async def _finish(self, filled: Arguments, returned: Any, background: Any = None) -> None:
        """What follows a `busy` answer: `post_predict`, a background task, and then the slot is free."""
        post_predict = self._predictor.post_predict
        if post_predict is not None:
            await _guarded("post_predict", lambda: post_predict(**self._predictor.post_arguments(filled, returned)))
        if background is not None:
            await _guarded("the response's background task", background)
        await self._channel.send(Free())


async def serve(predictor: LoadedPredictor, sockets: list[socket.socket], swapping: "Swapping | None" = None) -> None:
    """Serve all data sockets until the supervisor closes them."""
    loop = asyncio.get_running_loop()
    known = KnownMessages()  # one for all: hundreds of them would hold many a head that never comes again
    async with asyncio.TaskGroup() as group:
        for sock in sockets:
            sock.setblocking(False)
            _, channel = await loop.create_unix_connection(lambda: AsyncChannel(known), sock=sock)
            group.create_task(AsyncServer(predictor, channel, swapping).run())


def _raise_if_ours(error: BaseException) -> None:
    """Pass on what is not the predictor's: a stopping process, and a cancellation that somebody asked for.

    A `CancelledError` out of the predictor's own tasks is an error like any other.
    """
    task = asyncio.current_task()
    cancelled = isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling()
    if cancelled or isinstance(error, Stopping | ChannelClosed):
        raise error


async def _as_async(items: Any) -> AsyncGenerator[Any, None]:
    if inspect.isasyncgen(items):
        try:
            async for item in items:
                yield item
        finally:
            await items.aclose()
    else:
        try:
            for item in items:
                yield item
        finally:
            items.close()


async def _close(items: AsyncGenerator[Any, None]) -> None:
    await _guarded("closing the stream's generator", items.aclose)


async def _guarded(what: str, call: Callable[[], Any]) -> None:
    """Run user code whose failure concerns nobody's answer any more."""
    try:
        result = call()
        if inspect.isawaitable(result):
            await result
    except BaseException as error:
        _raise_if_ours(error)
        log.exception("%s failed", what)
