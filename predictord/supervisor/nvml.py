"""What NVML says about the GPUs, asked in a child process.

`nvmlInit` can hang in a broken driver, where no signal handler or thread of ours would help, so the supervisor never
calls NVML itself: `python -m predictord.supervisor.nvml PARENT` prints one report as JSON and exits, within a limit.
"""

import ctypes
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from enum import StrEnum
from typing import Any

import msgspec

from predictord import linux

LIBRARY = "libnvidia-ml.so.1"
PROBE_TIMEOUT_S = 10.0
_KILL_TIMEOUT_S = 1.0  # a child that sits in a driver call can't be killed; it is left to the kernel

NO_PERMISSION = 4
DRIVER_NOT_LOADED = 9
LIBRARY_NOT_FOUND = 12
VERSION_MISMATCH = 18
_PROHIBITED = 2  # nvmlComputeMode_t
_MIG_ENABLED = 1

# Not supported, no permission, not found, list grew while it was read, function missing in an older driver:
# the card may be fine, the answer is just not to be had.
_UNTOLD = frozenset({3, NO_PERMISSION, 6, 7, 13})

_CURES = {
    NO_PERMISSION: "No permission to use the NVIDIA driver; check the permissions of /dev/nvidia*",
    DRIVER_NOT_LOADED: "The NVIDIA driver is installed but not loaded; run 'sudo modprobe nvidia', or reboot",
    VERSION_MISMATCH: "The NVIDIA driver and its library differ in version, as after a driver update; reboot",
}


class Outcome(StrEnum):
    """How far the question got."""

    OK = "ok"
    NO_LIBRARY = "no_library"
    NO_BINDING = "no_binding"
    """The module `pynvml` is missing, or is not nvidia-ml-py's."""
    FAILED = "failed"
    HUNG = "hung"
    CRASHED = "crashed"


class Memory(msgspec.Struct, frozen=True):
    """Device memory in bytes; `free_bytes` is what any process may still take."""

    total_bytes: int
    free_bytes: int
    used_bytes: int


class Instance(msgspec.Struct, frozen=True):
    """A MIG instance: a slice of a card that CUDA treats as a device."""

    uuid: str
    name: str
    memory: Memory | None = None


class Card(msgspec.Struct, frozen=True):
    """One GPU, by its index in nvidia-smi's order.

    `None` means that NVML does not tell: memory of unified-memory systems, `instances`
    without MIG mode, processes in some containers. `uuid` is known unless there is an `error`.
    """

    index: int
    uuid: str | None = None
    name: str = "unknown model"
    error: str | None = None
    memory: Memory | None = None
    compute_mode: int | None = None
    instances: tuple[Instance, ...] | None = None
    process_bytes: dict[int, int] | None = None
    """Memory in use, by process id as the host counts them."""
    utilization: float | None = None
    """The share of the last moments, 0 to 1, in which a kernel ran."""

    @property
    def fault(self) -> str | None:
        """Why no worker can run on this card, with the cure where there is one."""
        if self.error is not None:
            return self.error
        if self.compute_mode == _PROHIBITED:
            return f"its compute mode is Prohibited; run 'sudo nvidia-smi -i {self.index} -c DEFAULT'"
        if self.instances == ():
            return f"MIG mode is on without an instance; make one with 'sudo nvidia-smi mig -i {self.index} -cgi … -C'"
        return None


class NvmlReport(msgspec.Struct, frozen=True):
    """Everything that one probe learned; `code` and `detail` are NVML's where it did not end well."""

    outcome: Outcome
    code: int | None = None
    detail: str = ""
    driver_version: str = ""
    cards: tuple[Card, ...] = ()

    def card(self, uuid: str) -> Card | None:
        """The card with this UUID, or with a MIG instance that has it."""
        for card in self.cards:
            if card.uuid == uuid or any(instance.uuid == uuid for instance in card.instances or ()):
                return card
        return None

    def memory(self, uuid: str) -> Memory | None:
        """The memory of the card or MIG instance with this UUID, where NVML tells it."""
        units: dict[str | None, Card | Instance] = {card.uuid: card for card in self.cards}
        units |= {instance.uuid: instance for card in self.cards for instance in card.instances or ()}
        return units[uuid].memory if uuid in units else None

    @property
    def failure(self) -> str | None:
        """What is wrong with the driver and the cure, without a full stop; `None` if it answered or is not there."""
        if self.outcome is Outcome.HUNG:
            return f"The NVIDIA driver did not answer in {self.detail}; see 'sudo dmesg' for NVRM lines, and reboot"
        if self.outcome is Outcome.CRASHED:
            return f"Asking the NVIDIA driver for its GPUs ended with {self.detail}; reinstall the driver, and reboot"
        if self.outcome is Outcome.FAILED:
            unknown = f"The NVIDIA driver fails with '{self.detail}' (NVML error {self.code}); reboot"
            return _CURES.get(self.code or 0, unknown)
        return None


