"""What a predictor class asks of its worker, read from its signatures before it is built.

Reading happens before `__init__`, because a wrong signature should cost seconds and not
the minutes that a model takes to load. So a method is looked at as an instance would
see it, but bound to a stand-in.
"""

import contextlib
import functools
import inspect
import linecache
import re
import sys
import types
import typing
from collections import abc
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from predictord.errors import PredictorError
from predictord.wire import WorkerOptions

DEFAULT_CLASS_NAMES = ("PythonPredictor", "Predictor")
REQUEST_ARGUMENTS = ("payload", "query_params", "headers", "request")
POST_ARGUMENTS = ("response", *REQUEST_ARGUMENTS)
INIT_ARGUMENTS = ("config",)
ASYNC_CONCURRENCY = 32

# The bounds are those of the settings of the same names, which the supervisor has checked.
MAX_CONCURRENCY = 1024
MAX_BATCH_SIZE = 65536
MAX_BATCH_INTERVAL_S = 3600

_STAND_IN = object()
_MAX_WRAPPERS = 100
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_LISTS = (list, abc.MutableSequence, abc.Sequence, abc.Collection, abc.Iterable)


class Kind(StrEnum):
    """How `predict` is run and what it gives."""

    SYNC = "sync"
    ASYNC = "async"
    GENERATOR = "generator"
    ASYNC_GENERATOR = "async_generator"


@dataclass(frozen=True)
class Contract:
    """What the worker needs to know of a predictor class to build and call it.

    `arguments` and `post_arguments` are passed by keyword; without a `post_predict` the
    latter is `None`. `post_predict` is `def`, or `async def` in an async predictor. Under
    batching `payload_annotation` is the type of one item; `inspect.Parameter.empty` asks
    for no validation. `place` is the file and line of `predict`. The rest is for `check`:
    sentences that are no error (`notes`), or that don't keep it from being served although
    every request would fail (`faults`).
    """

    class_name: str
    place: str = field(compare=False)
    kind: Kind
    arguments: tuple[str, ...]
    post_arguments: tuple[str, ...] | None
    init_takes_config: bool
    payload_annotation: Any
    concurrency: int
    max_batch_size: int
    batch_interval_s: float
    notes: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()

    @property
    def is_async(self) -> bool:
        """Whether `predict` runs on an event loop."""
        return self.kind in (Kind.ASYNC, Kind.ASYNC_GENERATOR)


def find_class(module: types.ModuleType, class_name: str | None) -> type:
    """The predictor class of a module: the one named, else a default name, else its only one with a predict method.

    Classes that the module merely imports count only by name. Raises PredictorError.
    """
    names = vars(module)
    for name in DEFAULT_CLASS_NAMES if class_name is None else (class_name,):
        if isinstance(names.get(name), type):
            return typing.cast(type, names[name])
    own = {
        value: name
        for name, value in names.items()
        if isinstance(value, type)
        and callable(getattr(value, "predict", None))
        # An alias (`Model = {...}[SIZE]`) is the author's choice too; a plain import keeps the name.
        and (value.__module__ == module.__name__ or value.__name__ != name)
    }
    if class_name is None and len(own) == 1:
        return next(iter(own))
    raise PredictorError(f"{module.__file__}:1: {_why_no_class(names, class_name, list(own.values()))}")


def _why_no_class(names: dict[str, Any], class_name: str | None, candidates: list[str]) -> str:
    listed = ", ".join(candidates)
    if class_name is not None:
        found = f"{class_name} is not a class" if class_name in names else f"there is no class {class_name}"
        return f"{found}; classes with a predict method: {listed or 'none'}"
    if candidates:
        return f"several classes have a predict method: {listed}; choose one with FILE:CLASS or name it Predictor"
    return "no class has a predict method; write `class PythonPredictor` with `def predict(self, payload)`"


def read_contract(cls: type, options: WorkerOptions) -> Contract:
    """Read and check a predictor class; raises PredictorError that starts with `file:line:`."""
    if _owner(cls, "predict") is None:
        raise PredictorError(f"{_class_place(cls)}: {cls.__name__} has no predict method; add `def predict(self, ...)`")
    if inspect.isabstract(cls):
        missing = ", ".join(sorted(getattr(cls, "__abstractmethods__", ())))
        raise PredictorError(f"{_class_place(cls)}: {cls.__name__} is abstract and cannot be built; define {missing}")
    predict = _read_method(cls, "predict")
    arguments = _injected(predict, REQUEST_ARGUMENTS)
    max_batch_size = _first(options.max_batch_size, _class_count(cls, "max_batch_size", MAX_BATCH_SIZE), 1)
    if max_batch_size > 1 and predict.kind in (Kind.GENERATOR, Kind.ASYNC_GENERATOR):
        raise PredictorError(
            f"{predict.place}: predict is a generator, which cannot batch;"
            f" return a list, or set max_batch_size to 1 (it is {max_batch_size})"
        )
    is_async = predict.kind in (Kind.ASYNC, Kind.ASYNC_GENERATOR)
    default_concurrency = ASYNC_CONCURRENCY if is_async else 1
    annotation, notes, faults = _payload_annotation(predict, batched=max_batch_size > 1)
    if not arguments and any(parameter.kind in _VARIADIC for parameter in predict.parameters):
        notes.append(
            f"{predict.place}: predict is given nothing, since only parameters named {_alternatives(REQUEST_ARGUMENTS)}"
            " are filled; a decorator needs functools.wraps to show those of the function below it"
        )
    return Contract(
        class_name=cls.__name__,
        place=predict.place,
        kind=predict.kind,
        arguments=arguments,
        post_arguments=_post_arguments(cls, is_async),
        init_takes_config=_takes_config(cls),
        payload_annotation=annotation,
        concurrency=_first(options.concurrency, _class_count(cls, "concurrency", MAX_CONCURRENCY), default_concurrency),
        max_batch_size=max_batch_size,
        batch_interval_s=_first(options.batch_interval_s, _class_interval(cls), 0.0),
        notes=tuple(notes),
        faults=tuple(faults),
    )


