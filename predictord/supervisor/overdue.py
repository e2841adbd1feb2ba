"""A prediction whose time is up: it is answered with 504 and its stack, and its slot is freed whatever it takes."""

import asyncio
import logging
from collections.abc import Callable, Mapping

from predictord.problem import Code, Problem
from predictord.supervisor import stacks
from predictord.supervisor.call import Call, Stage
from predictord.supervisor.place import Place
from predictord.supervisor.process import WorkerProcess
from predictord.supervisor.slot import Slot

log = logging.getLogger("predictord")

STACKS_LIMIT_S = 0.3
CANCEL_LIMIT_S = 0.5
"""How long an async worker may take to obey a `Cancel` before it counts as hung."""
COMPANY_LIMIT_S = 1.0
"""How long the other requests of a hung worker may take to finish before it is killed."""


class Overdue:
    """One slot whose deadline has passed."""

    def __init__(self, place: Place, process: WorkerProcess, slot: Slot, limit_s: float) -> None:
        self._place = place
        self._process = process
        self._slot = slot
        self._limit = f"{limit_s:g} s (--request-timeout)"
        self._calls: list[Call] = list(slot.calls)
        self._asked_at = asyncio.get_running_loop().time()
        for call in self._calls:
            call.overdue = Problem(Code.PREDICT_TIMEOUT, f"predict took longer than {self._limit}")

    async def end(self, leave: Callable[[Place], None], sources: Mapping[str, bytes]) -> None:
        """Free the slot: by cancelling an async prediction, else by killing the worker from outside."""
        place, slot, calls = self._place, self._slot, self._calls
        can_cancel = place.is_async and bool(calls)
        if can_cancel and calls[0].stage is Stage.HANDED:
            # The answer to a Cancel carries the task's own stack, which a dump of threads lacks.
            slot.cancel()
            if await self._within(STACKS_LIMIT_S / 2, self._is_over):
                self._tell_cancelled()
                return
        dump = await self._process.stacks(STACKS_LIMIT_S / 2 if can_cancel else STACKS_LIMIT_S)
        if self._is_over():
            return
        frames = stacks.thread_frames(dump, slot.thread, sources)
        for call in calls:
            call.fail(Problem(Code.PREDICT_TIMEOUT, f"predict took longer than {self._limit}", frames))
        if can_cancel:
            slot.cancel()
            if await self._within(CANCEL_LIMIT_S, self._is_over):
                self._tell_cancelled()
                return
        leave(place)
        others = [other for other in place.slots if other is not slot]
        await self._within(COMPANY_LIMIT_S, lambda: not any(other.busy for other in others))
        if place.process is self._process:
            place.kill(f"a prediction took longer than {self._limit}")

    def _is_over(self) -> bool:
        """Whether the slot has let go of it: answered late, cancelled, or the worker is dead."""
        slot = self._slot
        return slot.calls != self._calls or not slot.busy or self._place.process is not self._process

    async def _within(self, limit_s: float, is_true: Callable[[], bool]) -> bool:
        """Whether it becomes true within the limit, counted from the deadline; returns as soon as it does."""
        loop = asyncio.get_running_loop()
        while not (now := is_true()) and loop.time() < self._asked_at + limit_s:
            await asyncio.sleep(0.005)
        return now

    def _tell_cancelled(self) -> None:
        log.info(
            "%s: predict took longer than %s and was cancelled",
            self._place.label,
            self._limit,
            extra={"event": "predict_cancelled", "worker": self._place.id},
        )
