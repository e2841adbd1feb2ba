"""One prediction in this process, through the very code that serves: the `predict` verb."""

import asyncio
import os
import socket
import threading
from collections.abc import Callable
from time import perf_counter

from predictord.errors import PredictorError, WorkerError
from predictord.frames import FrameReader
from predictord.generation import Generation
from predictord.problem import MEDIA_TYPE, Problem
from predictord.wire import (
    Answers,
    Buffer,
    Free,
    Predict,
    RequestHead,
    StreamChunk,
    StreamEnd,
    StreamStart,
    ToSupervisor,
    WorkerOptions,
    frame_head,
)
from predictord.worker.channel import Channel
from predictord.worker.known_messages import KnownMessages
from predictord.worker.loader import Loader
from predictord.worker.loading import load_predictor, looks_async
from predictord.worker.predictor import LoadedPredictor
from predictord.worker.sync_server import SyncServer


def predict_once(
    generation: Generation,
    options: WorkerOptions,
    head: RequestHead,
    body: bytes,
    on_head: Callable[[int, bytes], None],
    on_body: Callable[[Buffer], None],
    on_traceback: Callable[[str], None],
) -> dict[str, float]:
    """Load the predictor and answer one request on the calling thread; a stream's pieces come as they are made.

    `on_head` gets the status and the rendered header lines, and `on_traceback` that of
    predict where it raised, which the body does not have. Returns milliseconds by
    what took them. Raises `PredictorError` when the load fails, or a stream after it has begun.
    """
    near, far = socket.socketpair()
    far.sendall(frame_head(Predict([head], [len(body)]), len(body)))
    reader = _Reader(far, on_head, on_body, on_traceback)
    # The predictor has the main thread, as in a worker; so the answer is read by another.
    reading = threading.Thread(target=reader.run, args=(body,), daemon=True)
    started = perf_counter()

    def load() -> LoadedPredictor:
        predictor = load_predictor(Loader(generation), generation, options)
        reader.load_ms = (perf_counter() - started) * 1e3
        reading.start()
        return predictor

    predictor = asyncio.run(_load_and_serve(load, near)) if looks_async(generation) else load()
    if predictor is not None and predictor.contract.is_async:
        asyncio.run(_serve(predictor, near))
    elif predictor is not None:
        SyncServer(predictor, Channel(near, KnownMessages())).run()
    reading.join()
    if reader.error is not None:
        raise reader.error
    return {"load": reader.load_ms, "predict": reader.predict_ms}


async def _load_and_serve(load: Callable[[], LoadedPredictor], near: socket.socket) -> LoadedPredictor | None:
    predictor = load()
    if not predictor.contract.is_async:
        return predictor
    await _serve(predictor, near)
    return None


async def _serve(predictor: LoadedPredictor, near: socket.socket) -> None:
    from predictord.worker.async_server import serve

    await serve(predictor, [near])


class _Reader:
    """The supervisor's side of the one exchange."""

    def __init__(
        self,
        sock: socket.socket,
        on_head: Callable[[int, bytes], None],
        on_body: Callable[[Buffer], None],
        on_traceback: Callable[[str], None],
    ) -> None:
        self._socket = sock
        self._on_head = on_head
        self._on_body = on_body
        self._on_traceback = on_traceback
        self._frames = FrameReader()
        self._done = False
        self.load_ms = 0.0
        self.predict_ms = 0.0
        self.error: Exception | None = None

    def run(self, body: bytes) -> None:
        """Send the body, pass on the answer, and let the server end."""
        try:
            self._socket.sendall(body)
            while not self._done:
                frames = self._frames.read(self._socket)
                if frames is None:
                    raise WorkerError("the predictor's server ended without an answer")
                for message, piece in frames:
                    self._take(message, piece)
        except Exception as error:
            self.error = error
        finally:
            self._socket.close()

    def _take(self, message: ToSupervisor, piece: Buffer) -> None:
        if isinstance(message, Answers):
            self.predict_ms = message.predict_ms
            answer = message.answers[0]
            if answer.problem is not None:
                self._fail(answer.problem)
            else:
                self._on_head(answer.status, answer.header_block)
                self._on_body(piece)
            self._done = not message.busy
        elif isinstance(message, StreamStart):
            self.predict_ms = message.predict_ms
            self._on_head(message.status, message.header_block)
        elif isinstance(message, StreamChunk):
            self._on_body(piece)
        elif isinstance(message, StreamEnd):
            if message.problem is not None:
                self.error = PredictorError(message.problem.detail, message.problem.traceback or "")
            self._done = not message.busy
        elif isinstance(message, Free):
            self._done = True

    def _fail(self, problem: Problem) -> None:
        if problem.traceback:
            self._on_traceback(problem.traceback)
        self._on_head(problem.status, f"content-type: {MEDIA_TYPE}\r\n".encode())
        self._on_body(problem.body(f"predict-{os.getpid()}"))
