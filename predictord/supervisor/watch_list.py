"""Where to look for changes: the folders to watch, and which of their entries matter."""

import os
from collections.abc import Iterable

_MAX_LINKS = 40
"""As the kernel's own limit (`path_resolution(7)`); a loop of links ends here."""

_Signature = tuple[int, ...] | None


class WatchList:
    """The folders that hold the given files and links to them, as they are on disk now.

    `folders` maps each to its identity: one that was removed and made anew has to be
    watched anew. Blocks on the disk.
    """

    def __init__(self, files: Iterable[str], package_folders: Iterable[str]) -> None:
        self._stops = {stop for path in files for stop in route(path)}
        # Not there yet, they are entries that matter; once there, folders to watch.
        packages = set(package_folders)
        self._triggers = self._stops | packages
        folders = {os.path.dirname(stop) for stop in self._stops} | {*filter(_is_real_folder, self._stops | packages)}
        self.folders = {folder: identity for folder in folders if (identity := _identity(folder))}
        self._signatures = self._look()

    def concerns(self, path: str) -> bool:
        """Whether an event at this path may change what would be loaded; any module may be one that was missing."""
        return path.endswith(".py") or path in self._triggers or os.path.dirname(path) in self._stops

    def is_stale(self) -> bool:
        """Whether a file has changed since: not every file system has events, and no folder tells that it was moved."""
        return self._look() != self._signatures

    def _look(self) -> dict[str, _Signature]:
        return {stop: _signature(stop) for stop in self._stops}


def route(path: str) -> list[str]:
    """The symbolic links on the way of an absolute path, and its real end, there or not.

    To replace any of them is to change what the path means. Each is named by its real folder.
    """
    stops: list[str] = []
    here, ahead = "/", path.split("/")
    while ahead:
        name, *ahead = ahead
        if name in ("", "."):
            continue
        step = os.path.dirname(here) if name == ".." else os.path.join(here, name)
        target = _link_target(step)
        if target is None or len(stops) == _MAX_LINKS:
            here = step
            continue
        stops.append(step)
        ahead = [*target.split("/"), *ahead]
        here = "/" if target.startswith("/") else here
    return [*stops, here]


def _link_target(path: str) -> str | None:
    try:
        return os.readlink(path)
    except OSError:
        return None


def _is_real_folder(path: str) -> bool:
    return os.path.isdir(path) and not os.path.islink(path)


def _identity(folder: str) -> tuple[int, int] | None:
    try:
        status = os.stat(f"{folder}/.")
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _signature(path: str) -> _Signature:
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
