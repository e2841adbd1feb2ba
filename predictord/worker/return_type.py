"""What a return annotation promises that no answer can carry: read for `check`, never while serving.

Only what is certain is told: of an abstract class, or a type variable, some values may do.
"""

import enum
import inspect
import types
import typing
from collections import abc
from collections.abc import Iterable, Sequence
from dataclasses import is_dataclass
from datetime import date, time
from pathlib import PurePath
from typing import Any
from uuid import UUID

_SCALARS = (str, int, float, bool, types.NoneType, enum.Enum, PurePath, date, time, UUID)
_LISTS = (list, tuple, set, frozenset)
_BINARY = (bytes, bytearray, memoryview)
_KEYS = (str, int, float, bool, types.NoneType, enum.Enum)
_STREAMS = (abc.Iterable, abc.Iterator, abc.Generator, abc.AsyncIterable, abc.AsyncIterator, abc.AsyncGenerator)
_FOREIGN = frozenset({"numpy.ndarray", "numpy.generic", "torch.Tensor", "pydantic.main.BaseModel"})
_RESPONSE = "starlette.responses.Response"
_MAX_DEPTH = 20

Annotation = Any


def unsendable(annotation: Annotation, *, streams: bool, batched: bool) -> str | None:
    """Why what is annotated would be answered with a 500, as the end of a sentence; `None` where it may be sent.

    `streams` says that predict is a generator, `batched` that it returns a list of answers.
    """
    kind, arguments = _parts(annotation)
    if streams:
        return _unsendable_answer(arguments[0]) if arguments and kind in _STREAMS else None
    if not batched:
        return _unsendable_answer(annotation)
    if isinstance(kind, type) and not _may_be_list(kind):
        return (
            f"is {_name(annotation)}, but with max_batch_size > 1 predict returns a list with one result for each item"
        )
    return _unsendable_answer(arguments[0]) if arguments and kind in (list, abc.Sequence) else None


def _unsendable_answer(annotation: Annotation) -> str | None:
    """Of one whole answer, which may be more than JSON."""
    kind, arguments = _parts(annotation)
    if kind is typing.Union:
        return next(filter(None, map(_unsendable_answer, arguments)), None)
    if isinstance(kind, type) and (issubclass(kind, _BINARY) or _is_foreign(kind, _RESPONSE)):
        return None
    found = _unsendable_json(annotation, _MAX_DEPTH)
    if found is None:
        return None
    where = "" if found == _name(annotation) else f", in {_name(annotation)}"
    return f"promises {found}{where}, which JSON cannot carry; convert it, or return bytes or a Response"


def _unsendable_json(annotation: Annotation, depth: int) -> str | None:
    """The first part that JSON cannot carry."""
    kind, arguments = _parts(annotation)
    if depth == 0 or not (isinstance(kind, type) or kind is typing.Union):
        return None
    if isinstance(kind, type):
        if issubclass(kind, dict) and len(arguments) == 2 and (key := _unsendable_key(arguments[0])) is not None:
            return f"keys of type {key}"
        if not _is_plain(kind):
            return _name(annotation)
    return _first(_children(kind, arguments), depth)


def _is_plain(kind: type) -> bool:
    """Whether values of this class have a form in JSON, as far as the class itself goes."""
    if _is_open(kind) or is_dataclass(kind):
        return True
    return issubclass(kind, (*_SCALARS, *_LISTS, dict)) or any(_is_foreign(kind, name) for name in _FOREIGN)


def _is_open(kind: type) -> bool:
    """Whether values may be of many classes, which the annotation does not tell."""
    return kind is object or inspect.isabstract(kind) or bool(getattr(kind, "_is_protocol", False))


def _children(kind: Any, arguments: Sequence[Annotation]) -> list[Annotation]:
    """The types of what a container holds; of another class none."""
    if kind is typing.Union:
        return list(arguments)
    if issubclass(kind, (*_LISTS, dict)):
        return [*arguments[issubclass(kind, dict) :], *_fields(kind)]
    return _fields(kind) if is_dataclass(kind) else []


def _first(annotations: Iterable[Annotation], depth: int) -> str | None:
    return next(filter(None, (_unsendable_json(annotation, depth - 1) for annotation in annotations)), None)


def _unsendable_key(annotation: Annotation) -> str | None:
    kind, arguments = _parts(annotation)
    if kind is typing.Union:
        return next(filter(None, map(_unsendable_key, arguments)), None)
    if not isinstance(kind, type) or _is_open(kind) or issubclass(kind, _KEYS) or _is_foreign(kind, "numpy.generic"):
        return None
    return _name(annotation)


def _parts(annotation: Annotation) -> tuple[Any, tuple[Any, ...]]:
    """What is left of an annotation without aliases and metadata, and the types that it is made of."""
    for _ in range(_MAX_DEPTH):
        if hasattr(annotation, "__metadata__"):  # Annotated
            annotation = annotation.__origin__
        elif isinstance(annotation, typing.NewType):
            annotation = annotation.__supertype__
        elif hasattr(annotation, "__value__"):  # a `type` statement's alias
            annotation = annotation.__value__
    if annotation is None or annotation is Any:
        return types.NoneType if annotation is None else object, ()
    arguments = tuple(argument for argument in typing.get_args(annotation) if argument is not ...)
    origin: Any = typing.get_origin(annotation) or annotation
    return typing.Union if origin is types.UnionType else origin, arguments


def _fields(kind: Any) -> list[Annotation]:
    """The types of a dataclass's or TypedDict's fields, as far as they can be evaluated."""
    try:
        return [hint for name, hint in typing.get_type_hints(kind).items() if not name.startswith("_")]
    except Exception:  # they may be any expression
        return []


def _may_be_list(kind: type) -> bool:
    if issubclass(kind, str | bytes | bytearray):
        return False
    # Arrays and tensors count as lists of their rows.
    return issubclass(kind, abc.Sequence) or _is_open(kind) or hasattr(kind, "shape")


def _is_foreign(kind: type, name: str) -> bool:
    """Whether it is, or derives from, a class that is told by its name: nothing here imports it."""
    return any(f"{base.__module__}.{base.__qualname__}" == name for base in kind.__mro__)


def _name(annotation: Annotation) -> str:
    return inspect.formatannotation(annotation)
