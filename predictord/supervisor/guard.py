"""The guardian process as the supervisor holds it: started, told whom to kill, replaced if it dies."""

import asyncio
import logging
import os
import subprocess
import sys
from contextlib import suppress

from predictord.supervisor import guardian

log = logging.getLogger("predictord")

INSTANCE_VARIABLE = "PREDICTORD_INSTANCE"
"""Marks everything that descends from a worker, for the guardian."""


class Guardian:
    """The supervisor's end of the guardian's pipe; a guardian that dies is replaced."""

    def __init__(self, loop: asyncio.AbstractEventLoop, tag: str) -> None:
        self._loop = loop
        self._tag = tag
        self._groups: set[int] = set()
        self._start()

    @property
    def pid(self) -> int:
        """The guardian's process id."""
        return self._process.pid

    @property
    def children(self) -> set[int]:
        """The pids of all children of ours that are known: workers and zygotes, which lead their groups, and itself."""
        return self._groups | {self.pid}

    def add(self, group: int) -> None:
        """Kill this process group when the supervisor is gone."""
        self._groups.add(group)
        self._tell(f"+{group}\n")

    def remove(self, group: int) -> None:
        """The group is gone; its number may be reused."""
        self._groups.discard(group)
        self._tell(f"-{group}\n")

    def dismiss(self, limit_s: float) -> None:
        """Let it kill what is left, and wait for it; blocks for `limit_s` at most."""
        self._forget()
        try:
            self._process.wait(limit_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _start(self) -> None:
        command = [sys.executable, "-I", "-S", guardian.__file__, f"{INSTANCE_VARIABLE}={self._tag}"]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )
        self._pidfd = os.pidfd_open(self._process.pid)
        self._loop.add_reader(self._pidfd, self._replace)
        for group in self._groups:
            self._tell(f"+{group}\n")

    def _replace(self) -> None:
        log.warning("the guardian process died and is replaced", extra={"event": "guardian_replaced"})
        self._forget()
        self._process.wait()
        self._start()

    def _forget(self) -> None:
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.close()

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        if self._process.stdin.closed:
            return  # dismissed; a zygote may end a moment later
        # A guardian that has just died is told everything by `_replace`.
        with suppress(OSError):
            self._process.stdin.write(line.encode())
            self._process.stdin.flush()
