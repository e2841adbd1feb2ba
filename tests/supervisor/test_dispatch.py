"""The dispatcher's decisions, on a clock of our own: who gets which call, who waits, who is refused."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import pytest

from predictord.problem import Code, Problem
from predictord.supervisor.call import Call, Stage
from predictord.supervisor.dispatch import Dispatcher
from predictord.supervisor.slot import Slot
from predictord.wire import AnswerHead, Buffer, RequestHead, StreamStart


class FakeSlot:
    """Notes what it is handed."""

    def __init__(self) -> None:
        self.handed: list[list[str]] = []
        self.busy = False
        self.quick = 0
        self.since = 0.0
        self.calls: list[Call] = []
        self.ahead: list[Call] = []
        self.recalled = False

    def hand_ahead(self, calls: list[Call]) -> None:
        assert self.busy
        self.ahead += calls

    def recall(self) -> None:
        self.recalled = bool(self.ahead)

    def take_back(self) -> list[Call]:
        assert self.recalled
        calls, self.ahead = self.ahead, []
        return calls

    def hand(self, calls: list[Call], now: float) -> None:
        self.busy = True
        self.since = now
        self.calls = calls
        for call in calls:
            call.stage = Stage.HANDED
        self.handed.append([call.id.decode() for call in calls])


class FakeWorker:
    """A worker whose slots are free until they are taken."""

    dispatcher: Dispatcher

    def __init__(self, concurrency: int = 1, max_batch_size: int = 1, batch_interval_s: float = 0.0) -> None:
        self.fakes = [FakeSlot() for _ in range(concurrency)]
        self.slots = cast(list[Slot], self.fakes)
        self.free_slots = list(self.slots)
        self.requests = 0
        self.takes_ahead = concurrency == 1
        self.max_batch_size = max_batch_size
        self.batch_interval_s = batch_interval_s

    def free(self) -> None:
        """All slots have answered."""
        for slot in self.slots:
            if slot.busy:
                slot.busy = False
                self.dispatcher.release(self, slot)

    @property
    def handed(self) -> list[list[str]]:
        """The ids of each exchange, by slot."""
        return [ids for slot in self.fakes for ids in slot.handed]


class FakeClient:
    """Notes the problem that it is told."""

    def __init__(self) -> None:
        self.code: Code | None = None

    def fail(self, call: Call, problem: Problem) -> None:
        assert self.code is None
        self.code = problem.code

    def answer(self, call: Call, head: AnswerHead, body: Buffer) -> None: ...
    def start_stream(self, call: Call, start: StreamStart) -> None: ...
    def stream(self, call: Call, chunks: Sequence[Buffer]) -> None: ...
    def end_stream(self, call: Call, problem: Problem | None) -> None: ...


@dataclass
class Scene:
    """A dispatcher with its clock, its alarm and the fleet's outlook in our hands."""

    max_queue: int = 10
    queue_timeout_s: float = 60.0
    now: float = 100.0
    outlook: Problem | None = None
    alarm_at: float | None = None
    clients: dict[str, FakeClient] = field(default_factory=dict)
    calls: dict[str, Call] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.dispatcher = Dispatcher(
            max_queue=self.max_queue,
            queue_timeout_s=self.queue_timeout_s,
            clock=lambda: self.now,
            outlook=lambda: self.outlook,
        )
        self.dispatcher.alarm = self

    def set(self, when: float | None) -> None:
        self.alarm_at = when

    def submit(self, *ids: str, body_bytes: int = 0, frame: bytes | None = b"frame") -> None:
        """One call for each id arrives now."""
        for id in ids:
            self.clients[id] = FakeClient()
            head = RequestHead(None, "POST", "/", b"", "1.1", None, [])
            self.calls[id] = Call(id.encode(), head, [], body_bytes, self.clients[id], self.now, frame)
            self.dispatcher.submit(self.calls[id])

    def pass_time(self, seconds: float) -> None:
        """Let time go by; the alarm rings when it is due."""
        self.now += seconds
        if self.alarm_at is not None and self.alarm_at <= self.now:
            self.dispatcher.tick()

    @property
    def waiting(self) -> list[str]:
        """The queue, head first."""
        return [call.id.decode() for call in self.dispatcher.queue]

    def code(self, id: str) -> Code | None:
        """What the client was refused with."""
        return self.clients[id].code


