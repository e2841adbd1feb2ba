"""Measures everybody in turn, so that what changes on the machine meanwhile hits all alike."""

from collections.abc import Callable

from benchmarks.contenders import Contender
from benchmarks.kinds import Effort, Kind
from benchmarks.results import Results
from benchmarks.server import Server, ServerFailed


def run_rounds(
    kinds: list[Kind], contenders: list[Contender], rounds: int, effort: Effort, tell: Callable[[str], None]
) -> Results:
    """Each kind in rounds, each round all contenders one after another; a failure is noted, and the rest goes on."""
    results = Results()
    for kind in kinds:
        for number in range(rounds):
            for contender in contenders:
                if kind.app not in contender.apps:
                    continue
                where = f"{kind.name}, round {number + 1} of {rounds}, {contender.name}"
                try:
                    with Server(contender, kind.app, kind.workers, kind.flags) as server:
                        measured = kind.measure(server, effort)
                except (ServerFailed, OSError, TimeoutError) as error:
                    results.failures.append(f"{where}: {error}")
                    tell(f"{where}: failed: {error}")
                    continue
                results.add(kind.name, contender.name, number, measured)
                tell(f"{where}: " + ", ".join(f"{key} {value:.4g}" for key, value in measured.items()))
    return results
