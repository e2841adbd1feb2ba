"""What test predictors write down, so that tests can count what really ran."""

from collections import Counter
from pathlib import Path

PRELUDE = '''\
import os, time

_LEDGER = os.path.abspath("ledger")

def record(*words):
    """Append one line; O_APPEND keeps it whole however many processes write."""
    ledger = os.open(_LEDGER, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(ledger, (" ".join(map(str, words)) + "\\n").encode())
    os.close(ledger)

def wait_for_file(name, deadline_s=30):
    """Hold this thread until the test creates the file."""
    end = time.monotonic() + deadline_s
    while not os.path.exists(name):
        if time.monotonic() > end:
            raise TimeoutError(name)
        time.sleep(0.01)

'''
"""Goes before a test predictor's source: `record(request_id, version, os.getpid())` and `wait_for_file(name)`."""


class Ledger:
    """The lines that `record` has appended in a predictor's folder."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "ledger"

    def lines(self) -> list[str]:
        """All lines so far, oldest first."""
        return self.path.read_text().splitlines() if self.path.exists() else []

    def ids(self) -> Counter[str]:
        """How often each request id (a line's first word) was executed."""
        return Counter(line.split()[0] for line in self.lines())

    def clear(self) -> None:
        """Forget everything so far."""
        self.path.unlink(missing_ok=True)
