"""What has become of predictions: counts and durations, since the start and of the last seconds.

`done` is on the way of every answer, so it only puts a few numbers on a list. They are counted in bulk
when somebody reads, or when the quarter of a second that they belong to is over.
"""

from collections import Counter, defaultdict, deque
from collections.abc import Callable
from typing import Any

import msgspec

from predictord.problem import Problem
from predictord.supervisor.call import Call
from predictord.supervisor.distribution import Distribution, cells_of, percentiles

CLIENT_LEFT = 499
"""Counted as the status of a prediction that nobody waited for: no answer has it, and log readers know it."""
WINDOW_S = 10
"""What rates and percentiles are of."""
HISTORY_S = 120

_FOLD_S = 0.25
_FIELDS = 4
_SHARES = (0.5, 0.95, 0.99)
_NOBODY = None
"""The worker of predictions that no worker had."""


class Rates(msgspec.Struct, frozen=True):
    """What a stretch of time was like; percentiles are of the whole time in the daemon."""

    requests_per_s: float
    failed_per_s: float
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None


class Moment(msgspec.Struct, frozen=True):
    """One second of the past; `at` is when it ended, by the tally's clock."""

    at: float
    rates: Rates
    queued: int


class _Second(msgspec.Struct):
    """What ended in one second, in all or of one worker."""

    number: int
    failed: int = 0
    cells: Counter[int] = msgspec.field(default_factory=Counter)
    queued: int = 0


class _Track:
    """The last seconds of one worker, or of all."""

    def __init__(self) -> None:
        self.requests = 0
        self.seconds: deque[_Second] = deque()

    def second(self, number: int) -> _Second:
        if not self.seconds or self.seconds[-1].number != number:
            self.seconds.append(_Second(number))
            while self.seconds[0].number < number - WINDOW_S:
                self.seconds.popleft()
        return self.seconds[-1]

    def rates(self, now: float, started_at: float) -> Rates:
        since = int(now) - WINDOW_S + 1
        recent = [second for second in self.seconds if second.number >= since]
        cells: Counter[int] = Counter()
        for second in recent:
            cells.update(second.cells)
        return _rates(cells, sum(second.failed for second in recent), max(1.0, now - max(since, started_at)))