def build(cls: type, contract: Contract, config: dict[str, Any]) -> object:
    """Make the predictor; blocks as long as its `__init__` and lets what that raises through."""
    return cls(config=config) if contract.init_takes_config else cls()


# --- methods


@dataclass(frozen=True)
class _Method:
    """A method as an instance sees it, without `self`; `functions` is what is called, then what that wraps."""

    name: str
    owner: type
    place: str
    functions: list[Any]
    parameters: list[inspect.Parameter]

    @property
    def kind(self) -> Kind:
        """Of the first function that says so: a plain wrapper hands on what the function below it gives."""
        for function in self.functions:
            if inspect.isasyncgenfunction(function):
                return Kind.ASYNC_GENERATOR
            if inspect.isgeneratorfunction(function):
                return Kind.GENERATOR
            if inspect.iscoroutinefunction(function):
                return Kind.ASYNC
        return Kind.SYNC


def _read_method(cls: type, name: str) -> _Method:
    owner = _owner(cls, name) or cls
    raw = vars(owner)[name]
    functions = _functions(raw)
    plain = [function for function in functions if isinstance(function, types.FunctionType)]
    place = _function_place(plain[-1]) if plain else _class_place(owner, name)
    if isinstance(raw, types.FunctionType):
        _require_self(plain[-1], name, place)
    try:
        bound = raw.__get__(_STAND_IN, cls) if hasattr(type(raw), "__get__") else raw
        parameters = _parameters(bound) if callable(bound) else None
    except Exception as error:  # descriptors are the author's code
        raise PredictorError(
            f"{place}: {name} cannot be read before the predictor is built; make it a plain method ({error})"
        ) from error
    if parameters is None:
        raise PredictorError(f"{place}: {name} is {type(bound).__name__}, not a method; write `def {name}(self, ...)`")
    return _Method(name, owner, place, functions, parameters)


def _owner(cls: type, name: str) -> type | None:
    return next((base for base in cls.__mro__ if name in vars(base)), None)


def _functions(function: Any) -> list[Any]:
    chain: list[Any] = []
    while function is not None and len(chain) < _MAX_WRAPPERS:
        chain.append(function)
        function = _wrapped_by(function)
    return chain


def _wrapped_by(function: Any) -> Any:
    if isinstance(function, functools.partial | functools.partialmethod):
        return function.func
    if isinstance(function, types.MethodType):
        return function.__func__
    wrapped = getattr(function, "__wrapped__", None)
    call = getattr(type(function), "__call__", None)  # noqa: B004 (the function is wanted, not whether there is one)
    return call if wrapped is None and isinstance(call, types.FunctionType) else wrapped


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    # A wrapper that names its own parameters is called with those, whatever functools.wraps copied onto it.
    with contextlib.suppress(ValueError):  # one written in C (functools.lru_cache) has none to show
        own = list(inspect.signature(function, follow_wrapped=False).parameters.values())
        if not any(parameter.kind in _VARIADIC for parameter in own):
            return own
    return list(inspect.signature(function).parameters.values())


def _require_self(function: types.FunctionType, name: str, place: str) -> None:
    first = next(iter(inspect.signature(function).parameters.values()), None)
    by_position = (first.POSITIONAL_ONLY, first.POSITIONAL_OR_KEYWORD, first.VAR_POSITIONAL) if first else ()
    if first is None or first.kind not in by_position or first.name in (*POST_ARGUMENTS, *INIT_ARGUMENTS):
        raise PredictorError(f"{place}: {name} has no `self`; write `def {name}(self, ...)`")


def _injected(method: _Method, known: tuple[str, ...]) -> tuple[str, ...]:
    """Those of the known arguments that the method takes; an unknown one must have a default."""
    names = []
    for parameter in method.parameters:
        if parameter.kind in _VARIADIC:
            continue
        argument = f"{method.place}: {method.name}'s argument `{parameter.name}`"
        if parameter.name not in known:
            if parameter.default is parameter.empty:
                raise PredictorError(
                    f"{argument} cannot be filled; name it {_alternatives(known)}, or give it a default"
                )
        elif parameter.kind is parameter.POSITIONAL_ONLY:
            raise PredictorError(f"{argument} is passed by keyword; remove the `/` after it")
        else:
            names.append(parameter.name)
    return tuple(names)