def serving(scene: Scene, *workers: FakeWorker) -> tuple[FakeWorker, ...]:
    for worker in workers:
        worker.dispatcher = scene.dispatcher
        scene.dispatcher.join(worker)
    return workers


# --- turns


def test_free_workers_take_turns() -> None:
    scene = Scene()
    workers = serving(scene, FakeWorker(), FakeWorker(), FakeWorker())
    for number in range(9):
        scene.submit(str(number))
        for worker in workers:
            worker.free()
    assert [worker.handed for worker in workers] == [
        [["0"], ["3"], ["6"]],
        [["1"], ["4"], ["7"]],
        [["2"], ["5"], ["8"]],
    ]
    assert [worker.requests for worker in workers] == [3, 3, 3]


def test_busy_workers_lose_their_turn() -> None:
    scene = Scene()
    slow, quick = serving(scene, FakeWorker(), FakeWorker())
    for number in range(4):
        scene.submit(str(number))
        quick.free()
    assert (slow.handed, quick.handed) == ([["0"]], [["1"], ["2"], ["3"]])


def test_every_slot_of_a_worker_is_used() -> None:
    scene = Scene()
    first, second = serving(scene, FakeWorker(concurrency=3), FakeWorker())
    scene.submit(*"abcde")
    assert (len(first.handed), len(second.handed), scene.waiting) == (3, 1, ["e"])


@pytest.mark.parametrize("leaving", [0, 1, 2])
def test_turn_goes_on_where_it_was_when_a_worker_leaves(leaving: int) -> None:
    scene = Scene()
    workers = serving(scene, FakeWorker(), FakeWorker(), FakeWorker())
    scene.submit("a", "b")  # the third is next
    scene.dispatcher.leave(workers[leaving])
    for worker in workers:
        worker.free()
    scene.submit("c", "d")
    rest = [worker for worker in workers if worker is not workers[leaving]]
    following = rest if leaving == 2 else rest[::-1]
    assert [worker.handed[-1] for worker in following] == [["c"], ["d"]]
    assert not scene.dispatcher.has(workers[leaving])


# --- the queue


def test_first_come_first_served() -> None:
    scene = Scene()
    (worker,) = serving(scene, FakeWorker())
    scene.submit(*"abc")
    assert scene.waiting == ["b", "c"]
    for _ in range(2):
        worker.free()
    assert worker.handed == [["a"], ["b"], ["c"]]


def test_nobody_overtakes_the_queue() -> None:
    scene = Scene()
    (worker,) = serving(scene, FakeWorker())
    scene.submit("a", "b")
    worker.free()
    scene.submit("c")
    assert worker.handed == [["a"], ["b"]]


def test_worker_that_joins_takes_what_waits() -> None:
    scene = Scene()
    scene.submit("a")
    (worker,) = serving(scene, FakeWorker())
    assert (worker.handed, scene.waiting) == ([["a"]], [])


@pytest.mark.parametrize("max_queue", [0, 2])
def test_queue_is_bounded(max_queue: int) -> None:
    scene = Scene(max_queue=max_queue)
    serving(scene, FakeWorker())
    scene.submit(*"abcd")
    refused = [id for id in "abcd" if scene.code(id) is Code.QUEUE_FULL]
    assert refused == list("abcd")[1 + max_queue :]


def test_client_that_leaves_the_queue_never_reaches_a_worker() -> None:
    scene = Scene()
    (worker,) = serving(scene, FakeWorker())
    scene.submit(*"abc")
    scene.dispatcher.withdraw(scene.calls["b"])
    scene.dispatcher.withdraw(scene.calls["a"])  # handed already
    worker.free()
    assert worker.handed == [["a"], ["c"]]


def test_who_waits_too_long_is_told() -> None:
    scene = Scene(queue_timeout_s=5)
    scene.submit("a")
    scene.pass_time(3)
    scene.submit("b")
    assert scene.alarm_at == 105
    scene.pass_time(2)
    assert (scene.code("a"), scene.code("b")) == (Code.QUEUE_TIMEOUT, None)
    assert scene.alarm_at == 108
    scene.pass_time(3)
    assert (scene.code("b"), scene.waiting) == (Code.QUEUE_TIMEOUT, [])


def test_no_limit_is_no_alarm() -> None:
    scene = Scene(queue_timeout_s=0)
    scene.submit("a")
    scene.dispatcher.tick()
    assert (scene.alarm_at, scene.waiting) == (None, ["a"])


