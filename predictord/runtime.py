"""Where a user's daemons are found: a folder of their own with one locked file and one socket for each.

A daemon lives exactly as long as it holds the lock on its PID.json: the kernel drops the
lock with the process, whatever killed it, while a pid may by then be somebody else's.
Whoever registers, or looks, holds a lock on the folder itself. So nobody takes a file that
is being made for one of the dead, and nobody takes another's look for a daemon's life.
"""

import fcntl
import os
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from predictord.errors import PredictordError, SettingsError, StartError

_LOCK_LIMIT_S = 5.0
"""Locks on the folder are held for milliseconds; who holds one for longer is stopped or ill."""
_PAUSE_S = 0.01


class Daemon(msgspec.Struct, frozen=True):
    """What a living daemon's PID.json says.

    `predictor` is the absolute path it was started with, links kept; `started` is UTC, as
    ISO 8601; `log` is the path of its log file, where it has one.
    """

    pid: int
    port: int
    urls: list[str]
    predictor: str
    started: str
    log: str | None = None

    @property
    def label(self) -> str:
        """Names the daemon in a sentence."""
        return f"{self.predictor} on port {self.port} (pid {self.pid})"


def runtime_path(run_user: str = "/run/user", temporary: str = "/tmp") -> Path:  # noqa: S108 - judged before use
    """The runtime folder of this user; it need not exist yet."""
    uid = os.getuid()
    own = Path(run_user, str(uid))
    with suppress(OSError):
        found = own.lstat()
        if stat.S_ISDIR(found.st_mode) and found.st_uid == uid:
            return own / "predictord"
    return Path(temporary, f"predictord-{uid}")


def choose(daemons: Sequence[Daemon], predictor: str | None = None, port: int | None = None) -> Daemon:
    """The one daemon with this predictor's path and this port, of those that are given.

    Raises PredictordError if there is none, SettingsError if there are several.
    """
    matching = [
        daemon
        for daemon in daemons
        if (port is None or daemon.port == port) and (predictor is None or _is_same_path(predictor, daemon.predictor))
    ]
    if len(matching) == 1:
        return matching[0]
    if matching:
        listed = "".join(f"\n  {daemon.label}" for daemon in matching)
        raise SettingsError(f"{len(matching)} daemons match; choose one with --port:{listed}")
    wanted = f" of {predictor}" * (predictor is not None) + f" on port {port}" * (port is not None)
    others = ", ".join(daemon.label for daemon in daemons)
    rest = f"there is {others}" if others else "`predictord serve` starts one"
    raise PredictordError(f"no daemon{wanted} is running; {rest}")


def _is_same_path(given: str, registered: str) -> bool:
    return os.path.abspath(given) == registered or os.path.realpath(given) == os.path.realpath(registered)


class RuntimeFolder:
    """The folder in which daemons register and verbs look for them.

    Every method raises StartError if the folder could be another user's work.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or runtime_path()

    def socket_path(self, pid: int) -> Path:
        """Where the daemon with this pid listens for verbs."""
        return self.path / f"{pid}.sock"

    @contextmanager
    def register(self, predictor: str, urls: Sequence[str], log: Path | None = None) -> Iterator[Path]:
        """Make this process a daemon that verbs find, for the block; gives the path for its control socket.

        At the end of the block both files are removed. Raises StartError.
        """
        port = int(urls[0].rpartition(":")[2])
        started = datetime.now(UTC).isoformat(timespec="seconds")
        daemon = Daemon(os.getpid(), port, list(urls), predictor, started, None if log is None else str(log))
        try:
            with suppress(FileExistsError):
                self.path.mkdir(mode=0o700)
            with self._locked():
                self._sweep()
                descriptor = self._claim(daemon)
        except OSError as error:
            raise StartError(
                f"cannot register this daemon in {error.filename or self.path}: {error.strerror}"
            ) from error
        try:
            yield self.socket_path(daemon.pid)
        finally:
            self._remove(daemon.pid)
            os.close(descriptor)

    def living(self) -> list[Daemon]:
        """The daemons that run now, by port; removes what dead ones have left."""
        if not os.path.lexists(self.path):
            return []
        with self._locked():
            return sorted(self._sweep(), key=lambda daemon: (daemon.port, daemon.pid))

    def wait_for_end(self, pid: int, limit_s: float | None) -> bool:
        """Whether the daemon ends within the limit (`None`: there is none); blocks until then."""
        deadline = None if limit_s is None else time.monotonic() + limit_s
        while _is_locked(self._lock_path(pid)):
            if deadline is not None and time.monotonic() > deadline:
                return False
            time.sleep(_PAUSE_S)
        return True

    def _lock_path(self, pid: int) -> Path:
        return self.path / f"{pid}.json"

    @contextmanager
    def _locked(self) -> Iterator[None]:
        fault = _fault(self.path)
        if fault:
            raise StartError(
                f"{self.path} {fault}: another user could pose as a daemon of yours; remove it and start again"
            )
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            if not _lock(descriptor, fcntl.LOCK_EX, _LOCK_LIMIT_S):
                raise StartError(f"another predictord has held {self.path} for {_LOCK_LIMIT_S:.0f} s; is it stopped?")
            yield
        finally:
            os.close(descriptor)

    def _sweep(self) -> list[Daemon]:
        """The living daemons; what the dead have left is removed."""
        found = []
        names = (name.rpartition(".") for name in os.listdir(self.path))
        for pid in {int(stem) for stem, _, suffix in names if suffix in ("json", "sock") and stem.isdecimal()}:
            if not _is_locked(self._lock_path(pid)):
                self._remove(pid)
                continue
            # One that we can't read is another version's, or ended meanwhile; it is not ours to touch.
            with suppress(msgspec.DecodeError, OSError):
                found.append(msgspec.json.decode(self._lock_path(pid).read_bytes(), type=Daemon))
        return found

    def _claim(self, daemon: Daemon) -> int:
        """Make this daemon's PID.json; gives the descriptor that holds its lock."""
        # After a sweep only a living daemon's file can be in the way: one of another pid namespace.
        descriptor = os.open(self._lock_path(daemon.pid), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            _lock(descriptor, fcntl.LOCK_EX, _LOCK_LIMIT_S)
            os.write(descriptor, msgspec.json.encode(daemon))
        except BaseException:
            self._remove(daemon.pid)
            os.close(descriptor)
            raise
        return descriptor

    def _remove(self, pid: int) -> None:
        for path in (self.socket_path(pid), self._lock_path(pid)):
            with suppress(OSError):  # the folder itself goes when the user logs out
                path.unlink()


@contextmanager
def socket_address(path: Path) -> Iterator[str]:
    """An address for a Unix socket at `path`, also where that is longer than the 107 bytes of one."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def _fault(folder: Path) -> str | None:
    """Why a folder is not to be trusted."""
    found = folder.lstat()
    mode = stat.S_IMODE(found.st_mode)
    if not stat.S_ISDIR(found.st_mode):
        return "is a symbolic link" if stat.S_ISLNK(found.st_mode) else "is no folder"
    if found.st_uid != os.getuid():
        return f"belongs to user {found.st_uid}"
    return f"has mode {mode:04o} instead of 0700" if mode & 0o077 else None


def _is_locked(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        return not _lock(descriptor, fcntl.LOCK_SH, 0)  # shared, so that two who look don't see each other
    finally:
        os.close(descriptor)


def _lock(descriptor: int, kind: int, limit_s: float) -> bool:
    deadline = time.monotonic() + limit_s
    while True:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_PAUSE_S)
        else:
            return True
