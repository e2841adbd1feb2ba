"""The plan: what becomes of living workers when the code changes (a pure function of two generations).

`swap` if what changed is code that nothing run at import or in `__init__` depends on, so
that a worker with the new code put in acts as one that started with it; when in doubt
`replace`. The reason names the culprit.
"""

from functools import lru_cache

from predictord.generation import Generation
from predictord.plan.change import Refused
from predictord.plan.closure import ALL_CLAUSES, Clauses, LoadClosure, load_closure
from predictord.plan.code import Code, file_name
from predictord.plan.diff import changes_between
from predictord.plan.memos import stale_memos
from predictord.plan.model import Kind, Plan
from predictord.plan.state import state_written

Files = tuple[tuple[str, bytes], ...]


def get_ready(generation: Generation) -> None:
    """Work out ahead of the next `plan` what it needs to know of this generation; blocks for tens of milliseconds."""
    _closure_of(tuple(generation.files.items()), generation.class_name, ALL_CLAUSES)


def plan(old: Generation, new: Generation, *, served: bool = True, clauses: Clauses = ALL_CLAUSES) -> Plan:
    """How to get from one generation to another; `served` says that the old one has answered requests."""
    if difference := _settings_differ(old, new):
        return Plan(Kind.REPLACE, difference)
    if old.files == new.files:
        return Plan(Kind.NONE, "nothing changed")
    try:
        code = _code_of(tuple(new.files.items()))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return Plan(Kind.REPLACE, f"the new code does not compile: {error}")
    files = tuple(old.files.items())
    return _plan_code(_code_of(files), code, _closure_of(files, old.class_name, clauses), served, clauses)


@lru_cache(maxsize=2)
def _code_of(files: Files) -> Code:
    return Code(dict(files))


@lru_cache(maxsize=2)
def _closure_of(files: Files, class_name: str | None, clauses: Clauses) -> LoadClosure:
    return load_closure(_code_of(files), class_name, clauses)


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


def _plan_code(old: Code, new: Code, closure: LoadClosure, served: bool, clauses: Clauses) -> Plan:
    try:
        changes = changes_between(old, new, closure)
    except Refused as refused:
        return Plan(Kind.REPLACE, str(refused))
    if not changes:
        return Plan(Kind.NONE, "only comments or layout changed", relocates=True)
    if closure.opaque:
        return Plan(Kind.REPLACE, closure.opaque)
    if served and clauses.finds_state:
        written = state_written(old, closure) or state_written(new, closure)
        if written:
            return Plan(Kind.REPLACE, written)
    memos = stale_memos(old, new, changes)
    return Plan(Kind.SWAP, _listed([change.text for change in changes]), tuple(changes), tuple(memos), relocates=True)


def _listed(names: list[str]) -> str:
    shown = names if len(names) <= 3 else [*names[:2], f"{len(names) - 2} more"]
    return " and ".join(filter(None, (", ".join(shown[:-1]), shown[-1])))
