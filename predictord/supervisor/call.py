"""A call: one client's prediction on its way from the door through the queue to a slot and back."""

from collections.abc import Sequence
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from predictord.problem import Problem
from predictord.supervisor.request_body import Pieces
from predictord.wire import AnswerHead, RequestHead, StreamStart

if TYPE_CHECKING:
    from predictord.supervisor.slot import Slot

Buffer = bytes | bytearray | memoryview


class Stage(Enum):
    """Where a call is; it only ever moves down this list, but for a requeue after ECONNRESET."""

    QUEUED = 1
    HANDED = 2
    """A worker has it: it is never run again."""
    STREAMING = 3
    DONE = 4


class Served(Protocol):
    """Who ran a call, for the response's headers and the error's body."""

    place_id: int
    generation: int


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


class Call:
    """One prediction; `client` is `None` once the client has left."""

    __slots__ = (
        "arrived",
        "body",
        "client",
        "generation",
        "handed",
        "head",
        "is_event_stream",
        "overdue",
        "place_id",
        "predict_ms",
        "slot",
        "stage",
    )

    def __init__(self, head: RequestHead, body: Pieces, client: Client, arrived: float) -> None:
        self.head = head
        self.body = body
        self.client: Client | None = client
        self.arrived = arrived
        """`loop.time()` when its body was complete."""
        self.handed = 0.0
        self.predict_ms: float | None = None
        """What the worker took; `None` until it has said so."""
        self.is_event_stream = False
        self.overdue: Problem | None = None
        """What the client is told once its time is up; a call that is overdue is never run again."""
        self.slot: Slot | None = None
        self.stage = Stage.QUEUED
        self.place_id: int | None = None
        self.generation: int | None = None

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
        """Forget the worker that had not read it whole."""
        self.stage = Stage.QUEUED
        self.slot = self.place_id = self.generation = None
        self.handed = 0.0
