"""A slot: what goes on over one data socket, one exchange at a time.

While predictions are quick, the next calls are written behind the one in hand, so that the worker goes on
without waiting. Such a call counts as queued until the one before it is answered, and can be taken back.
"""

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Protocol

import msgspec

from predictord.frames import Frame
from predictord.supervisor.call import Call, Origin, Stage
from predictord.supervisor.data_socket import DataSocket, End
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
    Recall,
    Recalled,
    StreamChunk,
    StreamEnd,
    StreamStart,
    Swapped,
    ToSupervisor,
    frame_head,
)

_STREAM_BYTES = 1 << 9
"""Read of a stream at once: of a rush of small pieces few enough that no other connection waits for long."""

_MOST_READS = 32
"""Reads of a stream that are made to get to its end; one that has more to say goes on later."""

_QUICK_MS = 0.2
"""What a prediction takes at most to count as quick."""

_REPLIES = (Pong, Prepared, Swapped)
_HANDED, _DONE = Stage.HANDED, Stage.DONE  # by name each would cost a request a tenth of a microsecond


class SlotOwner(Protocol):
    """The place a slot belongs to, told what happens on it."""

    origin: Origin
    """Who answers, as responses say it."""
    requests: int
    """Calls that the worker was given."""

    @property
    def is_async(self) -> bool:
        """Whether what it has in hand can be cancelled."""

    def slot_broken(self, slot: "Slot", reason: str) -> None:
        """The worker broke the protocol, or closed the socket while it lives."""

    def unfit(self) -> None:
        """The worker asks to be retired (a sticky CUDA error)."""

    def slot_recalled(self, calls: list[Call]) -> None:
        """The worker has not begun these, and will not."""


