"""Calls that are written behind the one in hand: a slot and the worker's own loop at the two ends of a socket pair."""

import asyncio
import random
import select
import socket
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager
from functools import partial, wraps
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from predictord.problem import Problem
from predictord.supervisor.alarm import LoopAlarm
from predictord.supervisor.call import Call, Origin, Stage
from predictord.supervisor.data_socket import End
from predictord.supervisor.dispatch import Dispatcher
from predictord.supervisor.slot import Slot
from predictord.wire import (
    AnswerHead,
    Answers,
    Buffer,
    Cancel,
    Free,
    Ping,
    Predict,
    Recalled,
    RequestHead,
    StreamChunk,
    StreamEnd,
    StreamStart,
    frame_head,
)
from predictord.worker.channel import Channel
from predictord.worker.known_messages import KnownMessages
from predictord.worker.predictor import LoadedPredictor
from predictord.worker.sync_server import SyncServer

HEAD = RequestHead(None, "POST", "/", b"", "1.1", None, [])


def on_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """A test that is a coroutine."""

    @wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


class Predictor:
    """Looks to the worker's loop like a loaded predictor; a request's body is a number."""

    contract = SimpleNamespace(max_batch_size=1)
    post_predict = None

    def __init__(self, predict: Callable[[int], Any]) -> None:
        self._predict = predict
        self.ran: list[int] = []

    def fill(self, head: RequestHead, body: Buffer) -> int:
        return int(body)

    def predict_arguments(self, filled: int) -> dict[str, int]:
        return {"number": filled}

    def predict(self, number: int) -> Any:
        self.ran.append(number)
        return self._predict(number)


class Worker:
    """A worker's end in a thread of its own, and the supervisor's slot for it; both a place and a client."""

    origin = Origin(0, 1)
    is_async = False
    takes_ahead = True
    max_batch_size = 1
    batch_interval_s = 0.0

    def __init__(self, predict: Callable[[int], Any], release: Callable[["Worker", Slot], object]) -> None:
        self.near, self.far = socket.socketpair()
        self.requests = 0
        self.reasons: list[str] = []
        self.unfit_told = 0
        self.recalled: list[int] = []
        self.answered: list[int] = []
        self.on_recalled: Callable[[list[Call]], object] = lambda calls: None
        self.slot = Slot(asyncio.get_running_loop(), self.near, self, 0, lambda slot: release(self, slot))
        self.slots, self.free_slots = [self.slot], [self.slot]
        self.predictor = Predictor(predict)
        server = SyncServer(cast(LoadedPredictor, self.predictor), Channel(self.far, KnownMessages()))
        self.thread = threading.Thread(target=server.run)
        self.thread.start()

    def end(self) -> None:
        """Let go of it."""
        self.slot.close()
        self.thread.join(10)
        assert not self.thread.is_alive()
        self.far.close()

    def call(self, number: int, cookie: int = 0) -> Call:
        """A call that waits in no queue yet, with so many bytes in a header."""
        body = str(number).encode()
        head = msgspec.structs.replace(HEAD, headers=[(b"cookie", bytes(cookie))])
        frame = frame_head(Predict([head], [len(body)]), len(body))
        return Call(body, HEAD, [body], len(body), self, time.monotonic(), frame)

    def has_come_to(self, number: int) -> bool:
        """Whether this one runs, and all before it are answered."""
        return len(self.predictor.ran) == number + 1 and len(self.answered) == number

    # --- slot.SlotOwner

    def slot_broken(self, slot: Slot, reason: str) -> None:
        self.reasons.append(reason)

    def unfit(self) -> None:
        self.unfit_told += 1
        self.slot.recall()

    def slot_recalled(self, calls: list[Call]) -> None:
        self.recalled += numbers(calls)
        self.on_recalled(calls)

    # --- call.Client

    def answer(self, call: Call, head: AnswerHead, body: Buffer) -> None:
        self.answered.append(int(call.id))

    def start_stream(self, call: Call, start: StreamStart) -> None: ...

    def stream(self, call: Call, chunks: Sequence[Buffer]) -> None: ...

    def end_stream(self, call: Call, problem: Problem | None) -> None:
        self.answered.append(int(call.id))

    def fail(self, call: Call, problem: Problem) -> None:
        raise AssertionError(problem)


def numbers(calls: Iterable[Call]) -> list[int]:
    return [int(call.id) for call in calls]


