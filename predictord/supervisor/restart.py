"""When a dead worker is started again: a pure function of its history."""

FIRST_DELAY_S = 0.25
LONGEST_DELAY_S = 30.0
STEADY_S = 10.0
"""A worker that was ready for this long, or was given a request, loads well: what ended it may not come again."""


def restart_delay_s(failures: int) -> float:
    """Seconds before the next start after `failures` deaths in a row: 0.25 doubling to 30."""
    return min(LONGEST_DELAY_S, FIRST_DELAY_S * 2.0 ** min(max(failures - 1, 0), 20))


def failures_after(failures: int, *, worked: bool, ready_s: float) -> int:
    """Deaths in a row, one more included; a worker that has worked in between starts the count anew."""
    return 1 if worked or ready_s >= STEADY_S else failures + 1
