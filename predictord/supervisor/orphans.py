"""Children that the supervisor never started: what dead workers left behind.

Workers are subreapers, so the orphans of a worker become ours only when it dies. They
are told from our own helpers by their session: nothing that descends from a worker is
ever in the supervisor's.
"""

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import suppress

_ROUND_S = 0.01
_LIMIT_S = 2.0


def children() -> set[int]:
    """Pids of this process's children, zombies included."""
    found: set[int] = set()
    for thread in os.listdir("/proc/self/task"):
        with suppress(OSError), open(f"/proc/self/task/{thread}/children") as file:
            found.update(map(int, file.read().split()))
    return found


async def kill_orphans(known: Callable[[], set[int] | None]) -> None:
    """Kill and reap children of dead workers, and what they leave in turn, until there are none.

    `known` are the pids to spare; `None` while a worker is being born, whose pid nobody knows yet.
    """
    deadline = asyncio.get_running_loop().time() + _LIMIT_S
    while (orphans := _orphans(known())) != []:
        for pid in orphans or ():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            with suppress(ChildProcessError):
                os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG)  # noqa: ASYNC222 - does not block
        if asyncio.get_running_loop().time() > deadline:
            return  # a process in an uninterruptible call; the guardian has its tag
        await asyncio.sleep(_ROUND_S)


def _orphans(known: set[int] | None) -> list[int] | None:
    return None if known is None else [pid for pid in children() - known if _is_foreign(pid)]


def _is_foreign(pid: int) -> bool:
    try:
        return os.getsid(pid) != os.getsid(0)
    except ProcessLookupError:
        return False
