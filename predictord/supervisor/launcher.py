"""Starts processes, and stops them: the one place of each.

Processes are exec'd from the main thread, since a child's PR_SET_PDEATHSIG fires at the end
of the thread that made it.
"""

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from predictord.errors import WorkerError
from predictord.generation import Generation
from predictord.supervisor.guard import INSTANCE_VARIABLE, Guardian
from predictord.supervisor.orphans import kill_orphans
from predictord.supervisor.output import WorkerOutput
from predictord.supervisor.process import WorkerProcess
from predictord.supervisor.warm_start import WarmStart
from predictord.supervisor.zygote import Recipe, Refused, Zygote

log = logging.getLogger("predictord")

HIDDEN_VARIABLES = ("PREDICTORD_TOKEN", "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC")
"""Not for workers: a secret, and what lets a process speak for the daemon to its service manager (sd_notify(3))."""

STOP_GRACE_S = 1.0
"""Between SIGTERM and SIGKILL, for a worker that has nothing in hand any more."""


class Ends:
    """The sockets and pipes between supervisor and one worker: our ends, and those to give away."""

    def __init__(self) -> None:
        self.near, self._far = socket.socketpair()
        self.output, self._output_write = os.pipe()
        self.stacks, self._stacks_write = os.pipe()

    @property
    def far(self) -> tuple[int, int, int]:
        """What the worker gets: its control socket, its output, its stacks."""
        return self._far.fileno(), self._output_write, self._stacks_write

    def close_far(self) -> None:
        """The worker has its own copies by now, or there is none."""
        self._far.close()
        os.close(self._output_write)
        os.close(self._stacks_write)

    def close_near(self) -> None:
        """For when there is no one to own them."""
        self.near.close()
        os.close(self.output)
        os.close(self.stacks)


class Launcher:
    """Makes worker processes that end with the supervisor, whatever happens to it."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        tag: str,
        environ: Mapping[str, str],
        *,
        warm_start: bool,
        startup_timeout_s: float,
    ) -> None:
        self._loop = loop
        self._tag = tag
        self._environ = {name: value for name, value in environ.items() if name not in HIDDEN_VARIABLES}
        self._startup_timeout_s = startup_timeout_s
        self._warm_start = WarmStart(loop, self._start_zygote) if warm_start else None
        self._tasks: asyncio.TaskGroup
        self._births = 0
        """Workers on their way whose pids are not known."""
        self.guardian = Guardian(loop, tag)

    async def run(self) -> None:
        """Own the births that take their time, until cancelled; to be running before the first worker is wanted."""
        async with asyncio.TaskGroup() as self._tasks:
            await self._loop.create_future()

    def spawn_worker(
        self, generation: Generation, device_environment: Mapping[str, str], emit: Callable[[str], None]
    ) -> WorkerProcess:
        """Start a worker process, which may be born later; it says `Hello` when it can be told what to load.

        Raises OSError; a birth that fails later is reported as the process's end.
        """
        environment = self._worker_environment(generation, device_environment)
        zygote = self._warm_start.choose(generation, environment) if self._warm_start is not None else None
        folder = Path(generation.path).parent
        ends = Ends()
        process = WorkerProcess(self._loop, ends.near, WorkerOutput(ends.output, emit), ends.stacks)
        if zygote is not None:
            birth = self._tasks.create_task(self._bear(process, zygote, environment, ends, folder))
            process.call_off = birth.cancel
            birth.add_done_callback(lambda birth: self._settle(process, birth, ends))
            return process
        try:
            self._exec_worker(process, environment, ends, folder)
        except OSError:
            ends.close_near()
            raise
        finally:
            ends.close_far()
        return process

    async def sweep(self) -> None:
        """Kill what dead workers have left behind; waits for births under way, whose pids nobody knows yet."""
        await kill_orphans(lambda: None if self._births else self.guardian.children)

    def forget_imports(self) -> None:
        """Make the next worker from a new zygote."""
        if self._warm_start is not None:
            self._warm_start.forget()

    def close(self, limit_s: float) -> None:
        """End the helpers and all that is left; blocks for `limit_s` at most."""
        if self._warm_start is not None:
            self._warm_start.close()
        self.guardian.dismiss(limit_s)

    async def _bear(
        self, process: WorkerProcess, zygote: Zygote, environment: Mapping[str, str], ends: Ends, folder: Path
    ) -> str:
        """Fork a worker once the zygote can, else exec one; returns why there is none."""
        await asyncio.shield(zygote.warmed)
        try:
            if not zygote.is_ready or not await self._fork_worker(process, zygote, environment, ends):
                self._exec_worker(process, environment, ends, folder)
        except WorkerError as error:
            return str(error)
        except OSError as error:
            return error.strerror or str(error)
        return ""

    async def _fork_worker(
        self, process: WorkerProcess, zygote: Zygote, environment: Mapping[str, str], ends: Ends
    ) -> bool:
        self._births += 1
        try:
            self._adopt(process, await zygote.bear(environment, ends.far))
        except Refused as error:
            log.warning("a worker starts cold: %s", error, extra={"event": "cold_start", "reason": str(error)})
            return False
        finally:
            self._births -= 1
        return True

    def _settle(self, process: WorkerProcess, birth: "asyncio.Task[str]", ends: Ends) -> None:
        ends.close_far()
        if not process.pid:
            process.not_born("called off" if birth.cancelled() else birth.result())

    def _exec_worker(self, process: WorkerProcess, environment: Mapping[str, str], ends: Ends, folder: Path) -> None:
        control_fd, output_fd, stacks_fd = ends.far
        arguments = (str(control_fd), str(stacks_fd), str(os.getpid()))
        self._adopt(process, _exec(arguments, (control_fd, stacks_fd), output_fd, environment, folder))

    def _adopt(self, process: WorkerProcess, pid: int) -> None:
        process.born(pid)
        self.guardian.add(pid)

    def _start_zygote(self, recipe: Recipe) -> Zygote:
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        output_read, output_write = os.pipe()
        try:
            arguments = ("zygote", str(far.fileno()), str(os.getpid()))
            folder = Path(recipe.path).parent
            pid = _exec(arguments, (far.fileno(),), output_write, recipe.exec_environment, folder)
        except OSError:
            near.close()
            os.close(output_read)
            raise
        finally:
            far.close()
            os.close(output_write)
        self.guardian.add(pid)
        output = WorkerOutput(output_read, _log_zygote_output)
        return Zygote(self._loop, pid, near, output, recipe, self._startup_timeout_s, self._on_zygote_end)

    def _on_zygote_end(self, zygote: Zygote) -> None:
        self.guardian.remove(zygote.pid)
        if self._warm_start is not None:
            self._warm_start.ended(zygote)

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


def _exec(
    arguments: Sequence[str],
    descriptors: Sequence[int],
    output_fd: int,
    environment: Mapping[str, str],
    folder: Path,
) -> int:
    """Run `python -m predictord.worker`, in a session of its own; returns the pid, which is the caller's to reap."""
    child = subprocess.Popen(
        # -P keeps the working directory off sys.path until the loader puts it there.
        [sys.executable, "-P", "-m", "predictord.worker", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=output_fd,
        stderr=output_fd,
        pass_fds=descriptors,
        env=environment,
        cwd=folder,
        start_new_session=True,
    )
    # Reaped through its pidfd, not by Popen, which would otherwise warn.
    child.returncode = 0
    return child.pid


def _log_zygote_output(line: str) -> None:
    log.info("zygote | %s", line, extra={"event": "zygote_output"})
