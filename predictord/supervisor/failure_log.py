"""Failed predictions on the console: the first of a kind with its traceback, its repeats as a count."""

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from predictord.problem import Code, Problem

log = logging.getLogger("predictord")

FIRST_WINDOW_S = 10.0
NEXT_WINDOW_S = 60.0
MOST_KINDS = 20
"""Told in one window; what else fails in it is counted together."""

_NUMBER = re.compile(r"\d+")
_OTHERS = "others"


class Timers(Protocol):
    """What is used of an event loop."""

    def call_later(self, delay: float, callback: Callable[..., object], *args: Any) -> object:
        """Call it then."""


@dataclass
class _Kind:
    detail: str
    repeats: int = 0


class FailureLog:
    """Tells each kind of failure at once and then as a number: after ten seconds, and each minute while it goes on."""

    def __init__(self, timers: Timers) -> None:
        self._timers = timers
        self._kinds: dict[object, _Kind] = {}
        """Those that were told, until they have been quiet for a window."""

    def record(self, problem: Problem, worker: int | None) -> None:
        """A prediction ended with this problem."""
        if problem.code is Code.WORKER_DIED:
            return  # told with the worker's end
        key = kind_of(problem)
        kind = self._kinds.get(key)
        if kind is None and len(self._kinds) >= MOST_KINDS:
            key = _OTHERS
            kind = self._kinds.get(key) or self._open(key, "in various other ways")
        if kind is not None:
            kind.repeats += 1
            return
        self._open(key, problem.detail)
        log.error(
            "prediction failed%s: %s",
            "" if worker is None else f" in worker {worker}",
            problem.detail,
            extra={
                "event": "prediction_failed",
                "code": problem.code.value,
                "worker": worker,
                "traceback": problem.traceback or "",
            },
        )

    def close(self) -> None:
        """Tell what was counted and not told yet; nothing is recorded after it."""
        for kind in self._kinds.values():
            if kind.repeats:
                _tell_repeats(kind, "before the end")

    def _open(self, key: object, detail: str) -> _Kind:
        kind = self._kinds[key] = _Kind(detail)
        self._timers.call_later(FIRST_WINDOW_S, self._close, key, FIRST_WINDOW_S)
        return kind

    def _close(self, key: object, window_s: float) -> None:
        kind = self._kinds[key]
        if not kind.repeats:
            del self._kinds[key]
            return
        _tell_repeats(kind, f"in {window_s:.0f} s", seconds=window_s)
        kind.repeats = 0
        self._timers.call_later(NEXT_WINDOW_S, self._close, key, NEXT_WINDOW_S)


def _tell_repeats(kind: _Kind, when: str, **fields: float) -> None:
    log.error(
        "prediction failed %s more time%s %s: %s",
        f"{kind.repeats:,}",
        "s" if kind.repeats > 1 else "",
        when,
        kind.detail,
        extra={"event": "predictions_failed", "count": kind.repeats, **fields},
    )


def kind_of(problem: Problem) -> object:
    """What failures have in common that are one to their reader: where they came from, whatever the values."""
    if problem.traceback:
        frames, _, _ = problem.traceback.rstrip().rpartition("\n")
        return problem.code, problem.detail.partition(":")[0], frames
    return problem.code, _NUMBER.sub("0", problem.detail)
