"""One timer that is moved instead of made anew: cheap enough to be set on every request."""

import asyncio
from collections.abc import Callable


class LoopAlarm:
    """Calls `ring` on the loop once the time last set has come.

    Setting a later time than the timer's costs nothing: the timer fires early, finds that
    out, and waits on.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[], None]) -> None:
        self._loop = loop
        self._ring = ring
        self._when: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_when = 0.0

    def set(self, when: float | None) -> None:
        """Ring at `when` of the loop's clock instead of the time set before; `None` is never."""
        self._when = when
        if when is None or (self._timer is not None and self._timer_when <= when):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._start(when)

    def _start(self, when: float) -> None:
        self._timer_when = when
        self._timer = self._loop.call_at(when, self._fire)

    def _fire(self) -> None:
        self._timer = None
        when = self._when
        if when is None:
            return
        if when > self._loop.time():
            self._start(when)
        else:
            self._when = None
            self._ring()
