import pytest
from hypothesis import given
from hypothesis import strategies as st

from predictord.units import format_duration, format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90.0),
        ("90s", 90.0),
        ("10m", 600.0),
        ("5ms", 0.005),
        ("9ms", 0.009),
        ("1h", 3600.0),
        ("2d", 172_800.0),
        ("1.5h", 5400.0),
        (".5", 0.5),
        ("0", 0.0),
        (" 90 s ", 90.0),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "s", "-1", "+1", "1e3", "inf", "nan", "1 week", "10M", "1h30m", "1.", "٣s", "1_0"]
)
def test_not_durations(text: str) -> None:
    with pytest.raises(ValueError):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1048576", 1 << 20),
        ("100MiB", 100 << 20),
        ("1GB", 10**9),
        ("64k", 64 << 10),
        ("64K", 64 << 10),
        ("64kB", 64_000),
        ("1.5 KiB", 1536),
        ("2t", 2 << 40),
        ("7b", 7),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MiB", "-1", "1.5", "0.0001k", "1PiB", "1 parsec", "0x10", "1,000"])
def test_not_sizes(text: str) -> None:
    with pytest.raises(ValueError):
        parse_size(text)


@given(st.integers(0, 10**9).map(lambda thousandths: thousandths / 1000))
def test_a_shown_duration_reads_back(seconds: float) -> None:
    assert parse_duration(format_duration(seconds)) == seconds


@given(st.integers(0, 1 << 50))
def test_a_shown_size_reads_back(size: int) -> None:
    assert parse_size(format_size(size)) == size


def test_shown_values_use_the_largest_whole_unit() -> None:
    assert [format_duration(seconds) for seconds in (0, 0.005, 30, 600, 7200, 1.25)] == [
        "0s",
        "5ms",
        "30s",
        "10m",
        "2h",
        "1250ms",
    ]
    assert [format_size(size) for size in (0, 1, 1 << 10, 100 << 20, (1 << 30) + 1)] == [
        "0B",
        "1B",
        "1KiB",
        "100MiB",
        "1073741825B",
    ]
