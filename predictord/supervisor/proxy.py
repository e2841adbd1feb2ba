"""What all doors share: who may call, the dispatcher behind them, their limits and their counts."""

import asyncio
import time
from typing import TYPE_CHECKING

from predictord.problem import Code, Problem
from predictord.supervisor.access import AccessRules
from predictord.supervisor.call import Call, Stage
from predictord.supervisor.dispatch import Dispatcher
from predictord.supervisor.failure_log import FailureLog
from predictord.supervisor.limits import SWEEP_S
from predictord.supervisor.recent_failures import RecentFailures
from predictord.supervisor.request_body import BodyBudget
from predictord.supervisor.tally import CLIENT_LEFT, Tally

if TYPE_CHECKING:
    from predictord.supervisor.door import Door


class Proxy:
    """Between the doors and the dispatcher; one a daemon."""

    def __init__(
        self,
        *,
        access: AccessRules,
        dispatcher: Dispatcher,
        max_body_bytes: int,
        debug: bool,
        failure_log: FailureLog,
    ) -> None:
        self.access = access
        self.dispatcher = dispatcher
        self.max_body_bytes = max_body_bytes
        self.budget = BodyBudget(4 * max_body_bytes)
        self.debug = debug
        self._failure_log = failure_log
        self.failures = RecentFailures(debug=debug)
        self.submit = dispatcher.submit
        """A prediction has arrived whole."""
        self._turned_away = 0
        self.tally = Tally(time.monotonic, lambda: dispatcher.depth)
        self.done = self.tally.done
        """A prediction has been answered with this status."""
        self._doors: set[Door] = set()
        self._someone = asyncio.Event()
        self.quiet = asyncio.Event()
        """Set while nobody is connected."""
        self.quiet.set()

    def connected(self, door: "Door") -> None:
        """A client has connected."""
        self._doors.add(door)
        self._someone.set()
        self.quiet.clear()

    def disconnected(self, door: "Door") -> None:
        """A connection is gone."""
        self._doors.discard(door)
        if not self._doors:
            self.quiet.set()

    @property
    def total(self) -> int:
        """Predictions asked for, whatever became of them."""
        return self.dispatcher.submitted + self._turned_away

    def client_left(self, call: Call) -> None:
        """The client of a call is gone."""
        self.done(call, CLIENT_LEFT)
        self.abandon(call)

    def abandon(self, call: Call) -> None:
        """Nobody waits for a call any more: it never starts if it is queued, and is told to stop if it can."""
        call.client = None
        if call.stage is Stage.QUEUED:
            self.dispatcher.withdraw(call)
        elif call.slot is not None:
            call.body = []
            call.slot.abandon()

    def count_failure(self, call: Call, problem: Problem) -> None:
        """A prediction ends with this problem."""
        self.tally.failed_with(call, problem)
        if problem.status >= 500:
            self.failures.record(problem, call)
            self._failure_log.record(problem, call.place_id)

    def count_refusal(self, problem: Problem) -> None:
        """A request is refused before it was a call."""
        if problem.code is Code.QUEUE_FULL:
            self._turned_away += 1
            self.tally.turned_away(problem)
            self._failure_log.record(problem, None)
        else:
            self.tally.refusals[problem.code.value] += 1

    async def run(self) -> None:
        """Keep the doors' time limits until cancelled; sleeps for good while nobody is connected."""
        loop = asyncio.get_running_loop()
        while True:
            await self._someone.wait()
            now = loop.time()
            for door in list(self._doors):
                door.sweep(now)
            if not self._doors:
                self._someone.clear()
            await asyncio.sleep(SWEEP_S)

    def close_doors(self, *, abort: bool = False) -> None:
        """Close connections that wait for nothing, the others after their answer; or all at once."""
        for door in list(self._doors):
            if abort:
                door.abort()
            else:
                door.shutdown()
