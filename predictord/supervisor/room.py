"""Whether the next generation's workers fit beside the old ones: pure arithmetic over what was measured."""

from collections.abc import Sequence
from dataclasses import dataclass

_MIB = 1 << 20


@dataclass(frozen=True)
class Room:
    """One memory that old and new workers would share: a GPU's, or the machine's.

    `free_bytes` and `needed_bytes` (what the old workers there use now) are `None` where nobody
    tells; `exclusive` is a GPU whose compute mode lets one process in.
    """

    label: str
    free_bytes: int | None
    needed_bytes: int | None
    exclusive: bool = False


def shortage(rooms: Sequence[Room]) -> str | None:
    """Why two generations do not fit side by side, in a few words; `None` when they do.

    What is not known counts as fitting: a candidate that runs out of memory costs the
    serving generation nothing, and is tried again in turn.
    """
    for room in rooms:
        if room.exclusive:
            return f"{room.label} lets only one process in"
        if room.free_bytes is not None and room.needed_bytes is not None and room.free_bytes < room.needed_bytes:
            free, needed = room.free_bytes // _MIB, room.needed_bytes // _MIB
            return f"{room.label} has {free} MiB free and the new worker needs about {needed} MiB"
    return None
