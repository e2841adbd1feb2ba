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
    ) -> None:
        self._clock = clock
        self._slots = slots
        self._on_overdue = on_overdue
        self._armed = False
        self.alarm: Alarm | None = None

    def handed(self, slot: Slot) -> None:
        """A slot has got work; its deadline is not earlier than those already watched."""
        if not self._armed and slot.deadline and self.alarm is not None:
            self._armed = True
            self.alarm.set(slot.deadline)

    def tick(self) -> None:
        """Report every slot that is overdue, once, and look forward to the next deadline."""
        now = self._clock()
        for slot in list(self._slots()):
            if slot.deadline and slot.deadline <= now:
                slot.deadline = 0.0
                self._on_overdue(slot)
        # A paused stream has no deadline now, but may get one at any time.
        due = (slot.deadline or now + slot.timeout_s for slot in self._slots() if slot.busy and slot.timeout_s)
        following = min(due, default=None)
        self._armed = following is not None
        if self.alarm is not None:
            self.alarm.set(following)
