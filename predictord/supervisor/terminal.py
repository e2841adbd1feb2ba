"""The console on a terminal: colours, workers' tags, and a live display of what is loading.

Importing rich takes 40 ms, so only a console that is pretty imports this.
"""

import logging
import time
from collections.abc import Callable
from typing import IO

from rich.console import Console
from rich.live import Live
from rich.text import Text

from predictord.supervisor.log_line import clock, escape, tag, traceback_lines

_FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_FRAMES_PER_S = 10
_TAG_STYLES = ("cyan", "magenta", "green", "blue", "bright_cyan", "bright_magenta", "bright_green", "bright_blue")
_LEVEL_STYLES = {logging.WARNING: "yellow", logging.ERROR: "red", logging.CRITICAL: "bold red"}


class TerminalView:
    """Shows records in colour, and below them a line for each of `loading()`: label and seconds.

    Long lines are left to the terminal to wrap, so that they can be copied whole. For one thread alone.
    """

    def __init__(self, file: IO[str], loading: Callable[[], list[tuple[str, float]]]) -> None:
        self._loading = loading
        self._console = Console(file=file)
        self._live = Live(
            get_renderable=self._draw_loading,
            console=self._console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self.is_live = False

    def show(self, record: logging.LogRecord) -> None:
        """Print one record; what is loading stays below it."""
        text = Text.assemble((clock(record), "dim"), " ")
        if worker_tag := tag(record):
            worker = getattr(record, "worker", None)
            text.append(worker_tag, _TAG_STYLES[worker % len(_TAG_STYLES)] if isinstance(worker, int) else None)
        text.append(escape(record.getMessage()), _LEVEL_STYLES.get(record.levelno))
        for line in traceback_lines(record):
            text.append("\n" + line, "dim")
        self._console.print(text, soft_wrap=True)

    def refresh(self) -> None:
        """Bring the display of what is loading up to date; `is_live` says whether there is one."""
        is_live = self._console.is_interactive and bool(self._loading())
        if is_live and not self.is_live:
            self._live.start(refresh=True)
        elif is_live:
            self._live.refresh()
        elif self.is_live:
            self._live.stop()
        self.is_live = is_live

    def _draw_loading(self) -> Text:
        frame = _FRAMES[int(time.monotonic() * _FRAMES_PER_S) % len(_FRAMES)]
        lines = [
            Text.assemble((frame, "cyan"), f" loading {escape(label)} ", (f"{seconds:.0f} s", "dim"))
            for label, seconds in self._loading()
        ]
        return Text("\n", no_wrap=True, overflow="ellipsis").join(lines)
