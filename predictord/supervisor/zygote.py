"""A zygote as the supervisor holds it: a process that has imported a predictor's packages, and makes workers."""

import asyncio
import itertools
import os
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import msgspec

from predictord.birth import PACKET_BYTES, Bear, Born, Warm, Warmed, decode_from_zygote, encode
from predictord.errors import WorkerError
from predictord.supervisor.output import WorkerOutput
from predictord.supervisor.process import Exit
from predictord.supervisor.progress import LoadWatch

BIRTH_LIMIT_S = 10.0
"""For a fork that takes some 30 ms; a zygote that takes longer is stopped, or hangs, and is killed."""

# Otherwise a mere `torch.cuda.is_available()` makes CUDA useless in every fork.
_WITHOUT_CUDA = {"PYTORCH_NVML_BASED_CUDA_CHECK": "1"}
_DEVICE = "CUDA_VISIBLE_DEVICES"


class Refused(Exception):
    """The zygote lives, and did not fork; the text says why."""


@dataclass(frozen=True)
class Recipe:
    """What a zygote is made of.

    `environment` is that of the first worker to come from it, `installed` identifies
    the packages on disk, `path` is the predictor's.
    """

    modules: tuple[str, ...]
    path: str
    environment: Mapping[str, str]
    installed: Mapping[str, int]

    def suits(self, other: "Recipe") -> bool:
        """Whether workers of the other recipe may come from a zygote of this one: then some of their imports may lack.

        The device is chosen after the fork.
        """
        mine, theirs = ({**recipe.environment, _DEVICE: ""} for recipe in (self, other))
        return mine == theirs and self.installed == other.installed and self.path == other.path

    @property
    def exec_environment(self) -> dict[str, str]:
        """The environment to start the zygote with."""
        return {**self.environment, **_WITHOUT_CUDA}


class Zygote:
    """One zygote process: imports, then bears workers until it ends; never changed."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        pid: int,
        control: socket.socket,
        output: WorkerOutput,
        recipe: Recipe,
        import_timeout_s: float,
        on_end: Callable[["Zygote"], None],
    ) -> None:
        self._loop = loop
        self.pid = pid
        self._pidfd = os.pidfd_open(pid)
        self._control = control
        self.output = output
        self.recipe = recipe
        self._on_end = on_end
        self.warmed: asyncio.Future[str] = loop.create_future()
        """Done once it has imported everything: empty, or why it is of no use."""
        self.ready_at = 0.0
        self._births: dict[int, asyncio.Future[int]] = {}
        self._numbers = itertools.count()
        self._ended = False
        control.setblocking(False)
        control.send(encode(Warm(list(recipe.modules), recipe.path)))
        output.start()
        loop.add_reader(self._pidfd, self._on_exit)
        loop.add_reader(control.fileno(), self._on_packet)
        self._watch = LoadWatch(loop, self, import_timeout_s, self._on_silence)

    @property
    def is_ready(self) -> bool:
        """Whether it can bear workers now."""
        return self.warmed.done() and self.warmed.result() == "" and not self._ended

    async def bear(self, environment: Mapping[str, str], descriptors: Sequence[int]) -> int:
        """The pid of a new worker, a child of ours, that has copies of the descriptors.

        Raises `Refused`, and `WorkerError` when the zygote ends or hangs meanwhile: then a
        worker may have been born whose pid is not known, and which an end of file on
        its control socket or a sweep of orphans ends.
        """
        if self._ended:
            raise Refused("it has ended")
        number = next(self._numbers)
        birth = self._births[number] = self._loop.create_future()
        try:
            packet = encode(Bear(number, _difference(self.recipe.exec_environment, environment)))
            try:
                socket.send_fds(self._control, [packet], descriptors)
            except OSError as error:
                raise Refused(f"the request can't be sent: {error.strerror}") from error
            async with asyncio.timeout(BIRTH_LIMIT_S):
                pid: int = await birth
                return pid
        except TimeoutError as error:
            self.stop()
            raise WorkerError(f"its zygote did not answer for {BIRTH_LIMIT_S:g} s") from error
        finally:
            del self._births[number]

    def stop(self) -> None:
        """SIGKILL; its workers do not notice."""
        if not self._ended:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def _on_packet(self) -> None:
        try:
            packet = self._control.recv(PACKET_BYTES)
        except BlockingIOError:
            return
        except OSError:
            packet = b""
        if not packet:
            self._loop.remove_reader(self._control.fileno())  # its end is its pid's to tell
            return
        try:
            message = decode_from_zygote(packet)
        except msgspec.DecodeError:
            self.stop()
            return
        if isinstance(message, Warmed):
            self._tell_warmed(message.obstacle)
        else:
            self._tell_born(message)

    def _tell_warmed(self, obstacle: str) -> None:
        self._watch.cancel()
        self.ready_at = self._loop.time()
        if not self.warmed.done():
            self.warmed.set_result(obstacle)

    def _tell_born(self, message: Born) -> None:
        birth = self._births.get(message.number)
        if birth is None or birth.done():
            return  # called off: that worker finds its control socket closed
        if message.obstacle:
            birth.set_exception(Refused(message.obstacle))
        else:
            birth.set_result(message.pid)

    def _on_silence(self) -> None:
        self._tell_warmed("its imports did nothing for the whole of --startup-timeout")
        self.stop()

    def _on_exit(self) -> None:
        self._ended = True
        self._loop.remove_reader(self._pidfd)
        self._loop.remove_reader(self._control.fileno())
        result = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED)
        assert result is not None
        is_code = result.si_code == os.CLD_EXITED
        status = Exit(result.si_status, None) if is_code else Exit(None, result.si_status)
        self.output.drain()
        self.output.close()
        self._control.close()
        os.close(self._pidfd)
        names = ", ".join(sorted({name.partition(".")[0] for name in self.recipe.modules}))
        self._tell_warmed(f"the zygote {status} while it imported {names}")
        for birth in self._births.values():
            if not birth.done():
                birth.set_exception(WorkerError(f"its zygote {status}"))
        self._on_end(self)


def _difference(old: Mapping[str, str], new: Mapping[str, str]) -> dict[str, str | None]:
    """What to set, and with `None` what to remove, to come from one environment to the other."""
    changes: dict[str, str | None] = dict.fromkeys(old.keys() - new.keys())
    return changes | {name: value for name, value in new.items() if old.get(name) != value}
