"""Numbers for people: short, and never wider than they promise."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from predictord.figures import age, count, latency, long_age, memory, rate

GIB = 1 << 30


@pytest.mark.parametrize(
    ("seconds", "short", "long"),
    [
        (0.4, "0s", "0s"),
        (59.9, "59s", "59s"),
        (60, "1m", "1m 0s"),
        (3599, "59m", "59m 59s"),
        (7509, "2h", "2h 5m"),
        (90_000, "1d", "1d 1h"),
    ],
)
def test_age(seconds: float, short: str, long: str) -> None:
    assert (age(seconds), long_age(seconds)) == (short, long)


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0M"),
        (312 << 20, "312M"),
        (1000 << 20, "1.0G"),
        (int(14.2 * GIB), "14.2G"),
        (int(99.97 * GIB), "100G"),
        (139 * GIB, "139G"),
        (None, "-"),
    ],
)
def test_memory(size_bytes: int | None, text: str) -> None:
    assert memory(size_bytes) == text


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [(0.44, "0.4ms"), (9.96, "10ms"), (999.4, "999ms"), (999.6, "1.0s"), (300_000, "300s"), (None, "-")],
)
def test_latency(milliseconds: float | None, text: str) -> None:
    assert latency(milliseconds) == text


@pytest.mark.parametrize(
    ("per_second", "text"), [(0, "0"), (0.1, "0.1"), (9.96, "10"), (999.6, "1.0k"), (12_345, "12.3k"), (None, "-")]
)
def test_rate(per_second: float | None, text: str) -> None:
    assert rate(per_second) == text


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0"), (12_345, "12,345"), (999_999, "999,999"), (12_345_678, "12.35M")]
)
def test_count(number: int, text: str) -> None:
    assert count(number) == text


@given(st.floats(0, 1e6), st.integers(0, 999 * GIB), st.floats(0, 9e6), st.floats(0, 99_000), st.integers(0, 10**9))
def test_nothing_is_wider_than_its_column(s: float, size: int, ms: float, per_s: float, number: int) -> None:
    assert len(age(s)) <= 3
    assert len(memory(size)) <= 5
    assert len(latency(ms)) <= 5
    assert len(rate(per_s)) <= 5
    assert len(count(number)) <= 8
