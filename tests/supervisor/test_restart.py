from itertools import accumulate

import pytest

from predictord.supervisor.restart import failures_after, restart_delay_s


@pytest.mark.parametrize(
    ("failures", "delay_s"),
    [(0, 0.25), (1, 0.25), (2, 0.5), (3, 1), (4, 2), (5, 4), (6, 8), (7, 16), (8, 30), (9, 30), (100_000, 30)],
)
def test_delay_doubles_to_its_ceiling(failures: int, delay_s: float) -> None:
    assert restart_delay_s(failures) == delay_s


def test_crash_loop_starts_at_most_eight_times_a_minute() -> None:
    starts_s = accumulate((restart_delay_s(failures) for failures in range(1, 100)), initial=0.0)
    assert sum(start_s < 60 for start_s in starts_s) == 8


@pytest.mark.parametrize(
    ("failures", "worked", "ready_s", "after"),
    [
        (0, False, 0.0, 1),
        (3, False, 0.0, 4),
        (3, False, 9.9, 4),
        (3, False, 10.0, 1),
        (3, True, 0.0, 1),
    ],
)
def test_worker_that_has_worked_starts_the_count_anew(failures: int, worked: bool, ready_s: float, after: int) -> None:
    assert failures_after(failures, worked=worked, ready_s=ready_s) == after
