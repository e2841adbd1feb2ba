"""Sees saves: turns what happens in the folders of a predictor into settled changes, one for each save.

An event of the file system, or a look every two seconds, is only the occasion. What
counts is what is read then: it is news if it differs from what was reported last, and it
is reported once two readings agree and nobody is writing any of what changed.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from enum import StrEnum

import msgspec

from predictord.errors import PredictordError
from predictord.generation import Generation
from predictord.project import folders_named
from predictord.settings import Settings
from predictord.sources import TOML_NAME
from predictord.supervisor.fingerprint import fingerprints
from predictord.supervisor.occasions import Occasions
from predictord.supervisor.settle import patience_s
from predictord.supervisor.watch_list import WatchList

_APART_S = 0.3
"""Between two changes; the first comes at once."""
_RETRY_S = 0.03
_PROBLEM_PATIENCE_S = 0.3
"""Editors take the file away for a moment when they save."""


class ChangeKind(StrEnum):
    """What a change asks of its receiver."""

    CODE = "code"
    """Project files or `.env`: the generation says it all."""
    WATCHED = "watched"
    """A file that `--watch` names: the generation may be equal, and still has to be loaded."""
    CONFIG = "config"
    """`predictord.toml` or the `--config-file`: settings are to be read anew."""
    PROBLEM = "problem"
    """Nothing can be taken: the predictor was deleted, is unreadable or too large."""


@dataclass(frozen=True)
class Change:
    """What is on disk now, settled; it supersedes all changes before.

    `paths` differ from the last generation's, and are empty for one that is whole again
    after a problem. `problem` is a sentence, and given where `generation` is not.
    """

    kind: ChangeKind
    paths: tuple[str, ...]
    generation: Generation | None = None
    problem: str = ""


@dataclass(frozen=True)
class _Reading:
    """What the disk said at one time; two are equal if nothing has changed.

    The config is left out: it is made of `others`, and may hold NaN, which equals nothing.
    """

    generation: Generation | None = field(compare=False)
    files: dict[str, bytes]
    environment: dict[str, str]
    others: dict[str, str]
    problem: str = ""


class Watcher:
    """Watches the files of a predictor; `changes` is the loop.

    `take` reads a generation, with the late files of the one it follows; its number is of
    no matter. It runs in a thread, and raises `PredictordError` for what cannot be taken.
    `number` gives out the number of each generation that is reported, on the loop's
    thread. `generation` is what serves already.
    """

    def __init__(
        self,
        settings: Settings,
        generation: Generation,
        take: Callable[[], Generation],
        number: Callable[[], int],
    ) -> None:
        self._settings = settings
        self._newest = generation
        self._take = take
        self._number = number
        self._others: dict[str, str] = {}
        self._has_new_paths = True
        """Whether the next look meets paths that were not watched before, and that are no news therefore."""
        self._problem = ""
        self._occasions = Occasions(self._list)

    def follow(self, generation: Generation, settings: Settings | None = None) -> None:
        """Compare with this generation from now on, and watch its files: those that an import found late are known now.

        One older than the last reported is passed over. Give `settings` once they were read
        anew: they say which other files are watched. To be called on the loop's thread.
        """
        if generation.number >= self._newest.number:
            self._newest = generation
        if settings is not None:
            self._settings = settings
            self._has_new_paths = True
        self._occasions.renew()

    async def changes(self) -> AsyncGenerator[Change, None]:
        """Each settled change, at most one in 300 ms; a problem once, and its end.

        What happens while the receiver is busy comes as one change when it asks again. Close
        it (`aclosing`), or cancel the task that waits in it.
        """
        loop = asyncio.get_running_loop()
        next_at = loop.time()
        async with aclosing(self._occasions.come()) as causes:
            async for _ in causes:
                await asyncio.sleep(max(0.0, next_at - loop.time()))
                change = await self._settled_change()
                if change is not None:
                    next_at = loop.time() + _APART_S
                    yield change

    async def _settled_change(self) -> Change | None:
        loop = asyncio.get_running_loop()
        seen, since = await self._look(), loop.time()
        while self._is_news(seen):
            patience = await asyncio.to_thread(self._patience_s, seen)
            again = await self._look()
            if again != seen:
                seen, since = again, loop.time()
            elif loop.time() >= since + patience:
                return self._report(seen)
            else:
                await asyncio.sleep(_RETRY_S)
        return None

    async def _look(self) -> _Reading:
        while True:
            settings = self._settings
            seen = await asyncio.to_thread(self._read, settings)
            if settings is self._settings:  # else it tells of other files than those that count now
                break
        if self._has_new_paths:
            # Those that were watched keep what was reported, or a save since then would be missed.
            self._others = {path: self._others.get(path, mark) for path, mark in seen.others.items()}
            self._has_new_paths = False
        return seen

    def _is_news(self, seen: _Reading) -> bool:
        if seen.problem or self._problem:
            return seen.problem != self._problem
        newest = self._newest
        return (seen.files, seen.environment, seen.others) != (newest.files, newest.environment, self._others)

    def _patience_s(self, seen: _Reading) -> float:
        if seen.generation is None:
            return _PROBLEM_PATIENCE_S
        return max(map(patience_s, self._changed_paths(seen) or [seen.generation.path]))

    def _report(self, seen: _Reading) -> Change:
        self._problem = seen.problem
        paths = self._changed_paths(seen)
        if seen.generation is None:
            return Change(ChangeKind.PROBLEM, paths, problem=seen.problem)
        self._newest = msgspec.structs.replace(seen.generation, number=self._number())
        self._others = seen.others
        self._occasions.renew()  # its files may be others
        return Change(self._kind_of(paths), paths, self._newest)

    def _changed_paths(self, seen: _Reading) -> tuple[str, ...]:
        files = set() if seen.generation is None else _differing(seen.files, self._newest.files)
        return tuple(sorted(files | _differing(seen.others, self._others)))

    def _kind_of(self, paths: tuple[str, ...]) -> ChangeKind:
        if any(path == str(self._settings.config_file) or os.path.basename(path) == TOML_NAME for path in paths):
            return ChangeKind.CONFIG
        watched = {str(path) for path in self._settings.watch}
        if any(path in watched or os.path.dirname(path) in watched for path in paths):
            return ChangeKind.WATCHED
        return ChangeKind.CODE

    def _read(self, settings: Settings) -> _Reading:
        """What the disk says now; blocks."""
        others = fingerprints(_single_files(settings), map(str, settings.watch))
        try:
            generation = self._take()
        except PredictordError as error:
            return _Reading(None, {}, {}, others, str(error))
        return _Reading(generation, generation.files, generation.environment, others)

    def _list(self) -> WatchList:
        settings, newest = self._settings, self._newest
        files = [str(settings.predictor_path), *newest.files, *_single_files(settings), *map(str, settings.watch)]
        return WatchList(files, folders_named(newest.path, newest.files))


def _single_files(settings: Settings) -> list[str]:
    """What counts beside the code and what `--watch` names, there or not."""
    folder = os.path.dirname(os.path.realpath(settings.predictor_path))
    config_file = [str(settings.config_file)] if settings.config_file else []
    return [f"{folder}/.env", f"{folder}/{TOML_NAME}", *config_file]


def _differing(one: Mapping[str, bytes | str], other: Mapping[str, bytes | str]) -> set[str]:
    return {path for path in one.keys() | other.keys() if one.get(path) != other.get(path)}
