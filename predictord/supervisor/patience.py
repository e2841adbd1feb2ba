"""How long one connection is waited for: by when its next bytes are due, and whether its reader takes anything."""

from predictord.supervisor import limits

_UNKNOWN = -1


class Patience:
    """The times of one connection, by the loop's clock."""

    def __init__(self) -> None:
        self.deadline: float | None = None
        """When what the connection waits for must have come; `None` until `sweep` sees that it rests."""
        self._unread_bytes = _UNKNOWN
        self._reader_deadline = 0.0

    def is_over(self, now: float) -> bool:
        """Whether the deadline has passed; one that is not set begins now, as that of a connection at rest."""
        if self.deadline is None:
            self.deadline = now + limits.IDLE_TIMEOUT_S
        return now >= self.deadline

    def reader_is_stuck(self, now: float, unread_bytes: int) -> bool:
        """Whether a client that owes us reading has taken nothing for `limits.READER_TIMEOUT_S`."""
        if unread_bytes != self._unread_bytes:
            self._unread_bytes = unread_bytes
            self._reader_deadline = now + limits.READER_TIMEOUT_S
        return now >= self._reader_deadline

    def reader_moved(self) -> None:
        """The client has begun to owe reading, or has caught up."""
        self._unread_bytes = _UNKNOWN
