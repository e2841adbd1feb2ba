"""Puts a new generation's workers in the place of the old ones, beside them or in turn."""

import asyncio
import logging

from predictord.generation import Generation
from predictord.supervisor.fleet import Fleet
from predictord.supervisor.memory import rooms
from predictord.supervisor.place import LoadError, Place
from predictord.supervisor.room import shortage
from predictord.supervisor.states import WorkerState

log = logging.getLogger("predictord")


class Superseded(Exception):
    """A newer save came while the candidates were loading; they are gone."""


class Turnover:
    """Replaces all workers; the old generation serves until the new one has proved that it can."""

    def __init__(self, fleet: Fleet, *, drain_timeout_s: float) -> None:
        self._fleet = fleet
        self._drain_timeout_s = drain_timeout_s
        self.superseded = asyncio.Event()
        """Set when a newer save has come."""

    async def begin_anew(self, new: Generation) -> LoadError | None:
        """Replace a generation that never served: nothing is worth keeping.

        Returns why the new one did not load either. Raises `Superseded`.
        """
        self._fleet.start_over(new)
        while True:
            if self._fleet.proven:
                return None
            if self._fleet.cannot_load:
                return self._fleet.load_error
            await self._something()

    async def replace(self, new: Generation, *, in_turn: bool) -> LoadError | None:
        """Replace the serving generation; returns why the new one did not load, and then the old serves on.

        Raises `Superseded` while that costs nothing.
        """
        lack = "--reload-mode in-turn" if in_turn else shortage(await rooms(self._fleet.places))
        if lack is None:
            error = await self._side_by_side(new)
            if error is None or not _lacked_memory(error):
                return error
            lack = f"the new worker ran out of memory beside the old one ({error.detail})"
        log.info("one worker after the other: %s", lack, extra={"event": "in_turn", "reason": lack})
        return await self._in_turn(new)

    async def _side_by_side(self, new: Generation) -> LoadError | None:
        candidates = [self._fleet.hire(place, new) for place in self._fleet.places]
        try:
            error = await self._until_ready(candidates)
        except BaseException:
            self._fleet.dismiss(candidates)
            raise
        if error is not None:
            self._fleet.dismiss(candidates)
            return error
        for old in self._fleet.promote(candidates, new):
            self._fleet.let_go(old, self._drain_timeout_s)
        return None

    async def _in_turn(self, new: Generation) -> LoadError | None:
        old_generation = self._fleet.generation
        done: list[Place] = []
        for place in list(self._fleet.places):
            error = await self._take_turn(place, new, old_generation, may_be_superseded=not done)
            if error is not None:
                self._fleet.restore(old_generation)
                for changed in done:
                    await self._fleet.empty(changed, self._drain_timeout_s)
                    self._fleet.refill(changed, old_generation)
                return error
            done.append(self._fleet.places[place.id])
        return None

    async def _take_turn(
        self, place: Place, new: Generation, old: Generation, *, may_be_superseded: bool
    ) -> LoadError | None:
        """Check the code beside the old worker, then drain, stop and load; requests wait in the queue meanwhile."""
        candidate = self._fleet.hire(place, new, hold=True)
        try:
            error = await self._until_checked(candidate, may_be_superseded=may_be_superseded)
        except BaseException:
            self._fleet.dismiss([candidate])
            raise
        if error is not None:
            self._fleet.dismiss([candidate])
            return error
        # From here on nothing supersedes: the device is in between.
        await self._fleet.empty(place, self._drain_timeout_s)
        candidate.go_on()
        error = await self._until_ready([candidate], may_be_superseded=False)
        if error is not None:
            self._fleet.dismiss([candidate])
            self._fleet.refill(place, old)
            return error
        self._fleet.promote_one(candidate, new)
        return None

    async def _until_checked(self, candidate: Place, *, may_be_superseded: bool) -> LoadError | None:
        while not candidate.is_checked:
            if (error := _failure(candidate)) is not None:
                return error
            await self._something(may_be_superseded=may_be_superseded)
        return None

    async def _until_ready(self, candidates: list[Place], *, may_be_superseded: bool = True) -> LoadError | None:
        while True:
            for candidate in candidates:
                if (error := _failure(candidate)) is not None:
                    return error
            if all(candidate.state is WorkerState.READY for candidate in candidates):
                return None
            await self._something(may_be_superseded=may_be_superseded)

    async def _something(self, *, may_be_superseded: bool = True) -> None:
        """Wait until a worker's state changes."""
        self._fleet.changed.clear()
        waits = [asyncio.ensure_future(self._fleet.changed.wait())]
        if may_be_superseded:
            waits.append(asyncio.ensure_future(self.superseded.wait()))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        if may_be_superseded and self.superseded.is_set():
            raise Superseded


def _failure(candidate: Place) -> LoadError | None:
    """Why a candidate will never serve, once its process is gone; `None` while it may."""
    if candidate.process is not None or candidate.state is not WorkerState.BACKOFF:
        return None
    return candidate.load_error or LoadError(f"{candidate.label} died before it served")


def _lacked_memory(error: LoadError) -> bool:
    text = error.detail.casefold()
    return "out of memory" in text or "memoryerror" in text
