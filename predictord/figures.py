"""Numbers for people, in as few columns as tell what matters; what is not known is a dash."""

from itertools import pairwise

UNKNOWN = "-"

_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86_400
_LONG = ((_DAY_S, "d"), (_HOUR_S, "h"), (_MINUTE_S, "m"), (1, "s"))


def age(seconds: float | None) -> str:
    """How long something has lasted, in its largest unit: `9s`, `59m`, `23h`, `12d`."""
    if seconds is None:
        return UNKNOWN
    unit_s, letter = next(unit for unit in _LONG if seconds >= unit[0] or unit[0] == 1)
    return f"{seconds // unit_s:.0f}{letter}"


def long_age(seconds: float) -> str:
    """As `age`, with the unit below: `2h 5m`."""
    for (unit_s, _), (below_s, letter) in pairwise(_LONG):
        if seconds >= unit_s:
            return f"{age(seconds)} {seconds % unit_s // below_s:.0f}{letter}"
    return age(seconds)


def memory(size_bytes: int | None) -> str:
    """Binary, in at most five columns: `312M`, `1.2G`, `139G`."""
    if size_bytes is None:
        return UNKNOWN
    mib = size_bytes / (1 << 20)
    if round(mib) < 1000:
        return f"{mib:.0f}M"
    gib = mib / 1024
    return f"{gib:.1f}G" if round(gib, 1) < 100 else f"{gib:.0f}G"


def latency(milliseconds: float | None) -> str:
    """In at most five columns: `0.4ms`, `12ms`, `1.2s`, `300s`."""
    if milliseconds is None:
        return UNKNOWN
    if round(milliseconds) < 1000:
        return f"{_short(milliseconds)}ms"
    return f"{_short(milliseconds / 1000)}s"


def rate(per_second: float | None) -> str:
    """In at most five columns: `0`, `1.2`, `120`, `12.3k`."""
    if per_second is None:
        return UNKNOWN
    if round(per_second) < 1000:
        return _short(per_second) if per_second else "0"
    return f"{per_second / 1000:.1f}k"


def count(number: int) -> str:
    """In at most eight columns: `12,345`, `999,999`, `12.35M`."""
    return f"{number:,}" if number < 1_000_000 else f"{number / 1e6:.2f}M"


def _short(number: float) -> str:
    return f"{number:.1f}" if round(number, 1) < 10 else f"{number:.0f}"
