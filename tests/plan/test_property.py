"""At random: a worker that took new code in place answers as one that ran it from the start."""

import pytest

from predictord.plan.closure import ALL_CLAUSES
from tests.plan.stress import CLAUSES, check

CHUNK = 100


@pytest.mark.parametrize("first", range(0, 500, CHUNK))
def test_no_swap_is_unsound(first: int) -> None:
    kinds = [check(seed) for seed in range(first, first + CHUNK)]
    assert [kind for kind in kinds if kind.startswith("unsound")] == []
    assert kinds.count("swap") > CHUNK / 10  # else the cases show nothing


# A part of the rule, and a case in which its absence does harm (found by `stress.py 600 0 PART`).
FAULTS = [
    ("follows_mentions", 83),
    ("reads_module_level", 23),
    ("joins_dunders", 46),
    ("finds_escapes", 83),
    ("finds_opaque", 144),
    ("finds_state", 17),
]


@pytest.mark.parametrize(("clause", "seed"), FAULTS)
def test_each_part_of_the_rule_prevents_harm(clause: str, seed: int) -> None:
    assert check(seed, CLAUSES[clause], guarded=False).startswith("unsound")
    assert not check(seed, guarded=False).startswith("unsound")


def test_the_record_of_what_ran_prevents_harm() -> None:
    assert check(236, ALL_CLAUSES, guarded=False).startswith("unsound")
    assert check(236) == "veto"


def test_what_is_read_by_code_that_was_found_by_data_stays() -> None:
    assert check(5202512, ALL_CLAUSES, guarded=False).startswith("unsound")
    assert check(5202512) == "veto"
