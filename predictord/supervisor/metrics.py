"""`GET /metrics`: the daemon's numbers for Prometheus."""

import asyncio
from collections.abc import Callable
from importlib import import_module

from starlette.requests import Request
from starlette.responses import Response

from predictord.supervisor.details import gpu_documents
from predictord.supervisor.dispatch import Dispatcher
from predictord.supervisor.fleet import Fleet
from predictord.supervisor.memory import GpuMemory
from predictord.supervisor.proxy import Proxy
from predictord.supervisor.reload import Reloader
from predictord.supervisor.status import Status


class Metrics:
    """Answers scrapes, in the format that the scraper asks for."""

    def __init__(
        self,
        status: Status,
        fleet: Fleet,
        dispatcher: Dispatcher,
        proxy: Proxy,
        reloader: Reloader,
        gpu_memory: GpuMemory,
    ) -> None:
        self._status = status
        self._fleet = fleet
        self._dispatcher = dispatcher
        self._proxy = proxy
        self._reloader = reloader
        self._gpu_memory = gpu_memory

    async def answer(self, request: Request) -> Response:
        """The endpoint."""
        # On a thread, since the first import takes a tenth of a second and requests go on meanwhile.
        await asyncio.to_thread(import_module, "predictord.supervisor.metric_families")
        from prometheus_client import exposition
        from prometheus_client.openmetrics import exposition as openmetrics

        from predictord.supervisor.metric_families import Families

        report = await self._gpu_memory.report()
        document = await self._status.document()
        families = Families(
            document,
            gpu_documents(report, self._fleet.places),
            self._proxy.tally,
            self._dispatcher.batch_sizes,
            self._reloader.past,
        )
        # Not by `choose_encoder`, which fails at a version that is none.
        encode: Callable[[Families], bytes] = exposition.generate_latest
        content_type = exposition.CONTENT_TYPE_PLAIN_0_0_4
        if "application/openmetrics-text" in request.headers.get("accept", ""):
            encode, content_type = openmetrics.generate_latest, openmetrics.CONTENT_TYPE_LATEST
        headers = {"content-type": content_type, "cache-control": "no-store", "vary": "accept"}
        return Response(encode(families), headers=headers)
