"""From a wish to serve other code to its being live: one reload at a time, and the newest wish wins."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from predictord.errors import PredictordError, PredictorError
from predictord.generation import Generation
from predictord.plan.model import Kind, Plan
from predictord.supervisor.fleet import Fleet
from predictord.supervisor.past_reloads import PastReloads
from predictord.supervisor.place import LoadError
from predictord.supervisor.swapper import Swapper
from predictord.supervisor.turnover import Superseded, Turnover

log = logging.getLogger("predictord")

FAILED = "failed"


class Mode(StrEnum):
    """`--reload-mode`."""

    AUTO = "auto"
    RESTART = "restart"
    IN_TURN = "in-turn"


@dataclass(frozen=True)
class Record:
    """How a reload went, as `/status` shows it."""

    kind: str
    generation: int
    duration_s: float
    reason: str
    error: str | None = None

    def document(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "kind": self.kind,
            "generation": self.generation,
            "duration_s": round(self.duration_s, 4),
            "reason": self.reason,
            "error": self.error,
        }


@dataclass(frozen=True)
class Request:
    """A wish to serve a generation; `take` reads it when its turn has come.

    `forced` replaces the workers even if nothing changed, and `fresh` gives them a new
    zygote. Each of `answers` gets the record.
    """

    why: str
    take: Callable[[], Generation]
    forced: bool = False
    fresh: bool = False
    answers: "tuple[asyncio.Future[Record], ...]" = ()


class Reloader:
    """Owns the order of reloads; how workers change is the swapper's and the turnover's matter."""

    def __init__(self, fleet: Fleet, swapper: Swapper, turnover: Turnover, mode: Mode) -> None:
        self._fleet = fleet
        self._swapper = swapper
        self._turnover = turnover
        self._mode = mode
        self._newest: Request | None = None
        self._wanted = asyncio.Event()
        self.last: Record | None = None
        self.past = PastReloads()
        self.on_done: Callable[[Record], None] | None = None
        self.is_reloading = False

    @property
    def is_busy(self) -> bool:
        """Whether a reload goes on or is about to."""
        return self.is_reloading or self._newest is not None

    def ask(self, request: Request) -> None:
        """Reload as soon as what goes on now is done, or at once in place of candidates that still load."""
        self._newest = _inheriting(request, self._newest)
        self._wanted.set()
        self._turnover.superseded.set()

    def fail(self, number: int, why: str, error: LoadError) -> None:
        """Record a save that nothing can be loaded from."""
        self._finish(Record(FAILED, number, 0.0, why, error.text), error)
        self._fleet.changed.set()

    async def run(self) -> None:
        """Carry out reloads until cancelled."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            self._turnover.superseded.clear()
            request, self._newest = self._newest, None
            if request is not None:
                self.is_reloading = True
                self._fleet.changed.set()
                try:
                    await self._reload(request)
                finally:
                    self.is_reloading = False
                    self._fleet.changed.set()

    async def _reload(self, request: Request) -> None:
        loop = asyncio.get_running_loop()
        started = loop.time()
        number = 0
        try:
            new = request.take()
            number = new.number
            kind, reason, error = await self._carry_out(new, request)
        except Superseded:
            self._newest = _inheriting(self._newest, request)
            return
        except PredictordError as fault:
            traceback = fault.traceback if isinstance(fault, PredictorError) else ""
            kind, reason, error = FAILED, request.why, LoadError(str(fault), traceback)
        self._fleet.hurry()  # now, and not before: what starts during a reload starts with the old code
        record = Record(kind, number, loop.time() - started, reason, None if error is None else error.text)
        self._finish(record, error)
        for answer in request.answers:
            if not answer.done():
                answer.set_result(record)

    async def _carry_out(self, new: Generation, request: Request) -> tuple[str, str, LoadError | None]:
        """Kind, reason and error of the reload; the error belongs to kind `failed` alone."""
        if request.fresh:
            self._fleet.forget_imports()
        if not self._fleet.proven:
            error = await self._turnover.begin_anew(new)
            return FAILED if error else Kind.REPLACE, request.why, error
        planned = await self._plan(new, request)
        if planned.kind is not Kind.REPLACE:
            veto = None
            if planned.kind is Kind.SWAP or planned.relocates:
                veto = await self._swap(planned, new)
            if veto is None:
                return planned.kind, planned.reason, None
            if planned.kind is Kind.NONE:
                return Kind.NONE, f"{planned.reason} (line numbers stay: {veto})", None
            planned = Plan(Kind.REPLACE, veto)
        error = await self._turnover.replace(new, in_turn=self._mode is Mode.IN_TURN)
        return FAILED if error else Kind.REPLACE, planned.reason, error

    async def _swap(self, planned: Plan, new: Generation) -> str | None:
        if self._mode is not Mode.AUTO:
            return f"--reload-mode {self._mode} never changes code in place"
        return await self._swapper.swap(planned, new)

    async def _plan(self, new: Generation, request: Request) -> Plan:
        if request.forced:
            return Plan(Kind.REPLACE, request.why)
        try:
            # In a thread, since it takes tens of milliseconds and requests go on meanwhile.
            return await asyncio.to_thread(_plan, self._fleet.generation, new)
        except Exception as error:
            # Whatever code the planner can't read, a fresh worker shows what it is worth.
            log.debug("no plan", exc_info=error)
            return Plan(Kind.REPLACE, f"there is no plan for it ({type(error).__name__}: {error})")

    def _finish(self, record: Record, error: LoadError | None) -> None:
        self.last = record
        self.past.add(record.document(), self._tell(record, error))
        if self.on_done is not None:
            self.on_done(record)

    def _tell(self, record: Record, error: LoadError | None) -> str:
        took = f"{record.duration_s:.2f} s" if record.duration_s >= 1 else f"{record.duration_s * 1e3:.0f} ms"
        fields = {"event": "reload", **record.document()}
        serving = self._fleet.generation.number
        if error is not None:
            fate = f"generation {serving} serves on" if self._fleet.proven else "waiting for a save"
            line = f"reload failed, {fate}: {error.detail}"
            log.error("%s", line, extra={**fields, "traceback": error.traceback})
            return line
        if record.kind == Kind.SWAP:
            line = f"swap: {record.reason} · weights kept · {took}"
        elif record.kind == Kind.REPLACE:
            line = f"replace: {record.reason} · generation {record.generation} · {took}"
        else:
            line = f"none: {record.reason}"
        log.info("%s", line, extra=fields)
        return line


def get_ready_to_plan(generation: Generation) -> None:
    """Do what the next save's plan needs while there is time; blocks, and fails in silence as the plan itself will."""
    # Imported here: the first save is early enough for what every start would pay for.
    from predictord.plan.plan import get_ready

    with suppress(Exception):
        get_ready(generation)


def _plan(old: Generation, new: Generation) -> Plan:
    from predictord.plan.plan import plan

    return plan(old, new)


def _inheriting(newer: Request | None, older: Request | None) -> Request | None:
    """The newer request, which owes what was promised for the one it takes the place of."""
    if newer is None or older is None:
        return newer or older
    return replace(
        newer,
        forced=newer.forced or older.forced,
        fresh=newer.fresh or older.fresh,
        answers=newer.answers + older.answers,
    )
