"""Processes that the predictor started and that run Python, so that they may have its old code."""

import os
from collections.abc import Iterator
from pathlib import Path


def living_kin() -> int | None:
    """The id of a child that runs this interpreter, forked or spawned; `None` if there is none."""
    own = os.stat("/proc/self/exe")
    for pid in _children():
        try:
            is_python = os.path.samestat(os.stat(f"/proc/{pid}/exe"), own)
            # It only cleans up after others, and outlives them.
            is_tracker = b"resource_tracker" in Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if is_python and not is_tracker:
            return pid
    return None


def _children() -> Iterator[int]:
    for task in Path("/proc/self/task").iterdir():
        try:
            yield from map(int, (task / "children").read_text().split())
        except OSError:
            continue  # the thread has ended, or the kernel was built without this file
