"""Where durations lie: any number of them in bounded memory, added a thousand at a time.

A value is counted in the cell of its upper sixteen bits as a 32-bit float (sign, exponent and seven
bits of the fraction), so that cells are less than 0.8 % wide at every scale. Taking those bits from a
whole column costs a few C calls, where a search among bounds would cost each request a call of its own.
"""

import math
import struct
import sys
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import accumulate

_UPPER_HALF = slice(1 if sys.byteorder == "little" else 0, None, 2)


def cells_of(values: Iterable[float]) -> Counter[int]:
    """How many of these values, which are finite and not negative, fall into each cell."""
    return Counter(array("H", array("f", values).tobytes())[_UPPER_HALF])


def percentiles(cells: Counter[int], shares: Sequence[float]) -> list[float | None]:
    """The values that these shares (0 to 1) of all are at most, as good as the cells; `None` of nothing."""
    if not cells:
        return [None] * len(shares)
    ordered = sorted(cells)
    ranks = list(accumulate(cells[cell] for cell in ordered))
    return [_middle(ordered[bisect_left(ranks, max(1, math.ceil(share * ranks[-1])))]) for share in shares]


class Distribution:
    """All values since the start: their number, their sum, and where they lie."""

    def __init__(self) -> None:
        self.count = 0
        self.sum = 0.0
        self._cells: Counter[int] = Counter()

    def add(self, cells: Counter[int], total: float) -> None:
        """Count in values in these cells, that come to `total`."""
        self._cells.update(cells)
        self.count += cells.total()
        self.sum += total

    def below(self, bounds: Sequence[float]) -> list[int]:
        """How many are at most each of these rising bounds; a bound takes the whole of the cell it lies in."""
        ordered = sorted(self._cells)
        ranks = [0, *accumulate(self._cells[cell] for cell in ordered)]
        edges = [_lower_edge(cell) for cell in ordered]
        return [ranks[_count_up_to(edges, bound)] for bound in bounds]


def _count_up_to(edges: Sequence[float], bound: float) -> int:
    return bisect_left(edges, math.nextafter(bound, math.inf))


def _lower_edge(cell: int) -> float:
    edge: float = struct.unpack("<f", struct.pack("<I", cell << 16))[0]
    return edge


def _middle(cell: int) -> float:
    return (_lower_edge(cell) + _lower_edge(cell + 1)) / 2
