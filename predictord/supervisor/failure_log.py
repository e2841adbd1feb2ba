"""Failed predictions on the console: the first of a kind with its traceback, its repeats as a count."""

import logging
from collections.abc import Callable

from predictord.problem import Problem

log = logging.getLogger("predictord")

_WINDOW_S = 10.0
_MOST_KINDS = 256


class FailureLog:
    """Says each kind of failure at most once in ten seconds, however fast it comes."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._said: dict[str, tuple[float, int]] = {}
        """When a kind was last said, and how often it came since."""

    def record(self, problem: Problem, worker: int | None) -> None:
        """A prediction ended with this problem."""
        now = self._clock()
        kind = f"{problem.code}: {problem.detail}"
        said_at, repeats = self._said.get(kind, (float("-inf"), 0))
        if now - said_at < _WINDOW_S:
            self._said[kind] = (said_at, repeats + 1)
            return
        if len(self._said) >= _MOST_KINDS:
            self._said.clear()
        self._said[kind] = (now, 0)
        origin = "" if worker is None else f"worker {worker}: "
        log.error(
            "%s%s%s",
            origin,
            problem.detail,
            f" ({repeats} more since it was last shown)" if repeats else "",
            extra={
                "event": "prediction_failed",
                "code": problem.code.value,
                "worker": worker,
                "traceback": problem.traceback or "",
            },
        )
