"""The reloads so far: the latest as they went, all of them as numbers."""

import time
from collections import defaultdict, deque
from typing import Any

import msgspec

_MOST = 50


class KindTotal(msgspec.Struct):
    """All reloads of one kind."""

    count: int = 0
    duration_s: float = 0.0


class PastReloads:
    """What the reloader has done since the start."""

    def __init__(self) -> None:
        self.totals: defaultdict[str, KindTotal] = defaultdict(KindTotal)
        self._latest: deque[dict[str, Any]] = deque(maxlen=_MOST)

    def add(self, document: dict[str, Any], line: str) -> None:
        """A reload has ended: what `/status` shows of it, and what the console said."""
        total = self.totals[document["kind"]]
        total.count += 1
        total.duration_s += document["duration_s"]
        self._latest.appendleft({**document, "at": round(time.time(), 3), "line": line})

    @property
    def count(self) -> int:
        """How many there were."""
        return sum(total.count for total in self.totals.values())

    def documents(self) -> list[dict[str, Any]]:
        """The last fifty, newest first."""
        return list(self._latest)
