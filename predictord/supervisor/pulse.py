"""The workers' heartbeat: who has nothing in hand is pinged, and who owes a pong for too long is told apart."""

import asyncio
import logging

from predictord.supervisor.dispatch import Dispatcher
from predictord.supervisor.place import Place
from predictord.supervisor.states import WorkerState

log = logging.getLogger("predictord")

PING_INTERVAL_S = 5.0
PING_LIMIT_S = 30.0


def check_pulse(place: Place, dispatcher: Dispatcher) -> None:
    """Ping a worker with nothing in hand; one that owes a pong gets no requests, and later no mercy."""
    if place.state is not WorkerState.READY or dispatcher.is_quiescing:
        return
    if place.pinged_at is None:
        if place.is_idle:
            place.ping()
        return
    silent_s = asyncio.get_running_loop().time() - place.pinged_at
    if silent_s >= PING_LIMIT_S:
        place.kill(f"it did not answer for {silent_s:.0f} s")
    elif not place.silent:
        place.silent = True
        log.warning(
            "%s does not answer and gets no requests; if it stays silent for %.0f s it is replaced",
            place.label,
            PING_LIMIT_S,
            extra={"event": "worker_silent", "worker": place.id},
        )
        dispatcher.leave(place)
