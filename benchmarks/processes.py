"""What the kernel says of processes: whose they are, what memory and time they take, which cores they may use."""

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

MARK = "BENCH_MARK"
"""The environment variable by which all processes of one server are found, whoever has started them."""

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def marked(mark: str) -> list[int]:
    """The pids of the living processes that inherited this mark."""
    wanted = f"{MARK}={mark}".encode()
    return [pid for pid in _pids() if wanted in _read(pid, "environ").split(b"\0")]


def pss_mib(pids: Iterable[int]) -> float:
    """The memory that they take, what they share counted once."""
    return sum(_kib(pid, "smaps_rollup", "Pss") for pid in pids) / 1024


def rss_mib(pid: int) -> float:
    """The memory of one process that is in RAM."""
    return _kib(pid, "status", "VmRSS") / 1024


def peak_mib(pid: int) -> float:
    """The most of it since its start or `forget_peak`."""
    return _kib(pid, "status", "VmHWM") / 1024


def forget_peak(pid: int) -> None:
    """Let `peak_mib` begin anew."""
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/clear_refs").write_text("5")


def cpu_s(pids: Iterable[int]) -> float:
    """The time that they have run so far, in user and kernel code."""
    ticks = 0
    for pid in pids:
        fields = _read(pid, "stat").rpartition(b")")[2].split()
        ticks += sum(map(int, fields[11:13]))
    return ticks / _TICKS_PER_S


@contextlib.contextmanager
def pinned(pids: Iterable[int], server_core: int, client_core: int) -> Iterator[None]:
    """Keep the server's threads on one core and this process, with its children, on one, during the block.

    What a wakeup across cores costs depends on the machine and on where the scheduler happens to put
    things; on one core it is what the software costs.
    """
    cores = os.sched_getaffinity(0)
    _set_cores(pids, {server_core}, {client_core})
    try:
        yield
    finally:
        _set_cores(pids, cores, cores)


def _set_cores(pids: Iterable[int], of_server: set[int], of_client: set[int]) -> None:
    for pid in pids:
        with contextlib.suppress(OSError):
            for thread in os.listdir(f"/proc/{pid}/task"):
                os.sched_setaffinity(int(thread), of_server)
    os.sched_setaffinity(0, of_client)


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _kib(pid: int, file: str, field: str) -> int:
    for line in _read(pid, file).decode().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1])
    return 0


def _read(pid: int, file: str) -> bytes:
    """Nothing for a process that has ended, or that is not ours to look at."""
    try:
        return Path(f"/proc/{pid}/{file}").read_bytes()
    except OSError:
        return b""