@asynccontextmanager
async def working(predict: Callable[[int], Any]) -> AsyncIterator[Worker]:
    """A worker with 0 in hand and 1 to 4 ahead."""
    worker = Worker(predict, lambda worker, slot: None)
    try:
        worker.slot.hand([worker.call(0)], time.monotonic())
        worker.slot.hand_ahead([worker.call(number) for number in range(1, 5)])
        yield worker
    finally:
        worker.end()


async def until(is_true: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not is_true():
            await asyncio.sleep(0.001)


@on_a_loop
async def test_each_is_in_hand_when_the_one_before_is_answered() -> None:
    near, far = socket.socketpair()
    owner = SimpleNamespace(origin=Origin(0, 1), is_async=False, requests=0)
    released: list[Slot] = []
    slot = Slot(asyncio.get_running_loop(), near, cast(Worker, owner), 0, released.append)
    calls = [Worker.call(cast(Worker, owner), number) for number in range(5)]
    for call in calls:
        call.client = None
    slot.hand(calls[:1], 1.0)
    slot.hand_ahead(calls[1:])
    for number in range(5):
        assert (numbers(slot.calls), numbers(slot.ahead)) == ([number], list(range(number + 1, 5)))
        assert calls[number].stage is Stage.HANDED
        assert {call.stage for call in slot.ahead} <= {Stage.QUEUED}
        assert len(released) == (number == 4)  # for more, while the last is in hand
        far.sendall(frame_head(Answers([AnswerHead(200, b"", 0)], 0.1, number + 1)))
        await until(partial(is_done, calls[number]))
    assert (slot.busy, len(released), owner.requests) == (False, 2, 4)
    slot.close()
    far.close()


def is_done(call: Call) -> bool:
    return call.stage is Stage.DONE


@on_a_loop
async def test_what_is_ahead_of_a_slow_one_is_taken_back_at_once() -> None:
    go = threading.Event()
    async with working(lambda number: {"ok": go.wait(10)}) as worker:
        await until(lambda: worker.predictor.ran)
        assert worker.slot.take_back() == []  # nobody has asked for it
        worker.slot.recall()
        assert numbers(worker.slot.take_back()) == [1, 2, 3, 4]
        go.set()
        await until(lambda: not worker.slot.busy)
        assert (worker.predictor.ran, worker.answered, worker.recalled, worker.reasons) == ([0], [0], [], [])


@on_a_loop
async def test_a_recall_to_a_worker_between_two_is_answered() -> None:
    go = threading.Event()
    async with working(lambda number: {"ok": go.wait(10)}) as worker:
        await until(lambda: worker.predictor.ran)
        worker.slot.recall()
        go.set()
        await until(lambda: not worker.slot.busy)
        assert (worker.predictor.ran, worker.recalled) == ([0], [1, 2, 3, 4])
        assert worker.slot.calls == []
        # The count of exchanges is the same at both ends: the next one is answered.
        worker.slot.hand([worker.call(9)], time.monotonic())
        await until(lambda: 9 in worker.answered)
        assert worker.reasons == []


@on_a_loop
async def test_a_worker_that_dies_had_begun_none_of_them() -> None:
    begin, at_two = threading.Event(), threading.Event()

    def predict(number: int) -> dict[str, int]:
        assert begin.wait(10)
        if number == 2:
            worker.far.shutdown(socket.SHUT_RDWR)
            at_two.set()
        return {"number": number}

    async with working(predict) as worker:
        begin.set()
        await until(at_two.is_set)
        worker.slot.drain()
        assert worker.answered == [0, 1]
        assert (numbers(worker.slot.calls), numbers(worker.slot.ahead)) == ([2], [3, 4])
        assert worker.slot.end is End.TAKEN


@on_a_loop
async def test_unread_bytes_were_those_of_what_is_ahead() -> None:
    """ECONNRESET tells that something was not read: only with nothing ahead is it the frame in hand.

    Unless that never left.
    """
    loop = asyncio.get_running_loop()
    for ahead, dead, end in ((0, False, End.UNREAD), (1, False, End.TAKEN), (1, True, End.UNREAD)):
        near, far = socket.socketpair()
        worker = cast(Worker, SimpleNamespace(origin=Origin(0, 1), is_async=False, requests=0))
        slot = Slot(loop, near, worker, 0, lambda slot: None)
        call = Worker.call(worker, 0)
        if dead:  # so that nothing leaves
            far.close()
        slot.hand([call], 1.0)
        if ahead:
            slot.hand_ahead([Worker.call(worker, 1)])
        far.close()
        slot.drain()
        assert slot.end is end
        assert len(slot.ahead) == ahead
        slot.close()


@on_a_loop
async def test_what_never_left_for_a_dead_worker_was_not_begun() -> None:
    near, far = socket.socketpair()
    worker = cast(Worker, SimpleNamespace(origin=Origin(0, 1), is_async=False, requests=0))
    slot = Slot(asyncio.get_running_loop(), near, worker, 0, lambda slot: None)
    calls = [Worker.call(worker, number) for number in range(3)]
    calls[0].client = None
    slot.hand(calls[:1], 1.0)
    far.sendall(frame_head(Answers([AnswerHead(200, b"", 0)], 0.1, 1)))
    far.close()
    slot.hand_ahead(calls[1:])
    slot.drain()
    assert (slot.calls, list(slot.ahead), slot.end) == (calls[1:2], calls[2:], End.UNREAD)
    slot.close()


@on_a_loop
async def test_after_a_broken_rule_they_count_as_begun() -> None:
    go = threading.Event()
    async with working(lambda number: {"ok": go.wait(10)}) as worker:
        await until(lambda: worker.predictor.ran)
        worker.far.sendall(b"\xff" * 64)
        await until(lambda: worker.reasons)
        assert (numbers(worker.slot.calls), numbers(worker.slot.ahead)) == ([0, 1, 2, 3, 4], [])
        go.set()


@on_a_loop
async def test_an_unfit_worker_begins_none_of_them() -> None:
    def predict(number: int) -> Any:
        raise RuntimeError("CUDA error: device-side assert triggered")

    async with working(predict) as worker:
        time.sleep(0.1)  # the supervisor is not quick enough to stop it
        await until(lambda: not worker.slot.busy)
        assert (worker.predictor.ran, worker.unfit_told, worker.answered) == ([0], 1, [0])
        assert worker.recalled == [1, 2, 3, 4]


@on_a_loop
async def test_what_is_ahead_of_a_stream_is_given_back_while_it_goes_on() -> None:
    over = threading.Event()

    def predict(number: int) -> Any:
        while not over.wait(0.001):
            yield "piece"

    async with working(predict) as worker:
        await until(lambda: worker.recalled)
        assert (worker.recalled, worker.slot.busy, numbers(worker.slot.calls)) == ([1, 2, 3, 4], True, [0])
        over.set()
        await until(lambda: not worker.slot.busy)
        assert (worker.predictor.ran, worker.answered) == ([0], [0])


@on_a_loop
async def test_what_is_ahead_of_a_stream_that_rests_is_taken_back() -> None:
    over = threading.Event()

    def predict(number: int) -> Any:
        yield "piece"
        assert over.wait(10)

    async with working(predict) as worker:
        await until(lambda: worker.slot.calls[0].stage is Stage.STREAMING)
        assert numbers(worker.slot.take_back()) == [1, 2, 3, 4]
        over.set()
        await until(lambda: not worker.slot.busy)
        assert (worker.predictor.ran, worker.recalled) == ([0], [])


@on_a_loop
async def test_a_stream_that_never_pauses_is_no_proof() -> None:
    over = threading.Event()

    def predict(number: int) -> Any:
        while not over.is_set():
            yield "piece"

    async with working(predict) as worker:
        await until(lambda: worker.slot.calls[0].stage is Stage.STREAMING)
        worker.slot.recall()
        taken_back = numbers(worker.slot.take_back())  # returns, although pieces come and come
        await until(lambda: taken_back + worker.recalled == [1, 2, 3, 4])
        over.set()
        await until(lambda: not worker.slot.busy)


@on_a_loop
async def test_a_stream_that_is_full_of_pieces_is_not_read_to_its_end() -> None:
    near, far = socket.socketpair()
    worker = cast(Worker, SimpleNamespace(origin=Origin(0, 1), is_async=False, requests=0))
    slot = Slot(asyncio.get_running_loop(), near, worker, 0, lambda slot: None)
    call, behind = Worker.call(worker, 0), Worker.call(worker, 1)
    call.client = None
    slot.hand([call], 1.0)
    slot.hand_ahead([behind])
    far.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 18)
    far.settimeout(5)
    slot.recall()
    far.sendall(frame_head(StreamStart(200, b"", 1.0, 1)) + (frame_head(StreamChunk(), 1000) + bytes(1000)) * 110)
    assert slot.take_back() == []
    assert slot.calls[0].stage is Stage.STREAMING
    await until(lambda: not select.select([near], [], [], 0)[0])
    assert slot.take_back() == [behind]
    slot.close()
    far.close()


