"""Whether what was printed is what a page says.

`…` stands for anything, a measured number for any other, and a blank for any number of
them, since columns are as wide as what is in them.
"""

import re
from typing import Any

ANYTHING = "…"
_MEASURED = re.compile(
    r"""
      \d\d:\d\d:\d\d                                      # a time of day
    | \d+(?:\.\d+)?\ ?(?:ms|s|M|MiB|GiB)\b                # how long, how much
    | (?<=pid\ )\d+
    | (?<=dur=)\d+\.\d+
    """,
    re.VERBOSE,
)
_NUMBER = r"[\d:.]+(?: ?(?:ms|s|M|MiB|GiB)\b)?"


def pattern(expected: str) -> re.Pattern[str]:
    """Matches output; a line that is `…` alone stands for any number of lines."""
    lines = [r"(?:.*\n)*" if line.strip() == ANYTHING else _line(line) + r"[ ]*\n" for line in expected.splitlines()]
    return re.compile("".join(lines))


def _line(line: str) -> str:
    pieces = [_MEASURED.split(piece) for piece in line.rstrip().split(ANYTHING)]
    exact = ".*".join(_NUMBER.join(map(re.escape, plain)) for plain in pieces)
    return re.sub(r"(\\ )+", " +", exact)


def json_differs(expected: Any, actual: Any, path: str = "$") -> str | None:
    """Where a JSON document is not what the page shows.

    The text `…` stands for any value, as an object's key for any more members, and as a
    list's last item for any more items.
    """
    if expected == ANYTHING:
        return None
    if isinstance(expected, dict) and isinstance(actual, dict):
        missing = expected.keys() - actual.keys() - {ANYTHING}
        unknown = actual.keys() - expected.keys() if ANYTHING not in expected else set()
        if missing or unknown:
            return f"{path}: {sorted(missing)} are missing, {sorted(unknown)} are not on the page"
        both = [key for key in expected if key in actual]
        return _first(json_differs(expected[key], actual[key], f"{path}.{key}") for key in both)
    if isinstance(expected, list) and isinstance(actual, list):
        more = bool(expected) and expected[-1] == ANYTHING
        shown = expected[:-1] if more else expected
        if len(actual) < len(shown) or (len(actual) > len(shown) and not more):
            return f"{path} has {len(actual)} items, {len(shown)} are on the page"
        pairs = zip(shown, actual, strict=False)
        return _first(json_differs(one, other, f"{path}[{i}]") for i, (one, other) in enumerate(pairs))
    return None if expected == actual else f"{path} is {actual!r}, not {expected!r}"


def _first(found: Any) -> str | None:
    return next(filter(None, found), None)
