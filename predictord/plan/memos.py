"""Answers that `lru_cache` keeps and that new code would not give."""

from collections.abc import Iterable

from predictord.plan.change import Change
from predictord.plan.code import Code
from predictord.plan.decorators import is_memo
from predictord.plan.mentions import names_in
from predictord.plan.state import reachable


def stale_memos(old: Code, new: Code, changes: Iterable[Change]) -> list[tuple[str, str]]:
    """File and name of each cached function that reaches something changed, in the old code or in the new."""
    changed = {change.name.rpartition(".")[2] for change in changes}
    found = {key for code in (old, new) for key in _reaching(code, changed)}
    return sorted(found)


def _reaching(code: Code, changed: set[str]) -> Iterable[tuple[str, str]]:
    for memo in filter(lambda function: is_memo(code, function), code.functions):
        keys = reachable(code, set(names_in(memo.node))) | {memo.key}
        names = {name for function in code.functions if function.key in keys for name in names_in(function.node)}
        if changed & {memo.node.name, *names}:
            yield memo.key
