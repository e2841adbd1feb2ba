"""The property behind every swap: after [load old, serve R, swap] Q is answered as after [load new, serve R].

Run by hand for many cases: `.venv/bin/python -m tests.plan.stress 10000 [FIRST_SEED]`.
"""

import contextlib
import importlib
import random
import re
import sys
import types
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from predictord.generation import Generation
from predictord.plan.closure import ALL_CLAUSES, Clauses
from predictord.plan.model import Kind
from predictord.plan.plan import plan
from predictord.worker.loader import Loader
from predictord.worker.ran import Ran
from predictord.worker.swap import Swap, SwapVeto
from tests.plan.cases import make_case
from tests.plan.generations import FOLDER

NO_ANSWER = "cannot load"


class Unwatched(Ran):
    """The second net with a hole as large as itself."""

    def did(self, path: str, name: str) -> bool:
        return False

    @property
    def unforeseen(self) -> frozenset[tuple[str, str]]:
        return frozenset()


def check(seed: int, clauses: Clauses = ALL_CLAUSES, *, guarded: bool = True) -> str:
    """What became of one case: the plan's kind, `veto`, `skipped`, or `unsound` with the two answers."""
    old, new, by_data, edits = make_case(seed)
    requests = random.Random(seed).choices(range(1, 9), k=6)
    count = seed % 4
    planned = plan(old, new, served=count > 0, clauses=clauses)
    if planned.kind is not Kind.SWAP and not planned.relocates:
        return planned.kind
    kind: str = planned.kind
    with loaded(old, by_data, guarded) as (loader, ran, predictor):
        if predictor is None:
            return "skipped"
        answers(predictor, requests[:count])
        swap = Swap(loader, planned, new, ran)
        try:
            swap.prepare()
        except SwapVeto:
            return "veto"
        swap.commit()
        swapped = answers(predictor, requests[count:])
    with loaded(new, by_data, guarded) as (_, _, fresh):
        if fresh is None:
            expected = NO_ANSWER
        else:
            answers(fresh, requests[:count])
            expected = answers(fresh, requests[count:])
    return kind if swapped == expected else f"unsound ({edits}; {planned.reason})\n  {swapped}\n  {expected}"


def answers(predictor: Any, requests: list[int]) -> str:
    """What a predictor answers, errors by their names."""
    found = []
    for request in requests:
        try:
            found.append(repr(predictor.predict(request)))
        except Exception as error:
            found.append(f"{type(error).__name__}")
    return re.sub(r"0x\w+", "0x", " ".join(found))


@contextlib.contextmanager
def loaded(generation: Generation, by_data: str, guarded: bool) -> Iterator[tuple[Loader, Ran, Any]]:
    """A generation's predictor in this process, `None` if it does not load; its modules are gone afterwards."""
    loader = Loader(generation)
    before = set(sys.modules)
    sys.modules["caselib"] = _library(by_data)
    sys.path.insert(0, FOLDER)
    sys.meta_path.insert(0, loader._finder)
    ran = (Ran if guarded else Unwatched)(generation)
    try:
        with ran:
            predictor = _build()
        yield loader, ran, predictor
    finally:
        sys.meta_path.remove(loader._finder)
        sys.path.remove(FOLDER)
        for name in set(sys.modules) - before:
            if name in ("predictor", "helper", "caselib"):
                del sys.modules[name]


def _build() -> Any:
    try:
        return importlib.import_module("predictor").Predictor({})
    except Exception:
        return None


def _library(by_data: str) -> types.ModuleType:
    """Other people's code: it calls back, keeps, registers, and looks functions up by data."""
    library: Any = types.ModuleType("caselib")
    library.kept, library.registry = None, []
    library.hooked = lambda owner: owner.on_event()
    library.by_data = lambda: _outcome(getattr(sys.modules["predictor"], by_data))
    library.Base = type("Base", (), {"__init_subclass__": classmethod(lambda cls: None)})
    found: types.ModuleType = library
    return found


def _outcome(function: Any) -> Any:
    try:
        return getattr(function(2), "v", function(2))
    except Exception as error:
        return type(error).__name__


CLAUSES = {
    name: replace(ALL_CLAUSES, **{name: False})
    for name in (
        "follows_mentions",
        "reads_module_level",
        "joins_dunders",
        "finds_escapes",
        "finds_opaque",
        "finds_state",
    )
}


def main(count: int, first: int, clause: str | None) -> int:
    """Check that many cases; prints what is unsound and a tally, returns how many are."""
    tally: Counter[str] = Counter()
    for seed in range(first, first + count):
        found = check(seed, CLAUSES.get(clause or "", ALL_CLAUSES), guarded=clause is None)
        tally[found.partition(" ")[0]] += 1
        if found.startswith("unsound"):
            print(seed, found, flush=True)
    print(dict(tally))
    return tally["unsound"]


if __name__ == "__main__":
    arguments = sys.argv[1:]
    sys.exit(
        main(
            int(arguments[0]),
            int(arguments[1]) if len(arguments) > 1 else 0,
            arguments[2] if len(arguments) > 2 else None,
        )
        > 0
    )