def probe(timeout_s: float = PROBE_TIMEOUT_S, environ: Mapping[str, str] | None = None) -> NvmlReport:
    """Ask NVML about all GPUs; blocks for at most `timeout_s` (and a moment to kill).

    Call it from a thread that outlives it: the child dies with the thread that spawned it.
    """
    if not _library_loads():
        return NvmlReport(Outcome.NO_LIBRARY)
    child = subprocess.Popen(
        _command(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environ
    )
    try:
        output, errors = child.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        return _hung(timeout_s)
    finally:
        child.kill()
        with suppress(subprocess.TimeoutExpired):
            child.wait(_KILL_TIMEOUT_S)
        for pipe in (child.stdout, child.stderr):
            if pipe is not None:
                pipe.close()
    return _read(child.returncode, output, errors)


async def probe_async(timeout_s: float = PROBE_TIMEOUT_S, environ: Mapping[str, str] | None = None) -> NvmlReport:
    """`probe` for the event loop's thread; a cancelled one leaves no child behind."""
    import asyncio  # here, since the child below has no use for it and starts 50 ms sooner

    if not _library_loads():
        return NvmlReport(Outcome.NO_LIBRARY)
    child = await asyncio.create_subprocess_exec(
        *_command(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environ
    )
    try:
        async with asyncio.timeout(timeout_s):
            output, errors = await child.communicate()
    except TimeoutError:
        return _hung(timeout_s)
    finally:
        if child.returncode is None:
            with suppress(ProcessLookupError):
                child.kill()
            with suppress(TimeoutError):
                async with asyncio.timeout(_KILL_TIMEOUT_S):
                    await child.wait()
    return _read(child.returncode or 0, output, errors)


def _library_loads() -> bool:
    """Whether a child is worth its start; loading runs no driver code yet."""
    try:
        ctypes.CDLL(LIBRARY)
    except OSError:
        return False
    return True


def _command() -> list[str]:
    # -P: the current folder is the predictor's, whose files must not pass for modules
    return [sys.executable, "-P", "-m", __name__, str(os.getpid())]


def _hung(timeout_s: float) -> NvmlReport:
    return NvmlReport(Outcome.HUNG, detail=f"{timeout_s:g} s")


def _read(status: int, output: bytes, errors: bytes) -> NvmlReport:
    try:
        return msgspec.json.decode(output.rpartition(b"\n")[2], type=NvmlReport)  # foreign code may print before
    except msgspec.DecodeError:
        last_line = errors.decode(errors="replace").strip().rpartition("\n")[2]
        return NvmlReport(Outcome.CRASHED, detail=last_line or f"exit status {status}")


def _ask() -> NvmlReport:
    try:
        import pynvml as nvml
    except Exception as error:  # an unrelated module of that name may raise anything
        return NvmlReport(Outcome.NO_BINDING, detail=f"{type(error).__name__}: {error}")
    if not hasattr(nvml, "nvmlDeviceGetComputeRunningProcesses_v3"):
        return NvmlReport(Outcome.NO_BINDING, detail=f"{getattr(nvml, '__file__', 'pynvml')} is not nvidia-ml-py")
    try:
        nvml.nvmlInit()
        driver_version = nvml.nvmlSystemGetDriverVersion()
        count = nvml.nvmlDeviceGetCount()
    except nvml.NVMLError as error:
        outcome = Outcome.NO_LIBRARY if error.value == LIBRARY_NOT_FOUND else Outcome.FAILED
        return NvmlReport(outcome, error.value, str(error))
    cards = tuple(_card(nvml, index) for index in range(count))
    return NvmlReport(Outcome.OK, driver_version=driver_version, cards=cards)


def _card(nvml: Any, index: int) -> Card:
    known: dict[str, Any] = {"index": index}
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        known["name"] = nvml.nvmlDeviceGetName(handle)
        known["uuid"] = nvml.nvmlDeviceGetUUID(handle)
        known["memory"] = _memory(nvml, handle)
        known["compute_mode"] = _told(nvml, nvml.nvmlDeviceGetComputeMode, handle)
        known["instances"] = _instances(nvml, handle)
        known["process_bytes"] = _process_bytes(nvml, handle)
        known["utilization"] = _utilization(nvml, handle)
    except nvml.NVMLError as error:
        known["error"] = f"{error} (NVML error {error.value})"
    return Card(**known)


def _told(nvml: Any, question: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return question(*arguments)
    except nvml.NVMLError as error:
        if error.value not in _UNTOLD:
            raise
        return None


def _memory(nvml: Any, handle: Any) -> Memory | None:
    told = _told(nvml, nvml.nvmlDeviceGetMemoryInfo, handle)
    return None if told is None else Memory(told.total, told.free, told.used)


def _instances(nvml: Any, handle: Any) -> tuple[Instance, ...] | None:
    mode = _told(nvml, nvml.nvmlDeviceGetMigMode, handle)
    if mode is None or mode[0] != _MIG_ENABLED:
        return None
    slots = range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle))
    handles = (_told(nvml, nvml.nvmlDeviceGetMigDeviceHandleByIndex, handle, slot) for slot in slots)
    return tuple(
        Instance(nvml.nvmlDeviceGetUUID(slice_), nvml.nvmlDeviceGetName(slice_), _memory(nvml, slice_))
        for slice_ in handles
        if slice_ is not None
    )


def _process_bytes(nvml: Any, handle: Any) -> dict[int, int] | None:
    # by its version: without one, pynvml answers an older driver with an error that is no NVMLError
    processes = _told(nvml, nvml.nvmlDeviceGetComputeRunningProcesses_v3, handle)
    if processes is None:
        return None
    return {process.pid: process.usedGpuMemory for process in processes if process.usedGpuMemory is not None}


def _utilization(nvml: Any, handle: Any) -> float | None:
    told = _told(nvml, nvml.nvmlDeviceGetUtilizationRates, handle)
    return None if told is None else told.gpu / 100


if __name__ == "__main__":
    linux.die_with_parent(int(sys.argv[1]))
    sys.stdout.buffer.write(b"\n" + msgspec.json.encode(_ask()))
