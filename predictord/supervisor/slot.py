"""A slot: the supervisor's end of one data socket, which carries one exchange at a time."""

import asyncio
import socket
from collections.abc import Callable
from enum import Enum
from time import monotonic
from typing import Protocol

import msgspec

from predictord.errors import WorkerError
from predictord.frames import Frame, FrameReader, FrameWriter
from predictord.supervisor.call import Call, Origin, Stage
from predictord.wire import (
    CHUNK_BYTES,
    AnswerHead,
    Answers,
    Buffer,
    Cancel,
    CommitSwap,
    Free,
    Ping,
    Pong,
    Predict,
    Prepared,
    PrepareSwap,
    StreamChunk,
    StreamEnd,
    StreamStart,
    Swapped,
    ToSupervisor,
    frame_head,
)

_STREAM_BYTES = 1 << 9
"""Read of a stream at once: of a rush of small pieces few enough that no other connection waits for long."""

_REPLIES = (Pong, Prepared, Swapped)
_HANDED, _DONE = Stage.HANDED, Stage.DONE  # by name each would cost a request a tenth of a microsecond


class End(Enum):
    """How a data socket ended, which says what became of the last frame written to it."""

    TAKEN = 1
    """End of file: the worker read the frame, so its request may have run."""
    UNREAD = 2
    """ECONNRESET, or bytes that never left here: the worker did not have the whole frame."""


class SlotOwner(Protocol):
    """The place a slot belongs to, told what happens on it."""

    origin: Origin
    """Who answers, as responses say it."""

    @property
    def is_async(self) -> bool:
        """Whether what it has in hand can be cancelled."""

    def slot_broken(self, slot: "Slot", reason: str) -> None:
        """The worker broke the protocol, or closed the socket while it lives."""

    def unfit(self) -> None:
        """The worker asks to be retired (a sticky CUDA error)."""


