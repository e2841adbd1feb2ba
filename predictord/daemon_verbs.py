"""The verbs that talk to a running daemon, chosen by its port, its predictor, or being the only one."""

import json
import os
from collections.abc import Callable

import click

from predictord.errors import ExitCode, PredictordError, PredictorError, SettingsError


def _chooses_daemon(verb: Callable[..., ExitCode]) -> Callable[..., ExitCode]:
    """The ways to name a running daemon."""
    port = click.option("--port", type=click.IntRange(1, 65535), help="The daemon's, where several run.")
    return click.argument("predictor", required=False)(port(verb))


@click.command()
@_chooses_daemon
@click.option("--fresh", is_flag=True, help="Import everything anew, installed packages too.")
def reload(predictor: str | None, port: int | None, fresh: bool) -> ExitCode:
    """Load anew what a running daemon serves, and say how it went.

    Its workers are replaced by what is on disk, also when nothing has changed.
    """
    from predictord.control_client import reload_daemon
    from predictord.runtime import RuntimeFolder, choose

    folder = RuntimeFolder()
    result = reload_daemon(folder, choose(folder.living(), predictor, port), fresh=fresh)
    click.echo(result.line)
    if result.error is not None:
        detail, _, traceback = result.error.partition("\n")
        raise PredictorError(detail, traceback)
    return ExitCode.NO if result.kind == "failed" else ExitCode.STOPPED


@click.command()
@_chooses_daemon
def stop(predictor: str | None, port: int | None) -> ExitCode:
    """Let a running daemon finish its work and stop.

    Returns when it is gone.
    """
    from predictord.control_client import stop_daemon
    from predictord.runtime import RuntimeFolder, choose

    folder = RuntimeFolder()
    daemon = choose(folder.living(), predictor, port)
    stop_daemon(folder, daemon)
    click.echo(f"stopped {daemon.label}")
    return ExitCode.STOPPED


@click.command()
@_chooses_daemon
@click.option("-f", "--follow", "is_followed", is_flag=True, help="Go on with each entry as it comes.")
@click.option("-n", "count", type=click.IntRange(0), default=100, show_default=True, help="Entries to begin with.")
@click.option("--json", "as_json", is_flag=True, help="An object a line, with all that is known of each entry.")
def logs(*, predictor: str | None, port: int | None, is_followed: bool, count: int, as_json: bool) -> ExitCode:
    """Show what a daemon has printed lately.

    Of a detached one that is gone the end of its log file.
    """
    from predictord import log_verb
    from predictord.log_files import LogFolder
    from predictord.runtime import RuntimeFolder, choose

    folder = RuntimeFolder()
    try:
        daemon = choose(folder.living(), predictor, port)
    except SettingsError:
        raise
    except PredictordError as absence:
        left = log_verb.left_behind(LogFolder(os.environ), predictor, port, count)
        if left is None:
            raise
        path, lines = left
        for line in lines:
            click.echo(line)
        raise PredictordError(f"{absence}; this was the end of {path}") from None
    show = log_verb.follow if is_followed else log_verb.last_entries
    try:
        for entry in show(folder, daemon, count, as_json=as_json):
            click.echo(entry)
    except KeyboardInterrupt:
        return ExitCode.STOPPED
    if is_followed:
        click.echo(f"predictord: {daemon.label} has ended", err=True)
    return ExitCode.STOPPED


@click.command()
@_chooses_daemon
@click.option("--watch", "is_watched", is_flag=True, help="Again each second, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="All that is known, as one JSON object.")
def status(*, predictor: str | None, port: int | None, is_watched: bool, as_json: bool) -> ExitCode:
    """Show what a running daemon does, and what has failed lately.

    Rates and latencies are of the last ten seconds. Without a choice, where several
    daemons run, a line for each.
    """
    from predictord import status_verb
    from predictord.runtime import RuntimeFolder, choose

    folder = RuntimeFolder()
    daemons = folder.living()
    if len(daemons) > 1 and predictor is None and port is None and not is_watched and not as_json:
        status_verb.show_all(folder, daemons)
        return ExitCode.STOPPED
    daemon = choose(daemons, predictor, port)
    if as_json:
        click.echo(json.dumps(status_verb.read_status(folder, daemon), indent=2))
    elif is_watched:
        status_verb.watch(folder, daemon)
    else:
        status_verb.show(folder, daemon)
    return ExitCode.STOPPED


VERBS: tuple[click.Command, ...] = (logs, reload, status, stop)
