"""Which slow prediction is told, and when: a table of hands."""

from dataclasses import dataclass, field
from typing import Any, cast

from predictord.supervisor.call import Stage
from predictord.supervisor.place import Place
from predictord.supervisor.slow import SLOW_S, SlowPredictions


@dataclass
class Held:
    handed: float
    stage: Stage = Stage.HANDED


@dataclass
class Hand:
    calls: list[Held]
    thread: int = 7


@dataclass
class Worker:
    id: int
    slots: list[Hand] = field(default_factory=list)


def told(
    slow: SlowPredictions, workers: list[Worker], now: float, generation: int = 1
) -> tuple[int, int, float] | None:
    found = slow.find(cast(list[Place], workers), generation, now)
    return None if found is None else (cast(Any, found[0]).id, found[1], found[2])


def test_nothing_in_hand_and_nothing_slow_is_no_news() -> None:
    assert told(SlowPredictions(), [Worker(0), Worker(1, [Hand([])])], 100) is None
    assert told(SlowPredictions(), [Worker(0, [Hand([Held(95)])])], 95 + SLOW_S - 1) is None


def test_the_longest_is_told_with_its_thread() -> None:
    workers = [Worker(0, [Hand([Held(90)])]), Worker(1, [Hand([Held(80)], thread=9)])]
    assert told(SlowPredictions(), workers, 100) == (1, 9, 20)


def test_one_that_goes_on_is_told_again_when_it_has_taken_twice_as_long() -> None:
    slow, workers = SlowPredictions(), [Worker(0, [Hand([Held(0)])])]
    assert [now for now in range(0, 300, 5) if told(slow, workers, now)] == [10, 20, 40, 80, 160]


def test_a_slow_model_is_told_once_until_it_changes() -> None:
    slow = SlowPredictions()
    assert told(slow, [Worker(0, [Hand([Held(0)])])], 12)
    assert told(slow, [Worker(0, [Hand([Held(100)])])], 115) is None
    assert told(slow, [Worker(0, [Hand([Held(100)])])], 115, generation=2)


def test_streams_may_go_on() -> None:
    assert told(SlowPredictions(), [Worker(0, [Hand([Held(0, Stage.STREAMING)])])], 1000) is None
