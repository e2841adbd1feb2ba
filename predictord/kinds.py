"""The kinds of value a setting can have: how each is written, read, bounded and shown.

A setting comes as text from a flag or a variable and as text, number, boolean or list
from TOML; each reader takes all of these and raises ValueError for anything else. What
is allowed is said by the kind, so that one sentence fits every source.
"""

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from predictord import units


@dataclass(frozen=True)
class Kind:
    """One kind of value; stands in a field's `Annotated` and does its reading.

    `metavar` is what the help shows for a value, `noun` what an error says is allowed;
    `many` marks a flag that may be repeated. `least` and `most` are inclusive.
    """

    metavar: str
    noun: str
    read: Callable[[Any], Any]
    show: Callable[[Any], str] = str
    least: float | None = None
    most: float | None = None
    many: bool = False

    @property
    def allowed(self) -> str:
        """What may be written, bounds included."""
        if self.least is None:
            return self.noun
        return f"{self.noun}, from {self.show(self.least)} to {self.show(self.most)}"

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Let pydantic validate what `read` returns; `None` is for the field's type to judge."""
        return core_schema.no_info_before_validator_function(self._read_within_bounds, handler(source))

    def _read_within_bounds(self, raw: Any) -> Any:
        value = None if raw is None else self.read(raw)
        if self.least is not None and self.most is not None and value is not None:
            _require(self.least <= value <= self.most)
        return value


def count(least: int, most: int) -> Kind:
    """A whole number within these bounds."""
    return Kind("N", "a whole number", _read_count, least=least, most=most)


def duration(most: str) -> Kind:
    """Seconds, from none to `most`."""
    noun = "a duration such as 90s, 10m or 5ms"
    most_s = units.parse_duration(most)
    return Kind("TIME", noun, _read_duration, units.format_duration, least=0.0, most=most_s)


def size(most: str) -> Kind:
    """Bytes, from one to `most`."""
    noun = "a size such as 1048576 or 100MiB"
    return Kind("SIZE", noun, _read_size, units.format_size, least=1, most=units.parse_size(most))


def choice(*words: str) -> Kind:
    """One of these words."""

    def read(raw: Any) -> Any:
        _require(raw in words)
        return raw

    return Kind("WORD", f"{', '.join(words[:-1])} or {words[-1]}", read)


def _require(condition: bool) -> None:
    if not condition:
        raise ValueError


def _read_count(raw: Any) -> int:
    if isinstance(raw, str) and re.fullmatch(r"-?[0-9]{1,18}", raw.strip()):
        return int(raw)
    _require(type(raw) is int)
    return int(raw)


def _read_duration(raw: Any) -> float:
    if isinstance(raw, str):
        return units.parse_duration(raw)
    _require(type(raw) in (int, float))  # the bounds keep infinities and NaN out
    return float(raw)


def _read_size(raw: Any) -> int:
    return units.parse_size(raw) if isinstance(raw, str) else _read_count(raw)


_SWITCHES = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


def _read_switch(raw: Any) -> bool:
    if isinstance(raw, bool):
        return raw
    _require(isinstance(raw, str) and raw.lower() in _SWITCHES)
    return _SWITCHES[raw.lower()]


def _read_devices(raw: Any) -> str:
    entries = raw if isinstance(raw, list) else str(raw).split(",")
    written = [str(entry).strip() for entry in entries]
    if written in (["auto"], ["cpu"]):
        return written[0]
    _require(bool(written) and all(re.fullmatch(r"[0-9]{1,4}|(GPU|MIG)-[0-9A-Za-z/-]+", entry) for entry in written))
    return ",".join(written)


def _read_host(raw: Any) -> str:
    _require(isinstance(raw, str))
    host: str = raw.strip().lower().removeprefix("[").removesuffix("]")
    if ":" in host:
        ipaddress.IPv6Address(host)
    else:
        _require(re.fullmatch(r"[0-9a-z_]([0-9a-z_.-]{0,251}[0-9a-z_.])?", host) is not None)
    return host


def _read_origin(raw: Any) -> str:
    _require(isinstance(raw, str))
    origin: str = raw.strip().lower()
    _require(re.fullmatch(r"[a-z][a-z0-9+.-]*://[^/?#@\s,*]+", origin) is not None)
    return origin


def _read_path(raw: Any) -> Any:
    _require(bool(raw) and "\0" not in str(raw))
    return raw


def _read_list(raw: Any) -> Any:
    items = raw.split(",") if isinstance(raw, str) else raw
    _require(isinstance(items, list | tuple))
    return items


SWITCH = Kind("", "true or false", _read_switch, lambda on: "on" if on else "off")
PATH = Kind("FILE", "the path of a file", _read_path)
PATHS = Kind("PATH", "a path, or a list of them", _read_list, many=True)
PAIRS = Kind("KEY=VALUE", "KEY=VALUE", lambda raw: raw, many=True)
HOST = Kind("HOST", "a host name or address without scheme or port", _read_host)
ORIGIN = Kind("ORIGIN", "an origin such as https://app.example:8443", _read_origin)
HOSTS = Kind(HOST.metavar, HOST.noun, _read_list, many=True)
ORIGINS = Kind(ORIGIN.metavar, ORIGIN.noun, _read_list, many=True)
DEVICES = Kind("LIST", "auto, cpu, or a comma list of GPU indices and GPU or MIG UUIDs", _read_devices)
