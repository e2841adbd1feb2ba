"""The log file of a detached daemon: it takes the place of standard output and is kept to a size."""

import errno
import os
from contextlib import suppress
from pathlib import Path

MAX_BYTES = 10 << 20
OLDER_FILES = 2
"""Kept beside the one that is written, as `.1` and `.2`."""
_OUTPUTS = (1, 2)


class LogFile:
    """A file for the console's one thread to write to; whoever else writes to stdout or stderr ends up in it too.

    A disk that is full costs lines, not the service: what is lost is counted and told.
    """

    encoding = "utf-8"

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES) -> None:
        """Append to the file. Raises OSError."""
        self.path = path
        self.give_up_at = 0.0
        self._max_bytes = max_bytes
        self._lost_lines = 0
        self._outputs: tuple[int, ...] = ()
        self._descriptor = self._open()
        self._bytes = os.fstat(self._descriptor).st_size

    def take_over(self) -> None:
        """Let stdout and stderr of this process be this file from now on, also when it starts anew."""
        self._outputs = _OUTPUTS
        self._give_to_outputs()

    def write(self, text: str) -> int:
        """Append a text that ends a line."""
        if self._bytes >= self._max_bytes:
            self._start_anew()
        if self._lost_lines and self._append(f"… {self._lost_lines:,} lines are missing here: the disk was full\n"):
            self._lost_lines = 0
        if not self._append(text):
            self._lost_lines += text.count("\n")
        return len(text)

    def flush(self) -> None:
        """Nothing is held back."""

    def fileno(self) -> int:
        """Its descriptor."""
        return self._descriptor

    def isatty(self) -> bool:
        """It is a file."""
        return False

    def close(self) -> None:
        """Swallow everything from now on; stdout and stderr stay what they are."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _append(self, text: str) -> bool:
        rest = memoryview(text.encode(self.encoding, "backslashreplace"))
        try:
            while rest and self._descriptor >= 0:
                written = os.write(self._descriptor, rest)
                self._bytes += written
                rest = rest[written:]
        except OSError:
            return False
        return True

    def _open(self) -> int:
        # A link in its place could lead anywhere.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
        descriptor = os.open(self.path, flags, 0o600)
        if os.fstat(descriptor).st_uid != os.getuid():
            os.close(descriptor)
            raise PermissionError(errno.EPERM, "it belongs to another user", str(self.path))
        os.fchmod(descriptor, 0o600)
        os.set_blocking(descriptor, True)
        return descriptor

    def _start_anew(self) -> None:
        """Move each file one further; where that fails, go on in the same."""
        with suppress(OSError):
            for number in range(OLDER_FILES - 1, 0, -1):
                with suppress(FileNotFoundError):
                    os.replace(f"{self.path}.{number}", f"{self.path}.{number + 1}")
            os.replace(self.path, f"{self.path}.1")
            descriptor = self._open()
            # Onto the old number, so that nobody ever finds it closed.
            os.dup2(descriptor, self._descriptor, inheritable=False)
            os.close(descriptor)
            self._bytes = 0
            self._give_to_outputs()

    def _give_to_outputs(self) -> None:
        for output in self._outputs:
            os.dup2(self._descriptor, output)
