"""The `service` verb: a systemd user unit that serves a predictor.

The unit runs the very command that a terminal would, with all paths absolute. What a
shell's environment says is not carried over, since nobody would find it again there.
"""

import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from predictord.errors import PredictordError, SettingsError
from predictord.kinds import PATH, PATHS, SWITCH
from predictord.settings import Settings, declared

WATCHDOG_S = 60
_STOP_GRACE_S = 10
"""Beyond the drain timeout: workers are told to end, waited for and killed, and answers flow out."""

_TEMPLATE = """\
{marker}
# Change it with `systemctl --user edit {name}`: installing it again writes this file anew.

[Unit]
Description=predictord: {description}

[Service]
Type=notify
ExecStart={command}
ExecReload=kill -HUP $MAINPID
# The start is over when a worker can answer; what takes a model minutes is watched by --startup-timeout.
TimeoutStartSec=infinity
# Finishing what is in hand (--drain-timeout), and then some.
TimeoutStopSec={stop_limit}
WatchdogSec={watchdog_s}
Restart=on-failure
RestartSec=1
# Wrong settings (2) and what keeps it from starting (3) do not pass by themselves; the others were asked for.
RestartPreventExitStatus=2 3
SuccessExitStatus=129 130 143
# It ends its workers itself, and a worker that the kernel kills for memory is started anew, not the whole service.
KillMode=mixed
OOMPolicy=continue
SyslogIdentifier={name}

[Install]
WantedBy=default.target
"""


@dataclass(frozen=True)
class Unit:
    """A systemd unit: its name without `.service`, and its text, which begins with a line that only we write."""

    name: str
    marker: str
    text: str


def make_unit(settings: Settings, flags: Mapping[str, Any], name: str | None = None) -> Unit:
    """The unit that serves with these flags, as the command line gave them; SettingsError for an impossible name.

    `settings` are what those flags make, without the shell's environment.
    """
    path = settings.predictor_path
    name = name or "predictord-" + re.sub(
        r"[^A-Za-z0-9_.-]+", "-", path.parent.name if path.stem == "predictor" else path.stem
    )
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,200}", name):
        raise SettingsError(f"--name must be letters, digits, dots, dashes and underscores, not {name!r}")
    target = f"{path}:{settings.class_name}" if settings.class_name else str(path)
    # -P keeps the working directory, which is the home of whoever is logged in, off Python's path.
    arguments = ["-P", "-m", "predictord", "serve", target, *_words(flags)]
    marker = "# " + f"Written by `predictord service install` for {target}".translate(_ONE_LINE)
    drain_s = settings.drain_timeout_s
    text = _TEMPLATE.format(
        marker=marker,
        name=name,
        description=str(path).translate(_ONE_LINE).replace("%", "%%"),
        command=" ".join([_quoted(sys.executable), *(_quoted(word).replace("$", "$$") for word in arguments)]),
        stop_limit=f"{drain_s + _STOP_GRACE_S:g}" if drain_s else "infinity",
        watchdog_s=WATCHDOG_S,
    )
    return Unit(name, marker, text)


def install_unit(unit: Unit, folder: Path) -> str:
    """Write the unit into the folder, over none but an earlier one for the same predictor; returns what to do next.

    Raises PredictordError if another file is in the way, SettingsError if the folder can't be written.
    """
    path = folder / f"{unit.name}.service"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(path) and path.read_text(errors="surrogateescape").partition("\n")[0] != unit.marker:
            raise PredictordError(
                f"{path} is there already and serves something else; choose another name with --name, or remove it"
            )
        draft = path.with_suffix(".draft")
        draft.write_text(unit.text, errors="surrogateescape")
        draft.replace(path)
    except OSError as error:
        raise SettingsError(f"cannot write {path}: {error.strerror}") from error
    return (
        f"wrote {path}. Start it now and at each login:\n\n"
        "  systemctl --user daemon-reload\n"
        f"  systemctl --user enable --now {unit.name}\n\n"
        "The second returns when a worker can answer. If it does not, and for all that follows:\n\n"
        f"  systemctl --user status {unit.name}\n"
        f"  journalctl --user -fu {unit.name}\n\n"
        "To have it run from boot on, without anybody logged in:\n\n"
        "  loginctl enable-linger"
    )


def user_units_folder(environ: Mapping[str, str]) -> Path:
    """Where systemd looks for the units that a user has written (systemd.unit(5))."""
    configured = environ.get("XDG_CONFIG_HOME", "")
    return (Path(configured) if os.path.isabs(configured) else Path.home() / ".config") / "systemd/user"


def left_behind(environ: Mapping[str, str]) -> list[str]:
    """The variables that a daemon started in this shell would heed, and the service will not."""
    return sorted(name for name in environ if name.startswith("PREDICTORD_") or name == "CUDA_VISIBLE_DEVICES")


def _words(flags: Mapping[str, Any]) -> list[str]:
    """The flags as they were given, but with absolute paths."""
    words = []
    for key, given in flags.items():
        setting = declared()[key]
        if setting.kind is SWITCH:
            if given is not None:
                words.append(setting.flag if given else setting.flag.replace("--", "--no-", 1))
            continue
        for value in given if isinstance(given, Sequence) and not isinstance(given, str) else [given]:
            if value is not None:
                is_path = setting.kind in (PATH, PATHS)
                words.append(f"{setting.flag}={os.path.abspath(os.path.expanduser(value)) if is_path else value}")
    return words


_ONE_LINE = dict.fromkeys((*range(32), 127), "?")
_ESCAPES = {'"': '\\"', "\\": "\\\\", "%": "%%"} | {chr(code): f"\\x{code:02x}" for code in (*range(1, 32), 127)}


def _quoted(word: str) -> str:
    """One word of a command line as systemd.syntax(7) reads it; `$` is left to the caller, as it depends."""
    if re.fullmatch(r"[A-Za-z0-9_@%+=:,./$-]+", word):
        return word.replace("%", "%%")
    return '"' + "".join(_ESCAPES.get(letter, letter) for letter in word) + '"'
