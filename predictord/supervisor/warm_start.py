"""Warm start: which zygote makes the next worker, and when one is made, replaced or done without."""

import asyncio
import logging
import os
import sys
from collections.abc import Callable, Mapping

from predictord.generation import Generation
from predictord.imports import environment_change, installed_imports, installed_packages
from predictord.supervisor import restart
from predictord.supervisor.zygote import Recipe, Zygote

log = logging.getLogger("predictord")


class WarmStart:
    """Keeps a zygote for the newest generation; while a new one imports, the one before it serves where it can."""

    def __init__(self, loop: asyncio.AbstractEventLoop, start: Callable[[Recipe], Zygote]) -> None:
        self._loop = loop
        self._start = start
        self._number = 0
        """Of the newest generation seen."""
        self._recipe: Recipe | None = None
        """The newest one tried."""
        self._current: Zygote | None = None
        self._before: Zygote | None = None
        self._failures = 0
        self._told = ""
        self._closed = False

    def choose(self, generation: Generation, environment: Mapping[str, str]) -> Zygote | None:
        """The zygote to make a worker of this generation, perhaps still importing; `None`: it is to be exec'd."""
        if self._closed:
            return None
        modules = self._modules(generation)
        recipe = Recipe(modules, generation.path, environment, installed_packages() if modules else {})
        if generation.number >= self._number:
            self._number = generation.number
            self._follow(recipe)
        if not modules:
            return None
        suitable = [one for one in (self._current, self._before) if one is not None and one.recipe.suits(recipe)]
        return next((one for one in suitable if one.is_ready), suitable[0] if suitable else None)

    def forget(self) -> None:
        """End the zygotes; the next worker gets a new one."""
        self._recipe = None
        self._drop()

    def close(self) -> None:
        """End the zygotes, for good."""
        self._closed = True
        self._drop()

    def ended(self, zygote: Zygote) -> None:
        """A zygote's process is gone."""
        if zygote is self._before:
            self._before = None
        if zygote is not self._current or zygote.warmed.result():  # one that could not import is not tried again
            return
        self._current = None
        log.warning("the zygote process died and is replaced", extra={"event": "zygote_replaced"})
        ready_s = self._loop.time() - zygote.ready_at
        self._failures = restart.failures_after(self._failures, worked=False, ready_s=ready_s)
        self._loop.call_later(restart.restart_delay_s(self._failures), self._start_again, zygote.recipe)

    def _modules(self, generation: Generation) -> tuple[str, ...]:
        """What to import ahead; nothing where that would make no difference, or one to the predictor."""
        folder = os.path.dirname(generation.path)
        modules = installed_imports(generation.files, [folder, *filter(None, sys.path)])
        if not modules:
            return ()
        for path, source in generation.files.items():
            if (line := environment_change(source)) is not None:
                self._tell(f"{path}:{line} changes the environment, which imports may read; .env could do that")
                return ()
        return modules

    def _follow(self, recipe: Recipe) -> None:
        known = self._recipe
        if known is not None and known.suits(recipe) and known.modules == recipe.modules:
            return
        self._recipe = recipe
        self._failures = 0
        if not recipe.modules:
            self._drop()
            return
        if self._current is not None and self._current.is_ready and self._current.recipe.suits(recipe):
            self._stop(self._before)
            self._before = self._current
            self._current = None
        self._drop(keep_before=self._before is not None and self._before.recipe.suits(recipe))
        self._begin(recipe)

    def _begin(self, recipe: Recipe) -> None:
        try:
            zygote = self._current = self._start(recipe)
        except OSError as error:
            self._tell(f"a process for the imports could not be started: {error.strerror}")
            return
        zygote.warmed.add_done_callback(lambda warmed: self._on_warmed(zygote, warmed.result()))

    def _start_again(self, recipe: Recipe) -> None:
        if not self._closed and self._recipe is recipe and self._current is None:
            self._begin(recipe)

    def _on_warmed(self, zygote: Zygote, obstacle: str) -> None:
        if zygote is not self._current:
            return
        if obstacle:
            self._tell(obstacle)
            self._drop()
            return
        self._told = ""
        before, self._before = self._before, None
        self._stop(before)

    def _drop(self, *, keep_before: bool = False) -> None:
        current, self._current = self._current, None
        self._stop(current)
        if not keep_before:
            before, self._before = self._before, None
            self._stop(before)

    def _stop(self, zygote: Zygote | None) -> None:
        if zygote is not None:
            zygote.stop()

    def _tell(self, reason: str) -> None:
        """Say once why workers start cold."""
        if reason != self._told:
            self._told = reason
            log.info("no warm start: %s", reason, extra={"event": "cold_start", "reason": reason})