class Slot:
    """Writes frames to a worker and reads its answers, straight from the loop's callbacks."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        owner: SlotOwner,
        thread: int,
        release: "Callable[[Slot], object]",
    ) -> None:
        sock.setblocking(False)
        self._loop = loop
        self._socket = sock
        self._owner = owner
        self._release = release
        """Told that the slot may take the next exchange."""
        self._reader = FrameReader()
        self._writer = FrameWriter(loop, sock)
        self._paused = False
        self._draining = False
        self._exchanges = 0
        self._due: int | None = None
        """The number of the exchange that an answer is due for."""
        self._on_reply: Callable[[ToSupervisor], object] | None = None
        self._cancel_sent = False
        self._predict_sent = False
        """Whether the whole `Predict` had left before the `Cancel`."""
        self.thread = thread
        """Ident of the worker's thread behind it, as `faulthandler` prints it."""
        self.calls: list[Call] = []
        """What the worker has in hand; empty as soon as it has answered."""
        self.busy = False
        """Whether an exchange is going on: also while `post_predict` runs after the answer, and for a ping."""
        self.since = 0.0
        """When (`time.monotonic`) the answer, or the next piece of the stream, became due; 0 when none is."""
        self.end: End | None = None
        loop.add_reader(sock.fileno(), self._on_readable)

    def hand(self, calls: list[Call], now: float) -> None:
        """Give the worker these calls as one frame; from here on they are never run again."""
        self.calls = calls
        self._due = self._exchanges = self._exchanges + 1
        self.busy = True
        self._cancel_sent = False
        self.since = now
        origin = self._owner.origin
        for call in calls:
            call.slot = self
            call.stage = _HANDED
            call.handed = now
            call.origin = origin
        if len(calls) == 1 and call.frame is not None:
            self._writer.send_whole(call.frame + call.body[0])
            return
        parts: list[Buffer] = [b""]
        for call in calls:
            parts += call.body
        sizes = [call.body_bytes for call in calls]
        parts[0] = frame_head(Predict([call.head for call in calls], sizes), sum(sizes))
        self._writer.send(parts)

    @property
    def is_asking(self) -> bool:
        """Whether all that it waits for is the answer to `ask`."""
        return self._on_reply is not None

    def ask(self, message: Ping | PrepareSwap | CommitSwap, on_reply: Callable[[ToSupervisor], object]) -> None:
        """Ask the thread behind the slot something that is no prediction; the slot is taken until it answers."""
        self.busy = True
        self.since = 0.0
        self._on_reply = on_reply
        self._writer.send([frame_head(message)])

    def cancel(self) -> None:
        """Tell the worker, once, that nobody waits for what it has in hand any more."""
        if self.end is None and not self._cancel_sent:
            self._cancel_sent = True
            self._predict_sent = not self._writer.is_pending
            self._writer.send([frame_head(Cancel())])

    def abandon(self) -> None:
        """The client has left: a stream is closed, an async prediction cancelled, a sync one runs to its end."""
        self.resume_reading()
        if any(call.client is not None for call in self.calls):
            return  # others of the batch still wait
        if self._owner.is_async or self.calls[0].stage is Stage.STREAMING:
            self.cancel()

    def pause_reading(self) -> None:
        """Take no more of a stream: the client's connection is full, and so will be the worker's socket."""
        if not self._paused and self.end is None:
            self._paused = True
            self.since = 0.0
            self._loop.remove_reader(self._socket.fileno())

    def resume_reading(self) -> None:
        """Go on taking a stream."""
        if self._paused and self.end is None:
            self._paused = False
            self._note_progress()
            self._loop.add_reader(self._socket.fileno(), self._on_readable)

    def drain(self) -> None:
        """Read what a dead worker left: answers that it sent, then how the socket ended."""
        self._draining = True
        while self.end is None:
            if not self._on_readable():
                # Somebody else still holds the worker's end; the frame counts as taken.
                self._finish(End.TAKEN)

    def close(self) -> None:
        """Let go of the socket, which asks the worker to end."""
        self._stop_watching()
        if self.end is None:
            self.end = End.TAKEN
        self._socket.close()

    def _on_readable(self) -> bool:
        """Act on what has come; False when nothing has."""
        try:
            frames = self._reader.read(self._socket)
        except BlockingIOError:
            return False
        except OSError:
            # An unread Cancel says nothing of the Predict before it, so that one counts as taken.
            self._close_early(End.TAKEN if self._cancel_sent and self._predict_sent else End.UNREAD)
        except WorkerError as error:
            self._break(str(error))
        else:
            if frames is None:
                only_cancel = self._cancel_sent and self._predict_sent
                self._close_early(End.UNREAD if self._writer.is_pending and not only_cancel else End.TAKEN)
            elif len(frames) == 1:
                message, body = frames[0]
                if type(message) is Answers:
                    self._on_answers(message, body)
                else:
                    self._on_frame(message, body)
            elif frames:
                self._on_frames(frames)
        return True

    def _on_frames(self, frames: list[Frame]) -> None:
        """Several frames at once: neighbouring pieces of a stream go to the client together."""
        pieces: list[Buffer] = []
        for message, body in frames:
            if type(message) is StreamChunk:
                pieces.append(body)
                continue
            self._on_pieces(pieces)
            pieces = []
            self._on_frame(message, body)
        self._on_pieces(pieces)

    def _on_frame(self, message: object, body: Buffer) -> None:
        if self.end is not None:
            return  # what follows a broken rule counts for nothing
        kind = type(message)
        if kind is Answers:
            self._on_answers(message, body)  # type: ignore[arg-type]
        elif kind is StreamChunk:
            self._on_pieces([body])
        elif kind is StreamStart:
            self._on_stream_start(message)  # type: ignore[arg-type]
        elif kind is StreamEnd:
            self._on_stream_end(message)  # type: ignore[arg-type]
        elif kind is Free and self.busy and not self.calls:
            self._free()
        elif kind in _REPLIES and self._on_reply is not None:
            on_reply, self._on_reply = self._on_reply, None
            self._free()
            on_reply(message)  # type: ignore[arg-type]
        else:
            self._break(f"sent {kind.__name__} out of turn")

    def _on_answers(self, message: Answers, body: Buffer) -> None:
        calls, heads = self.calls, message.answers
        count = len(heads)
        if message.number != self._due or count != len(calls):
            self._break(f"sent {count} answers to request {message.number} instead of {len(calls)} to {self._due}")
            return
        if count > 1 and sum(head.body_bytes for head in heads) != len(body):
            self._break("sent answers that do not fit their frame")
            return
        self._due = None
        self.calls = []
        # First the worker gets its next request, then the clients their answers.
        if message.busy or message.unfit:
            self._settle(message.busy, message.unfit)
        else:
            self.busy = False
            self.since = 0.0
            self._release(self)
        for call in calls:
            call.stage = _DONE
            call.predict_ms = message.predict_ms
        if count == 1:
            self._answer(calls[0], heads[0], body)
            return
        view, at = memoryview(body), 0
        for call, head in zip(calls, heads, strict=True):
            self._answer(call, head, view[at : at + head.body_bytes])
            at += head.body_bytes

    def _answer(self, call: Call, head: AnswerHead, body: Buffer) -> None:
        if call.overdue is not None and head.problem is not None:
            # Cancelled at its time limit: what came of that is the stack, not the reason.
            call.fail(msgspec.structs.replace(call.overdue, traceback=head.problem.traceback))
        elif call.client is not None:
            call.client.answer(call, head, body)

    def _on_stream_start(self, message: StreamStart) -> None:
        if message.number != self._due or len(self.calls) != 1:
            self._break(f"sent a stream for request {message.number} instead of {self._due}")
            return
        self._due = None
        call = self.calls[0]
        call.stage = Stage.STREAMING
        self._reader.most_bytes = _STREAM_BYTES
        call.predict_ms = message.predict_ms
        self._note_progress()
        if call.client is None:
            self.cancel()
        else:
            call.client.start_stream(call, message)

    def _on_pieces(self, pieces: list[Buffer]) -> None:
        if not pieces or self.end is not None:
            return
        if not self.calls or self.calls[0].stage is not Stage.STREAMING:
            self._break("sent a piece of a stream out of turn")
            return
        self._note_progress()
        call = self.calls[0]
        if call.client is not None:
            call.client.stream(call, pieces)

    def _on_stream_end(self, message: StreamEnd) -> None:
        if not self.calls or self.calls[0].stage is not Stage.STREAMING:
            self._break("ended a stream out of turn")
            return
        call = self.calls[0]
        self.calls = []
        self._reader.most_bytes = CHUNK_BYTES
        self.resume_reading()  # nobody else would: the call forgets its slot
        call.stage = Stage.DONE
        call.slot = None
        if call.client is not None:
            call.client.end_stream(call, message.problem)
        self._settle(message.busy, message.unfit)

    def _settle(self, busy: bool, unfit: bool) -> None:
        """The calls are answered: free the slot, or wait for `Free`."""
        if unfit:
            self._owner.unfit()
        if busy:
            self._note_progress()
        else:
            self._free()

    def _free(self) -> None:
        self.busy = False
        self.since = 0.0
        self._release(self)

    def _note_progress(self) -> None:
        if not self._paused:
            self.since = monotonic()

    def _break(self, reason: str) -> None:
        """The worker has broken the rules: nothing more is read from it."""
        self._finish(End.TAKEN)
        self._owner.slot_broken(self, reason)

    def _close_early(self, end: End) -> None:
        """The socket has ended; of a worker that is known to be dead that is no news."""
        self._finish(end)
        if not self._draining:
            self._owner.slot_broken(self, "closed its data socket")

    def _finish(self, end: End) -> None:
        self._stop_watching()
        self.end = end

    def _stop_watching(self) -> None:
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket.fileno())
            self._writer.stop()
