"""A call: one client's prediction on its way from the door through the queue to a slot and back."""

from collections.abc import Sequence
from enum import Enum
from typing import TYPE_CHECKING, Protocol

import msgspec

from predictord.problem import Problem
from predictord.supervisor.request_body import Pieces
from predictord.wire import AnswerHead, Buffer, RequestHead, StreamStart

if TYPE_CHECKING:
    from predictord.supervisor.slot import Slot


class Stage(Enum):
    """Where a call is; it only ever moves down this list, unless its worker has not begun it, and will not."""

    QUEUED = 1
    HANDED = 2
    """A worker has it: it is never run again."""
    STREAMING = 3
    DONE = 4


class Origin:
    """Which worker of which generation runs a call; `header_block` says so in an answer's head."""

    def __init__(self, place_id: int, generation: int) -> None:
        self.place_id = place_id
        self.generation = generation
        self.header_block = b"x-predictord-worker: %d\r\nx-predictord-generation: %d\r\n" % (place_id, generation)


class Client(Protocol):
    """The connection behind a call; the door implements it."""

    def answer(self, call: "Call", head: AnswerHead, body: Buffer) -> None:
        """Send a whole answer."""

    def start_stream(self, call: "Call", start: StreamStart) -> None:
        """Send the head of a stream."""

    def stream(self, call: "Call", chunks: Sequence[Buffer]) -> None:
        """Send pieces of a stream."""

    def end_stream(self, call: "Call", problem: Problem | None) -> None:
        """End a stream, or cut it when there is a problem."""

    def fail(self, call: "Call", problem: Problem) -> None:
        """Send an error before anything else of the answer was sent."""


class Call(msgspec.Struct, eq=False):
    """One prediction; a struct of msgspec's, which is made and filled by one call of C."""

    id: bytes
    head: RequestHead
    body: Pieces
    body_bytes: int
    client: Client | None
    """`None` once the client has left."""
    arrived: float
    """When its body was complete (`time.monotonic`)."""
    frame: bytes | None = None
    """What goes to a worker before its body, where the door has that ready."""
    handed: float = 0.0
    predict_ms: float | None = None
    """What the worker took; `None` until it has said so."""
    is_event_stream: bool = False
    overdue: Problem | None = None
    """What the client is told once its time is up; a call that is overdue is never run again."""
    slot: "Slot | None" = None
    stage: Stage = Stage.QUEUED
    origin: Origin | None = None
    """Who runs it; `None` while it is queued."""

    @property
    def place_id(self) -> int | None:
        """The worker that runs it, if one does."""
        return None if self.origin is None else self.origin.place_id

    def fail(self, problem: Problem) -> None:
        """Tell the client that this call failed, after a stream has begun by cutting it.

        What a worker still sends for it is dropped.
        """
        client, self.client = self.client, None
        if client is None:
            return
        if self.stage is Stage.STREAMING:
            client.end_stream(self, problem)
        else:
            client.fail(self, problem)

    def put_back(self) -> None:
        """Forget the worker that has not begun it."""
        self.stage = Stage.QUEUED
        self.slot = self.origin = None
        self.handed = 0.0
