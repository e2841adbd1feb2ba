"""Whether a loading worker still does something: output, CPU time or I/O are progress, being alive is not."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from predictord.supervisor.output import WorkerOutput

_LOOK_S = 1.0
_MIN_CPU_TICKS = 1
"""Less is the noise of an idle process's own timers."""


@dataclass(frozen=True)
class Progress:
    """How much a process has done since its start; each only grows."""

    output_bytes: int
    cpu_ticks: int
    io_bytes: int

    def is_ahead_of(self, other: "Progress") -> bool:
        """Whether work was done between the two looks."""
        return (
            self.output_bytes > other.output_bytes
            or self.cpu_ticks >= other.cpu_ticks + _MIN_CPU_TICKS
            or self.io_bytes > other.io_bytes
        )


def progress_of(pid: int, output_bytes: int) -> Progress:
    """What `/proc` says of a process; zeros once it is gone."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        with open(f"/proc/{pid}/io") as file:
            amounts = dict(line.split(": ") for line in file.read().splitlines())
    except OSError:
        return Progress(output_bytes, 0, 0)
    return Progress(output_bytes, int(fields[11]) + int(fields[12]), int(amounts["rchar"]) + int(amounts["wchar"]))


class Loading(Protocol):
    """A process of which signs of life are expected; `pid` is 0 until it is born."""

    pid: int
    output: WorkerOutput


class LoadWatch:
    """Calls `on_silence` once a loading process has made no progress for `timeout_s`; 0 is never."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        process: Loading,
        timeout_s: float,
        on_silence: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._process = process
        self._timeout_s = timeout_s
        self._on_silence = on_silence
        self._seen = self._look()
        self._seen_at = loop.time()
        self._timer: asyncio.TimerHandle | None = None
        if timeout_s:
            self._wait()

    def cancel(self) -> None:
        """Stop watching: it is ready, or gone."""
        if self._timer is not None:
            self._timer.cancel()

    def _wait(self) -> None:
        # Looking at most twice in the limit keeps what it may be late by below its half.
        self._timer = self._loop.call_later(min(_LOOK_S, self._timeout_s / 4), self._check)

    def _check(self) -> None:
        now, looked = self._loop.time(), self._look()
        if not self._process.pid or looked.is_ahead_of(self._seen):  # its birth has a limit of its own
            self._seen, self._seen_at = looked, now
        if now - self._seen_at >= self._timeout_s:
            self._on_silence()
        else:
            self._wait()

    def _look(self) -> Progress:
        return progress_of(self._process.pid, self._process.output.bytes_seen)