def _alternatives(names: tuple[str, ...]) -> str:
    return " or ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _post_arguments(cls: type, is_async: bool) -> tuple[str, ...] | None:
    if getattr(cls, "post_predict", None) is None:
        return None
    method = _read_method(cls, "post_predict")
    if method.kind is Kind.SYNC or (is_async and method.kind is Kind.ASYNC):
        return _injected(method, POST_ARGUMENTS)
    cure = "make it `def`" + (" or `async def`, without yield" if is_async else ", as predict is")
    raise PredictorError(f"{method.place}: nobody would run a post_predict of kind {method.kind}; {cure}")


def _takes_config(cls: type) -> bool:
    if isinstance(cls.__init__, types.WrapperDescriptorType):  # type: ignore[misc]  # of `object` or another C type
        return False
    method = _read_method(cls, "__init__")
    if method.kind is not Kind.SYNC:
        raise PredictorError(
            f"{method.place}: nobody would run an __init__ of kind {method.kind}; make it `def`, without yield"
        )
    return "config" in _injected(method, INIT_ARGUMENTS)


# --- the type of `payload`


def _payload_annotation(predict: _Method, *, batched: bool) -> tuple[Any, list[str], list[str]]:
    """The annotation without its list when batched, and the notes and faults of one that is ignored."""
    parameter = next((parameter for parameter in predict.parameters if parameter.name == "payload"), None)
    if parameter is None or parameter.annotation is parameter.empty:
        return inspect.Parameter.empty, [], []
    about = f"{predict.place}: payload's annotation {inspect.formatannotation(parameter.annotation)} is ignored"
    try:
        annotation = _resolve(parameter.annotation, predict)
    except Exception as error:  # it may be any expression
        return inspect.Parameter.empty, [f"{about}, since it cannot be evaluated here ({error})"], []
    if not batched or annotation is Any:
        return annotation, [], []
    plain = annotation.__origin__ if typing.get_origin(annotation) is typing.Annotated else annotation
    if (typing.get_origin(plain) or plain) in _LISTS:
        return next(iter(typing.get_args(plain)), inspect.Parameter.empty), [], []
    fault = f"{about}, since payload is a list when max_batch_size > 1; write `list[...]`"
    return inspect.Parameter.empty, [], [fault]


def _resolve(annotation: Any, method: _Method) -> Any:
    """Evaluate one annotation alone, so that another that cannot be evaluated does no harm."""
    namespace = getattr(method.functions[-1], "__globals__", {})
    holder = types.SimpleNamespace(__annotations__={"annotation": annotation})
    hints = typing.get_type_hints(holder, namespace, dict(vars(method.owner)), include_extras=True)
    return hints["annotation"]


def read_return_annotation(cls: type) -> Any:
    """What `predict` is annotated to return; `Any` if with nothing, or with what can't be evaluated."""
    predict = _read_method(cls, "predict")
    annotations = getattr(predict.functions[-1], "__annotations__", {})
    try:
        return _resolve(annotations.get("return", Any), predict)
    except Exception:  # it may be any expression
        return Any


# --- class attributes


def _first(*choices: Any) -> Any:
    return next(choice for choice in choices if choice is not None)


def _class_count(cls: type, name: str, most: int) -> Any:
    return _class_setting(
        cls, name, f"a whole number from 1 to {most}", lambda value: type(value) is int and 1 <= value <= most
    )


def _class_interval(cls: type) -> Any:
    return _class_setting(
        cls,
        "batch_interval",
        f"seconds, a number from 0 to {MAX_BATCH_INTERVAL_S}",
        lambda value: type(value) in (int, float) and 0 <= value <= MAX_BATCH_INTERVAL_S,
    )


def _class_setting(cls: type, name: str, noun: str, allowed: Callable[[Any], bool]) -> Any:
    value = getattr(cls, name, None)
    if value is None or allowed(value):
        return value
    raise PredictorError(f"{_class_place(_owner(cls, name) or cls, name)}: {name} is {value!r}; it must be {noun}")


# --- places in the source


def _function_place(function: types.FunctionType) -> str:
    code = function.__code__
    lines = linecache.getlines(code.co_filename)
    # A decorated function begins at its first decorator; a lambda has no `def` at all.
    line = _find_line(lines, rf"\s*(async\s+)?def\s+{re.escape(code.co_name)}\b", code.co_firstlineno)
    return f"{code.co_filename}:{line}"


def _class_place(cls: type, attribute: str | None = None) -> str:
    file = getattr(sys.modules.get(cls.__module__), "__file__", None) or cls.__module__
    lines = linecache.getlines(file)
    line = _find_line(lines, rf"\s*class\s+{cls.__name__}\b", 1)
    if attribute is not None:
        line = _find_line(lines, rf"\s+(def\s+)?{attribute}\s*[:=(]", line)
    return f"{file}:{line}"


def _find_line(lines: list[str], pattern: str, start: int) -> int:
    return next((number for number, line in enumerate(lines[start - 1 :], start) if re.match(pattern, line)), start)
