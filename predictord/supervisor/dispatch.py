"""Which call goes to which slot, and when: one bounded first-in-first-out queue, round robin over workers.

Plain synchronous state: the door submits, slots report that they are free, and the loop's
clock is passed in. A call is taken off the queue and its slot is taken in one step.
"""

from collections import Counter, deque
from collections.abc import Callable
from itertools import islice
from typing import Protocol

from predictord.problem import Code, Problem
from predictord.supervisor.call import Call, Stage
from predictord.supervisor.slot import Slot
from predictord.wire import CHUNK_BYTES

_MOST_AHEAD = 15
"""Calls written behind the one that a worker has in hand."""
_AHEAD_LIMIT_S = 0.01
"""How long the one in hand may take before what is ahead is taken back."""
_PROVEN = 16
"""Quick predictions in a row after which the next are taken to be quick too."""
_SMALL_BYTES = CHUNK_BYTES >> 5
"""The longest frame that goes ahead: a worker must find a `Recall` in the read that gives it what was before."""


class Serving(Protocol):
    """A worker as the dispatcher sees it."""

    slots: list[Slot]
    free_slots: list[Slot]
    requests: int
    takes_ahead: bool
    """Whether calls may be written behind the one in hand: it works on one at a time, in order."""
    max_batch_size: int
    """Calls that go into one exchange."""
    batch_interval_s: float
    """How long the oldest call waits for company."""


class Alarm(Protocol):
    """Calls the dispatcher's `tick` at a time of the loop's clock; a later call replaces an earlier one."""

    def set(self, when: float | None) -> None:
        """Ring at `when`, or not at all."""


