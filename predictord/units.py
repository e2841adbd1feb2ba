"""Durations and sizes as people write them: `90s`, `10m`, `100MiB`, and back."""

import re
from decimal import Decimal

_QUANTITY = re.compile(r"(\d+(?:\.\d+)?|\.\d+) ?([a-z]*)", re.ASCII)

_SECONDS = {"ms": Decimal("0.001"), "s": Decimal(1), "m": Decimal(60), "h": Decimal(3600), "d": Decimal(86400)}

# A bare letter counts in 1024s, as nginx and systemd read it; `kB` is SI's 1000.
_BYTES = {"b": 1} | {
    prefix + suffix: base**power
    for power, prefix in enumerate("kmgt", start=1)
    for suffix, base in (("", 1024), ("ib", 1024), ("b", 1000))
}
_SHOWN_BYTES = {"TiB": 1 << 40, "GiB": 1 << 30, "MiB": 1 << 20, "KiB": 1 << 10}


def parse_duration(text: str) -> float:
    """Seconds in `90`, `90s`, `10m`, `5ms`, `1.5h` or `2d`; ValueError if it is none of these."""
    number, unit = _split(text)
    if unit and unit not in _SECONDS:
        raise ValueError(text)
    return float(number * _SECONDS[unit or "s"])


def parse_size(text: str) -> int:
    """Bytes in `1048576`, `100MiB`, `1GB` (1000³) or `64k` (1024); ValueError if it is not a whole number of them."""
    number, unit = _split(text.lower())
    if unit and unit not in _BYTES:
        raise ValueError(text)
    size = number * _BYTES[unit or "b"]
    if size != size.to_integral_value():
        raise ValueError(text)
    return int(size)


def format_duration(seconds: float) -> str:
    """The shortest spelling that `parse_duration` reads as the same number of seconds."""
    exact = Decimal(repr(seconds))
    for unit, factor in reversed(_SECONDS.items()):
        if exact and exact % factor == 0:
            return f"{int(exact / factor)}{unit}"
    return f"{exact.normalize():f}s"


def format_size(size: int) -> str:
    """The shortest spelling that `parse_size` reads as the same number of bytes."""
    for unit, factor in _SHOWN_BYTES.items():
        if size and size % factor == 0:
            return f"{size // factor}{unit}"
    return f"{size}B"


def _split(text: str) -> tuple[Decimal, str]:
    match = _QUANTITY.fullmatch(text.strip())
    if match is None:
        raise ValueError(text)
    return Decimal(match[1]), match[2]
