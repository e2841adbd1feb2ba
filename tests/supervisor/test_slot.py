"""What a slot makes of the frames of a worker that breaks the rules, on a socket pair of our own."""

import asyncio
import socket
from collections.abc import Sequence

import pytest

from predictord.problem import Problem
from predictord.supervisor.call import Call, Origin
from predictord.supervisor.slot import Slot
from predictord.wire import AnswerHead, Answers, Buffer, RequestHead, StreamChunk, StreamStart, frame_head

HEAD = RequestHead(None, "POST", "/", b"", "1.1", None, [])
START = frame_head(StreamStart(200, b"", 1.0, 1))
PIECE = frame_head(StreamChunk(), 3) + b"abc"
ANSWER = frame_head(Answers([AnswerHead(200, b"", 0)], 1.0, 1))
STRAY = frame_head(Answers([AnswerHead(200, b"", 0)], 1.0, 2))


class Owner:
    """Notes that the worker can't be trusted any more."""

    origin = Origin(0, 1)
    is_async = False

    def __init__(self) -> None:
        self.reasons: list[str] = []
        self.requests = 0

    def slot_broken(self, slot: Slot, reason: str) -> None:
        self.reasons.append(reason)

    def unfit(self) -> None: ...
    def slot_recalled(self, calls: list[Call]) -> None: ...


class Client:
    """Notes what it is sent."""

    def __init__(self) -> None:
        self.got: list[str] = []

    def answer(self, call: Call, head: AnswerHead, body: Buffer) -> None:
        self.got.append("answer")

    def start_stream(self, call: Call, start: StreamStart) -> None:
        self.got.append("start")

    def stream(self, call: Call, chunks: Sequence[Buffer]) -> None:
        self.got += ["piece"] * len(chunks)

    def end_stream(self, call: Call, problem: Problem | None) -> None:
        self.got.append("end")

    def fail(self, call: Call, problem: Problem) -> None:
        self.got.append("fail")


@pytest.mark.parametrize(
    ("frames", "got"),
    [
        ([STRAY, ANSWER], []),
        ([PIECE, START, PIECE], []),
        ([START, PIECE, START, PIECE, PIECE], ["start", "piece"]),
        ([START, PIECE, ANSWER, PIECE], ["start", "piece"]),
        ([ANSWER, PIECE, PIECE], ["answer"]),
    ],
    ids=["another's answer", "piece before the start", "second start", "answer in a stream", "piece after the answer"],
)
def test_what_follows_a_broken_rule_counts_for_nothing(frames: list[bytes], got: list[str]) -> None:
    owner, client = asyncio.run(hear(frames))
    assert client.got == got
    assert len(owner.reasons) == 1


async def hear(frames: list[bytes]) -> tuple[Owner, Client]:
    """Who has been told what, after a worker with one request in hand has sent these frames at once."""
    near, far = socket.socketpair()
    owner, client = Owner(), Client()
    with far:
        slot = Slot(asyncio.get_running_loop(), near, owner, 0, lambda slot: None)
        slot.hand([Call(b"1", HEAD, [b""], 0, client, 0.0)], 1.0)
        far.sendall(b"".join(frames))
        async with asyncio.timeout(10):
            while not owner.reasons:
                await asyncio.sleep(0)
        slot.close()
    return owner, client
