"""Exceptions of the author's code, put into words."""

import importlib
import linecache
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from predictord.wire import WorkerOptions
from predictord.worker import failure
from predictord.worker.contract import build, read_contract

TORCH_ADVICE = "\nFor debugging consider passing CUDA_LAUNCH_BLOCKING=1\nCompile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.\n"  # noqa: E501


ErrorT = TypeVar("ErrorT", bound=BaseException)


class Rude(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)


class CudaAPIError(Exception):
    pass


def caught(act: Callable[[], object]) -> Exception:
    try:
        act()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def raised(error: ErrorT, *, cause: BaseException | None = None) -> ErrorT:
    try:
        raise error from cause
    except BaseException as caught_error:
        assert caught_error is error
    return error


def recurse(depth: int = 0) -> int:
    return recurse(depth + 1)


def ping(depth: int = 0) -> int:
    return pong(depth + 1)


def pong(depth: int = 0) -> int:
    return ping(depth + 1)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (KeyError("text"), "KeyError: 'text'"),
        (ValueError(), "ValueError"),
        (SystemExit(2), "SystemExit: 2"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (MemoryError(), "MemoryError"),
        (CudaAPIError("[700]"), f"{__name__}.CudaAPIError: [700]"),
        (ExceptionGroup("two", [ValueError(1), KeyError(2)]), "ExceptionGroup: two (2 sub-exceptions)"),
        (SyntaxError("invalid syntax", ("/p/predictor.py", 3, 1, "x =", 3, 2)), None),
        (Rude(), f"{__name__}.Rude: <its __str__ failed>"),
        (ValueError("\udcff"), "ValueError: \\udcff"),
        (ValueError("x" * 10_000_000), "ValueError: " + "x" * (2000 - len("ValueError: "))),
    ],
    ids=lambda value: type(value).__name__,
)
def test_describes_in_one_line(error: BaseException, words: str | None) -> None:
    assert failure.describe(error) == (words or "SyntaxError: invalid syntax (predictor.py, line 3)")


class Broken:
    def __init__(self) -> None:
        raise KeyError("weights")

    def predict(self) -> None:
        pass


def test_traceback_begins_at_the_predictor() -> None:
    contract = read_contract(Broken, WorkerOptions())
    error = caught(lambda: build(Broken, contract, {}))
    while error.__traceback__ and not error.__traceback__.tb_frame.f_code.co_filename.endswith("worker/contract.py"):
        error.__traceback__ = error.__traceback__.tb_next

    lines = failure.predictor_traceback(error).splitlines()

    assert lines[0] == "Traceback (most recent call last):"
    assert lines[1].startswith(f'  File "{__file__}"') and lines[1].endswith("in __init__")
    assert lines[-1] == "KeyError: 'weights'"
    assert "contract.py" not in "".join(lines)
    assert "contract.py" not in failure.predictor_traceback(raised(ExceptionGroup("inside a group", [error])))


