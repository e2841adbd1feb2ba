"""Starts processes, and stops them: the one place of each (PROCESSES.md has what was tried).

Processes are exec'd from the main thread, since a child's PR_SET_PDEATHSIG fires at the end
of the thread that made it. A zygote will take the place of `Popen` in `spawn_worker`.
"""

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from predictord.generation import Generation
from predictord.supervisor import guardian
from predictord.supervisor.output import WorkerOutput
from predictord.supervisor.process import WorkerProcess

log = logging.getLogger("predictord")

INSTANCE_VARIABLE = "PREDICTORD_INSTANCE"
"""Marks everything that descends from a worker, for the guardian."""

HIDDEN_VARIABLES = ("PREDICTORD_TOKEN",)

STOP_GRACE_S = 1.0
"""Between SIGTERM and SIGKILL, for a worker that has nothing in hand any more."""


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
        # A guardian that has just died is told everything by `_replace`.
        with suppress(OSError):
            self._process.stdin.write(line.encode())
            self._process.stdin.flush()


class Launcher:
    """Makes worker processes that end with the supervisor, whatever happens to it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, tag: str, environ: Mapping[str, str]) -> None:
        self._loop = loop
        self._tag = tag
        self._environ = {name: value for name, value in environ.items() if name not in HIDDEN_VARIABLES}
        self.guardian = Guardian(loop, tag)

    def spawn_worker(
        self, generation: Generation, device_environment: Mapping[str, str], emit: Callable[[str], None]
    ) -> WorkerProcess:
        """Start a worker process; it says `Hello` when it can be told what to load. Raises OSError."""
        near, far = socket.socketpair()
        output_read, output_write = os.pipe()
        stacks_read, stacks_write = os.pipe()
        try:
            child = subprocess.Popen(
                # -P keeps the working directory off sys.path until the loader puts it there.
                [sys.executable, "-P", "-m", "predictord.worker", *map(str, (far.fileno(), stacks_write, os.getpid()))],
                stdin=subprocess.DEVNULL,
                stdout=output_write,
                stderr=output_write,
                pass_fds=(far.fileno(), stacks_write),
                env=self._worker_environment(generation, device_environment),
                cwd=Path(generation.path).parent,
                start_new_session=True,
            )
        except OSError:
            near.close()
            os.close(output_read)
            os.close(stacks_read)
            raise
        finally:
            far.close()
            os.close(output_write)
            os.close(stacks_write)
        # Reaped through its pidfd, not by Popen, which would otherwise warn.
        child.returncode = 0
        self.guardian.add(child.pid)
        return WorkerProcess(self._loop, child.pid, near, WorkerOutput(output_read, emit), stacks_read)

    def _worker_environment(self, generation: Generation, device_environment: Mapping[str, str]) -> dict[str, str]:
        return {
            **generation.environment,
            **self._environ,
            **device_environment,
            INSTANCE_VARIABLE: self._tag,
            # setproctitle writes over the environment that the guardian looks at.
            "SPT_NOENV": "1",
        }

    async def stop_worker(self, process: WorkerProcess, label: str) -> None:
        """TERM, wait, KILL, and wait for the end; a worker that ignores TERM costs `STOP_GRACE_S`."""
        process.signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_GRACE_S):
                await process.exited.wait()
        except TimeoutError:
            log.warning("%s ignores SIGTERM and is killed", label, extra={"event": "worker_killed"})
            process.kill()
            await process.exited.wait()
