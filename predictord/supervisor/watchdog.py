"""Finds slots whose deadline has passed; what is done about a hung prediction is the fleet's matter."""

from collections.abc import Callable, Iterable

from predictord.supervisor.dispatch import Alarm
from predictord.supervisor.slot import Slot


class Watchdog:
    """Keeps one alarm at the earliest deadline of all slots."""

    def __init__(
        self,
        clock: Callable[[], float],
        slots: Callable[[], Iterable[Slot]],
        on_overdue: Callable[[Slot], None],
        limit_s: float,
    ) -> None:
        self._clock = clock
        self._slots = slots
        self._on_overdue = on_overdue
        self._limit_s = limit_s
        self._armed = not limit_s
        self.alarm: Alarm | None = None

    def handed(self, slot: Slot) -> None:
        """A slot has got work; its time is not up earlier than that of those already watched."""
        if not self._armed and self.alarm is not None:
            self._armed = True
            self.alarm.set(slot.since + self._limit_s)

    def tick(self) -> None:
        """Report every slot that is overdue, once, and look forward to the next deadline."""
        now = self._clock()
        for slot in list(self._slots()):
            if slot.since and slot.since + self._limit_s <= now:
                slot.since = 0.0
                self._on_overdue(slot)
        # A paused stream owes nothing now, but may do so at any time.
        following = min(((slot.since or now) + self._limit_s for slot in self._slots() if slot.busy), default=None)
        self._armed = following is not None
        if self.alarm is not None:
            self.alarm.set(following)