def test_traceback_of_an_import_has_no_import_machinery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "outer_module.py").write_text("import importlib\nimportlib.import_module('inner_module')\n")
    (tmp_path / "inner_module.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)

    text = failure.predictor_traceback(caught(lambda: importlib.import_module("outer_module")))

    files = [line.split('"')[1] for line in text.splitlines() if line.startswith("  File ")]
    assert files == [__file__, __file__, str(tmp_path / "outer_module.py"), str(tmp_path / "inner_module.py")]


def test_traceback_of_bad_syntax_points_at_the_character() -> None:
    error = raised(SyntaxError("invalid syntax", ("/p/predictor.py", 3, 3, "x =\n", 3, 4)))

    text = failure.predictor_traceback(error.with_traceback(None))

    assert text == '  File "/p/predictor.py", line 3\n    x =\n      ^\nSyntaxError: invalid syntax\n'


def test_traceback_keeps_causes_and_groups() -> None:
    inner = raised(RuntimeError("driver"), cause=KeyError("deep"))
    text = failure.predictor_traceback(raised(ExceptionGroup("both", [inner, ValueError("other")])))

    for words in ("KeyError: 'deep'", "direct cause", "RuntimeError: driver", "ValueError: other", "both (2 sub"):
        assert words in text


def test_traceback_folds_a_recursion() -> None:
    text = failure.predictor_traceback(caught(recurse))

    assert "Previous line repeated" in text
    assert len(text.splitlines()) < 30


@pytest.mark.parametrize("error", [caught(ping), raised(ValueError("x" * 1_000_000))], ids=["mutual", "message"])
def test_traceback_keeps_both_ends_within_its_bound(error: BaseException) -> None:
    text = failure.predictor_traceback(error)

    assert len(text) < failure.MAX_TRACEBACK_CHARS + 100
    assert text.startswith("Traceback")
    assert "characters left out" in text
    assert text.endswith(("comparison\n", "exceeded\n", "x\n"))


def test_traceback_that_cannot_be_made_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: object) -> list[str]:
        raise MemoryError

    error = raised(ValueError("small"))
    with monkeypatch.context() as patch:
        patch.setattr(linecache, "getlines", exhausted)
        patch.setattr(linecache, "checkcache", exhausted)
        text = failure.predictor_traceback(error)

    assert text == "ValueError: small\n"


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: device-side assert triggered" + TORCH_ADVICE),
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("CUDA failure 700: cudaErrorIllegalAddress"),
        RuntimeError("CUDA_ERROR_LAUNCH_FAILED: unspecified launch failure"),
        RuntimeError("Triton Error [CUDA]: misaligned address"),
        RuntimeError("CUDA error: an illegal instruction was encountered"),
        RuntimeError("cudaErrorAssert"),
        RuntimeError("CUDA error: uncorrectable ECC error encountered"),
        CudaAPIError("[700] Call to cuMemcpyDtoH results in CUDA_ERROR_ILLEGAL_ADDRESS"),
        raised(ValueError("wrapped"), cause=RuntimeError("CUDA error: misaligned address")),
        ExceptionGroup("tasks", [ValueError(), RuntimeError("CUDA error: unspecified launch failure")]),
    ],
    ids=lambda error: str(error)[:40],
)
def test_knows_cuda_errors_that_stay(error: BaseException) -> None:
    assert failure.is_sticky_cuda(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        RuntimeError("CUDA error: out of memory" + TORCH_ADVICE),
        RuntimeError("CUDA error: invalid device ordinal" + TORCH_ADVICE),
        ValueError("device-side assert triggered"),
        Rude(),
        MemoryError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_knows_errors_that_cuda_survives(error: BaseException) -> None:
    assert not failure.is_sticky_cuda(error)


@pytest.mark.parametrize(("hidden", "sticky"), [("CUDA error: misaligned address", True), ("driver is fine", False)])
def test_looks_behind_an_exception_even_around_a_ring(hidden: str, sticky: bool) -> None:
    first, second = RuntimeError(hidden), KeyError("cleanup")
    first.__context__, second.__context__ = second, first

    assert failure.is_sticky_cuda(second) is sticky


def test_hints_at_the_python_that_misses_a_module() -> None:
    error = caught(lambda: importlib.import_module("no_such_module.part"))

    for shown in (error, raised(RuntimeError("could not load"), cause=error)):
        words = failure.hint(shown)
        assert words is not None
        assert sys.executable in words
        assert "has no no_such_module:" in words


@pytest.mark.parametrize(
    "error",
    [KeyError("text"), ModuleNotFoundError("odd"), caught(lambda: importlib.import_module("importlib.no_such"))],
    ids=["other", "nameless", "part of a module that is there"],
)
def test_has_no_hint_where_installing_does_not_help(error: BaseException) -> None:
    assert failure.hint(error) is None