class Slot(DataSocket):
    """Writes frames to a worker and reads its answers, straight from the loop's callbacks."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        owner: SlotOwner,
        thread: int,
        release: "Callable[[Slot], object]",
    ) -> None:
        super().__init__(loop, sock)
        self._owner = owner
        self._release = release
        """Told that the slot may take the next exchange, or that what it has ahead runs out."""
        self._exchanges = 0
        self._due: int | None = None
        """The number of the exchange that an answer is due for."""
        self._on_reply: Callable[[ToSupervisor], object] | None = None
        self._cancel_sent = False
        self._recalling = False
        """Whether `Recalled` is due."""
        self._finishing = False
        """Whether `Free` is due."""
        self._has_left = False
        """Whether the whole frame of what is in hand had left when it, or what is behind it, was written."""
        self._ahead_has_left = False
        """The same of what is ahead."""
        self.thread = thread
        """Ident of the worker's thread behind it, as `faulthandler` prints it."""
        self.calls: list[Call] = []
        """What the worker has in hand; empty as soon as it has answered."""
        self.ahead: deque[Call] = deque()
        """What is written behind that, and counts as queued."""
        self.quick = 0
        """How many of the latest exchanges in a row were quick, and nothing followed their answers."""
        self.busy = False
        """Whether an exchange is going on: also while `post_predict` runs after the answer, and for a ping."""
        self.since = 0.0
        """When (`time.monotonic`) the answer, or the next piece of the stream, became due; 0 when none is."""

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
            self._has_left = self._writer.send_whole(call.frame + call.body[0])
            return
        parts: list[Buffer] = [b""]
        for call in calls:
            parts += call.body
        sizes = [call.body_bytes for call in calls]
        parts[0] = frame_head(Predict([call.head for call in calls], sizes), sum(sizes))
        self._writer.send(parts)
        self._has_left = not self._writer.is_pending

    def hand_ahead(self, calls: list[Call]) -> None:
        """Write calls, whose frames are ready, behind the one in hand."""
        self._note_left()
        self.ahead.extend(calls)
        data = b"".join([call.frame + call.body[0] for call in calls])  # type: ignore[operator]
        self._ahead_has_left = self._writer.send_whole(data)

    def recall(self) -> None:
        """Ask for what is ahead back; what comes of that is told by `take_back` or to the owner."""
        if self.ahead and not self._recalling and self.end is None:
            self._recalling = True
            self.quick = 0
            self._note_left()
            self._writer.send([frame_head(Recall())])

    def take_back(self) -> list[Call]:
        """What is ahead after a `recall`, without waiting for the worker, which may be busy for long.

        Before it begins a request, a worker sends the answer of the one before and then looks for a `Recall`.
        So one whose predecessor's answer is not here by now, with the `Recall` written, is never begun.
        The pieces of a stream may come and come; then the worker, which looks while it sends, will say it soon.
        Not to be called by what a frame's arrival has set off, since it reads.
        """
        if self._recalling and not self._writer.is_pending:
            for _ in range(_MOST_READS):
                if self.end is not None:
                    break
                if not self._on_readable():
                    return self._take_ahead()
        return []

    @property
    def is_asking(self) -> bool:
        """Whether all that it waits for is the answer to `ask`."""
        return self._on_reply is not None

    def ask(self, message: Ping | PrepareSwap | CommitSwap, on_reply: Callable[[ToSupervisor], object]) -> None:
        """Ask the thread behind the slot something that is no prediction; the slot is taken until it answers."""
        self.busy = True
        self.since = 0.0
        self.quick = 0  # new code may be slower
        self._on_reply = on_reply
        self._writer.send([frame_head(message)])

    def cancel(self) -> None:
        """Tell the worker, once, that nobody waits for what it has in hand any more."""
        if self.end is None and not self._cancel_sent:
            self._cancel_sent = True
            self._note_left()
            self._writer.send([frame_head(Cancel(self._exchanges))])

    def abandon(self) -> None:
        """The client has left: a stream is closed, an async prediction cancelled, a sync one runs to its end."""
        self.resume_reading()
        if any(call.client is not None for call in self.calls):
            return  # others of the batch still wait
        if self._owner.is_async or self._is_streaming:
            self.cancel()

    def pause_reading(self) -> None:
        """Take no more of a stream: the client's connection is full, and so will be the worker's socket."""
        self.since = 0.0
        super().pause_reading()

    def resume_reading(self) -> None:
        """Go on taking a stream."""
        if self.is_paused:
            super().resume_reading()
            self._note_progress()

    # --- data_socket.DataSocket

    def _take(self, frames: list[Frame]) -> None:
        if len(frames) == 1:
            message, body = frames[0]
            if type(message) is Answers:
                self._on_answers(message, body)
            else:
                self._on_frame(message, body)
            return
        pieces: list[Buffer] = []  # neighbouring pieces of a stream go to the client together
        for message, body in frames:
            kind = type(message)
            if kind is StreamChunk:
                pieces.append(body)
                continue
            if pieces:
                self._on_pieces(pieces)
                pieces = []
            if kind is Answers and self.end is None:
                self._on_answers(message, body)  # type: ignore[arg-type]
            else:
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
        elif kind is Free and self._finishing:
            self._finishing = False
            self._free()
        elif kind is Recalled and self._recalling:
            self._on_recalled()
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
        if message.predict_ms > _QUICK_MS or message.busy:
            self.quick = 0
            self.recall()
        else:
            self.quick += 1
        if message.busy or message.unfit:
            self._settle(message.busy, message.unfit)
        elif self.ahead or self._recalling:
            self._go_on()
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
        self.quick = 0
        self.recall()
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
        if not self._is_streaming:
            self._break("sent a piece of a stream out of turn")
            return
        self._note_progress()
        call = self.calls[0]
        if call.client is not None:
            call.client.stream(call, pieces)

    def _on_stream_end(self, message: StreamEnd) -> None:
        if not self._is_streaming:
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
            self._finishing = True
            self._note_progress()
        else:
            self._free()

    def _free(self) -> None:
        if self.ahead or self._recalling:
            self._go_on()
            return
        self.busy = False
        self.since = 0.0
        self._release(self)

    def _go_on(self) -> None:
        """The worker is done with what it had in hand, and takes what is ahead, if anything still is."""
        if not self.ahead:
            self._note_progress()  # `Recalled` is due
            return
        self._due = self._exchanges = self._exchanges + 1
        self._cancel_sent = False
        self._has_left = self._ahead_has_left
        call = self.ahead.popleft()
        self.calls = [call]
        call.slot = self
        call.stage = _HANDED
        call.origin = self._owner.origin
        call.handed = self.since = monotonic()
        self._owner.requests += 1
        if not self.ahead:
            self._release(self)

    def _on_recalled(self) -> None:
        """The worker has forgotten what was ahead. It says so between two requests, or while it streams."""
        self._recalling = False
        back = self._take_ahead()
        goes_on = self._is_streaming or self._finishing
        if self.calls and not goes_on:  # due, but not begun
            back = self.calls + back
            self.calls = []
            self._due = None
            self._exchanges -= 1
            self._owner.requests -= 1
        self._owner.slot_recalled(back)
        if not goes_on:
            self._free()

    def _take_ahead(self) -> list[Call]:
        calls = list(self.ahead)
        self.ahead.clear()
        return calls

    @property
    def _is_streaming(self) -> bool:
        return bool(self.calls) and self.calls[0].stage is Stage.STREAMING

    def _note_left(self) -> None:
        """More is going to be written behind what is in hand, and would be taken for it."""
        self._has_left = self._has_left or not self._writer.is_pending

    def _is_unread(self, *, reset: bool) -> bool:
        if not self._has_left and self._writer.is_pending:
            return True
        return reset and not (self.ahead or self._recalling or self._cancel_sent)  # else those may be the bytes

    def _note_progress(self) -> None:
        if not self.is_paused:
            self.since = monotonic()

    def _break(self, reason: str) -> None:
        """The worker has broken the rules: nothing more is read from it, and it may have begun what is ahead."""
        for call in self._take_ahead():
            call.stage = _HANDED
            call.origin = self._owner.origin
            self._owner.requests += 1
            self.calls.append(call)
        self._finish(End.TAKEN)
        self._owner.slot_broken(self, reason)

    def _on_early_end(self) -> None:
        self._owner.slot_broken(self, "closed its data socket")