@on_a_loop
async def test_a_cancel_that_comes_late_is_not_the_next_streams() -> None:
    first, second = threading.Event(), threading.Event()

    def predict(number: int) -> Any:
        yield "head"
        assert (first if number == 0 else second).wait(10)
        for _ in range(5):
            time.sleep(0.002)
            yield "piece"

    async with working(predict) as worker:
        slot = worker.slot
        await until(lambda: slot.calls[0].stage is Stage.STREAMING)
        first.set()
        await until(lambda: not slot.busy)
        slot.hand([worker.call(7)], time.monotonic())
        await until(lambda: slot.calls and slot.calls[0].stage is Stage.STREAMING)
        worker.near.sendall(frame_head(Cancel(1)))  # for the first, which has ended meanwhile
        ended: list[bool] = []
        worker.end_stream = lambda call, problem: ended.append(problem is None)  # type: ignore[method-assign]
        pieces: list[Buffer] = []
        worker.stream = lambda call, chunks: pieces.extend(chunks)  # type: ignore[method-assign]
        second.set()
        await until(lambda: ended)
        assert b"".join(pieces).count(b"piece") == 5


@on_a_loop
async def test_a_recall_is_seen_however_much_lies_before_it() -> None:
    go = threading.Event()
    worker = Worker(lambda number: {"ok": go.wait(10)}, lambda worker, slot: None)
    long = [worker.call(number, cookie=1900) for number in range(16)]
    assert all(len(call.frame or b"") <= 1 << 11 for call in long)  # the longest that goes ahead
    worker.slot.hand(long[:1], time.monotonic())
    await until(lambda: worker.predictor.ran)
    worker.slot.hand_ahead(long[1:])
    worker.slot.recall()
    assert numbers(worker.slot.take_back()) == list(range(1, 16))
    go.set()
    await until(lambda: not worker.slot.busy)
    assert (worker.predictor.ran, worker.reasons) == ([0], [])
    worker.end()


