"""Events of the kernel in some folders (`inotify(7)`).

No library for it: what there is looks for libc with a compiler, or asks for events in a
loop, and a daemon that somebody forgot should not wake fifty times a second.
"""

import ctypes
import errno
import os
import struct
from collections.abc import Iterable

_MODIFIED_LATER = 0x00000004 | 0x00000008
"""`IN_ATTRIB`, and `IN_CLOSE_WRITE` rather than `IN_MODIFY`: a save is complete when its writer lets go."""
_ENTRIES = 0x00000040 | 0x00000080 | 0x00000100 | 0x00000200
"""`IN_MOVED_FROM`, `IN_MOVED_TO`, `IN_CREATE`, `IN_DELETE`."""
_ITSELF = 0x00000400 | 0x00000800
"""`IN_DELETE_SELF`, `IN_MOVE_SELF`."""
_ONLY_FOLDERS = 0x01000000
"""`IN_ONLYDIR`."""
_HEAD = struct.Struct("iIII")
_MOST_BYTES = 1 << 16
_NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.EACCES)

_libc = ctypes.CDLL(None, use_errno=True)


class FolderEvents:
    """A descriptor that becomes readable when something happens in a folder or to it; costs nothing meanwhile.

    Folders that are not there, or not ours to read, are passed over. Raises OSError if the
    kernel can watch no more; not every file system has events.
    """

    def __init__(self, folders: Iterable[str]) -> None:
        self._descriptor = _call(_libc.inotify_init1, os.O_NONBLOCK | os.O_CLOEXEC)
        self._folders: dict[int, str] = {}
        try:
            for folder in folders:
                self._add(folder)
        except OSError:
            self.close()
            raise

    def fileno(self) -> int:
        """The descriptor, for an event loop."""
        return self._descriptor

    def read(self) -> list[str]:
        """The paths that something has happened to since: entries, or a folder itself; does not block."""
        try:
            data = os.read(self._descriptor, _MOST_BYTES)
        except BlockingIOError:
            return []
        paths, at = [], 0
        while at < len(data):
            watch, _, _, size = _HEAD.unpack_from(data, at)
            at += _HEAD.size + size
            name = os.fsdecode(data[at - size : at].rstrip(b"\0"))
            # Events that were too many to be kept, reported as one, are of no folder: all may have changed.
            folders = [self._folders[watch]] if watch in self._folders else self._folders.values()
            paths += [os.path.join(folder, name) if name else folder for folder in folders]
        return paths

    def close(self) -> None:
        """End the watch."""
        os.close(self._descriptor)

    def _add(self, folder: str) -> None:
        mask = _MODIFIED_LATER | _ENTRIES | _ITSELF | _ONLY_FOLDERS
        try:
            watch = _call(_libc.inotify_add_watch, self._descriptor, os.fsencode(folder), mask)
        except OSError as error:
            if error.errno not in _NOT_THERE:
                raise
            return
        self._folders[watch] = folder


def _call(function: "ctypes._NamedFuncPointer", *arguments: object) -> int:
    result: int = function(*arguments)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
