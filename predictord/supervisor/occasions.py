"""When to look at the files: after an event in their folders, and every two seconds if one of them differs."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress

from predictord.supervisor.folder_events import FolderEvents
from predictord.supervisor.watch_list import WatchList

log = logging.getLogger("predictord")

_LOOK_S = 2.0
"""For file systems without events: a network's, when another machine writes."""


class Occasions:
    """Asks for a look at what a watch list names; to be used on one event loop.

    `make_list` is called in a thread before each look, since what was seen may name other files.
    """

    def __init__(self, make_list: Callable[[], WatchList]) -> None:
        self._make_list = make_list
        self._watch_list: WatchList
        self._events: FolderEvents | None = None
        self._watched: dict[str, tuple[int, int]] = {}
        self._cause = asyncio.Event()

    def renew(self) -> None:
        """Make the list anew, and have a look."""
        self._cause.set()

    async def come(self) -> AsyncGenerator[None, None]:
        """Yield at once and then whenever there is cause to look, each time with the watch open already."""
        try:
            while True:
                self._cause.clear()
                self._watch_list = await asyncio.to_thread(self._make_list)
                if self._watch_list.folders != self._watched:
                    self._close()
                    self._open(self._watch_list.folders)
                yield
                await self._wait()
        finally:
            self._close()

    async def _wait(self) -> None:
        while not self._cause.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await self._cause.wait()
                    return
            if await asyncio.to_thread(self._watch_list.is_stale):
                return

    def _open(self, folders: dict[str, tuple[int, int]]) -> None:
        self._watched = folders
        try:
            self._events = FolderEvents(folders)
        except OSError as error:
            log.warning("cannot watch %s (%s); looking every %g s instead", ", ".join(folders), error, _LOOK_S)
            return
        asyncio.get_running_loop().add_reader(self._events.fileno(), self._on_events, self._events)

    def _on_events(self, events: FolderEvents) -> None:
        paths = events.read()
        if not self._watched.keys().isdisjoint(paths):  # a folder itself: its watch may have ended
            self._watched = {}
            self._cause.set()
        elif any(map(self._watch_list.concerns, paths)):
            self._cause.set()

    def _close(self) -> None:
        if self._events is not None:
            asyncio.get_running_loop().remove_reader(self._events.fileno())
            self._events.close()
            self._events = None