@on_a_loop
async def test_a_recall_answered_before_the_slot_is_free_frees_nothing() -> None:
    near, far = socket.socketpair()
    recalled: list[Call] = []
    released: list[Slot] = []
    owner = SimpleNamespace(origin=Origin(0, 1), is_async=False, requests=0, slot_recalled=recalled.extend)
    slot = Slot(asyncio.get_running_loop(), near, cast(Worker, owner), 0, released.append)
    calls = [Worker.call(cast(Worker, owner), number) for number in range(3)]
    calls[0].client = None
    slot.hand(calls[:1], 1.0)
    slot.hand_ahead(calls[1:])
    start = frame_head(StreamStart(200, b"", 1.0, 1))
    far.sendall(start + frame_head(StreamEnd(busy=True)) + frame_head(Recalled()))
    await until(lambda: recalled)
    assert (recalled, slot.busy, released) == (calls[1:], True, [])
    far.sendall(frame_head(Free()))
    await until(lambda: not slot.busy)
    assert released == [slot]
    slot.close()
    far.close()


@on_a_loop
async def test_what_was_ahead_keeps_its_turn() -> None:
    go = threading.Event()
    dispatcher = Dispatcher(max_queue=100, queue_timeout_s=0, clock=time.monotonic, outlook=lambda: None)
    worker = Worker(lambda number: {"ok": go.wait(10)}, dispatcher.release)
    worker.on_recalled = dispatcher.put_back
    dispatcher.join(worker)
    dispatcher.submit(worker.call(0))
    worker.slot.hand_ahead([worker.call(number) for number in range(1, 4)])
    for number in (10, 11):
        dispatcher.submit(worker.call(number))
    await until(lambda: worker.predictor.ran)
    dispatcher.leave(worker)
    dispatcher.join(worker)
    go.set()
    await until(lambda: len(worker.answered) == 6)
    assert worker.predictor.ran == [0, 1, 2, 3, 10, 11]
    worker.end()


