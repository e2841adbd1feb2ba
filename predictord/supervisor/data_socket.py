"""The supervisor's end of a data socket: frames go out and come in, and how it ended is known afterwards."""

import asyncio
import socket
from enum import Enum

from predictord.errors import WorkerError
from predictord.frames import Frame, FrameReader, FrameWriter


class End(Enum):
    """How a data socket ended, which says what became of the last frame written to it."""

    TAKEN = 1
    """End of file: the worker read the frame, so its request may have run."""
    UNREAD = 2
    """ECONNRESET, or bytes that never left here: the worker did not have the whole frame."""


class DataSocket:
    """Reads frames as they come, straight from the loop's callbacks; a subclass says what they mean."""

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._loop = loop
        self._socket = sock
        self._reader = FrameReader()
        self._writer = FrameWriter(loop, sock)
        self._draining = False
        self.is_paused = False
        self.end: End | None = None
        loop.add_reader(sock.fileno(), self._on_readable)

    def pause_reading(self) -> None:
        """Take no more, so that the worker has to wait once the socket is full."""
        if not self.is_paused and self.end is None:
            self.is_paused = True
            self._loop.remove_reader(self._socket.fileno())

    def resume_reading(self) -> None:
        """Go on taking what comes."""
        if self.is_paused and self.end is None:
            self.is_paused = False
            self._loop.add_reader(self._socket.fileno(), self._on_readable)

    def drain(self) -> None:
        """Read what a dead worker left: answers that it sent, then how the socket ended."""
        self._draining = True
        while self.end is None:
            if not self._on_readable():
                # Somebody else still holds the worker's end; the frame counts as taken.
                self._finish(End.TAKEN)

    def close(self) -> None:
        """Let go of the socket, which asks the worker to end."""
        self._stop_watching()
        if self.end is None:
            self.end = End.TAKEN
        self._socket.close()

    # --- a subclass's

    def _take(self, frames: list[Frame]) -> None:
        """Act on what has come, in order."""
        raise NotImplementedError

    def _break(self, reason: str) -> None:
        """What has come is against the rules."""
        raise NotImplementedError

    def _on_early_end(self) -> None:
        """The worker has closed its end, and is not known to be dead."""
        raise NotImplementedError

    def _is_unread(self, *, reset: bool) -> bool:
        """Whether the worker did not have the whole frame; with `reset` there were bytes that it did not read."""
        raise NotImplementedError

    # --- inside

    def _on_readable(self) -> bool:
        """Act on what has come; False when nothing has."""
        try:
            frames = self._reader.read(self._socket)
        except BlockingIOError:
            return False
        except OSError:
            self._end_early(reset=True)
        except WorkerError as error:
            self._break(str(error))
        else:
            if frames:
                self._take(frames)
            elif frames is None:
                self._end_early(reset=False)
        return True

    def _end_early(self, *, reset: bool) -> None:
        """The socket has ended; of a worker that is known to be dead that is no news."""
        self._finish(End.UNREAD if self._is_unread(reset=reset) else End.TAKEN)
        if not self._draining:
            self._on_early_end()

    def _finish(self, end: End) -> None:
        self._stop_watching()
        self.end = end

    def _stop_watching(self) -> None:
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket.fileno())
            self._writer.stop()
