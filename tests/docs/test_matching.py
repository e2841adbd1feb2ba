"""What counts as printed as the page says."""

from typing import Any

import pytest

from tests.docs.matching import json_differs, pattern


@pytest.mark.parametrize(
    ("expected", "printed", "matches"),
    [
        ("a\nb\n", "a\nb\n", True),
        ("a\nb\n", "a\n", False),
        ("a\n…\nc\n", "a\nc\n", True),
        ("a\n…\nc\n", "a\nb\nb\nc\n", True),
        ("a … c (.*)\n", "a b c (.*)\n", True),
        ("a … c\n", "a b d\n", False),
        ("14:02:11 swap: x · 31 ms\n", "09:59:00 swap: x · 1.24 ms\n", True),
        ("14:02:11 swap: 3 of 4\n", "14:02:11 swap: 2 of 4\n", False),
        ("# device  up\n0 CPU     -\n", "# device up\n0 CPU  -\n", True),
        ("# device\n", "#device\n", False),
        ("worker ready · 33M\n", "worker ready · 410M\n", True),
    ],
)
def test_text(expected: str, printed: str, matches: bool) -> None:
    assert bool(pattern(expected).fullmatch(printed)) is matches


@pytest.mark.parametrize(
    ("expected", "actual", "difference"),
    [
        ({"a": [1, "…"]}, {"a": [1, 2, 3]}, None),
        ({"a": "…"}, {"a": {"b": 1}}, None),
        ({"a": 1, "…": "…"}, {"a": 1, "b": 2}, None),
        ({"a": 1}, {"a": 1, "b": 2}, "$: [] are missing, ['b'] are not on the page"),
        ({"a": 1}, {}, "$: ['a'] are missing, [] are not on the page"),
        ({"a": [{"b": 1}]}, {"a": [{"b": 2}]}, "$.a[0].b is 2, not 1"),
        ([1], [1, 2], "$ has 2 items, 1 are on the page"),
        ([1, 2, "…"], [1], "$ has 1 items, 2 are on the page"),
    ],
)
def test_json(expected: Any, actual: Any, difference: str | None) -> None:
    assert json_differs(expected, actual) == difference
