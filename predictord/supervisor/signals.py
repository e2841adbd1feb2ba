"""Signals are only recorded here; the supervisor's loop acts on them."""

import asyncio
import os
import signal
from collections.abc import Callable
from enum import Enum

from predictord.errors import ExitCode


class Stop(Enum):
    """What ended the service, with its exit code when the end was clean and when it was forced."""

    TERMINATED = (ExitCode.STOPPED, ExitCode.TERMINATED)
    INTERRUPTED = (ExitCode.INTERRUPTED, ExitCode.INTERRUPTED)
    LOST_TERMINAL = (ExitCode.LOST_TERMINAL, ExitCode.LOST_TERMINAL)

    @property
    def clean(self) -> ExitCode:
        """The exit code after draining."""
        return self.value[0]

    @property
    def forced(self) -> ExitCode:
        """The exit code after a second signal."""
        return self.value[1]


class StopSignals:
    """SIGTERM, SIGINT and, with a terminal, SIGHUP: the first asks for a drained stop, the second forces it.

    Without a terminal to lose, SIGHUP calls `on_hangup`.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, on_hangup: Callable[[], None]) -> None:
        self._loop = loop
        self.first: Stop | None = None
        self.second: Stop | None = None
        self.changed = asyncio.Event()
        """Set by every signal; whoever waits clears it."""
        loop.add_signal_handler(signal.SIGTERM, self._record, Stop.TERMINATED)
        loop.add_signal_handler(signal.SIGINT, self._record, Stop.INTERRUPTED)
        if has_terminal():
            loop.add_signal_handler(signal.SIGHUP, self._record, Stop.LOST_TERMINAL)
        else:
            loop.add_signal_handler(signal.SIGHUP, on_hangup)

    def ignore(self) -> None:
        """Ignore them all: the exit code is settled, and what is left of the process ends by itself."""
        # A loop that closes puts back the defaults, by which a late signal would kill the process.
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            self._loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_IGN)

    def ask_to_stop(self) -> None:
        """What the first SIGTERM does; unlike a second one, asking again forces nothing."""
        if self.first is None:
            self._record(Stop.TERMINATED)

    def _record(self, stop: Stop) -> None:
        if self.first is None:
            self.first = stop
        elif stop is not Stop.LOST_TERMINAL:
            # A terminal that closes sends SIGHUP more than once; that is nobody's impatience.
            self.second = stop
        self.changed.set()


def has_terminal() -> bool:
    """Whether this process has a controlling terminal."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True
