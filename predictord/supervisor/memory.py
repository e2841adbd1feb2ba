"""How much memory workers use: of the machine by `/proc`, of their GPUs by NVML."""

import asyncio
import os
from collections import Counter
from collections.abc import Sequence

from predictord.supervisor.nvml import NvmlReport, Outcome, probe_async
from predictord.supervisor.place import Place
from predictord.supervisor.room import Room

_FRESH_S = 2.0
_HUNG_S = 60.0
"""A driver that does not answer costs every question ten seconds."""
_EXCLUSIVE = frozenset({1, 3})  # nvmlComputeMode_t: one thread's, one process's
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def rss_bytes(pid: int) -> int | None:
    """Resident memory of a process; `None` once it is gone."""
    try:
        with open(f"/proc/{pid}/statm") as file:
            return int(file.read().split()[1]) * _PAGE_BYTES
    except OSError:
        return None


def available_bytes() -> int | None:
    """What the kernel says new processes may take (`MemAvailable`); `None` where it does not say."""
    try:
        with open("/proc/meminfo") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) << 10
    except OSError:
        pass
    return None


async def rooms(places: Sequence[Place]) -> list[Room]:
    """The memories that successors of these workers would share with them: the machine's, and each GPU's."""
    pids = {place: place.process.pid for place in places if place.process is not None}
    found = [Room("this machine", available_bytes(), sum(rss_bytes(pid) or 0 for pid in pids.values()))]
    uuids = {place.device.uuid for place in places} - {None}
    if uuids:
        report = await probe_async()
        for uuid in sorted(uuid for uuid in uuids if uuid is not None):
            on_it = [pid for place, pid in pids.items() if place.device.uuid == uuid]
            found.append(_gpu_room(report, uuid, on_it))
    return found


def _gpu_room(report: NvmlReport, uuid: str, pids: Sequence[int]) -> Room:
    memory = report.memory(uuid)
    card = next((card for card in report.cards if card.uuid == uuid), None)
    if memory is None:
        return Room(uuid, None, None)
    told = card.process_bytes if card is not None else None
    # Where NVML does not tell whose memory it is, all that is used counts as ours.
    known = told is not None and all(pid in told for pid in pids)
    needed = sum(told[pid] for pid in pids) if told is not None and known else memory.used_bytes
    exclusive = card is not None and card.compute_mode in _EXCLUSIVE
    label = f"GPU {card.index}" if card is not None else uuid
    return Room(label, memory.free_bytes, needed, exclusive)


class GpuMemory:
    """What NVML says of the GPUs, asked at most every two seconds, and not at all without GPUs."""

    def __init__(self, *, has_gpus: bool) -> None:
        self._has_gpus = has_gpus
        self._report = NvmlReport(Outcome.NO_LIBRARY)
        self._peaks: dict[int, int] = {}
        self._stale_at = float("-inf")
        self._lock = asyncio.Lock()

    async def report(self) -> NvmlReport:
        """The latest report; one without cards where there are no GPUs."""
        if not self._has_gpus:
            return self._report
        clock = asyncio.get_running_loop().time
        async with self._lock:
            if clock() >= self._stale_at:
                self._report = await probe_async()
                self._stale_at = clock() + (_HUNG_S if self._report.outcome is Outcome.HUNG else _FRESH_S)
                used = self.by_process(self._report)
                self._peaks = {pid: max(count, self._peaks.get(pid, 0)) for pid, count in used.items()}
        return self._report

    def peak(self, pid: int) -> int | None:
        """The most that a living process was seen to hold; `None` for those that NVML does not list."""
        return self._peaks.get(pid)

    @staticmethod
    def by_process(report: NvmlReport) -> dict[int, int]:
        """Bytes by process id, on all GPUs; processes that NVML does not list are missing."""
        held: Counter[int] = Counter()
        for card in report.cards:
            held.update(card.process_bytes or {})
        return dict(held)
