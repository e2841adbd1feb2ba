"""Who is measured: predictord, a server written by hand, and LitServe where there is one."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

APPS = Path(__file__).with_name("apps")

PREDICTOR_FILE = "predictor.py"
"""The copy of the predictors in a server's own folder, which may be edited while it is served."""


class Contender(NamedTuple):
    """A server to be started by `command(app, port, workers, flags)` in a folder of its own."""

    name: str
    python: str
    apps: frozenset[str]
    """The apps it has; a kind with another is not measured of it."""

    def command(self, app: str, port: int, workers: int, flags: Sequence[str]) -> list[str]:
        """What to run; `flags` are predictord's, for the kinds that need some."""
        if self.name == "predictord":
            serve = ["-m", "predictord", "serve", f"{PREDICTOR_FILE}:{app}", "--port", str(port)]
            return [self.python, *serve, "--devices", "cpu", "--workers-per-device", str(workers), *flags]
        file = {"plain": "plain.py", "litserve": "lit.py"}[self.name]
        return [self.python, str(APPS / file), str(port), str(workers)]


_SHARED_APPS = frozenset({"Echo", "Sleep", "Batch", "Async", "Stream"})


def contenders(litserve_python: str | None) -> list[Contender]:
    """Those that can run here, the one to be compared first."""
    found = [
        Contender("predictord", sys.executable, _SHARED_APPS | {"Raw", "Versioned"}),
        Contender("plain", sys.executable, _SHARED_APPS | {"Raw"}),
    ]
    if litserve_python is not None:
        found.append(Contender("litserve", litserve_python, _SHARED_APPS))
    return found
