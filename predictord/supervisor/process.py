"""A worker process as the supervisor holds it: its pid, its control socket, what it prints, its stacks."""

import asyncio
import os
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from predictord.errors import WorkerError
from predictord.frames import FrameReader, FrameWriter
from predictord.supervisor.output import WorkerOutput
from predictord.wire import STACK_SIGNAL, Build, Channels, Load, ToSupervisor, frame_head

_FDS_A_MESSAGE = 253
_STACKS_QUIET_S = 0.05
_MOST_STACK_BYTES = 1 << 20
_FATAL = b"Fatal Python error"


@dataclass(frozen=True)
class Exit:
    """How a process ended: an exit code, or the signal that killed it."""

    code: int | None
    signal: int | None
    out_of_memory: bool = False
    stacks: str = ""
    """What `faulthandler` wrote when a fault of its own ended it (SIGSEGV, SIGABRT and the like)."""
    not_born: str = ""
    """Why there never was a process, where there was none."""

    def __str__(self) -> str:
        if self.not_born:
            return f"could not be started ({self.not_born})"
        if self.out_of_memory:
            return "was killed (out of memory?)"
        if self.signal is not None:
            return f"was killed by {signal.Signals(self.signal).name}"
        return f"ended with exit code {self.code}"


class ProcessEvents(Protocol):
    """Who is told what a worker process does."""

    def on_message(self, message: ToSupervisor, descriptors: list[int]) -> None:
        """A message came on the control socket; the file descriptors in it are the receiver's."""

    def on_protocol_error(self, error: WorkerError) -> None:
        """What came on the control socket is no message."""

    def on_exit(self, status: Exit) -> None:
        """The process has ended, and its group has been killed."""