class Tally:
    """Counts predictions at their end; plain state, with the clock and the queue's length passed in."""

    def __init__(self, clock: Callable[[], float], queued: Callable[[], int] = lambda: 0) -> None:
        self._clock = clock
        self._queued = queued
        self._raw: defaultdict[int | None, list[Any]] = defaultdict(list)
        """By worker: status, and seconds in all, in the queue and (ms, or None) in `predict`, one after the other."""
        self._fold_at = 0.0
        self._second = 0
        self._tracks: defaultdict[int | None, _Track] = defaultdict(_Track)
        self._all = _Track()
        self._past: deque[Moment] = deque(maxlen=HISTORY_S)
        self._failed = 0
        self._statuses: Counter[int] = Counter()
        self._problems: Counter[tuple[int, str]] = Counter()
        self._total_s = Distribution()
        self._queue_s = Distribution()
        self._predict_ms = Distribution()
        self.refusals: Counter[str] = Counter()
        """Requests that were refused before they were predictions, by the problem's code."""
        self.started_at = clock()

    # --- what happens

    def done(self, call: Call, status: int) -> None:
        """A prediction has ended, with an answer of this status or what stands for one."""
        now = self._clock()
        if now >= self._fold_at:
            self._turn_over(now)
        arrived, origin = call.arrived, call.origin
        raw = self._raw[origin.place_id if origin is not None else _NOBODY]
        raw.extend((status, now - arrived, call.handed - arrived, call.predict_ms))

    def failed_with(self, call: Call, problem: Problem) -> None:
        """A prediction has ended with this problem."""
        self._problems[problem.status, problem.code.value] += 1
        self.done(call, problem.status)

    def turned_away(self, problem: Problem) -> None:
        """A prediction was asked for that there was no room to take in."""
        now = self._clock()
        if now >= self._fold_at:
            self._turn_over(now)
        self._problems[problem.status, problem.code.value] += 1
        self._raw[_NOBODY].extend((problem.status, 0.0, 0.0, None))

    # --- what it comes to

    @property
    def failed(self) -> int:
        """Predictions that ended with a 5xx, or were cut by a problem that has one."""
        self._fold()
        return self._failed

    def requests(self) -> dict[tuple[int, str], int]:
        """Ended predictions by status and problem code; without a problem the code is empty."""
        self._fold()
        plain = self._statuses.copy()
        for (status, _), count in self._problems.items():
            plain[status] -= count
        return {(status, ""): count for status, count in plain.items() if count} | dict(self._problems)

    def requests_of(self, worker: int) -> int:
        """Predictions that this worker had when they ended."""
        self._fold()
        return self._tracks[worker].requests

    @property
    def total_s(self) -> Distribution:
        """From a request's last byte to its answer's, of all that have ended."""
        self._fold()
        return self._total_s

    @property
    def queue_s(self) -> Distribution:
        """Until a worker had the request, of those that came so far."""
        self._fold()
        return self._queue_s

    @property
    def predict_ms(self) -> Distribution:
        """In the worker (of a stream, until its first item), of those that came so far."""
        self._fold()
        return self._predict_ms

    def rates(self) -> Rates:
        """What the last ten seconds were like."""
        self._fold()
        return self._all.rates(self._clock(), self.started_at)

    def rates_of(self, worker: int) -> Rates:
        """What the last ten seconds were like for one worker."""
        self._fold()
        return self._tracks[worker].rates(self._clock(), self.started_at)

    def history(self) -> list[Moment]:
        """The last two minutes, oldest first, one entry for each second that is over since the start."""
        now = int(self._clock())
        if now >= self._fold_at:
            self._turn_over(self._clock())
        known = {round(moment.at): moment for moment in self._past}
        quiet = Rates(0.0, 0.0, None, None, None)
        first = max(now - HISTORY_S, int(self.started_at)) + 1
        return [known.get(at) or Moment(at, quiet, 0) for at in range(first, now + 1)]

    # --- inside

    def _turn_over(self, now: float) -> None:
        """Count what is there, and let the next quarter of a second begin."""
        self._fold()
        if int(now) != self._second:
            self._close_second()
            self._second = int(now)
        self._fold_at = min(now + _FOLD_S, self._second + 1)
        second = self._all.second(self._second)
        second.queued = max(second.queued, self._queued())

    def _close_second(self) -> None:
        if not self._all.seconds:
            return
        second = self._all.seconds[-1]
        self._past.append(Moment(second.number + 1, _rates(second.cells, second.failed, 1.0), second.queued))

    def _fold(self) -> None:
        for worker, raw in self._raw.items():
            if raw:
                self._count(worker, raw)
                raw.clear()

    def _count(self, worker: int | None, raw: list[Any]) -> None:
        statuses = Counter(raw[0::_FIELDS])
        totals = raw[1::_FIELDS]
        cells = cells_of(totals)
        failed = sum(count for status, count in statuses.items() if status >= 500)
        self._statuses.update(statuses)
        self._failed += failed
        self._total_s.add(cells, sum(totals))
        if worker is not _NOBODY:
            queued = raw[2::_FIELDS]
            self._queue_s.add(cells_of(queued), sum(queued))
            predicted = raw[3::_FIELDS]
            try:
                predict_cells = cells_of(predicted)
            except TypeError:  # to look for a `None` first would cost every request
                predicted = [ms for ms in predicted if ms is not None]
                predict_cells = cells_of(predicted)
            self._predict_ms.add(predict_cells, sum(predicted))
        for track in (self._all, self._tracks[worker]):
            track.requests += len(totals)
            second = track.second(self._second)
            second.failed += failed
            second.cells.update(cells)


def _rates(cells: Counter[int], failed: int, span_s: float) -> Rates:
    p50, p95, p99 = (value and value * 1e3 for value in percentiles(cells, _SHARES))
    return Rates(cells.total() / span_s, failed / span_s, p50, p95, p99)
