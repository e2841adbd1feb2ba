"""Changes code in living workers: all of them between two requests, or none."""

import asyncio
from collections.abc import Sequence

from predictord.generation import Generation
from predictord.plan.model import Plan
from predictord.supervisor.call import Stage
from predictord.supervisor.dispatch import Dispatcher
from predictord.supervisor.fleet import Fleet
from predictord.supervisor.place import Place
from predictord.supervisor.states import WorkerState
from predictord.wire import CommitSwap, Prepared, PrepareSwap, Swapped, ToSupervisor

IN_HAND_LIMIT_S = 2.0
"""How long the requests in hand may take to end before the reload becomes a replace."""
_ANSWER_LIMIT_S = 5.0


class Swapper:
    """Stops the queue for a moment, so that no request sees two versions and no client an older one again."""

    def __init__(self, fleet: Fleet, dispatcher: Dispatcher) -> None:
        self._fleet = fleet
        self._dispatcher = dispatcher

    async def swap(self, planned: Plan, new: Generation) -> str | None:
        """Carry out the plan in every worker; returns why not, and then nothing has changed."""
        # One in backoff loads the new generation if its time comes after the swap.
        places = [place for place in self._fleet.places if place.state is not WorkerState.BACKOFF]
        if not places or any(place.state not in (WorkerState.READY, WorkerState.BUSY) for place in places):
            return "a worker is still loading"
        if any(call.stage is Stage.STREAMING for place in places for slot in place.slots for call in slot.calls):
            return "a stream is going on in the old code"
        self._dispatcher.hold()
        try:
            if not await self._until_idle(places):
                return f"requests in hand took longer than {IN_HAND_LIMIT_S:g} s"
            prepared = await self._ask_all(places, PrepareSwap(planned, new))
            if (veto := _veto(prepared)) is not None:
                return veto
            if any(place.process is not None for place in self._fleet.places if place not in places):
                return "a worker is loading the old code"
            # Before the commit: whoever starts or dies from now on loads the new generation.
            self._fleet.adopt(new)
            swapped = await self._ask_all(places, CommitSwap())
            for place, answer in zip(places, swapped, strict=True):
                if isinstance(answer, Swapped):
                    place.adopt(new, answer.ready)
                else:
                    # It may run either version, so it runs none; its successor loads the new one.
                    place.kill("it did not confirm new code")
            return None
        finally:
            self._dispatcher.resume()

    async def _until_idle(self, places: Sequence[Place]) -> bool:
        try:
            async with asyncio.timeout(IN_HAND_LIMIT_S):
                await self._fleet.until(lambda: all(place.can_be_asked or place.process is None for place in places))
        except TimeoutError:
            return False
        return True

    async def _ask_all(self, places: Sequence[Place], message: PrepareSwap | CommitSwap) -> list[ToSupervisor | None]:
        """Every worker's answer in order; `None` for one that died or said nothing in time."""
        return await asyncio.gather(*(self._ask(place, message) for place in places))

    async def _ask(self, place: Place, message: PrepareSwap | CommitSwap) -> ToSupervisor | None:
        try:
            async with asyncio.timeout(_ANSWER_LIMIT_S):
                return await place.ask(message)
        except (TimeoutError, ConnectionError):
            return None


def _veto(prepared: Sequence[ToSupervisor | None]) -> str | None:
    for answer in prepared:
        if not isinstance(answer, Prepared):
            return "a worker did not answer"
        if answer.veto is not None:
            return answer.veto
    return None