@on_a_loop
async def test_a_prediction_that_was_not_quick_sends_the_others_elsewhere() -> None:
    def nap(number: int) -> dict[str, int]:
        time.sleep(0.008)
        return {}

    dispatcher = Dispatcher(max_queue=100, queue_timeout_s=0, clock=time.monotonic, outlook=lambda: None)
    dispatcher.alarm = LoopAlarm(asyncio.get_running_loop(), dispatcher.tick)
    workers = [Worker(nap, dispatcher.release), Worker(lambda number: {}, dispatcher.release)]
    for worker in workers:
        worker.on_recalled = dispatcher.put_back
        worker.slot.quick = 1000
        dispatcher.join(worker)
    for number in range(20):
        dispatcher.submit(workers[0].call(number))
    workers[0].slot.hand_ahead([workers[0].call(number) for number in range(20, 28)])
    await until(lambda: len(workers[0].answered) == 28)
    assert len(workers[0].predictor.ran) <= 4
    for worker in workers:
        worker.end()


@on_a_loop
async def test_only_quick_predictions_in_a_row_count() -> None:
    near, far = socket.socketpair()
    owner = SimpleNamespace(origin=Origin(0, 1), is_async=False, requests=0)
    slot = Slot(asyncio.get_running_loop(), near, cast(Worker, owner), 0, lambda slot: None)
    counts = []
    for number, (milliseconds, busy) in enumerate(
        [(0.1, False), (0.1, False), (0.3, False), (0.1, False), (0.1, True)]
    ):
        call = Worker.call(cast(Worker, owner), number)
        call.client = None
        slot.hand([call], 1.0)
        answer = Answers([AnswerHead(200, b"", 0)], milliseconds, number + 1, busy)
        far.sendall(frame_head(answer) + frame_head(Free()) * busy)
        await until(lambda: not slot.busy)
        counts.append(slot.quick)
    assert counts == [1, 2, 0, 1, 0]
    slot.hand([call], 1.0)
    far.sendall(frame_head(Answers([AnswerHead(200, b"", 0)], 0.1, 6)))
    await until(lambda: slot.quick == 1)
    slot.ask(Ping(), lambda reply: None)
    assert slot.quick == 0  # what comes after it may be other code
    slot.close()
    far.close()


@pytest.mark.parametrize("seed", range(8))
@on_a_loop
async def test_whatever_happens_each_runs_once(seed: int) -> None:
    """Bursts to two workers, now and then slow ones, while a worker leaves and comes back."""
    rng = random.Random(seed)
    naps = {number: rng.choice([0.001, 0.012, 0.03]) for number in range(3000) if rng.random() < 0.01}

    def predict(number: int) -> dict[str, int]:
        if number in naps:
            time.sleep(naps[number])
        return {"number": number}

    dispatcher = Dispatcher(max_queue=4000, queue_timeout_s=0, clock=time.monotonic, outlook=lambda: None)
    dispatcher.alarm = LoopAlarm(asyncio.get_running_loop(), dispatcher.tick)
    workers = [Worker(predict, dispatcher.release) for _ in range(2)]
    went_ahead = 0
    for worker in workers:
        worker.on_recalled = dispatcher.put_back
        dispatcher.join(worker)
    at = 0
    while at < 3000:
        burst = rng.choice([1, 3, 20, 60])
        for number in range(at, min(at + burst, 3000)):
            dispatcher.submit(workers[0].call(number))
        at += burst
        away = rng.choice(workers) if rng.random() < 0.2 else None
        if away is not None:
            dispatcher.leave(away)
        for _ in range(rng.choice([1, 1, 5, 20])):
            went_ahead += sum(len(worker.slot.ahead) for worker in workers)
            await asyncio.sleep(0.0005 * rng.random())
        if away is not None:
            dispatcher.join(away)
    await until(lambda: len(workers[0].answered) == 3000)
    await until(lambda: not any(worker.slot.busy for worker in workers))
    ran = Counter(number for worker in workers for number in worker.predictor.ran)
    assert set(ran.values()) == {1}
    assert len(ran) == 3000
    assert went_ahead > 100
    assert (dispatcher.depth, sum(worker.requests for worker in workers)) == (0, 3000)
    for worker in workers:
        assert worker.reasons == []
        worker.end()
