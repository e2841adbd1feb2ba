"""Finds one thread's frames in what `faulthandler` dumped, and adds the source lines."""

import linecache
import re
from collections.abc import Mapping

_FRAME = re.compile(r'  File "(?P<file>.*)", line (?P<line>\d+) in (?P<function>.*)')
_CURRENT = re.compile(r"^Current thread 0x([0-9a-f]+) ", re.MULTILINE)
_OWN = "/predictord/worker/"
_MOST_FRAMES = 100


def fatal_frames(dump: str, sources: Mapping[str, bytes]) -> str:
    """What a fault that ended the process says of itself, and the frames of the thread it came from, oldest first.

    Of a dump that does not name the thread all is kept.
    """
    title, _, rest = dump.partition("\n")
    current = _CURRENT.search(rest)
    frames = thread_frames(rest, int(current[1], 16), sources) if current else None
    if frames is None:
        return dump
    _, _, rows = frames.partition("\n")
    return f"{title}\nStack of the thread that it came from (most recent call last):\n{rows}"


def thread_frames(dump: str, thread: int, sources: Mapping[str, bytes]) -> str | None:
    """The frames of the thread with this ident, oldest first, as a traceback prints them; `None` if it is not there.

    `sources` are the generation's files, which the disk may no longer hold; the worker's own
    frames at the bottom are left out.
    """
    frames = _frames_of(dump, thread)
    if not frames:
        return None
    lines = []
    for file, line, function in frames:
        lines.append(f'  File "{file}", line {line}, in {function}')
        if text := _source_line(file, line, sources):
            lines.append(f"    {text}")
    return "\n".join(["Stack of the thread that ran predict (most recent call last):", *lines])


def _frames_of(dump: str, thread: int) -> list[tuple[str, int, str]]:
    frames: list[tuple[str, int, str]] = []
    here = False
    for row in dump.splitlines():
        if "hread 0x" in row:
            here = int(row.partition("hread ")[2].split()[0], 16) == thread
        elif here and (match := _FRAME.match(row)):
            frames.append((match["file"], int(match["line"]), match["function"]))
    frames = frames[:_MOST_FRAMES][::-1]
    own = [index for index, (file, _, _) in enumerate(frames) if _OWN in file]
    return frames[own[-1] + 1 :] if own else frames


def _source_line(file: str, line: int, sources: Mapping[str, bytes]) -> str:
    if file in sources:
        rows = sources[file].decode("utf-8", "replace").splitlines()
        return rows[line - 1].strip() if line <= len(rows) else ""
    return linecache.getline(file, line).strip()
