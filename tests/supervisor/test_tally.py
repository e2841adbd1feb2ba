"""The tally over a clock of the test's own: what ended is counted once, by whom, how, and when."""

from dataclasses import dataclass

import pytest

from predictord.problem import Code, Problem
from predictord.supervisor.call import Call, Origin
from predictord.supervisor.tally import CLIENT_LEFT, HISTORY_S, Tally
from predictord.wire import RequestHead

HEAD = RequestHead(None, "POST", "/", b"", "1.1", None, [])


@dataclass
class World:
    """A clock that the test sets, a queue that it fills, and calls that end."""

    now: float = 1000.0
    queued: int = 0

    def __post_init__(self) -> None:
        self.tally = Tally(lambda: self.now, lambda: self.queued)

    def call(
        self, worker: int | None = 0, *, took_s: float = 0.01, queued_s: float = 0.0, ms: float | None = 5
    ) -> Call:
        """A call that arrived so long ago."""
        arrived = self.now - took_s
        call = Call(b"id", HEAD, [], 0, None, arrived)
        if worker is not None:
            call.origin = Origin(worker, generation=1)
            call.handed = arrived + queued_s
        call.predict_ms = ms
        return call

    def end(self, count: int = 1, status: int = 200, worker: int | None = 0, took_s: float = 0.01) -> None:
        """So many calls end now."""
        for _ in range(count):
            self.tally.done(self.call(worker, took_s=took_s), status)


@pytest.fixture
def world() -> World:
    return World()


def test_requests_are_counted_by_status_and_problem(world: World) -> None:
    world.end(3)
    world.end(2, status=500)  # as the predictor's own response
    world.tally.failed_with(world.call(), Problem(Code.PREDICTOR_ERROR, "KeyError"))
    world.tally.failed_with(world.call(None), Problem(Code.QUEUE_TIMEOUT, "late"))
    world.tally.failed_with(world.call(), Problem(Code.INVALID_PAYLOAD, "no JSON"))
    world.tally.turned_away(Problem(Code.QUEUE_FULL, "no memory"))
    world.tally.done(world.call(None), CLIENT_LEFT)
    assert world.tally.requests() == {
        (200, ""): 3,
        (500, ""): 2,
        (500, "predictor_error"): 1,
        (503, "queue_timeout"): 1,
        (503, "queue_full"): 1,
        (400, "invalid_payload"): 1,
        (499, ""): 1,
    }
    assert world.tally.failed == 5
    assert world.tally.total_s.count == 10


def test_numbers_are_right_between_folds_and_after(world: World) -> None:
    for count in range(1, 40):
        world.now += 0.09  # across quarters of seconds and seconds
        world.end()
        assert sum(world.tally.requests().values()) == count
        assert world.tally.requests_of(0) == count


def test_workers_are_told_apart(world: World) -> None:
    world.end(3, worker=0, took_s=0.01)
    world.end(1, worker=1, took_s=0.5)
    world.end(1, worker=None)
    world.now += 2
    assert [world.tally.requests_of(worker) for worker in (0, 1, 2)] == [3, 1, 0]
    assert world.tally.rates_of(0).p99_ms == pytest.approx(10, rel=0.01)
    assert world.tally.rates_of(1).p50_ms == pytest.approx(500, rel=0.01)
    assert world.tally.rates_of(2).p50_ms is None
    assert world.tally.rates().requests_per_s == pytest.approx(5 / 2)


def test_queue_and_predict_count_those_that_came_so_far(world: World) -> None:
    world.tally.done(world.call(took_s=0.3, queued_s=0.2, ms=80), 200)
    world.tally.done(world.call(took_s=0.3, queued_s=0.2, ms=None), 502)
    world.tally.done(world.call(None, took_s=0.3, ms=None), 503)
    assert world.tally.total_s.count == 3
    assert world.tally.queue_s.count == 2
    assert world.tally.queue_s.sum == pytest.approx(0.4)
    assert world.tally.predict_ms.count == 1
    assert world.tally.predict_ms.sum == pytest.approx(80)


def test_rates_are_of_the_last_ten_seconds(world: World) -> None:
    world.now += 100
    world.end(50, took_s=5.0)
    world.now += 20
    assert world.tally.rates().requests_per_s == 0
    assert world.tally.rates().p50_ms is None
    for _ in range(20):
        world.end(10)
        world.end(10, status=503)
        world.now += 1
    rates = world.tally.rates()
    assert rates.requests_per_s == pytest.approx(20, rel=0.15)
    assert rates.failed_per_s == pytest.approx(10, rel=0.15)
    assert rates.p99_ms == pytest.approx(10, rel=0.01)
    assert sum(world.tally.requests().values()) == 450, "what has left the window still counts"


def test_first_seconds_are_not_shared_out_over_ten(world: World) -> None:
    world.end(30)
    world.now += 3
    assert world.tally.rates().requests_per_s == pytest.approx(10)


def test_history_has_a_row_for_each_second(world: World) -> None:
    world.queued = 7
    world.end(4, took_s=0.02)
    world.now += 1
    world.queued = 0
    world.end(1, status=500, took_s=1.0)
    world.now += 3
    history = world.tally.history()
    assert [moment.at for moment in history] == [1001, 1002, 1003, 1004]
    assert [moment.rates.requests_per_s for moment in history] == [4, 1, 0, 0]
    assert [moment.rates.failed_per_s for moment in history] == [0, 1, 0, 0]
    assert [moment.queued for moment in history] == [7, 0, 0, 0]
    assert history[0].rates.p95_ms == pytest.approx(20, rel=0.01)
    assert history[3].rates.p95_ms is None


def test_what_ended_counts_in_its_own_second_however_late_it_is_read(world: World) -> None:
    world.end(5)
    world.now += 50
    assert world.tally.rates().requests_per_s == 0
    assert world.tally.history()[0].rates.requests_per_s == 5


def test_history_ends_after_two_minutes(world: World) -> None:
    for _ in range(HISTORY_S + 50):
        world.end()
        world.now += 1
    history = world.tally.history()
    assert len(history) == HISTORY_S
    assert history[-1].at == world.now
    assert {moment.rates.requests_per_s for moment in history} == {1}


def test_refusals_are_no_predictions(world: World) -> None:
    world.tally.refusals["token_required"] += 1
    assert world.tally.requests() == {}
    assert world.tally.total_s.count == 0
