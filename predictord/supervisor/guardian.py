"""Outlives the supervisor for a moment and kills what it leaves behind.

Run as `python -I -S guardian.py TAG` with a pipe from the supervisor as standard input:
`+PID` and `-PID` lines name the process groups of living workers. The pipe's end means
that the supervisor is gone, whether it ended well or by SIGKILL: then every named group is
killed, and every process whose environment carries the tag, which reaches grandchildren
that left their group. Imports next to nothing and so costs next to nothing.
"""

import os
import signal
import sys
import time

SWEEP_LIMIT_S = 3.0


def main() -> None:
    """Read names until the supervisor ends, then kill."""
    tag = sys.argv[1].encode()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups = _groups_until_end()
    for group in groups:
        _kill_group(group)
    deadline = time.monotonic() + SWEEP_LIMIT_S
    # A process that forks while it is looked for has its child found in the next round.
    while (pids := _tagged(tag)) and time.monotonic() < deadline:
        for pid in pids:
            _kill(pid)
        time.sleep(0.005)


def _groups_until_end() -> set[int]:
    groups: set[int] = set()
    with open(0, encoding="ascii", buffering=1) as names:
        for line in names:
            group = int(line[1:])
            if line[0] == "+":
                groups.add(group)
            else:
                groups.discard(group)
    return groups


def _tagged(tag: bytes) -> list[int]:
    """Living processes whose environment at exec carried the tag; zombies show none."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/environ", "rb") as file:
                    if tag in file.read():
                        found.append(int(name))
            except OSError:
                continue  # ended meanwhile, or somebody else's
    return found


def _kill_group(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        pass


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


if __name__ == "__main__":
    main()
