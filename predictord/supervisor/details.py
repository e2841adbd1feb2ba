"""All that the daemon says of itself: `/status` and more, for people who watch it."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from predictord.supervisor.fleet import Fleet
from predictord.supervisor.memory import GpuMemory
from predictord.supervisor.nvml import Card, NvmlReport
from predictord.supervisor.place import Place
from predictord.supervisor.proxy import Proxy
from predictord.supervisor.reload import Reloader
from predictord.supervisor.states import WorkerState
from predictord.supervisor.status import Status
from predictord.supervisor.tally import HISTORY_S, Rates

_ABLE = (WorkerState.READY, WorkerState.BUSY)
_NAME_CHARACTERS = 80


class Details:
    """Makes the document behind `/events` and the verb `status`; changes nothing."""

    def __init__(
        self,
        status: Status,
        fleet: Fleet,
        proxy: Proxy,
        reloader: Reloader,
        gpu_memory: GpuMemory,
        urls: Sequence[str],
    ) -> None:
        self._status = status
        self._fleet = fleet
        self._proxy = proxy
        self._reloader = reloader
        self._gpu_memory = gpu_memory
        self._urls = list(urls)

    async def document(self) -> dict[str, Any]:
        """The document now; waits for NVML where there are GPUs."""
        report = await self._gpu_memory.report()
        status = await self._status.document()
        tally = self._proxy.tally
        places = self._fleet.places
        return {
            **status,
            "urls": self._urls,
            "uptime_s": round(time.monotonic() - tally.started_at, 1),
            "folder": os.path.dirname(self._fleet.generation.path),
            "rates": _rates(tally.rates()),
            "workers": [
                {**worker, **self._worker(place)} for worker, place in zip(status["workers"], places, strict=True)
            ],
            "gpus": gpu_documents(report, places),
            "reloads": self._reloader.past.documents(),
            "failures": self._proxy.failures.documents(),
        }

    def signature(self) -> object:
        """Changes whenever something has happened that a page should show at once."""
        fleet = self._fleet
        places = [
            (place.state in _ABLE or place.state, place.generation_number, place.restarts) for place in fleet.places
        ]
        happened = (self._reloader.past.count, self._proxy.failures.count)
        return (self._status.state, fleet.generation.number, places, happened)

    @property
    def activity(self) -> int:
        """Grows while predictions come and go."""
        return self._proxy.total + self._proxy.tally.total_s.count

    @property
    def is_busy(self) -> bool:
        """Whether a prediction waits or runs."""
        return bool(self._fleet.in_hand or self._proxy.dispatcher.queue)

    def history(self, last_s: int = HISTORY_S) -> dict[str, Any]:
        """The last seconds that are over, a row for each."""
        ago = time.time() - time.monotonic()
        rows = [
            [round(moment.at + ago, 1), *_rates(moment.rates).values(), moment.queued]
            for moment in self._proxy.tally.history()[-last_s:]
        ]
        return {"columns": ["at", *Rates.__struct_fields__, "queue"], "rows": rows}

    def _worker(self, place: Place) -> dict[str, Any]:
        rates = self._proxy.tally.rates_of(place.id)
        now = time.monotonic()
        loaded = place.process is not None and place.ready_at > place.started_at
        pid = place.process.pid if place.process is not None else None
        error = place.load_error
        return {
            "uptime_s": round(now - place.started_at, 1) if place.process is not None else None,
            "requests_per_s": _rounded(rates.requests_per_s),
            "p50_ms": _rounded(rates.p50_ms),
            "p99_ms": _rounded(rates.p99_ms),
            "load_s": round(place.ready_at - place.started_at, 3) if loaded else None,
            "vram_peak_bytes": self._gpu_memory.peak(pid) if pid is not None else None,
            "error": error.text if error is not None else None,
        }


def gpu_documents(report: NvmlReport, places: Sequence[Place]) -> list[dict[str, Any]]:
    """The GPUs, or MIG instances, that workers are on; what NVML does not tell is `None`, or no process."""
    own_groups = {place.process.pid for place in places if place.process is not None}
    devices = {place.device.uuid: place.device for place in places if place.device.uuid is not None}
    documents = []
    for uuid, device in devices.items():
        memory = report.memory(uuid)
        card = report.card(uuid)
        documents.append(
            {
                "index": device.index,
                "uuid": uuid,
                "name": device.name,
                "total_bytes": memory.total_bytes if memory is not None else None,
                "used_bytes": memory.used_bytes if memory is not None else None,
                "utilization": card.utilization if card is not None and card.uuid == uuid else None,
                "others": _others(card, own_groups) if card is not None else [],
            }
        )
    return documents


def _others(card: Card, own_groups: set[int]) -> list[dict[str, Any]]:
    found = [
        {"pid": pid, "name": process_name(pid), "bytes": used}
        for pid, used in (card.process_bytes or {}).items()
        if _group(pid) not in own_groups
    ]
    return sorted(found, key=lambda other: -other["bytes"])


def process_name(pid: int) -> str | None:
    """How a process was called, cut short; `None` where the kernel does not tell."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return None
    name = " ".join([os.path.basename(words[0]), *words[1:]]).strip()
    return name if len(name) <= _NAME_CHARACTERS else f"{name[: _NAME_CHARACTERS - 1]}…"


def _group(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except OSError:
        return None


def _rates(rates: Rates) -> dict[str, Any]:
    return {name: _rounded(getattr(rates, name)) for name in Rates.__struct_fields__}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
