"""Which processes of a test's tree still live, told by an environment marker.

State Z counts as gone: PID 1 of a test machine may never reap, so `kill(pid, 0)` would
report dead orphans as alive.
"""

import contextlib
import os
import signal
import socket
from pathlib import Path

MARK = "TEST_MARK"
"""The environment variable that every process of a daemon inherits; `PREDICTORD_*` would be taken for a setting."""


def marked(mark: str) -> list[int]:
    """The pids of all living processes that were started with this mark."""
    wanted = f"{MARK}={mark}".encode()
    return [pid for pid in _pids() if wanted in _environment(pid) and state(pid) not in ("Z", "X", None)]


def state(pid: int) -> str | None:
    """The process's state as one letter of `proc(5)`, or `None` when there is no such process."""
    fields = _stat(pid)
    return fields[0] if fields else None


def kill_marked(mark: str) -> None:
    """SIGKILL whatever carries the mark, so that one test's failure is not the next one's."""
    for pid in marked(mark):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def reap_orphans(spared: set[int]) -> None:
    """Collect dead orphans that this process, as a subreaper, was given.

    Children of our own session and the `spared` belong to a `Popen` that wants their status.
    """
    for pid in _pids():
        fields = _stat(pid)
        adopted = fields and fields[0] == "Z" and int(fields[1]) == os.getpid() and int(fields[3]) != os.getsid(0)
        if adopted and pid not in spared:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def is_bindable(port: int) -> bool:
    """Whether a new server could listen on the port of 127.0.0.1 at once."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: TIME_WAIT is no obstacle
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def runtime_files(pid: int) -> list[Path]:
    """What the daemon of this pid has left in the runtime directories."""
    uid = os.getuid()
    folders = [Path(f"/run/user/{uid}/predictord"), Path(f"/tmp/predictord-{uid}")]
    return [path for folder in folders for path in folder.glob(f"{pid}.*")]


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


def _stat(pid: int) -> list[str]:
    """State, parent, process group, session and so on; the name before them may hold anything, `)` included."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []
