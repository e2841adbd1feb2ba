"""A new generation's first seconds: one that dies twice in them is taken back."""

from collections.abc import Callable

from predictord.generation import Generation
from predictord.supervisor.dispatch import Dispatcher
from predictord.supervisor.slot import Slot

PROBATION_S = 10.0
"""Counted from the generation's first request."""
MOST_DEATHS = 2


class Probation:
    """Counts the deaths of a generation's workers; pure but for the clock and the hook that sees the first request."""

    def __init__(self, previous: Generation, dispatcher: Dispatcher, clock: Callable[[], float]) -> None:
        self.previous = previous
        """What served before, and serves again if this one fails."""
        self._clock = clock
        self._first_request_at: float | None = None
        self._deaths = 0
        self._dispatcher = dispatcher
        self._after = dispatcher.on_handed
        dispatcher.on_handed = self._on_first

    def died(self) -> bool:
        """A worker died while it served; True when that was once too often."""
        if self._first_request_at is not None and self._clock() > self._first_request_at + PROBATION_S:
            return False
        self._deaths += 1
        return self._deaths >= MOST_DEATHS

    def end(self) -> None:
        """Another generation serves."""
        if self._dispatcher.on_handed == self._on_first:
            self._dispatcher.on_handed = self._after

    def _on_first(self, slot: Slot) -> None:
        self._first_request_at = self._clock()
        self._dispatcher.on_handed = self._after
        if self._after is not None:
            self._after(slot)
