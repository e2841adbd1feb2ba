"""The few Linux calls that Python does not wrap: what ties the life of one process to another's."""

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36

_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def die_with_parent(parent_pid: int) -> None:
    """Ask the kernel for SIGKILL when the parent *thread* ends, and exit now if it already has.

    Cleared by fork, kept by exec (`prctl(2)`).
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        os._exit(1)


def become_subreaper() -> None:
    """Make orphans below this process its children instead of init's (`prctl(2)`)."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def volunteer_for_oom() -> None:
    """Make this process the kernel's first choice when memory runs out; best effort."""
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")
    except OSError:
        pass  # a hardened container; only the order of victims is lost
