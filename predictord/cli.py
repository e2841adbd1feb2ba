"""The command line: verbs, their options made from the declared settings, and exit codes.

Kept light, since every start pays for it: what a verb needs is imported inside it.
"""

import os
import sys
from pathlib import Path
from typing import Any

import click

from predictord import __version__, daemon_verbs
from predictord.errors import ExitCode, PredictordError, PredictorError, SettingsError, StartError
from predictord.kinds import SWITCH
from predictord.log_files import LogFolder
from predictord.settings import PREDICTOR, Setting, Settings, declared
from predictord.sources import read_settings, unknown_variables

_EXIT_CODES = {SettingsError: ExitCode.USAGE, StartError: ExitCode.CANNOT_START}


def main() -> None:
    """Run the command line and exit; what goes wrong is one line on stderr."""
    sys.exit(_run(sys.argv[1:]))


def _run(arguments: list[str]) -> int:
    try:
        return int(predictord.main(arguments, prog_name="predictord", standalone_mode=False) or 0)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return ExitCode.USAGE
    except click.ClickException as error:
        _say(error.format_message())
        return ExitCode.USAGE
    except PredictordError as error:
        if isinstance(error, PredictorError) and error.traceback:
            click.echo(error.traceback.rstrip(), err=True)
        _say(str(error))
        return _EXIT_CODES.get(type(error), ExitCode.NO)
    except click.Abort:
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # The reader of our output left; the interpreter must not trip over it again when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.NO


def _say(message: str) -> None:
    click.echo(f"predictord: {message}", err=True)


class SettingOption(click.Option):
    """The flag of a declared setting; its text goes to the settings unread, so that one place judges it."""

    def __init__(self, setting: Setting) -> None:
        self.group = setting.group
        flag, default = setting.flag, setting.default
        repeatable = "repeatable" if setting.kind.many else None
        notes = "; ".join(filter(None, (default and f"default: {default}", repeatable)))
        super().__init__(
            [f"{flag}/--no-{flag[2:]}" if setting.kind is SWITCH else flag, setting.key],
            help=f"{setting.line}  [{notes}]" if notes else setting.line,
            type=click.BOOL if setting.kind is SWITCH else click.UNPROCESSED,
            metavar=setting.kind.metavar or None,
            multiple=setting.kind.many,
            default=None,
        )


class GroupedCommand(click.Command):
    """A command whose help lists the options of settings by group."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one section for each group, in order of declaration, and one for the rest."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, click.Option):
                sections.setdefault(getattr(parameter, "group", "Options"), []).append(record)
        for group, records in sections.items():
            with formatter.section(group):
                formatter.write_dl(records, col_max=28)


def _setting_options(*keys: str) -> list[click.Parameter]:
    return [SettingOption(declared()[key]) for key in keys]


def _read_settings(predictor: str, flags: dict[str, Any]) -> Settings:
    settings = read_settings(predictor, flags, os.environ)
    for note in unknown_variables(os.environ):
        _say(f"note: {note}")
    return settings


_PREDICTOR_SETTINGS = [key for key, setting in declared().items() if setting.group == PREDICTOR]
_predictor_argument = click.argument("predictor", default="predictor.py", metavar="[PREDICTOR[:CLASS]]")


@click.group(epilog="Exit codes: 0 stopped as asked, 1 the answer is no, 2 wrong usage or settings, 3 could not start.")
@click.version_option(__version__, message="%(prog)s %(version)s")
def predictord() -> None:
    """One Python class in, a local prediction service out."""


@predictord.command(cls=GroupedCommand, params=_setting_options(*declared()))
@_predictor_argument
@click.option("--detach", is_flag=True, help="Serve in the background; returns when it is ready.")
def serve(*, predictor: str, detach: bool, **flags: Any) -> ExitCode:
    """Serve a predictor (default: predictor.py) over HTTP.

    Each option may also come from PREDICTORD_NAME in the environment or from
    predictord.toml beside the predictor, as name = value.
    """
    settings = _read_settings(predictor, flags)
    logs = LogFolder(os.environ) if detach else None

    def run() -> ExitCode:
        from predictord.supervisor.run import serve as run_service

        return run_service(settings, lambda: read_settings(predictor, flags, os.environ), logs)

    if logs is None:
        return run()
    from predictord.detach import serve_detached

    return serve_detached(run, settings, logs)


@predictord.command()
@click.argument("folder", default=".", type=click.Path(path_type=Path))
def init(folder: Path) -> ExitCode:
    """Write a starter predictor.py, never over a file.

    It goes into FOLDER (default: here), which is made if need be.
    """
    from predictord.init_verb import write_starter

    click.echo(write_starter(folder))
    return ExitCode.STOPPED


@predictord.command(cls=GroupedCommand, params=_setting_options(*_PREDICTOR_SETTINGS))
@_predictor_argument
def check(predictor: str, **flags: Any) -> ExitCode:
    """Import and validate a predictor, without building it."""
    settings = _read_settings(predictor, flags)
    from predictord.check import check_predictor

    report = check_predictor(settings)
    click.echo("\n".join(report.lines))
    return ExitCode.NO if report.has_faults else ExitCode.STOPPED


@predictord.command(cls=GroupedCommand, params=_setting_options(*_PREDICTOR_SETTINGS))
@_predictor_argument
@click.option("-d", "--data", metavar="JSON|@FILE", help="The body: JSON, a file, or @- for stdin.")
@click.option("-F", "--form", multiple=True, metavar="NAME=VALUE|@FILE", help="A field of a form instead; repeatable.")
@click.option("--content-type", metavar="TYPE", help="Of the body.  [default: JSON's, else by the file's suffix]")
@click.option("-H", "--header", multiple=True, metavar="'NAME: VALUE'", help="A header of the request; repeatable.")
@click.option("--query", multiple=True, metavar="KEY=VALUE", help="A query parameter; repeatable.")
def predict(
    *,
    predictor: str,
    data: str | None,
    form: tuple[str, ...],
    content_type: str | None,
    header: tuple[str, ...],
    query: tuple[str, ...],
    **flags: Any,
) -> ExitCode:
    """Run one prediction here, without a daemon.

    The body of the answer goes to stdout, all the rest to stderr.
    """
    settings = _read_settings(predictor, flags)
    from predictord.predict_verb import make_request, predict_here

    return predict_here(settings, *make_request(data, form, content_type, header, query))


@predictord.group()
def service() -> None:
    """Have systemd keep a predictor served."""


@service.command(cls=GroupedCommand, params=_setting_options(*declared()))
@_predictor_argument
@click.option("--name", metavar="NAME", help="Of the unit.  [default: predictord- and the predictor's name]")
def install(*, predictor: str, name: str | None, **flags: Any) -> ExitCode:
    """Write a systemd user unit that serves a predictor.

    It takes the options of serve. What to do next is printed.
    """
    from predictord.service import install_unit, left_behind, make_unit, user_units_folder

    unit = make_unit(read_settings(predictor, flags, {}), flags, name)
    for variable in left_behind(os.environ):
        _say(f"note: {variable} is set in this shell and will not be in the service; give it a flag instead")
    click.echo(install_unit(unit, user_units_folder(os.environ)))
    return ExitCode.STOPPED


for verb in daemon_verbs.VERBS:
    predictord.add_command(verb)
