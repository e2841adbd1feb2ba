"""What a finished call becomes on the wire: an answer, or the problem that its exception stands for."""

import logging
import sys
from typing import Any, NamedTuple

from predictord.problem import Code, Problem
from predictord.wire import AnswerHead, Buffer
from predictord.worker.failure import describe, hint, is_sticky_cuda, predictor_traceback
from predictord.worker.json_tree import UnserializablePrediction
from predictord.worker.payload import PayloadRejected
from predictord.worker.response import encode, encode_http_exception

log = logging.getLogger("predictord.worker")


class Stopping(BaseException):
    """SIGTERM reached the main thread: end the process, whatever the predictor is doing."""


class Outcome(NamedTuple):
    """One request's answer; `unfit` when the process cannot go on (a sticky CUDA error)."""

    head: AnswerHead
    body: Buffer = b""
    unfit: bool = False


def success(value: Any) -> Outcome:
    """The answer that `predict`'s return value stands for; an unserializable one is a problem."""
    try:
        encoded = encode(value)
    except Stopping:
        raise
    except BaseException as error:
        return failure(error)
    return Outcome(AnswerHead(encoded.status, encoded.header_block, len(encoded.body)), encoded.body)


def failure(error: BaseException) -> Outcome:
    """The answer that an exception of the predictor stands for; `Stopping` is raised again."""
    if isinstance(error, Stopping):
        raise error
    if _is_http_exception(error):
        try:
            encoded = encode_http_exception(error)
        except UnserializablePrediction as unserializable:
            return of_problem(unserializable.problem)
        return Outcome(AnswerHead(encoded.status, encoded.header_block, len(encoded.body)), encoded.body)
    return of_problem(problem_of(error), unfit=is_sticky_cuda(error))


def problem_of(error: BaseException) -> Problem:
    """The problem that an exception stands for; with the traceback from the predictor's own frames on, and advice."""
    if isinstance(error, PayloadRejected | UnserializablePrediction):
        return error.problem
    advice = hint(error)
    traceback = predictor_traceback(error)
    return Problem(Code.PREDICTOR_ERROR, describe(error), f"{traceback}{advice}\n" if advice else traceback)


def of_problem(problem: Problem, *, unfit: bool = False) -> Outcome:
    """The outcome that carries a problem."""
    return Outcome(AnswerHead(problem.status, b"", 0, problem), unfit=unfit)


def _is_http_exception(error: BaseException) -> bool:
    # A predictor that raises one has imported it; nobody else pays for the import.
    module = sys.modules.get("starlette.exceptions")
    return module is not None and isinstance(error, module.HTTPException)
