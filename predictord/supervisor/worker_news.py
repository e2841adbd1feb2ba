"""What the console says of workers: one line when one is ready, when one ends, and why."""

import logging

from predictord.figures import memory
from predictord.supervisor import stacks
from predictord.supervisor.memory import GpuMemory, rss_bytes
from predictord.supervisor.nvml import probe_async
from predictord.supervisor.place import LoadError, Place
from predictord.supervisor.process import Exit

log = logging.getLogger("predictord")


class WorkerNews:
    """Tells each event once; a load that fails again for the same reason is told without its traceback."""

    def __init__(self) -> None:
        self._told: tuple[int, LoadError] | None = None
        """The generation and the reason of the failed load that was told last."""

    async def tell_ready_with_gpu(self, place: Place) -> None:
        """As `tell_ready`, with what the worker holds on its GPU, which takes NVML a moment to say."""
        pid = place.process.pid if place.process is not None else 0
        used = GpuMemory.by_process(await probe_async()).get(pid)
        self.tell_ready(place, pid, used)

    def tell_ready(self, place: Place, pid: int, vram_bytes: int | None = None) -> None:
        """A worker has loaded: how long that took, and what it holds."""
        took_s = place.ready_at - place.started_at
        rss = rss_bytes(pid)
        on_gpu = f", {memory(vram_bytes)} on the GPU" if vram_bytes is not None else ""
        log.info(
            "%s ready in %.2f s%s",
            place.label,
            took_s,
            f" · {memory(rss)} of memory{on_gpu}" if rss is not None else "",
            extra={
                "event": "worker_ready",
                "worker": place.id,
                "seconds": round(took_s, 3),
                "rss_bytes": rss,
                "vram_bytes": vram_bytes,
            },
        )

    def tell_failed_load(self, place: Place, error: LoadError, delay_s: float | None) -> None:
        """A load has failed; the next try is in `delay_s`, or after a save."""
        news = (place.generation_number, error)
        reason, traceback = error.detail.removeprefix(f"{place.label} "), error.traceback
        how = "did not load"
        if self._told is not None and self._told[0] == news[0] and _is_alike(self._told[1], error):
            how, traceback = "did not load for the same reason", ""
        self._told = news
        log.error(
            "%s %s: %s%s",
            place.label,
            how,
            reason,
            _next_try(delay_s),
            extra={"event": "load_failed", "worker": place.id, "traceback": traceback},
        )

    def tell_death(self, place: Place, status: Exit, lost: int, delay_s: float | None) -> None:
        """A worker that served has died, and took `lost` requests with it."""
        cause = f"was killed: {place.reason}" if place.reason else str(status)
        sources = place.generation.files if place.generation is not None else {}
        log.error(
            "%s %s%s%s",
            place.label,
            cause,
            f"; {_requests(lost)} got a 502" if lost else "",
            _next_try(delay_s),
            extra={
                "event": "worker_died",
                "worker": place.id,
                "requests_lost": lost,
                "traceback": stacks.fatal_frames(status.stacks, sources),
            },
        )

    def tell_cut(self, place: Place, lost: int) -> None:
        """A worker that was to end had not finished in time."""
        log.warning(
            "%s was stopped with %s in hand: %s",
            place.label,
            _requests(lost),
            place.reason,
            extra={"event": "worker_cut", "worker": place.id, "requests_lost": lost},
        )


def _is_alike(one: LoadError, other: LoadError) -> bool:
    """Also of two workers, whose labels differ."""
    return _without_label(one.detail) == _without_label(other.detail)


def _without_label(detail: str) -> str:
    return detail.partition(") ")[2] if detail.startswith("worker ") else detail


def _requests(number: int) -> str:
    return f"{number} request{'s' if number > 1 else ''}"


def _next_try(delay_s: float | None) -> str:
    if delay_s is None:
        return ""
    return f"; starts again in {delay_s:g} s" if delay_s else "; starts again"
