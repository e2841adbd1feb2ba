"""Predictions that take long are told while they go on, with the predictor's frames, long before their time is up."""

import logging
from collections.abc import Iterable

from predictord.supervisor import stacks
from predictord.supervisor.call import Stage
from predictord.supervisor.place import Place

log = logging.getLogger("predictord")

SLOW_S = 10.0
_GROWTH = 2.0
"""How much longer than the last that was told a prediction must take to be told: a slow model is no news."""
_STACKS_LIMIT_S = 0.3


class SlowPredictions:
    """Finds what to tell; a new generation is judged afresh."""

    def __init__(self) -> None:
        self._threshold_s = SLOW_S
        self._generation = 0

    def find(self, places: Iterable[Place], generation: int, now: float) -> tuple[Place, int, float] | None:
        """The worker with the longest prediction, the thread that runs it, and its seconds, if that is to be told now.

        Streams are left out, which may go on for ever.
        """
        if generation != self._generation:
            self._generation, self._threshold_s = generation, SLOW_S
        longest = max(
            (
                (now - slot.calls[0].handed, place.id, slot.thread, place)
                for place in places
                for slot in place.slots
                if slot.calls and slot.calls[0].stage is Stage.HANDED
            ),
            default=None,
            key=lambda found: found[:3],
        )
        if longest is None or longest[0] < self._threshold_s:
            return None
        seconds, _, thread, place = longest
        self._threshold_s = seconds * _GROWTH
        return place, thread, seconds


async def tell_slow(place: Place, thread: int, seconds: float) -> None:
    """Say that a prediction takes long, and where it is."""
    frames = None
    if place.process is not None and not place.is_async:
        sources = place.generation.files if place.generation is not None else {}
        frames = stacks.thread_frames(await place.process.stacks(_STACKS_LIMIT_S), thread, sources)
    log.warning(
        "%s has worked on one prediction for %.0f s%s",
        place.label,
        seconds,
        "" if frames is None else "; it is at",
        extra={"event": "prediction_slow", "worker": place.id, "seconds": round(seconds, 1), "traceback": frames or ""},
    )
