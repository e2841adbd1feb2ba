"""What the rounds have measured, and what is compared of it."""

import statistics
from collections import defaultdict
from typing import NamedTuple

from benchmarks.kinds import Kind, Measured, Metric


class Spread(NamedTuple):
    """A number over the rounds."""

    median: float
    least: float
    most: float


class Results:
    """The numbers of each kind and contender, round by round."""

    def __init__(self) -> None:
        self._rounds: defaultdict[tuple[str, str], dict[int, Measured]] = defaultdict(dict)
        self.failures: list[str] = []

    def add(self, kind: str, contender: str, number: int, measured: Measured) -> None:
        """Note what one round has measured."""
        self._rounds[kind, contender][number] = measured

    def spread(self, kind: str, contender: str, key: str) -> Spread | None:
        """The number's spread; None where it was never measured."""
        rounds = self._rounds.get((kind, contender), {})
        return _spread([measured[key] for measured in rounds.values() if key in measured])

    def ratio(self, kind: str, key: str, one: str, other: str) -> Spread | None:
        """How often `other`'s number goes into `one`'s, of the rounds that have both: neighbours in time."""
        ones, others = self._rounds.get((kind, one), {}), self._rounds.get((kind, other), {})
        return _spread(
            [
                ones[number][key] / others[number][key]
                for number in ones
                if key in ones[number] and others.get(number, {}).get(key)
            ]
        )

    def document(self) -> dict[str, dict[str, list[Measured]]]:
        """All of it, for a JSON file: kind, contender, rounds."""
        document: defaultdict[str, dict[str, list[Measured]]] = defaultdict(dict)
        for (kind, contender), rounds in self._rounds.items():
            document[kind][contender] = list(rounds.values())
        return document


def times_better(metric: Metric, ratio: float) -> float:
    """The ratio turned so that more than 1 is better."""
    return ratio if metric.more_is_better else 1 / ratio


def measured_metrics(results: Results, kinds: list[Kind], contenders: list[str]) -> list[tuple[Kind, Metric]]:
    """The rows that have a number, in order."""
    return [
        (kind, metric)
        for kind in kinds
        for metric in kind.metrics
        if any(results.spread(kind.name, name, metric.key) for name in contenders)
    ]


def _spread(values: list[float]) -> Spread | None:
    return Spread(statistics.median(values), min(values), max(values)) if values else None
