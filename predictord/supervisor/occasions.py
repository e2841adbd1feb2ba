"""When to look at the files: after an event in their folders, and every two seconds if one of them differs."""

import asyncio
import logging
import threading
from collections.abc import AsyncGenerator, Callable

# The documented backend of `watchfiles.awatch`; that opens its watch only while it waits,
# too late for a look at what happened before.
from watchfiles._rust_notify import RustNotify, WatchfilesRustInternalError

from predictord.supervisor.watch_list import WatchList

log = logging.getLogger("predictord")

_STEP_MS = 20
"""How often the thread asks for events: sets how soon a save is seen, and what idling costs."""
_DEBOUNCE_MS = 300
_LOOK_MS = 2000


async def occasions(make_list: Callable[[], WatchList], renew: threading.Event) -> AsyncGenerator[None, None]:
    """Yield at once and then whenever there is cause to look, each time with the watch open already.

    `make_list` is called anew, in a thread, before each look. Setting `renew` is a cause,
    too. After a cancellation the thread ends within 30 ms.
    """
    folders: dict[str, tuple[int, int]] = {}
    notify = None
    while True:
        renew.clear()
        watch_list = await asyncio.to_thread(make_list)
        if watch_list.folders != folders:
            folders, notify = watch_list.folders, _open(list(watch_list.folders))
        yield
        try:
            await asyncio.to_thread(_wait, notify, watch_list, renew)
        except WatchfilesRustInternalError as error:
            log.warning("the watch on the predictor's files broke and is opened anew: %s", error)
            folders = {}
            await asyncio.sleep(_LOOK_MS / 1000)
        finally:
            renew.set()  # ends the thread if this task was cancelled


def _open(folders: list[str]) -> RustNotify | None:
    try:
        return RustNotify(
            folders, debug=False, force_polling=False, poll_delay_ms=0, recursive=False, ignore_permission_denied=True
        )
    except FileNotFoundError:
        return None  # a folder that is just being replaced; the next look finds out
    except (OSError, WatchfilesRustInternalError) as error:
        log.warning("cannot watch %s (%s); looking every %d s instead", folders, error, _LOOK_MS // 1000)
        return None


def _wait(notify: RustNotify | None, watch_list: WatchList, renew: threading.Event) -> None:
    """Block until an event concerns us, a file differs, or `renew` is set."""
    while not renew.is_set():
        if notify is None:
            renew.wait(_LOOK_MS / 1000)
            events = None
        else:
            events = notify.watch(_DEBOUNCE_MS, _STEP_MS, _LOOK_MS, renew)
        if isinstance(events, set):
            if any(watch_list.concerns(path) for _, path in events):
                return
        elif watch_list.is_stale():
            return
