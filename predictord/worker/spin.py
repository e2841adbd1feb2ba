"""Waits for the next request awake for a moment, before the thread sleeps.

To fall asleep and be woken on another core costs tens of microseconds on each side, and cold caches after it:
more than a small prediction itself. Under load the next request comes sooner than that. So a worker that has a
core to itself looks for it for up to `SPIN_S`, yielding to whoever else wants the core, and where that was in
vain not again for a while.
"""

import os
from collections.abc import Callable
from time import perf_counter

SPIN_S = 100e-6
REST = 31
"""Waits that sleep at once after one that was awake in vain: a thirtieth of `SPIN_S` a request is wasted at most."""
LOOK_EVERY = 256
"""Waits between two looks at how many cores the process may use, since that can change."""


def _cores() -> int:
    return len(os.sched_getaffinity(0))


class Spin:
    """One thread's way to wait.

    `poll` takes milliseconds, or `None` for no limit, and says whether there is something.
    """

    def __init__(
        self,
        poll: Callable[[int | None], object],
        *,
        cores: Callable[[], int] = _cores,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self._poll = poll
        self._cores = cores
        self._clock = clock
        self._rest = 0
        self._waits = 0

    def wait(self) -> None:
        """Return once there is something to read; blocks without limit."""
        if self._rest:
            self._rest -= 1
        elif self._finds():
            return
        self._poll(None)

    def _finds(self) -> bool:
        if self._waits % LOOK_EVERY == 0 and self._cores() < 2:
            self._rest = LOOK_EVERY  # whoever sends could not run meanwhile
            return False
        self._waits += 1
        end = self._clock() + SPIN_S
        while not self._poll(0):
            if self._clock() > end:
                self._rest = REST
                return False
            os.sched_yield()
        return True
