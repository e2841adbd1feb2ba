"""`serve --detach`: a daemon in the background, and what is said of its start.

The daemon is a fork of the command line, so that nothing is read twice and `ps` shows what was
typed. Until it is registered it speaks to the terminal, as without `--detach`; then to its log.
"""

import os
import shlex
import time
from collections.abc import Callable
from contextlib import suppress

import click

from predictord.control_client import ask
from predictord.errors import ExitCode, PredictordError
from predictord.log_files import LogFolder, last_lines
from predictord.runtime import Daemon, RuntimeFolder
from predictord.settings import Settings

_PAUSE_S = 0.02
_LINES_OF_THE_DEAD = 20


def serve_detached(serve: Callable[[], ExitCode], settings: Settings, logs: LogFolder) -> ExitCode:
    """Call `serve` in a process of its own that no terminal reaches; returns when it is ready, or is not going to be.

    In that process the call returns what `serve` does.
    """
    forked_at = time.time()
    pid = os.fork()
    if pid == 0:
        os.setsid()  # no Ctrl-C and no hang-up of this terminal comes through
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        return serve()
    return _Start(pid, forked_at, settings, logs).tell()


class _Start:
    """The start of one daemon, as the process sees it that has forked it."""

    def __init__(self, pid: int, forked_at: float, settings: Settings, logs: LogFolder) -> None:
        self._pid = pid
        self._forked_at = forked_at
        self._settings = settings
        self._logs = logs
        self._folder = RuntimeFolder()

    def tell(self) -> ExitCode:
        daemon = None
        try:
            daemon = self._registered()
            return self._tell_death() if daemon is None else self._tell_load(daemon)
        except KeyboardInterrupt:
            way = f"predictord stop --port {daemon.port}" if daemon else f"kill {self._pid}"
            _say(f"it goes on loading in the background; `{way}` ends it")
            return ExitCode.INTERRUPTED

    def _registered(self) -> Daemon | None:
        """The daemon, or `None` if it has ended before."""
        while True:
            for daemon in self._folder.living():
                if daemon.pid == self._pid:
                    return daemon
            if os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                return None
            time.sleep(_PAUSE_S)

    def _tell_load(self, daemon: Daemon) -> ExitCode:
        started = time.monotonic()
        click.echo(f"serving {daemon.predictor} on {daemon.urls[0]} (pid {daemon.pid})")
        try:
            reply = ask(self._folder, daemon, {"verb": "ready"}, None)
        except PredictordError:
            return self._tell_death()
        if reply["detail"] is not None:
            return self._tell_failure(daemon, **reply)
        click.echo(f"ready in {time.monotonic() - started:.1f} s")
        _tell_ways(daemon)
        return ExitCode.STOPPED

    def _tell_failure(self, daemon: Daemon, detail: str, traceback: str | None) -> ExitCode:
        if traceback:
            click.echo(traceback.rstrip(), err=True)
        _say(detail)
        if not self._settings.reload:
            return self._end()
        _say(f"the daemon stays and loads {os.path.basename(daemon.predictor)} again when you save it")
        _tell_ways(daemon)
        return ExitCode.NO

    def _tell_death(self) -> ExitCode:
        """It ended early: what it had to say is here, or in its log if it had got so far."""
        code = self._end()
        log = self._logs.find(str(self._settings.predictor_path), None)
        with suppress(OSError):
            if log is not None and log.stat().st_mtime >= self._forked_at:
                for line in last_lines(log, _LINES_OF_THE_DEAD):
                    click.echo(line, err=True)
                _say(f"it ended with exit code {int(code)} before it was ready; this was the end of {log}")
        return code

    def _end(self) -> ExitCode:
        """Wait for its end; what it exited with."""
        _, status = os.waitpid(self._pid, 0)
        code = os.waitstatus_to_exitcode(status)
        return ExitCode(code) if code in set(ExitCode) else ExitCode.CANNOT_START


def _tell_ways(daemon: Daemon) -> None:
    port = f"--port {daemon.port}"
    click.echo(f"  see it:   predictord status {port}")
    click.echo(f"  its log:  predictord logs -f {port}   (in {shlex.quote(daemon.log or '')})")
    click.echo(f"  end it:   predictord stop {port}")


def _say(message: str) -> None:
    click.echo(f"predictord: {message}", err=True)
