"""Live editing: saves, the `reload` verb and SIGHUP become requests to the reloader."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import msgspec

from predictord.errors import SettingsError
from predictord.generation import Generation
from predictord.settings import Settings, declared
from predictord.snapshot import take_snapshot
from predictord.sources import TOML_NAME
from predictord.supervisor.dispatch import Dispatcher
from predictord.supervisor.fleet import Fleet
from predictord.supervisor.place import LoadError, Place
from predictord.supervisor.probation import Probation
from predictord.supervisor.reload import FAILED, Mode, Record, Reloader, Request, get_ready_to_plan
from predictord.supervisor.swapper import Swapper
from predictord.supervisor.turnover import Turnover

if TYPE_CHECKING:
    from predictord.supervisor.watcher import Watcher

log = logging.getLogger("predictord")


_FIRST_REQUESTS_S = 0.2
"""How long new code is left alone with its first requests: Python runs one thread at a time."""

_TAKEN_LIVE = {"config", "config_file", "watch"}
"""The settings that a new configuration changes in a running daemon."""


class Editing:
    """What is on disk, against what serves."""

    def __init__(
        self, settings: Settings, fleet: Fleet, dispatcher: Dispatcher, reread: Callable[[], Settings] | None
    ) -> None:
        self._at_start = self._settings = settings
        self._fleet = fleet
        self._dispatcher = dispatcher
        self._reread = reread
        self._number = 1
        self._probation: Probation | None = None
        self._watcher: Watcher | None = None
        self._serving = 1
        self._serves_anew = asyncio.Event()
        turnover = Turnover(fleet, drain_timeout_s=settings.drain_timeout_s)
        self.reloader = Reloader(fleet, Swapper(fleet, dispatcher), turnover, Mode(settings.reload_mode))
        self.reloader.on_done = self._on_done
        fleet.on_death = self._on_death

    async def run(self) -> None:
        """Watch, if asked to, and reload, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.reloader.run())
            if self._settings.reload:
                group.create_task(self._watch())
                group.create_task(self._get_ready_to_plan())

    def reload(self, why: str) -> None:
        """Replace the workers with what is on disk now, changed or not."""
        self.reloader.ask(Request(why, self._take_numbered, forced=True))

    async def reload_by_verb(self, request: dict[str, Any]) -> dict[str, Any]:
        """The `reload` verb: as `reload`, but waits and says how it went."""
        answer: asyncio.Future[Record] = asyncio.get_running_loop().create_future()
        fresh = bool(request.get("fresh"))
        why = "asked for by reload"
        self.reloader.ask(Request(why, self._take_numbered, forced=True, fresh=fresh, answers=(answer,)))
        return (await answer).document()

    async def _get_ready_to_plan(self) -> None:
        """Read each generation that serves for the next plan, while nobody waits for that."""
        await self._fleet.until(lambda: self._fleet.proven)
        while True:
            self._serves_anew.clear()
            await asyncio.sleep(_FIRST_REQUESTS_S)
            await asyncio.to_thread(get_ready_to_plan, self._fleet.generation)
            await self._serves_anew.wait()

    async def _watch(self) -> None:
        # Imported once the workers load, since it costs a start 20 ms.
        from predictord.supervisor.watcher import ChangeKind, Watcher

        watcher = Watcher(self._settings, self._fleet.generation, self._take, self._next_number)
        self._watcher = watcher
        async with aclosing(watcher.changes()) as changes:
            async for change in changes:
                if change.kind is ChangeKind.PROBLEM:
                    self.reloader.fail(self._next_number(), "the save can't be read", LoadError(change.problem))
                elif change.kind is ChangeKind.CONFIG:
                    self._reread_config(change.generation)
                elif change.generation is not None:
                    names = ", ".join(path.rpartition("/")[2] for path in change.paths) or "the predictor"
                    self._ask(change.generation, f"{names} changed", forced=change.kind is ChangeKind.WATCHED)

    def _reread_config(self, generation: Generation | None) -> None:
        if self._reread is None or generation is None:
            return
        try:
            settings = self._reread()
        except SettingsError as error:
            self.reloader.fail(generation.number, "the configuration can't be read", LoadError(str(error)))
            return
        self._tell_what_waits(settings)
        self._settings = settings
        new = msgspec.structs.replace(generation, config=settings.config)
        if self._watcher is not None:
            self._watcher.follow(new, settings)
        self._ask(new, "the configuration changed")

    def _tell_what_waits(self, new: Settings) -> None:
        keys = sorted(
            key
            for key, setting in declared().items()
            if key not in _TAKEN_LIVE
            if getattr(new, setting.attribute)
            not in (getattr(self._settings, setting.attribute), getattr(self._at_start, setting.attribute))
        )
        if keys:
            take = "takes" if len(keys) == 1 else "take"
            text = f"{', '.join(keys)} in {TOML_NAME} {take} effect at the next start"
            log.warning("%s", text, extra={"event": "settings_wait", "settings": keys})

    def _ask(self, generation: Generation, why: str, *, forced: bool = False) -> None:
        self.reloader.ask(Request(why, lambda: generation, forced=forced))

    def _take(self) -> Generation:
        settings = self._settings
        late = tuple(self._fleet.late_files)
        return take_snapshot(settings.predictor_path, settings.class_name, settings.config, late_files=late)

    def _take_numbered(self) -> Generation:
        return msgspec.structs.replace(self._take(), number=self._next_number())

    def _next_number(self) -> int:
        self._number += 1
        return self._number

    def _on_done(self, record: Record) -> None:
        """Another generation may serve now: watch its files, and its first steps."""
        generation = self._fleet.generation
        if record.kind == FAILED or generation.number == self._serving:
            return
        serving, self._serving = self._serving, generation.number
        self._serves_anew.set()
        if self._watcher is not None:
            self._watcher.follow(generation)
        if self._probation is not None:
            self._probation.end()
        self._probation = None
        is_step_back = generation.number < serving  # what came to nothing is nothing to go back to
        if self._fleet.previous is not None and not is_step_back:
            loop = asyncio.get_running_loop()
            self._probation = Probation(self._fleet.previous, self._dispatcher, loop.time)

    def _on_death(self, place: Place) -> None:
        """A serving worker died unasked: a generation on probation is taken back at the second time."""
        probation = self._probation
        # A newer wish, that may be the author's cure, is not to be overtaken.
        if probation is not None and probation.died() and not self.reloader.is_busy:
            self._probation = None
            probation.end()
            number = self._fleet.generation.number
            log.error(
                "generation %d died twice within seconds of its first request; generation %d is taken back",
                number,
                probation.previous.number,
                extra={"event": "rolled_back", "generation": probation.previous.number},
            )
            self._ask(probation.previous, f"generation {number} kept dying", forced=True)