def test_calls_put_back_come_before_the_queue_in_their_order() -> None:
    scene = Scene()
    dead, alive = serving(scene, FakeWorker(concurrency=3), FakeWorker())
    scene.submit(*"abcdef")
    returned = [scene.calls[id] for ids in dead.handed for id in ids]
    gone = returned.pop()
    gone.client = None
    scene.dispatcher.leave(dead)
    scene.dispatcher.put_back(sorted([*returned, gone], key=lambda call: call.id.decode()))
    kept = sorted(call.id.decode() for call in returned)
    assert scene.waiting == [*kept, "e", "f"]
    assert {call.stage for call in returned} == {Stage.QUEUED}
    alive.free()
    assert alive.handed[-1] == kept[:1]


# --- refusals


NO_WORKER = Problem(Code.NO_WORKER, "it does not load")


def test_no_worker_is_told_at_once_and_only_when_there_is_none() -> None:
    scene = Scene()
    scene.submit("waits")
    scene.outlook = NO_WORKER
    scene.submit("refused")
    assert (scene.code("waits"), scene.code("refused")) == (None, Code.NO_WORKER)
    scene.dispatcher.fail_queued(NO_WORKER)
    assert (scene.code("waits"), scene.waiting) == (Code.NO_WORKER, [])


def test_workers_that_are_left_serve_on() -> None:
    scene = Scene(outlook=NO_WORKER)
    serving(scene, FakeWorker())
    scene.submit("a", "b")
    assert (scene.code("b"), scene.waiting) == (None, ["b"])


def test_draining_refuses_new_calls_and_finishes_queued_ones() -> None:
    scene = Scene()
    (worker,) = serving(scene, FakeWorker())
    scene.submit("a", "b")
    scene.dispatcher.drain()
    scene.submit("c")
    assert scene.code("c") is Code.DRAINING
    worker.free()
    assert worker.handed == [["a"], ["b"]]


# --- ahead of workers whose predictions are quick


def proven(*, max_batch_size: int = 1, concurrency: int = 1) -> FakeWorker:
    """A worker whose predictions have been quick for a while."""
    worker = FakeWorker(concurrency, max_batch_size)
    for slot in worker.fakes:
        slot.quick = 16
    return worker


def ahead(worker: FakeWorker) -> list[str]:
    return [call.id.decode() for slot in worker.fakes for call in slot.ahead]


def test_quick_worker_gets_the_next_ones_ahead() -> None:
    scene = Scene(max_queue=20)
    (worker,) = serving(scene, proven())
    scene.submit(*"abcdefghijklmnopqrs")
    assert ahead(worker) == []  # it was free
    worker.free()
    assert (worker.handed, ahead(worker), scene.waiting) == ([["a"], ["b"]], list("cdefghijklmnopq"), ["r", "s"])
    assert scene.dispatcher.depth == 17
    assert worker.requests == 2
    worker.fakes[0].ahead.clear()  # it has come to the last of them
    assert scene.dispatcher.release(worker, worker.slots[0])
    assert (worker.handed, ahead(worker), scene.waiting) == ([["a"], ["b"]], ["r", "s"], [])


@pytest.mark.parametrize("quick", [0, 15])
def test_nothing_goes_ahead_before_predictions_have_proved_quick(quick: int) -> None:
    scene = Scene()
    (worker,) = serving(scene, proven())
    worker.fakes[0].quick = quick
    scene.submit(*"abcd")
    worker.free()
    assert (ahead(worker), scene.waiting) == ([], ["c", "d"])


@pytest.mark.parametrize("worker", [proven(max_batch_size=2), proven(concurrency=2)], ids=["batches", "two at once"])
def test_only_a_worker_that_takes_one_at_a_time_gets_any_ahead(worker: FakeWorker) -> None:
    scene = Scene()
    serving(scene, worker)
    scene.submit(*"abcdefgh")
    worker.free()
    assert ahead(worker) == []
    assert len(scene.waiting) == 4 + (worker.max_batch_size == 2)


def test_quick_workers_share_what_waits() -> None:
    scene = Scene()
    first, second = serving(scene, proven(), proven())
    scene.submit(*"abcdefgh")
    first.free()
    assert (first.handed[-1], ahead(first)) == (["c"], ["d", "e", "f"])
    second.free()
    assert (second.handed[-1], ahead(second), scene.waiting) == (["g"], ["h"], [])


