"""The kinds of failed predictions seen last, each with its latest case: what a page about the daemon shows."""

import time
from typing import Any

import msgspec

from predictord.problem import Problem
from predictord.supervisor.call import Call
from predictord.supervisor.failure_log import kind_of

_MOST_KINDS = 20


class _Kind(msgspec.Struct):
    problem: Problem
    at: float
    worker: int | None
    request_id: str
    count: int


class RecentFailures:
    """Failures of one kind count as one, of which the latest is shown."""

    def __init__(self, *, debug: bool) -> None:
        self._debug = debug
        self._kinds: dict[object, _Kind] = {}
        """The latest last."""
        self.count = 0

    def record(self, problem: Problem, call: Call) -> None:
        """A prediction ended with this problem."""
        self.count += 1
        key = kind_of(problem)
        before = self._kinds.pop(key, None)
        count = 1 if before is None else before.count + 1
        self._kinds[key] = _Kind(problem, time.time(), call.place_id, call.id.decode("ascii"), count)
        if len(self._kinds) > _MOST_KINDS:
            del self._kinds[next(iter(self._kinds))]

    def documents(self) -> list[dict[str, Any]]:
        """The last twenty kinds, newest first; tracebacks only with `--debug`."""
        return [
            {
                "at": round(kind.at, 3),
                "status": kind.problem.status,
                "code": kind.problem.code.value,
                "detail": kind.problem.detail,
                "traceback": kind.problem.traceback if self._debug else None,
                "worker": kind.worker,
                "request_id": kind.request_id,
                "count": kind.count,
            }
            for kind in reversed(self._kinds.values())
        ]
