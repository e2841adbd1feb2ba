"""Telling whether a file has changed: by content where that is cheap, never by its time alone."""

import hashlib
import os
import stat
from collections.abc import Iterable

_MAX_HASHED_BYTES = 16 << 20
"""Longer files, weights mostly, go by identity, size and time: hashing them would delay each save of code."""


def fingerprints(files: Iterable[str], files_or_folders: Iterable[str] = ()) -> dict[str, str]:
    """What each file holds, by path; files that are not there are left out.

    A folder in `files_or_folders` stands for the files right in it, without hidden ones
    and editors' backups. Blocks on the disk.
    """
    paths = [*files]
    for path in files_or_folders:
        paths += _files_in(path) if os.path.isdir(path) else [path]
    found = {path: _fingerprint(path) for path in paths}
    return {path: content for path, content in found.items() if content is not None}


def _files_in(folder: str) -> list[str]:
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    return [f"{folder}/{name}" for name in names if not name.startswith(".") and not name.endswith("~")]


def _fingerprint(path: str) -> str | None:
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            return None
        if status.st_size > _MAX_HASHED_BYTES:
            return f"{status.st_dev}:{status.st_ino} {status.st_size} {status.st_mtime_ns}"
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return None
    except OSError as error:
        return error.strerror