class WorkerProcess:
    """Watches one child through its pidfd, which can't be confused with another process.

    It may be watched, and killed, before it is born.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, control: socket.socket, output: WorkerOutput, stacks_fd: int
    ) -> None:
        self._loop = loop
        self.pid = 0
        """0 until it is born."""
        self._pidfd = -1
        self.call_off: Callable[[], object] | None = None
        """Ends the making of a process that is not born yet."""
        self._control = control
        self._reader = FrameReader()
        self._writer = FrameWriter(loop, control)
        self.output = output
        self._stacks_fd = stacks_fd
        self._descriptors: list[int] = []
        """Received, but not yet claimed by a `Channels`."""
        self._events: ProcessEvents | None = None
        self._oom_kills = _oom_kills()
        self._dump: asyncio.Future[str] | None = None
        """The stacks, while they are on their way."""
        self.exited = asyncio.Event()
        control.setblocking(False)
        os.set_blocking(stacks_fd, False)

    def born(self, pid: int) -> None:
        """The process exists, a child of ours. Raises OSError."""
        self._pidfd = os.pidfd_open(pid)
        self.pid = pid
        if self._events is not None:
            self._loop.add_reader(self._pidfd, self._on_exit)

    def not_born(self, reason: str) -> None:
        """There will be no process, which is reported as its end."""
        self._end(Exit(None, None, not_born=reason))

    def watch(self, events: ProcessEvents) -> None:
        """Begin to report; the process may have ended already."""
        self._events = events
        if self.pid:
            self._loop.add_reader(self._pidfd, self._on_exit)
        self._loop.add_reader(self._control.fileno(), self._on_control)
        self.output.start()

    def send(self, message: Load | Build) -> None:
        """Send a message of a worker's birth, without waiting for it to be read."""
        self._writer.send([frame_head(message)])

    def signal(self, number: int) -> None:
        """Send a signal to the process, never to one that has taken its pid."""
        if self.exited.is_set():
            return
        if not self.pid:
            if self.call_off is not None and number in (signal.SIGTERM, signal.SIGKILL):
                self.call_off()
            return
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, number)

    def note_survival(self) -> None:
        """It lives: whatever the kernel has killed for memory so far was not this process."""
        self._oom_kills = _oom_kills()

    def kill(self) -> None:
        """SIGKILL to the process and its group."""
        self.signal(signal.SIGKILL)

    async def stacks(self, limit_s: float) -> str:
        """The Python stacks of all threads, as `faulthandler` prints them; empty if none came in time.

        Who asks while others do gets the same.
        """
        if self._dump is not None:
            return await asyncio.shield(self._dump)
        dump = self._dump = self._loop.create_future()
        text = ""
        try:
            text = await self._ask_for_stacks(limit_s)
        finally:
            self._dump = None
            dump.set_result(text)
        return text

    async def _ask_for_stacks(self, limit_s: float) -> str:
        self._read_stacks()  # what is left of an earlier dump
        self.signal(STACK_SIGNAL)
        text = b""
        deadline = self._loop.time() + limit_s
        while len(text) < _MOST_STACK_BYTES and (left := deadline - self._loop.time()) > 0:
            # There is no end mark: a pause after something has come is the end.
            if not await self._stacks_readable(min(left, _STACKS_QUIET_S) if text else left):
                break
            piece = self._read_stacks()
            if not piece:
                break
            text += piece
        return text.decode("utf-8", "replace")

    def _read_stacks(self) -> bytes:
        if self.exited.is_set():
            return b""
        with suppress(BlockingIOError):
            return os.read(self._stacks_fd, _MOST_STACK_BYTES)
        return b""

    async def _stacks_readable(self, limit_s: float) -> bool:
        ready = asyncio.Event()
        self._loop.add_reader(self._stacks_fd, ready.set)
        try:
            async with asyncio.timeout(limit_s):
                await ready.wait()
        except TimeoutError:
            return False
        finally:
            if not self.exited.is_set():
                self._loop.remove_reader(self._stacks_fd)
        return True

    def _on_control(self) -> None:
        try:
            data, descriptors, flags, _ = socket.recv_fds(self._control, 1 << 18, _FDS_A_MESSAGE)
        except BlockingIOError:
            return
        except OSError:
            data, descriptors, flags = b"", [], 0
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
        self._descriptors += descriptors
        if not data:
            # The end of the process is its pid's to tell.
            self._loop.remove_reader(self._control.fileno())
            return
        assert self._events is not None
        try:
            if flags & socket.MSG_CTRUNC:
                raise WorkerError("sent more file descriptors than can be received; raise the limit of open files")
            for message, _ in self._reader.feed(data):
                # One read may end several messages, so descriptors are told apart by count.
                count = message.count if isinstance(message, Channels) else 0
                taken, self._descriptors = self._descriptors[:count], self._descriptors[count:]
                self._events.on_message(message, taken)
        except WorkerError as error:
            self._loop.remove_reader(self._control.fileno())
            self._events.on_protocol_error(error)

    def _on_exit(self) -> None:
        self._loop.remove_reader(self._pidfd)
        # Before reaping: the zombie still reserves the group's number.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        status = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED)
        assert status is not None
        self._read_last_messages()
        os.close(self._pidfd)
        if status.si_code == os.CLD_EXITED:
            self._end(Exit(status.si_status, None))
        else:
            killed = status.si_status == signal.SIGKILL and _oom_kills() > self._oom_kills
            self._end(Exit(None, status.si_status, killed, self._fatal_stacks()))

    def _end(self, status: Exit) -> None:
        self._loop.remove_reader(self._control.fileno())
        self._loop.remove_reader(self._stacks_fd)
        self.output.drain()
        self.output.close()
        self._control.close()
        for descriptor in (self._stacks_fd, *self._descriptors):
            os.close(descriptor)
        self.exited.set()
        assert self._events is not None
        self._events.on_exit(status)

    def _fatal_stacks(self) -> str:
        _, found, rest = self._read_stacks().partition(_FATAL)
        return (found + rest).decode("utf-8", "replace")

    def _read_last_messages(self) -> None:
        """What a worker said before it ended, such as why its load failed."""
        assert self._events is not None
        with suppress(OSError, WorkerError):
            while data := self._control.recv(1 << 18):
                for message, _ in self._reader.feed(data):
                    self._events.on_message(message, [])


def _oom_kills() -> int:
    """How many processes the kernel has killed for memory since it booted; 0 where it does not say."""
    try:
        with open("/proc/vmstat") as file:
            for line in file:
                if line.startswith("oom_kill "):
                    return int(line.split()[1])
    except OSError:
        pass
    return 0
