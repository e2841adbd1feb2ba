"""Failures on the console: one kind is told once and then counted, however fast it comes."""

import logging
from collections.abc import Callable
from typing import Any

import pytest

from predictord.problem import Code, Problem
from predictord.supervisor.failure_log import FIRST_WINDOW_S, MOST_KINDS, NEXT_WINDOW_S, FailureLog


class Timers:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[tuple[float, Callable[..., object], tuple[Any, ...]]] = []

    def call_later(self, delay: float, callback: Callable[..., object], *args: Any) -> object:
        self._due.append((self.now + delay, callback, args))
        return None

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        ready = [entry for entry in self._due if entry[0] <= self.now]
        self._due = [entry for entry in self._due if entry[0] > self.now]
        for _, callback, args in ready:
            callback(*args)

    @property
    def is_idle(self) -> bool:
        return not self._due


def key_error(key: str, line: int = 8) -> Problem:
    traceback = f'Traceback:\n  File "p.py", line {line}, in predict\n    x[key]\nKeyError: {key!r}\n'
    return Problem(Code.PREDICTOR_ERROR, f"KeyError: {key!r}", traceback)


@pytest.fixture
def timers() -> Timers:
    return Timers()


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    caplog.set_level(logging.INFO, "predictord")

    def take() -> list[str]:
        taken = [record.getMessage() for record in caplog.records]
        caplog.clear()
        return taken

    return take


Lines = Callable[[], list[str]]


def test_the_first_is_told_with_its_worker_and_traceback(timers: Timers, caplog: pytest.LogCaptureFixture) -> None:
    FailureLog(timers).record(key_error("text"), 1)
    [record] = caplog.records
    assert record.getMessage() == "prediction failed in worker 1: KeyError: 'text'"
    assert "line 8, in predict" in vars(record)["traceback"]
    assert (vars(record)["code"], vars(record)["worker"]) == ("predictor_error", 1)


def test_without_a_worker(timers: Timers, lines: Lines) -> None:
    FailureLog(timers).record(Problem(Code.QUEUE_FULL, "the queue is full"), None)
    assert lines() == ["prediction failed: the queue is full"]


def test_repeats_are_counted_also_if_none_comes_after(timers: Timers, lines: Lines) -> None:
    log = FailureLog(timers)
    for number in range(1001):
        log.record(key_error(f"key {number}"), number % 4)
    assert lines() == ["prediction failed in worker 0: KeyError: 'key 0'"]
    timers.pass_time(FIRST_WINDOW_S)
    assert lines() == ["prediction failed 1,000 more times in 10 s: KeyError: 'key 0'"]
    log.record(key_error("again"), 0)
    assert lines() == []
    timers.pass_time(NEXT_WINDOW_S)
    assert lines() == ["prediction failed 1 more time in 60 s: KeyError: 'key 0'"]


def test_after_a_quiet_window_it_is_news_again_and_nothing_is_left_to_do(timers: Timers, lines: Lines) -> None:
    log = FailureLog(timers)
    log.record(key_error("a"), 0)
    timers.pass_time(FIRST_WINDOW_S)
    assert timers.is_idle
    log.record(key_error("b"), 0)
    assert lines() == ["prediction failed in worker 0: KeyError: 'a'", "prediction failed in worker 0: KeyError: 'b'"]


@pytest.mark.parametrize(
    ("one", "other", "kinds"),
    [
        (key_error("a"), key_error("b"), 1),
        (key_error("a", line=8), key_error("a", line=9), 2),
        (Problem(Code.QUEUE_TIMEOUT, "waited 301 s"), Problem(Code.QUEUE_TIMEOUT, "waited 302 s"), 1),
        (Problem(Code.NO_WORKER, "x"), Problem(Code.QUEUE_TIMEOUT, "x"), 2),
        (Problem(Code.PREDICTOR_ERROR, "A: x", "T\nA: x"), Problem(Code.PREDICTOR_ERROR, "B: x", "T\nB: x"), 2),
    ],
)
def test_kinds(timers: Timers, lines: Lines, one: Problem, other: Problem, kinds: int) -> None:
    log = FailureLog(timers)
    log.record(one, 0)
    log.record(other, 0)
    assert len(lines()) == kinds


def test_a_flood_of_kinds_stays_calm(timers: Timers, lines: Lines) -> None:
    log = FailureLog(timers)
    for line in range(1000):
        log.record(key_error("a", line), 0)
    assert len(lines()) == MOST_KINDS
    timers.pass_time(FIRST_WINDOW_S)
    assert lines() == [f"prediction failed {1000 - MOST_KINDS} more times in 10 s: in various other ways"]


def test_a_death_is_left_to_the_line_of_the_worker(timers: Timers, lines: Lines) -> None:
    FailureLog(timers).record(Problem(Code.WORKER_DIED, "worker 0 (CPU) was killed"), 0)
    assert lines() == []


def test_what_is_counted_but_not_told_is_told_at_the_end(timers: Timers, lines: Lines) -> None:
    log = FailureLog(timers)
    for _ in range(3):
        log.record(key_error("a"), 0)
    log.record(key_error("b", line=9), 0)
    lines()
    log.close()
    assert lines() == ["prediction failed 2 more times before the end: KeyError: 'a'"]
