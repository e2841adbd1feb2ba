"""Values in cells: percentiles and bounds are as good as the cells, at every scale."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from predictord.supervisor.distribution import Distribution, cells_of, percentiles

DURATIONS = st.lists(st.floats(min_value=1e-6, max_value=1e6), min_size=1, max_size=300)
CELL = 1 / 128
"""No cell is wider, as a share of its values."""


@given(DURATIONS, st.floats(min_value=0, max_value=1))
def test_percentile_is_within_a_cell_of_the_exact_one(durations: list[float], share: float) -> None:
    (found,) = percentiles(cells_of(durations), [share])
    ordered = sorted(durations)
    at_most = [value for value in ordered if value <= found * (1 + CELL)] if found is not None else []
    assert found is not None
    assert len(at_most) >= share * len(ordered)
    assert any(value == pytest.approx(found, rel=CELL) for value in durations)


@given(DURATIONS)
def test_bounds_count_what_lies_below(durations: list[float]) -> None:
    distribution = Distribution()
    distribution.add(cells_of(durations), sum(durations))
    bounds = [1e-5, 0.01, 1.0, 300.0, 1e5]
    for bound, count in zip(bounds, distribution.below(bounds), strict=True):
        assert sum(value <= bound for value in durations) <= count
        assert count <= sum(value <= bound * (1 + CELL) for value in durations)
    assert distribution.count == len(durations)
    assert distribution.sum == pytest.approx(sum(durations))


def test_zero_is_a_value() -> None:
    distribution = Distribution()
    distribution.add(cells_of([0.0, 0.0, 3.0]), 3.0)
    assert distribution.below([0.0005, 1.0, 5.0]) == [2, 2, 3]
    assert percentiles(cells_of([0.0] * 9 + [3.0]), [0.5]) == [pytest.approx(0.0, abs=1e-9)]


def test_nothing_has_no_percentiles() -> None:
    assert percentiles(Counter(), [0.5, 0.99]) == [None, None]
    assert Distribution().below([1.0]) == [0]


def test_memory_is_bounded_however_many_values_come() -> None:
    cells = cells_of(1e-6 * 1.0001**step for step in range(300_000))
    assert len(cells) < 6_000
