"""The verbs that talk to a running daemon, chosen by its port, its predictor, or being the only one."""

from collections.abc import Callable

import click

from predictord.errors import ExitCode, PredictorError


def _chooses_daemon(verb: Callable[..., ExitCode]) -> Callable[..., ExitCode]:
    """The ways to name a running daemon."""
    port = click.option("--port", type=click.IntRange(1, 65535), help="The daemon's, where several run.")
    return click.argument("predictor", required=False)(port(verb))


@click.command()
@_chooses_daemon
@click.option("--fresh", is_flag=True, help="Import everything anew, installed packages too.")
def reload(predictor: str | None, port: int | None, fresh: bool) -> ExitCode:
    """Replace a running daemon's workers by what is on disk, and say how it went.

    Also when nothing has changed.
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
    """Let a running daemon finish its work and stop; returns when it is gone."""
    from predictord.control_client import stop_daemon
    from predictord.runtime import RuntimeFolder, choose

    folder = RuntimeFolder()
    daemon = choose(folder.living(), predictor, port)
    stop_daemon(folder, daemon)
    click.echo(f"stopped {daemon.label}")
    return ExitCode.STOPPED


VERBS: tuple[click.Command, ...] = (reload, stop)
