"""Exceptions of the author's code in words: one line, a traceback of their own frames, and what to do.

Nothing here raises, whatever the exception's own methods do, and nothing grows with a
message or a stack: the text travels to the supervisor and into answers.
"""

import os
import re
import sys
import traceback
from collections.abc import Iterator

MAX_DESCRIPTION_CHARS = 2000
MAX_TRACEBACK_CHARS = 32_000
_MAX_CHAIN = 100
_CUT = "\n… {} characters left out …\n"

# Anything an exception's own methods may raise, but not the BaseException with which a signal stops the worker.
_RAISED = (Exception, SystemExit, KeyboardInterrupt, GeneratorExit)

_FOREIGN_FRAMES = (
    os.path.dirname(os.path.dirname(__file__)) + "/",
    os.path.join(os.path.dirname(traceback.__file__), "importlib/"),
    "<frozen importlib",
)

# The CUDA errors after which "the process must be terminated and relaunched" (driver_types.h), in the words of
# cudaGetErrorString and under the names of the runtime (cudaErrorAssert) and the driver (CUDA_ERROR_ASSERT). The word
# boundary counts: torch ends *every* CUDA error, out of memory included, with "enable device-side assertions".
_STICKY_CUDA = re.compile(
    r"""
      device-side\ assert\b
    | illegal\ memory\ access
    | unspecified\ launch\ failure
    | misaligned\ address
    | an\ illegal\ instruction
    | invalid\ program\ counter
    | hardware\ stack\ error
    | operation\ not\ supported\ on\ global/shared\ address\ space
    | launch\ timed\ out\ and\ was\ terminated
    | uncorrectable\ (ECC|NVLink)\ error
    | invalid\ access\ of\ peer\ GPU\ memory
    | cuda_?error_?( assert | illegal_?address | launch_?failed | launch_?failure | misaligned_?address
        | illegal_?instruction | invalid_?pc | hardware_?stack_?error | invalid_?address_?space | launch_?timeout
        | ecc_?uncorrectable | nvlink_?uncorrectable | contained )\b
    """,
    re.VERBOSE | re.IGNORECASE,
)


def describe(error: BaseException) -> str:
    """The last line of its traceback, such as `KeyError: 'text'`; at most MAX_DESCRIPTION_CHARS and valid Unicode."""
    name = _type_name(type(error))
    text = _message(error)
    return _sendable(f"{name}: {text}" if text else name)[:MAX_DESCRIPTION_CHARS]


def predictor_traceback(error: BaseException) -> str:
    """Its traceback with causes, without frames of predictord and the import machinery.

    At most about MAX_TRACEBACK_CHARS: of a longer one the middle is left out.
    """
    try:
        report = traceback.TracebackException(type(error), error, error.__traceback__, compact=True)
        _drop_foreign_frames(report)
        return _without_middle(_sendable("".join(report.format())))
    except _RAISED:  # no memory or stack left, or odd methods: one line is better than none
        return describe(error) + "\n"


def is_sticky_cuda(error: BaseException) -> bool:
    """Whether it, or an exception behind it, says that CUDA is lost to this process; out of memory does not."""
    return any(_may_be_cuda(link) and _STICKY_CUDA.search(_message(link)) for link in _chain(error))


def hint(error: BaseException) -> str | None:
    """What its author can do that the exception itself does not say, or `None`."""
    missing = next((link for link in _chain(error) if isinstance(link, ModuleNotFoundError)), None)
    if missing is None:
        return None
    package = (missing.name or "").partition(".")[0]
    if not package or package in sys.modules:
        return None
    version = ".".join(map(str, sys.version_info[:3]))
    return (
        f"predictord runs in {sys.executable} (Python {version}), which has no {package}: install it there"
        f" (`{sys.executable} -m pip install ...`), or install predictord where {package} is"
    )


def _type_name(kind: type) -> str:
    module = kind.__module__
    return kind.__qualname__ if module in ("builtins", "__main__") else f"{module}.{kind.__qualname__}"


def _message(error: BaseException) -> str:
    try:
        return str(error)[:MAX_TRACEBACK_CHARS]
    except _RAISED:
        return "<its __str__ failed>"


def _sendable(text: str) -> str:
    """Without the lone surrogates that no codec takes."""
    return text.encode("utf-8", "backslashreplace").decode()


def _without_middle(text: str) -> str:
    left_out = len(text) - MAX_TRACEBACK_CHARS
    if left_out <= 0:
        return text
    head = MAX_TRACEBACK_CHARS // 4
    return text[:head] + _CUT.format(left_out) + text[head + left_out :]


def _drop_foreign_frames(report: traceback.TracebackException) -> None:
    """Also from the middle: an import passes through predictord's loader."""
    reports = [report]
    while reports:
        report = reports.pop()
        report.stack[:] = [frame for frame in report.stack if not frame.filename.startswith(_FOREIGN_FRAMES)]
        linked = (report.__cause__, report.__context__, *(report.exceptions or ()))
        reports += [link for link in linked if link is not None]


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The exception and those behind it and inside it, each once, as far as _MAX_CHAIN."""
    links: list[BaseException] = [error]
    seen: set[int] = set()
    while links and len(seen) < _MAX_CHAIN:
        link = links.pop()
        if id(link) in seen:
            continue
        seen.add(id(link))
        yield link
        inside = link.exceptions if isinstance(link, BaseExceptionGroup) else ()
        links += [behind for behind in (link.__cause__, link.__context__, *inside) if behind is not None]


def _may_be_cuda(error: BaseException) -> bool:
    """torch's, cupy's, jax's and onnxruntime's are RuntimeErrors; numba's and pycuda's have it in their name."""
    return isinstance(error, RuntimeError) or "cuda" in _type_name(type(error)).lower()