def test_large_or_new_requests_do_not_go_ahead() -> None:
    scene = Scene(max_queue=20)
    (worker,) = serving(scene, proven())
    scene.submit(*"abc")
    scene.submit("large", body_bytes=1 << 20)
    scene.submit("d")
    scene.submit("new", frame=None)
    scene.submit("e")
    scene.submit("cookies", frame=bytes(2100))
    for handed, led in (("b", ["c"]), ("large", []), ("d", []), ("new", []), ("e", []), ("cookies", [])):
        worker.free()
        assert (worker.handed[-1], ahead(worker)) == ([handed], led)
        worker.fakes[0].ahead.clear()


def test_nothing_goes_ahead_while_the_queue_is_held() -> None:
    scene = Scene()
    (worker,) = serving(scene, proven())
    scene.submit(*"abcd")
    scene.dispatcher.hold()
    assert scene.dispatcher.release(worker, worker.slots[0])
    assert (ahead(worker), scene.waiting) == ([], ["b", "c", "d"])


def test_what_is_ahead_of_one_that_turns_out_slow_is_for_whoever_is_free() -> None:
    scene = Scene()
    slow, other = serving(scene, proven(), proven())
    scene.submit(*"abcdef")
    slow.free()
    assert (slow.handed[-1], ahead(slow)) == (["c"], ["d", "e"])
    scene.pass_time(0.005)
    assert ahead(slow) == ["d", "e"]
    other.free()
    scene.pass_time(0.006)
    assert (ahead(slow), scene.waiting) == ([], ["d", "e"])
    other.free()
    assert other.handed[-1] == ["d"]


def test_a_client_that_leaves_has_what_is_ahead_recalled() -> None:
    scene = Scene()
    (worker,) = serving(scene, proven())
    scene.submit(*"abcd")
    worker.free()
    scene.dispatcher.withdraw(scene.calls["b"])
    assert not worker.fakes[0].recalled
    scene.dispatcher.withdraw(scene.calls["c"])
    assert worker.fakes[0].recalled


def test_what_is_ahead_counts_as_waiting() -> None:
    scene = Scene(max_queue=4)
    (worker,) = serving(scene, proven())
    scene.submit(*"abcde")
    worker.free()
    scene.submit("f", "g")
    assert (len(ahead(worker)), scene.dispatcher.depth) == (3, 4)
    assert (scene.code("f"), scene.code("g")) == (None, Code.QUEUE_FULL)


def test_a_worker_that_leaves_gives_back_what_is_ahead() -> None:
    scene = Scene()
    (worker,) = serving(scene, proven())
    scene.submit(*"abcd")
    worker.free()
    scene.dispatcher.leave(worker)
    assert worker.fakes[0].recalled
    scene.pass_time(0.02)  # it is busy, and says nothing
    assert scene.waiting == ["c", "d"]


# --- batches


def test_batch_takes_what_waits() -> None:
    scene = Scene()
    (worker,) = serving(scene, FakeWorker(max_batch_size=3))
    scene.submit(*"abcdef")
    worker.free()
    assert (worker.handed, scene.waiting) == ([["a"], ["b", "c", "d"]], ["e", "f"])


def test_batch_waits_for_company_as_long_as_the_oldest_may() -> None:
    scene = Scene()
    (worker,) = serving(scene, FakeWorker(max_batch_size=3, batch_interval_s=0.5))
    scene.submit("a")
    assert (worker.handed, scene.alarm_at) == ([], 100.5)
    scene.pass_time(0.25)
    scene.submit("b")
    assert worker.handed == []
    scene.pass_time(0.25)
    assert worker.handed == [["a", "b"]]


def test_who_waits_for_company_only_needs_no_room_in_the_queue() -> None:
    scene = Scene(max_queue=0)
    (worker,) = serving(scene, FakeWorker(max_batch_size=3, batch_interval_s=0.5))
    scene.submit("a", "b")
    assert (worker.handed, scene.waiting) == ([], ["a", "b"])
    scene.submit("c", "d")
    assert (worker.handed, scene.code("d")) == ([["a", "b", "c"]], Code.QUEUE_FULL)
    worker.free()
    scene.submit("e")
    scene.dispatcher.drain()
    scene.submit("f")
    assert (scene.waiting, scene.code("f")) == (["e"], Code.DRAINING)


def test_full_batch_waits_for_nobody() -> None:
    scene = Scene()
    (worker,) = serving(scene, FakeWorker(max_batch_size=2, batch_interval_s=0.5))
    scene.submit("a", "b")
    assert worker.handed == [["a", "b"]]
