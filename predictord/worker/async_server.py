"""Serves an async predictor: one event loop, one task for each data socket."""

import asyncio
import inspect
import logging
import socket
from collections.abc import AsyncGenerator
from time import perf_counter
from typing import Any

from predictord.problem import Code, Problem
from predictord.wire import (
    PREFIX,
    Answers,
    Cancel,
    Free,
    Ping,
    Pong,
    Predict,
    RequestHead,
    StreamChunk,
    StreamEnd,
    StreamStart,
    ToSupervisor,
    ToWorker,
    decode_to_worker,
    frame_head,
)
from predictord.worker.asgi import ClientLeft, run_response
from predictord.worker.batch import Batch
from predictord.worker.channel import Buffer, ChannelClosed
from predictord.worker.failure import is_sticky_cuda, predictor_traceback
from predictord.worker.outcome import Outcome, Stopping, failure, of_problem, problem_of, success
from predictord.worker.predictor import Arguments, LoadedPredictor, header
from predictord.worker.response import is_streaming_response
from predictord.worker.stream_format import StreamFormat

log = logging.getLogger("predictord.worker")


class AsyncChannel(asyncio.BufferedProtocol):
    """One data socket on the loop: whole frames in, frames out; a `Cancel` cancels the task at once."""

    _SMALL_BYTES = 1 << 16

    def __init__(self) -> None:
        self._buffer = bytearray(self._SMALL_BYTES)
        self._filled = 0
        self._frames: asyncio.Queue[tuple[ToWorker, Buffer] | None] = asyncio.Queue()
        self._transport: asyncio.Transport | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self.in_hand: asyncio.Task[None] | None = None
        """The task that a `Cancel` cancels; set while a request is in hand."""
        self.was_cancelled = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def get_buffer(self, sizehint: int) -> memoryview:
        return memoryview(self._buffer)[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        self._filled += nbytes
        while (frame_bytes := self._frame_bytes()) and self._filled >= frame_bytes:
            self._take(frame_bytes)

    def connection_lost(self, exc: Exception | None) -> None:
        self._writable.set()
        self._frames.put_nowait(None)
        if self.in_hand is not None:
            self.in_hand.cancel()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    async def receive(self) -> tuple[ToWorker, Buffer]:
        """The next message and its body. Raises `ChannelClosed`."""
        frame = await self._frames.get()
        if frame is None:
            raise ChannelClosed("end of file")
        return frame

    async def send(self, message: ToSupervisor, body: Buffer = b"") -> None:
        """Write one frame; waits while the supervisor takes nothing."""
        self.write([frame_head(message, len(body)), body])
        await self._writable.wait()

    def write(self, parts: list[Buffer]) -> None:
        """Write buffers in order without waiting."""
        if self._transport is not None:
            self._transport.writelines([part for part in parts if len(part)])

    def _frame_bytes(self) -> int:
        """The length of the frame that the buffer begins with, once known; grows the buffer to hold it."""
        if self._filled < PREFIX.size:
            return 0
        header_bytes, body_bytes = PREFIX.unpack_from(self._buffer)
        total: int = PREFIX.size + header_bytes + body_bytes
        if total > len(self._buffer):
            grown = bytearray(total)
            grown[: self._filled] = memoryview(self._buffer)[: self._filled]
            self._buffer = grown
        return total

    def _take(self, frame_bytes: int) -> None:
        header_bytes, _ = PREFIX.unpack_from(self._buffer)
        view = memoryview(self._buffer)
        body_at = PREFIX.size + header_bytes
        message = decode_to_worker(view[PREFIX.size : body_at])
        if frame_bytes > self._SMALL_BYTES:
            body: Buffer = view[body_at:frame_bytes]
            rest = bytes(view[frame_bytes : self._filled])
            self._buffer = bytearray(max(self._SMALL_BYTES, len(rest)))
            self._buffer[: len(rest)] = rest
        else:
            body = bytes(view[body_at:frame_bytes])
            self._buffer[: self._filled - frame_bytes] = bytes(view[frame_bytes : self._filled])
        self._filled -= frame_bytes
        if isinstance(message, Cancel):
            if self.in_hand is not None:
                self.was_cancelled = True
                self.in_hand.cancel()
        else:
            self._frames.put_nowait((message, body))


class AsyncServer:
    """One data socket's task."""

    def __init__(self, predictor: LoadedPredictor, channel: AsyncChannel) -> None:
        self._predictor = predictor
        self._channel = channel
        self._batching = predictor.contract.max_batch_size > 1

    async def run(self) -> None:
        """Serve until the supervisor closes the socket."""
        channel = self._channel
        task = asyncio.current_task()
        try:
            while True:
                message, body = await channel.receive()
                if isinstance(message, Predict):
                    channel.in_hand = task
                    await self._exchange(message, body)
                    channel.in_hand = None
                elif isinstance(message, Ping):
                    await channel.send(Pong())
        except ChannelClosed:
            return

    async def _exchange(self, message: Predict, body: Buffer) -> None:
        """One request or batch; a `Cancel` ends it with an answer nobody reads, which frees the slot."""
        started = perf_counter()
        self._begun = False
        try:
            if self._batching:
                await self._serve_batch(message, body, started)
            else:
                await self._serve(message.requests[0], body, started)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if not self._channel.was_cancelled or task is None:
                raise
            task.uncancel()
            self._end_cancelled(error, len(message.requests), started)
        finally:
            self._channel.was_cancelled = False

    def _end_cancelled(self, error: asyncio.CancelledError, requests: int, started: float) -> None:
        if self._begun:
            self._channel.write([frame_head(StreamEnd())])
            return
        problem = Problem(Code.PREDICT_TIMEOUT, "cancelled", predictor_traceback(error))
        self._answer([of_problem(problem)] * requests, started, busy=False)

    async def _serve(self, head: RequestHead, body: Buffer, started: float) -> None:
        try:
            filled = self._predictor.fill(head, body)
            returned = self._predictor.predict(**self._predictor.predict_arguments(filled))
            if inspect.isawaitable(returned):
                returned = await returned
        except asyncio.CancelledError as error:
            if self._channel.was_cancelled:
                raise
            self._answer([failure(error)], started, busy=False)
            return
        except BaseException as error:
            self._answer([failure(error)], started, busy=False)
            return
        if inspect.isasyncgen(returned) or inspect.isgenerator(returned):
            await self._stream(_as_async(returned), head, started)
            await self._after(filled, None)
        elif is_streaming_response(returned):
            await self._stream_response(returned, head, started)
            await self._after(filled, returned)
        else:
            background = getattr(returned, "background", None)
            busy = self._predictor.post_predict is not None or background is not None
            self._answer([success(returned)], started, busy)
            if busy:
                await self._after(filled, returned, background)

    async def _serve_batch(self, message: Predict, body: Buffer, started: float) -> None:
        batch = Batch(self._predictor, message, body)
        returned, called = None, False
        try:
            if batch.size:
                returned = await self._predictor.predict(**self._predictor.predict_arguments(batch.filled))
                called = True
            outcomes = batch.finish(returned if batch.size else [])
        except asyncio.CancelledError as error:
            if self._channel.was_cancelled:
                raise
            outcomes = batch.fail(error)
        except BaseException as error:
            outcomes = batch.fail(error)
        busy = called and self._predictor.post_predict is not None
        self._answer(outcomes, started, busy)
        if busy:
            await self._after(batch.filled, returned)

    def _answer(self, outcomes: list[Outcome], started: float, busy: bool) -> None:
        unfit = any(outcome.unfit for outcome in outcomes)
        message = Answers([outcome.head for outcome in outcomes], _elapsed_ms(started), busy, unfit)
        bodies: list[Buffer] = [outcome.body for outcome in outcomes if outcome.head.body_bytes]
        self._channel.write([frame_head(message, sum(map(len, bodies))), *bodies])
        if busy:
            # The answer is out; a Cancel that comes now must not interrupt post_predict.
            self._channel.in_hand = None

    async def _stream(self, items: AsyncGenerator[Any, None], head: RequestHead, started: float) -> None:
        channel = self._channel
        try:
            first = await anext(items, _NOTHING)
            if first is _NOTHING:
                self._answer([success(b"")], started, busy=True)
                return
            form = StreamFormat.choose(first, header(head.headers, b"accept"))
            piece = form.encode(first)
        except asyncio.CancelledError:
            await _close(items)
            raise
        except BaseException as error:
            self._answer([failure(error)], started, busy=True)
            await _close(items)
            return
        self._begun = True
        start = StreamStart(200, form.header_block, _elapsed_ms(started))
        channel.write([frame_head(start), frame_head(StreamChunk(), len(piece)), piece])
        end = StreamEnd(busy=True)
        try:
            async for item in items:
                await channel.send(StreamChunk(), form.encode(item))
        except asyncio.CancelledError:
            await _close(items)
            raise
        except Stopping:
            raise
        except BaseException as error:
            problem = problem_of(error)
            end = StreamEnd(problem, form.error_tail(problem, head.id), busy=True, unfit=is_sticky_cuda(error))
        await _close(items)
        channel.in_hand = None
        await channel.send(end)

    async def _stream_response(self, response: Any, head: RequestHead, started: float) -> None:
        async def send(message: ToSupervisor, body: Buffer) -> None:
            self._begun = True
            await self._channel.send(message, body)

        ended = False
        try:
            ended = await run_response(
                response, head, send, lambda: self._channel.was_cancelled, lambda: _elapsed_ms(started)
            )
        except (asyncio.CancelledError, Stopping):
            raise
        except BaseException as error:
            if not self._begun:
                self._answer([failure(error)], started, busy=True)
            elif not isinstance(error, ClientLeft):
                self._channel.in_hand = None
                await self._channel.send(StreamEnd(problem_of(error), busy=True))
                return
        self._channel.in_hand = None
        if self._begun and not ended:
            await self._channel.send(StreamEnd(busy=True))

    async def _after(self, filled: Arguments, returned: Any, background: Any = None) -> None:
        if self._predictor.post_predict is not None:
            try:
                result = self._predictor.post_predict(**self._predictor.post_arguments(filled, returned))
                if inspect.isawaitable(result):
                    await result
            except (Stopping, asyncio.CancelledError):
                raise
            except BaseException:
                log.exception("post_predict failed")
        if background is not None:
            try:
                await background()
            except (Stopping, asyncio.CancelledError):
                raise
            except BaseException:
                log.exception("the response's background task failed")
        await self._channel.send(Free())


async def serve(predictor: LoadedPredictor, sockets: list[socket.socket]) -> None:
    """Serve all data sockets until the supervisor closes them."""
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as group:
        for sock in sockets:
            sock.setblocking(False)
            _, channel = await loop.create_unix_connection(AsyncChannel, sock=sock)
            group.create_task(AsyncServer(predictor, channel).run())


_NOTHING: Any = object()


def _elapsed_ms(started: float) -> float:
    return (perf_counter() - started) * 1e3


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
    try:
        await items.aclose()
    except (Stopping, asyncio.CancelledError):
        raise
    except BaseException:
        log.exception("closing the stream's generator failed")
