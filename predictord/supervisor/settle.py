"""Whether a save is complete, as far as the kernel knows: no save is loaded while somebody still writes it."""

import errno
import fcntl
import os
import signal

_UNKNOWN_S = 0.3
"""Where leases don't work, and for what is gone: an editor may be between its delete and its rename."""
_WRITER_S = 5.0
"""A program that keeps a file open for writing and writes nothing would otherwise end live editing in silence."""


def patience_s(path: str) -> float:
    """How long the content of a file must have been the same for its save to count as complete, in seconds.

    That is 0 where a read lease can be had: it is refused while any process has the
    file open for writing (`fcntl(2)`, `F_SETLEASE`). Only the file's owner can ask, and
    some file systems know no leases.
    """
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a named pipe must not block
    except OSError:
        return _UNKNOWN_S
    try:
        # Who opens the file for writing while we hold the lease makes the kernel send us
        # SIGIO, which would end the process; SIGURG is ignored unless somebody asks for it.
        fcntl.fcntl(file, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        return _WRITER_S if error.errno == errno.EAGAIN else _UNKNOWN_S
    finally:
        os.close(file)
    return 0.0
