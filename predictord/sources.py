"""Where settings come from: flags over `PREDICTORD_*` over `predictord.toml` beside the predictor over defaults.

Here alone are wrong values turned into the sentence a user sees: it names the setting as
the user wrote it, the value, and what is allowed.
"""

import difflib
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr, ValidationError

from predictord import config_file
from predictord.errors import SettingsError
from predictord.kinds import PATH, PATHS
from predictord.settings import Setting, Settings, declared

TOML_NAME = "predictord.toml"
TOKEN_VARIABLE = "PREDICTORD_TOKEN"  # noqa: S105


@dataclass(frozen=True)
class Given:
    """A value as the user gave it; `named` is how they wrote the setting, `folder` what a relative path starts at."""

    value: Any
    named: str
    folder: Path


def read_settings(predictor: str, flags: Mapping[str, Any], environment: Mapping[str, str]) -> Settings:
    """Settings for `PREDICTOR[:CLASS]` from all sources.

    `flags` has what the command line gave, by setting key; `None` and `()` are not
    given. Raises SettingsError with one sentence, for the first fault found.
    """
    path, class_name = locate_predictor(predictor)
    from_toml = _from_toml(path.resolve().parent)
    from_outside = _from_environment(environment) | _from_flags(flags)
    given = from_toml | from_outside
    values = {key: _resolved(declared()[key], one) for key, one in given.items()}
    values["config"] = _merged_config(from_toml.get("config"), given.get("config_file"), from_outside.get("config"))
    try:
        return Settings(
            predictor_path=path,
            class_name=class_name,
            token=_read_token(given.get("token_file"), environment),
            **{declared()[key].attribute: value for key, value in values.items()},
        )
    except ValidationError as error:
        raise SettingsError(_sentence(error, given)) from None  # the original may hold the token


def locate_predictor(text: str) -> tuple[Path, str | None]:
    """The absolute path and the class in `PATH[:CLASS]`.

    The class is what follows the last colon if it is an identifier. Symlinks stay, so
    that a swapped one is noticed. Raises SettingsError if there is no such file, or no
    answer could name it.
    """
    head, colon, tail = text.rpartition(":")
    name, class_name = (head, tail) if colon and tail.isidentifier() else (text, None)
    if name and os.path.isdir(name):
        raise SettingsError(f"the predictor must be a Python file, not the folder {name!r}; name the file in it")
    if not name or not os.path.exists(name):
        raise SettingsError(f"the predictor must be a Python file, but there is no {name!r} in {Path.cwd()}")
    path = os.path.abspath(name)
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise SettingsError(
            f"the predictor's path must be UTF-8, not {path!r}; rename the file, or the folder it is in"
        ) from error
    return Path(path), class_name


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """One note for each `PREDICTORD_*` variable that is no setting; it may belong to something else."""
    known = {setting.variable for setting in declared().values()} | {TOKEN_VARIABLE}
    strange = sorted(name for name in environment if name.startswith("PREDICTORD_") and name not in known)
    return [f"{name} is no setting and is ignored; the nearest is {_nearest(name, known)}" for name in strange]


def _from_flags(flags: Mapping[str, Any]) -> dict[str, Given]:
    here = Path.cwd()
    return {
        key: Given(value, declared()[key].flag, here)
        for key, value in flags.items()
        if value is not None and value != ()
    }


def _from_environment(environment: Mapping[str, str]) -> dict[str, Given]:
    here = Path.cwd()
    named = {key: setting.variable for key, setting in declared().items()}
    # An empty variable counts as unset: that is how compose files and shells clear one.
    return {key: Given(environment[name], name, here) for key, name in named.items() if environment.get(name)}


def _from_toml(folder: Path) -> dict[str, Given]:
    path = folder / TOML_NAME
    if not os.path.lexists(path):
        return {}
    document = config_file.read_file(path, TOML_NAME)
    for key in document:
        if key not in declared():
            nearest = _nearest(key.replace("-", "_"), declared())
            raise SettingsError(f"{TOML_NAME} has {key!r}, which is no setting; the nearest is {nearest!r}")
    return {key: Given(value, f"{TOML_NAME}: {key}", folder) for key, value in document.items()}


def _resolved(setting: Setting, given: Given) -> Any:
    if setting.kind is PATH:
        return _placed(given.value, given.folder)
    if setting.kind is PATHS and isinstance(given.value, str | list | tuple):
        return [_placed(path, given.folder) for path in PATHS.read(given.value)]
    return given.value


def _placed(path: Any, folder: Path) -> Any:
    return folder / os.path.expanduser(path) if isinstance(path, str) and path else path


def _merged_config(table: Given | None, file: Given | None, entries: Given | None) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    if table is not None:
        if not isinstance(table.value, dict):
            raise SettingsError(f"{table.named} must be a table, [config], not {_shown(table.value)}")
        merged |= config_file.plain(table.value, TOML_NAME)
    if file is not None:
        path = _resolved(declared()["config_file"], file)
        if not isinstance(path, Path):
            raise SettingsError(f"{file.named} must be {PATH.allowed}, not {_shown(file.value)}")
        merged |= config_file.plain(config_file.read_file(path, file.named), file.named)
    if entries is not None:
        items = entries.value.split(",") if isinstance(entries.value, str) else entries.value
        read = dict(config_file.read_entry(item, entries.named) for item in items)
        merged |= config_file.plain(read, entries.named)
    return merged


def _read_token(file: Given | None, environment: Mapping[str, str]) -> SecretStr | None:
    """The flag's file, else the variable, else the file that the environment or the TOML file names."""
    variable = environment.get(TOKEN_VARIABLE)
    if variable and (file is None or not file.named.startswith("--")):
        return _checked_token(variable, TOKEN_VARIABLE)
    if file is None:
        return None
    path = _resolved(declared()["token_file"], file)
    try:
        return _checked_token(Path(path).read_text("ascii").strip(), f"{file.named} {str(path)!r}")
    except OSError as error:
        raise SettingsError(
            f"{file.named} must be a file that can be read, not {_shown(file.value)}: {error.strerror}"
        ) from error
    except (TypeError, ValueError):
        raise SettingsError(f"{file.named} must be a text file with a token, not {_shown(file.value)}") from None


def _checked_token(token: str, named: str) -> SecretStr:
    # The value itself stays out of every message and log.
    if not re.fullmatch(r"[!-~]+", token):
        raise SettingsError(f"{named} must hold a token of printable ASCII without blanks; it is empty or has others")
    return SecretStr(token)


def _sentence(error: ValidationError, given: Mapping[str, Given]) -> str:
    fault = error.errors()[0]
    setting = next(setting for setting in declared().values() if setting.attribute == fault["loc"][0])
    named, value = given[setting.key].named, _shown(fault["input"])
    if fault["type"] == "rule":
        return f"{named} {value} {fault['msg']}"
    return f"{named} must be {setting.kind.allowed}, not {value}"


def _shown(value: Any) -> str:
    text = repr(value) if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _nearest(name: str, known: Iterable[str]) -> str:
    return difflib.get_close_matches(name, list(known), n=1, cutoff=0.0)[0]
