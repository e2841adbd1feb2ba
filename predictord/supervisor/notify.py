"""Tells a service manager what the daemon is doing: systemd's notification protocol, sd_notify(3).

A few lines of text in a datagram to the Unix socket that NOTIFY_SOCKET names. Workers
never see that variable, since what they said would count as said by the daemon.
"""

import asyncio
import logging
import os
import socket
import time
from collections.abc import Mapping
from contextlib import closing

from predictord.supervisor.dispatch import Dispatcher
from predictord.supervisor.fleet import Fleet
from predictord.supervisor.reload import FAILED, Reloader
from predictord.supervisor.states import WorkerState

log = logging.getLogger("predictord")

_RETRY_S = 0.1
_MAX_STATUS_CHARS = 400
_ABLE = (WorkerState.READY, WorkerState.BUSY)


class Announcements:
    """Which states were announced, and so what is due next: decisions without I/O."""

    def __init__(self) -> None:
        self._ready = False
        self._reloading = False
        self._stopping = False

    def due(self, *, can_answer: bool, reloading: bool, stopping: bool) -> list[str]:
        """The assignments to send now; none when nothing has changed that a service manager knows of."""
        if self._stopping:
            return []
        if stopping:
            self._stopping = True
            return ["STOPPING=1"]
        if reloading:
            if not self._ready or self._reloading:
                return []
            self._reloading = True
            return ["RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}"]
        if self._reloading or (can_answer and not self._ready):
            self._ready, self._reloading = True, False
            return ["READY=1"]
        return []


class ServiceNotifier:
    """Keeps a service manager informed for as long as `run` runs."""

    def __init__(self, environ: Mapping[str, str], fleet: Fleet, dispatcher: Dispatcher, reloader: Reloader) -> None:
        self._name = environ["NOTIFY_SOCKET"]
        self._watchdog_s = watchdog_interval_s(environ, os.getpid())
        self._fleet = fleet
        self._dispatcher = dispatcher
        self._reloader = reloader
        self._announcements = Announcements()
        self._status = ""

    async def run(self) -> None:
        """Send what is due at each change of state, and signs of life where they are asked for, until cancelled."""
        with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as self._socket:
            self._socket.setblocking(False)
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._follow())
                    if self._watchdog_s is not None:
                        group.create_task(self._show_life(self._watchdog_s))
            except* OSError as group_error:
                log.warning(
                    "the service manager cannot be told anything: NOTIFY_SOCKET is %r (%s)",
                    self._name,
                    group_error.exceptions[0],
                    extra={"event": "notify_failed"},
                )

    async def _follow(self) -> None:
        while True:
            lines = self._announcements.due(
                can_answer=self._fleet.unready() is None,
                reloading=self._reloader.is_reloading,
                stopping=self._dispatcher.is_draining,
            )
            status = self._describe()
            if status != self._status:
                self._status = status
                lines.append(f"STATUS={status}")
            self._fleet.changed.clear()
            if lines:
                await self._send(lines)
            else:
                await self._fleet.changed.wait()

    async def _show_life(self, interval_s: float) -> None:
        # From a task of the loop, so that a loop which is stuck shows none.
        while True:
            await self._send(["WATCHDOG=1"])
            await asyncio.sleep(interval_s)

    async def _send(self, lines: list[str]) -> None:
        address = "\0" + self._name[1:] if self._name.startswith("@") else self._name
        while True:
            try:
                self._socket.sendto("\n".join(lines).encode(), address)
            except BlockingIOError:
                await asyncio.sleep(_RETRY_S)
            else:
                return

    def _describe(self) -> str:
        """What `systemctl status` shows."""
        fleet, last = self._fleet, self._reloader.last
        able, count = sum(place.state in _ABLE for place in fleet.places), len(fleet.places)
        state = fleet.state(reloading=self._reloader.is_reloading)
        text = f"{state}: {able} of {count} worker{'s' * (count > 1)} ready, generation {fleet.generation.number}"
        if last is not None and last.kind == FAILED and last.error:
            text += f"; the last reload failed: {_first_line(last.error)}"
        elif fleet.load_error is not None:
            text += f"; the predictor did not load: {_first_line(fleet.load_error.detail)}"
        return text[:_MAX_STATUS_CHARS]


def watchdog_interval_s(environ: Mapping[str, str], pid: int) -> float | None:
    """How often the service manager wants a sign of life: twice in the time that it waits; `None` if it wants none."""
    limit_us = environ.get("WATCHDOG_USEC", "")
    if not limit_us.isdecimal() or int(limit_us) == 0 or environ.get("WATCHDOG_PID", str(pid)) != str(pid):
        return None
    return int(limit_us) / 2e6


def _first_line(text: str) -> str:
    return text.partition("\n")[0]