class Dispatcher:
    """Holds the queue and the ring of serving workers."""

    def __init__(
        self,
        *,
        max_queue: int,
        queue_timeout_s: float,
        clock: Callable[[], float],
        outlook: Callable[[], Problem | None],
    ) -> None:
        self._max_queue = max_queue
        self._queue_timeout_s = queue_timeout_s
        self._clock = clock
        self._outlook = outlook
        self._ring: list[Serving] = []
        self._next = 0
        self._draining: Problem | None = None
        self._held = False
        self._room = 0
        """How long the queue may be while nothing else speaks against another call."""
        self._alarm_at: float | None = None
        self._gathering = False
        """Whether a free slot waits for more calls to make a batch."""
        self._led: set[Slot] = set()
        """Slots that may have calls ahead."""
        self.queue: deque[Call] = deque()
        self.submitted = 0
        """Calls that have come, whatever became of them."""
        self.batch_sizes: Counter[int] = Counter()
        """How often a worker that takes batches was handed so many calls at once."""
        self.alarm: Alarm | None = None
        self.on_handed: Callable[[Slot], None] | None = None
        self.on_empty: Callable[[], None] | None = None
        """Called when the queue has become empty without a worker's doing."""

    # --- the door's side

    def submit(self, call: Call) -> None:
        """Hand the call to a free slot, queue it, or fail it at once."""
        self.submitted += 1
        queue = self.queue
        if 0 < len(queue) < self._room:  # the way of nearly all under load, where what follows is known to be so
            queue.append(call)
            if self._gathering:
                self.pump()
            return
        serving = None if self._draining is not None or (queue and not self._gathering) else self._choose()
        if serving is not None and serving.batch_interval_s <= 0 and not queue:
            self._hand(serving, self._take_slot(serving), [call], call.arrived)
        elif serving is None and (problem := self._refusal()) is not None:  # who only gathers needs no room
            call.fail(problem)
        else:
            queue.append(call)
            if serving is not None:
                self.pump()
            elif self._queue_timeout_s:
                self._ring_by(call.arrived + self._queue_timeout_s)

    def withdraw(self, call: Call) -> None:
        """The client of a queued call has left."""
        if call.stage is not Stage.QUEUED:
            return
        if call in self.queue:
            self.queue.remove(call)
            self._tell_if_empty()
        for slot in self._led:
            if call in slot.ahead:
                slot.recall()

    # --- the workers' side

    def join(self, serving: Serving) -> None:
        """A worker is ready: its free slots take calls from now on."""
        self._ring.append(serving)
        self._measure_room()
        self.pump()

    def leave(self, serving: Serving) -> None:
        """A worker takes no more calls; it gives back what it has not begun."""
        for slot in serving.slots:
            slot.recall()
        if serving in self._ring:
            index = self._ring.index(serving)
            del self._ring[index]
            if index < self._next:
                self._next -= 1
            self._measure_room()

    def has(self, serving: Serving) -> bool:
        """Whether this worker takes calls."""
        return serving in self._ring

    def hold(self) -> None:
        """Hand nothing over until `resume`; calls wait in the queue."""
        self._held = True

    def resume(self) -> None:
        """Hand over again, what has waited first."""
        self._held = False
        self.pump()

    def release(self, serving: Serving, slot: Slot) -> bool:
        """A slot has become free, or what it has ahead runs out; True when it has something to do."""
        if self.queue and serving.max_batch_size == 1 and not self._held and serving in self._ring:
            if not slot.busy:
                serving.requests += 1
                slot.hand([self.queue.popleft()], self._clock())
                if self.on_handed is not None:
                    self.on_handed(slot)
            if slot.quick >= _PROVEN and self.queue and serving.takes_ahead:
                self._hand_ahead(slot)
        elif not slot.busy:
            serving.free_slots.append(slot)
            self.pump()
        return slot.busy

    @property
    def depth(self) -> int:
        """Calls that no worker has begun, as far as is known here."""
        return len(self.queue) + sum(len(slot.ahead) for slot in self._led)

    def put_back(self, calls: list[Call]) -> None:
        """Calls that a worker has not begun, and will not, go to the head of the queue."""
        for call in reversed(calls):
            call.put_back()
            if call.client is not None:
                self.queue.appendleft(call)
        self.pump()

    def pump(self) -> None:
        """Hand over as many queued calls as there are free slots; a batch takes what is there."""
        queue = self.queue
        self._gathering = False
        if not queue:
            return
        now = self._clock()
        while queue and (serving := self._choose()) is not None:
            count = min(len(queue), serving.max_batch_size)
            if count < serving.max_batch_size and now < (due := queue[0].arrived + serving.batch_interval_s):
                self._gathering = True
                self._ring_by(due)
                break
            self._hand(serving, self._take_slot(serving), [queue.popleft() for _ in range(count)], now)
        if queue and self._queue_timeout_s:
            self._ring_by(queue[0].arrived + self._queue_timeout_s)

    # --- time and the end

    def tick(self) -> None:
        """Fail calls that have waited for `queue_timeout_s`, and send batches that are due."""
        now = self._clock()
        self._alarm_at = None
        self._take_back(now)
        while self._queue_timeout_s and self.queue and self.queue[0].arrived + self._queue_timeout_s <= now:
            waited = f"no worker was free for {self._queue_timeout_s:g} s (--queue-timeout)"
            self.queue.popleft().fail(Problem(Code.QUEUE_TIMEOUT, waited))
        self.pump()
        self._tell_if_empty()

    def fail_queued(self, problem: Problem) -> None:
        """Nobody will ever take what is queued: tell every waiting client."""
        while self.queue:
            self.queue.popleft().fail(problem)

    def drain(self) -> None:
        """From now on refuse new calls; queued ones are still handed over."""
        self._draining = Problem(Code.DRAINING, "the service is stopping and takes no new requests")
        self._measure_room()

    @property
    def is_quiescing(self) -> bool:
        """Whether somebody waits for workers to have nothing in hand."""
        return self._held or self._draining is not None

    @property
    def is_draining(self) -> bool:
        """Whether new calls are refused."""
        return self._draining is not None

    def _tell_if_empty(self) -> None:
        if not self.queue and self.on_empty is not None:
            self.on_empty()

    def _refusal(self) -> Problem | None:
        """Why another call may not wait."""
        if self._draining is not None:
            return self._draining
        if self.depth >= self._max_queue:
            waiting = f"{self._max_queue} requests are waiting already (--max-queue)"
            return Problem(Code.QUEUE_FULL, waiting)
        return None if self._ring else self._outlook()

    def _choose(self) -> Serving | None:
        """The next worker in turn that has a free slot; it is taken before anything else runs."""
        ring, count = self._ring, 0 if self._held else len(self._ring)
        for step in range(self._next, self._next + count):
            serving = ring[step % count]
            if serving.free_slots:
                self._next = step % count
                return serving
        return None

    def _measure_room(self) -> None:
        most_ahead = _MOST_AHEAD * len(self._ring)
        self._room = self._max_queue - most_ahead if self._ring and self._draining is None else 0

    def _take_slot(self, chosen: Serving) -> Slot:
        self._next += 1
        return chosen.free_slots.pop()

    def _hand(self, serving: Serving, slot: Slot, calls: list[Call], now: float) -> None:
        serving.requests += len(calls)
        if serving.max_batch_size > 1:
            self.batch_sizes[len(calls)] += 1
        slot.hand(calls, now)
        if self.on_handed is not None:
            self.on_handed(slot)

    def _hand_ahead(self, slot: Slot) -> None:
        """Spare a worker with quick predictions the wait between them."""
        queue = self.queue
        share = -(-len(queue) // len(self._ring))
        calls: list[Call] = []
        if _is_small(slot.calls[0]):
            for call in islice(queue, min(share, _MOST_AHEAD)):
                if not _is_small(call):
                    break
                calls.append(call)
        if calls:
            for _ in calls:
                queue.popleft()
            slot.hand_ahead(calls)
            self._led.add(slot)
            self._ring_by(self._clock() + _AHEAD_LIMIT_S)

    def _take_back(self, now: float) -> None:
        """One of the predictions was not quick after all: what is ahead of it waits here, as any other call."""
        back: list[Call] = []
        for slot in self._led:
            if slot.ahead and slot.since + _AHEAD_LIMIT_S <= now:
                slot.recall()
                back += slot.take_back()
        self._led = {slot for slot in self._led if slot.ahead}
        if self._led:
            self._ring_by(max(now + _AHEAD_LIMIT_S / 4, min(slot.since for slot in self._led) + _AHEAD_LIMIT_S))
        if back:
            self.put_back(sorted(back, key=lambda call: call.arrived))

    def _ring_by(self, when: float) -> None:
        """Have `tick` called at `when` or before: an alarm that rings too early is set again then."""
        if self.alarm is not None and (self._alarm_at is None or when < self._alarm_at):
            self._alarm_at = when
            self.alarm.set(when)


def _is_small(call: Call) -> bool:
    """Whether its frame is ready and short."""
    return call.frame is not None and len(call.frame) + call.body_bytes <= _SMALL_BYTES
