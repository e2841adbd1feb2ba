"""A request's body as it comes in: pieces as they are, small ones merged, all of it within the budget."""

from dataclasses import dataclass

from predictord.problem import Code, Problem

_SMALL_BYTES = 1 << 12
_MERGED_BYTES = 1 << 16
"""Up to this length small pieces go into one buffer, so that a body in tiny chunks stays a short list."""

Pieces = list[bytes | bytearray]


@dataclass
class BodyBudget:
    """Bytes of all request bodies held at once, against their limit."""

    limit_bytes: int
    held_bytes: int = 0


class RequestBody:
    """The body that one connection is collecting, or holds for the answer it waits for."""

    def __init__(self, budget: BodyBudget) -> None:
        self._budget = budget
        self.pieces: Pieces = []
        self.size = 0

    def add(self, piece: bytes) -> bool:
        """Take one more piece; False, and nothing taken, when the bodies of all requests are too large."""
        size = len(piece)
        if not self.take(size):
            return False
        pieces = self.pieces
        if not pieces or size > _SMALL_BYTES:
            pieces.append(piece)
        elif type(last := pieces[-1]) is bytearray and len(last) < _MERGED_BYTES:
            last += piece
        else:
            pieces.append(bytearray(piece))
        return True

    def take(self, size: int) -> bool:
        """Count so many bytes more as held; False, and nothing counted, when that is too much."""
        budget = self._budget
        held_bytes = budget.held_bytes + size
        if held_bytes > budget.limit_bytes:
            return False
        budget.held_bytes = held_bytes
        self.size += size
        return True

    def release(self) -> None:
        """Give the memory back; the list lives on with whoever holds it."""
        self._budget.held_bytes -= self.size
        self.pieces = []
        self.size = 0


def too_large(max_body_bytes: int) -> Problem:
    """The answer to a body that is longer than one may be."""
    return Problem(Code.BODY_TOO_LARGE, f"a body may have {max_body_bytes} bytes (--max-body-size)")


def no_room() -> Problem:
    """The answer to a body that does not fit beside those of the other requests."""
    return Problem(Code.QUEUE_FULL, "the bodies of waiting requests fill the memory set aside for them")
