"""The plan as data: what the planner decides and workers carry out. Light, since every worker imports it."""

from enum import StrEnum

import msgspec

from predictord.plan.change import Change


class Kind(StrEnum):
    """What is done with the workers."""

    NONE = "none"
    SWAP = "swap"
    REPLACE = "replace"


class Plan(msgspec.Struct, frozen=True):
    """What to do, why in one sentence, and for a swap which definitions change.

    `relocates` says that lines moved: living workers take it, for tracebacks to be right.
    `memos` are functions, by file and name, whose `lru_cache` has to be cleared.
    """

    kind: Kind
    reason: str
    changes: tuple[Change, ...] = ()
    memos: tuple[tuple[str, str], ...] = ()
    relocates: bool = False
