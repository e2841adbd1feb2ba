"""The plan: what becomes of living workers when the code changes (a pure function of two generations).

`swap` if what changed is code that nothing run at import or in `__init__` depends on, so
that a worker with the new code put in acts as one that started with it; when in doubt
`replace`. The reason names the culprit.
"""

from functools import cached_property, lru_cache

from predictord.generation import Generation
from predictord.plan.change import Refused
from predictord.plan.closure import ALL_CLAUSES, Clauses, Ran, load_closure
from predictord.plan.code import Code, file_name
from predictord.plan.diff import changes_between
from predictord.plan.memos import stale_memos
from predictord.plan.model import Kind, Plan
from predictord.plan.state import state_written

Files = tuple[tuple[str, bytes], ...]


class _Read:
    """What is known of a generation by itself, as the one that serves."""

    def __init__(self, files: Files, class_name: str | None, clauses: Clauses, ran: Ran) -> None:
        self.code = _code_of(files)
        self.closure = load_closure(self.code, class_name, clauses, ran)

    @cached_property
    def state(self) -> str | None:
        """What its requests write."""
        return state_written(self.code, self.closure)


def get_ready(generation: Generation) -> None:
    """Work out ahead of the next `plan` what it needs to know of this generation; blocks for tens of milliseconds."""
    _ = _read(tuple(generation.files.items()), generation.class_name, ALL_CLAUSES, frozenset()).state


def plan(
    old: Generation, new: Generation, *, served: bool = True, clauses: Clauses = ALL_CLAUSES, ran: Ran = frozenset()
) -> Plan:
    """How to get from one generation to another; `served` says that the old one has answered requests.

    `ran` has the files and names of functions that ran while the old one was loaded, as far as that is known.
    """
    if difference := _settings_differ(old, new):
        return Plan(Kind.REPLACE, difference)
    if old.files == new.files:
        return Plan(Kind.NONE, "nothing changed")
    try:
        code = _code_of(tuple(new.files.items()))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return Plan(Kind.REPLACE, f"the new code does not compile: {error}")
    known = _read(tuple(old.files.items()), old.class_name, clauses, ran)
    return _plan_code(known, code, finds_state=served and clauses.finds_state)


@lru_cache(maxsize=2)
def _code_of(files: Files) -> Code:
    return Code(dict(files))


@lru_cache(maxsize=2)
def _read(files: Files, class_name: str | None, clauses: Clauses, ran: Ran) -> _Read:
    return _Read(files, class_name, clauses, ran)


def _settings_differ(old: Generation, new: Generation) -> str | None:
    if old.path != new.path or old.class_name != new.class_name:
        return "another predictor was chosen"
    if old.config != new.config:
        return "the configuration changed"
    if old.environment != new.environment:
        return "the environment in .env changed"
    for path in sorted(old.files.keys() ^ new.files.keys()):
        return f"{file_name(path)} was {'added' if path in new.files else 'removed'}"
    return None


def _plan_code(old: _Read, new: Code, *, finds_state: bool) -> Plan:
    try:
        changes = changes_between(old.code, new, old.closure)
    except Refused as refused:
        return Plan(Kind.REPLACE, str(refused))
    if not changes:
        return Plan(Kind.NONE, "only comments or layout changed", relocates=True)
    if old.closure.opaque:
        return Plan(Kind.REPLACE, old.closure.opaque)
    if finds_state and (written := old.state or state_written(new, old.closure)):
        return Plan(Kind.REPLACE, written)
    memos = stale_memos(old.code, new, changes)
    return Plan(Kind.SWAP, _listed([change.text for change in changes]), tuple(changes), tuple(memos), relocates=True)


def _listed(names: list[str]) -> str:
    shown = names if len(names) <= 3 else [*names[:2], f"{len(names) - 2} more"]
    return " and ".join(filter(None, (", ".join(shown[:-1]), shown[-1])))
