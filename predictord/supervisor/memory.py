"""How much memory workers use: of the machine by `/proc`, of their GPUs by NVML."""

import asyncio
import os

from predictord.supervisor.nvml import probe_async

_FRESH_S = 2.0
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def rss_bytes(pid: int) -> int | None:
    """Resident memory of a process; `None` once it is gone."""
    try:
        with open(f"/proc/{pid}/statm") as file:
            return int(file.read().split()[1]) * _PAGE_BYTES
    except OSError:
        return None


class GpuMemory:
    """What each process holds on the GPUs; asked for at most every two seconds, and not at all without GPUs."""

    def __init__(self, *, has_gpus: bool) -> None:
        self._has_gpus = has_gpus
        self._known: dict[int, int] = {}
        self._asked_at = float("-inf")
        self._lock = asyncio.Lock()

    async def by_process(self) -> dict[int, int]:
        """Bytes by process id; processes that NVML does not list are missing."""
        if not self._has_gpus:
            return {}
        async with self._lock:
            now = asyncio.get_running_loop().time()
            if now - self._asked_at >= _FRESH_S:
                report = await probe_async()
                self._asked_at = asyncio.get_running_loop().time()
                self._known = {}
                for card in report.cards:
                    for pid, used in (card.process_bytes or {}).items():
                        self._known[pid] = self._known.get(pid, 0) + used
            return self._known
