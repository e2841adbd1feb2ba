"""The `status` verb: asks daemons what they do, and shows it once or again and again."""

import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from predictord.control_client import ask
from predictord.errors import PredictordError
from predictord.runtime import Daemon, RuntimeFolder
from predictord.status_table import render, render_all

_REPLY_LIMIT_S = 5.0
_PERIOD_S = 1.0
_PIPE_COLUMNS = 80


def read_status(folder: RuntimeFolder, daemon: Daemon) -> dict[str, Any]:
    """The daemon's details document. Raises PredictordError."""
    return ask(folder, daemon, {"verb": "status"}, _REPLY_LIMIT_S)


def show(folder: RuntimeFolder, daemon: Daemon) -> None:
    """Print one daemon's status. Raises PredictordError."""
    _print(_console(), render(read_status(folder, daemon)))


def show_all(folder: RuntimeFolder, daemons: Sequence[Daemon]) -> None:
    """Print a line for each of several daemons, and how to see more of one."""
    rows: list[tuple[int, dict[str, Any] | str]] = []
    for daemon in daemons:
        try:
            rows.append((daemon.port, read_status(folder, daemon)))
        except PredictordError as error:
            rows.append((daemon.port, str(error)))
    console = _console()
    _print(console, render_all(rows))
    _print(console, f"\nsee one: predictord status --port {daemons[0].port}")


def watch(folder: RuntimeFolder, daemon: Daemon) -> None:
    """Show the status of this daemon, or of the one that takes its place, each second until Ctrl-C."""
    console, view = _console(), _View(folder, daemon)
    try:
        if not console.is_terminal:
            while True:
                _print(console, view.look())
                _print(console, "")
                time.sleep(_PERIOD_S)
        with Live(view.look(), console=console, auto_refresh=False) as live:
            while True:
                time.sleep(_PERIOD_S)
                live.update(view.look(), refresh=True)
    except KeyboardInterrupt:
        return


class _View:
    """Follows a daemon over its restarts: by its port, else by its predictor."""

    def __init__(self, folder: RuntimeFolder, daemon: Daemon) -> None:
        self._folder = folder
        self._daemon = daemon
        self._seen_at = time.time()

    def look(self) -> RenderableType:
        """What is to be seen now."""
        try:
            self._find()
            document = read_status(self._folder, self._daemon)
        except PredictordError as error:
            last = time.strftime("%H:%M:%S", time.localtime(self._seen_at))
            return Text(f"{error}\nlast seen {last}; waiting for it to come back; Ctrl-C ends this", "yellow")
        self._seen_at = time.time()
        return render(document)

    def _find(self) -> None:
        daemons, last = self._folder.living(), self._daemon
        alike: tuple[Callable[[Daemon], bool], ...] = (
            lambda daemon: daemon.pid == last.pid and daemon.started == last.started,
            lambda daemon: daemon.port == last.port,
            lambda daemon: daemon.predictor == last.predictor,
        )
        for is_alike in alike:
            for daemon in filter(is_alike, daemons):
                self._daemon = daemon
                return
        raise PredictordError(f"{last.label} has ended")


def _console() -> Console:
    columns = None if sys.stdout.isatty() or os.environ.get("COLUMNS") else _PIPE_COLUMNS
    return Console(markup=False, highlight=False, emoji=False, width=columns)


def _print(console: Console, text: RenderableType) -> None:
    """Without the spaces that fill up a table's last column."""
    with console.capture() as capture:
        console.print(text)
    console.file.write("".join(f"{line.rstrip()}\n" for line in capture.get().splitlines()))
    console.file.flush()
