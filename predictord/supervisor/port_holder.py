"""Who listens on a port that we wanted: a daemon of this user, or whatever process `/proc` shows."""

import os
from collections.abc import Iterator
from contextlib import suppress

from predictord.errors import PredictordError
from predictord.runtime import RuntimeFolder

_LISTENING = "0A"


def cure(port: int) -> str:
    """What holds the port, as far as can be told, and what to do about it: the end of a sentence."""
    with suppress(PredictordError):  # a runtime folder that is not ours alone is told when we register
        for daemon in RuntimeFolder().living():
            if daemon.port == port:
                return (
                    f": {daemon.predictor} is served there (pid {daemon.pid}); `predictord status --port {port}`"
                    f" shows it, `predictord stop --port {port}` ends it; or choose another with --port"
                )
    for pid in _pids_with_socket(set(_listening_inodes(port))):
        return f" by {_name(pid)} (pid {pid}); stop that, or choose another with --port"
    return "; stop what listens there, or choose another with --port"


def _listening_inodes(port: int) -> Iterator[str]:
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(OSError), open(table) as rows:
            next(rows)
            for row in rows:
                _, local, _, state, *_, inode = row.split()[:10]
                if state == _LISTENING and int(local.rpartition(":")[2], 16) == port:
                    yield inode


def _pids_with_socket(inodes: set[str]) -> Iterator[int]:
    """Processes of ours, or for root of anyone, that hold one of these sockets."""
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for pid in filter(str.isdecimal, os.listdir("/proc") if wanted else []):
        with suppress(OSError), os.scandir(f"/proc/{pid}/fd") as descriptors:
            if any(os.readlink(descriptor.path) in wanted for descriptor in descriptors):
                yield int(pid)


def _name(pid: int) -> str:
    with suppress(OSError), open(f"/proc/{pid}/comm") as file:
        return file.read().strip()
    return "a process"
