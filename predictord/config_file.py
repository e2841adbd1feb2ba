"""The dict for a predictor's `__init__`: `KEY=VALUE` entries and YAML, JSON or TOML files.

What comes out is what JSON can hold, whatever the file's format: the config travels to
workers, and `check`, `predict` and `serve` must hand the predictor the same dict.
"""

import datetime
import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from predictord.errors import SettingsError

_MAX_DEPTH = 100
_INTEGERS = range(-(1 << 63), 1 << 64)  # what MessagePack carries


def read_entry(text: str, named: str) -> tuple[str, Any]:
    """Split `KEY=VALUE`; the value is JSON if it parses as JSON, else the text.

    Raises SettingsError, which starts with `named`: the flag or variable as the user wrote it.
    """
    key, equals, value = text.partition("=")
    if not key.strip() or not equals:
        raise SettingsError(f"{named} must be KEY=VALUE, not {text!r}")
    try:
        return key.strip(), json.loads(value, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return key.strip(), value


def read_file(path: Path, named: str) -> dict[str, Any]:
    """The mapping in a YAML, JSON or TOML file, told apart by their suffix; an empty YAML file is `{}`.

    Raises SettingsError, which starts with `named`.
    """
    parse = _PARSERS.get(path.suffix.lower())
    if parse is None:
        raise SettingsError(f"{named} must be a .yaml, .yml, .json or .toml file, not {str(path)!r}")
    try:
        document = parse(path.read_text("utf-8-sig"))
    except OSError as error:
        raise SettingsError(f"{named} must be a file that can be read, not {str(path)!r}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise SettingsError(f"{named} must be a valid {path.suffix} file, not {str(path)!r}: {reason}") from error
    if not isinstance(document, dict):
        raise SettingsError(
            f"{named} must be a file that holds a mapping, not {str(path)!r} with {_article(document)} at the top"
        )
    return document


def plain(config: dict[str, Any], named: str) -> dict[str, Any]:
    """The same config with dates as ISO strings; SettingsError where a value is nothing that JSON can hold."""
    copied: dict[str, Any] = _plain(config, "config", named, 0)
    return copied


def _plain(value: Any, where: str, named: str, depth: int) -> Any:
    if value is None or isinstance(value, bool | float) or (isinstance(value, int) and value in _INTEGERS):
        return value
    if isinstance(value, str) and _is_unicode(value):
        return value
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, dict) and depth < _MAX_DEPTH:
        return {_key(key, where, named): _plain(value[key], f"{where}.{key}", named, depth + 1) for key in value}
    if isinstance(value, list) and depth < _MAX_DEPTH:
        return [_plain(item, f"{where}[{index}]", named, depth + 1) for index, item in enumerate(value)]
    raise _not_plain(value, where, named, depth)


def _key(key: Any, where: str, named: str) -> str:
    if isinstance(key, str) and _is_unicode(key):
        return key
    raise SettingsError(f"{named}: the keys of {where} must be text, not {key!r}")


def _not_plain(value: Any, where: str, named: str, depth: int) -> SettingsError:
    if depth >= _MAX_DEPTH:
        return SettingsError(f"{named}: config must be nested at most {_MAX_DEPTH} deep")
    if isinstance(value, int):
        return SettingsError(f"{named}: {where} must fit 64 bits, not {value}")
    if isinstance(value, str):
        return SettingsError(f"{named}: {where} must be valid Unicode, not {value!r}")
    return SettingsError(f"{named}: {where} must be something JSON can hold, not {_article(value)}")


def _article(value: Any) -> str:
    name = "null" if value is None else type(value).__name__
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _refuse_constant(name: str) -> Any:
    raise ValueError(name)  # NaN and Infinity are Python's, not JSON's


def _parse_json(text: str) -> Any:
    return json.loads(text, parse_constant=_refuse_constant)


def _parse_yaml(text: str) -> Any:
    import yaml

    try:
        document = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ValueError(f"{error.problem} (line {line})") from error
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
    return {} if document is None else document


_PARSERS: dict[str, Callable[[str], Any]] = {
    ".json": _parse_json,
    ".toml": tomllib.loads,
    ".yaml": _parse_yaml,
    ".yml": _parse_yaml,
}
