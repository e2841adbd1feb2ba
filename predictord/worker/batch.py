"""A batch: requests that parse join one call of `predict`, the others are answered alone."""

from collections.abc import Sequence
from typing import Any

from predictord.problem import Code, Problem
from predictord.wire import Buffer, Predict
from predictord.worker.outcome import Outcome, failure, of_problem, success
from predictord.worker.predictor import Arguments, LoadedPredictor


class Batch:
    """One `Predict` of several requests, from its frame to one outcome for each."""

    def __init__(self, predictor: LoadedPredictor, message: Predict, body: Buffer) -> None:
        self._outcomes: list[Outcome | None] = []
        rows: list[Arguments] = []
        view, at = memoryview(body), 0
        for head, size in zip(message.requests, message.sizes, strict=True):
            piece = view[at : at + size]
            at += size
            try:
                rows.append(predictor.fill(head, piece))
            except BaseException as error:
                self._outcomes.append(failure(error))
            else:
                self._outcomes.append(None)
        self.size = len(rows)
        names = rows[0] if rows else ()
        self.filled: Arguments = {name: [row[name] for row in rows] for name in names}

    def finish(self, returned: Any) -> list[Outcome]:
        """Every request's outcome, given what `predict` returned: a sequence of `size` results."""
        if not isinstance(returned, Sequence) or isinstance(returned, str | bytes | bytearray):
            returned = _as_list(returned)
        if returned is None or len(returned) != self.size:
            got = "no list" if returned is None else f"a list of {len(returned)}"
            detail = f"predict returned {got} for a batch of {self.size}; return a list with one result for each item"
            return self._distribute([of_problem(Problem(Code.PREDICTOR_ERROR, detail))] * self.size)
        return self._distribute(
            [failure(item) if isinstance(item, BaseException) else success(item) for item in returned]
        )

    def fail(self, error: BaseException) -> list[Outcome]:
        """Every request's outcome when `predict` raised."""
        return self._distribute([failure(error)] * self.size)

    def _distribute(self, results: list[Outcome]) -> list[Outcome]:
        iterator = iter(results)
        return [next(iterator) if outcome is None else outcome for outcome in self._outcomes]


def _as_list(returned: Any) -> list[Any] | None:
    """Arrays and tensors count as lists of their rows; anything else is none."""
    if hasattr(returned, "__len__") and hasattr(returned, "__getitem__") and hasattr(returned, "shape"):
        return [returned[i] for i in range(len(returned))]
    return None
