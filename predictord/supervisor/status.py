"""What the daemon says of itself: the documents behind `/`, `/status` and `/readyz`."""

import os
from typing import Any

from predictord import __version__
from predictord.problem import Problem
from predictord.supervisor.dispatch import Dispatcher
from predictord.supervisor.fleet import Fleet
from predictord.supervisor.memory import GpuMemory, rss_bytes
from predictord.supervisor.place import Place
from predictord.supervisor.proxy import Proxy
from predictord.supervisor.reload import Reloader
from predictord.wire import Interface


class Status:
    """Reads the daemon's parts, and changes none."""

    def __init__(
        self,
        fleet: Fleet,
        dispatcher: Dispatcher,
        proxy: Proxy,
        reloader: Reloader,
        gpu_memory: GpuMemory,
        *,
        queue_limit: int,
    ) -> None:
        self._reloader = reloader
        self._fleet = fleet
        self._dispatcher = dispatcher
        self._proxy = proxy
        self._gpu_memory = gpu_memory
        self._queue_limit = queue_limit

    async def document(self) -> dict[str, Any]:
        """`GET /status`."""
        fleet = self._fleet
        vram = self._gpu_memory.by_process(await self._gpu_memory.report())
        return {
            "version": __version__,
            "pid": os.getpid(),
            "state": self.state,
            "predictor": self.predictor,
            "generation": fleet.generation.number,
            "reload": None if self._reloader.last is None else self._reloader.last.document(),
            "workers": [self._worker(place, vram) for place in fleet.places],
            "queue": {"depth": self._dispatcher.depth, "limit": self._queue_limit},
            "requests": {"total": self._proxy.total, "failed": self._proxy.tally.failed, "in_flight": fleet.in_hand},
        }

    def summary(self) -> dict[str, Any]:
        """`GET /`: what is served here and where to look further."""
        return {
            "service": "predictord",
            "version": __version__,
            "state": self.state,
            "predictor": self.predictor,
            "generation": self._fleet.generation.number,
            "links": {
                "predict": "POST /predict",
                "status": "/status",
                "events": "/events",
                "metrics": "/metrics",
                "health": "/healthz",
                "readiness": "/readyz",
                "schema": "/openapi.json",
            },
        }

    def unready(self) -> Problem | None:
        """Why no worker can answer now; `None` when one can."""
        return self._fleet.unready()

    @property
    def interface(self) -> Interface:
        """What callers are told of the predictor; an open one until a worker has said it."""
        contracts = (place.contract for place in self._fleet.places)
        return next((contract.interface for contract in contracts if contract is not None), Interface())

    @property
    def generation(self) -> int:
        """The number of the generation that serves."""
        return self._fleet.generation.number

    @property
    def state(self) -> str:
        """The state of the whole."""
        return self._fleet.state(reloading=self._reloader.is_reloading).value

    @property
    def predictor(self) -> dict[str, Any]:
        """What is served: path and class."""
        generation = self._fleet.generation
        contracts = (place.contract for place in self._fleet.places)
        name = next((contract.class_name for contract in contracts if contract is not None), generation.class_name)
        return {"path": generation.path, "class": name}

    def _worker(self, place: Place, vram: dict[int, int]) -> dict[str, Any]:
        device = place.device
        pid = place.process.pid or None if place.process is not None else None
        return {
            "id": place.id,
            "pid": pid,
            "device": {"kind": device.kind, "index": device.index, "uuid": device.uuid, "name": device.name},
            "state": place.state.value,
            "generation": place.generation_number,
            "requests": self._proxy.tally.requests_of(place.id),
            "restarts": place.restarts,
            "rss_bytes": rss_bytes(pid) if pid is not None else None,
            "vram_bytes": vram.get(pid) if pid is not None else None,
        }
