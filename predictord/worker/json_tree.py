"""JSON of whatever a predictor returns: orjson where it can, else a walk that knows where it is.

The walk exists for what orjson does not take (integers and nesting of any size, keys that
are not text) and to name the path of what JSON cannot carry. It uses a stack of its own:
neither the interpreter's recursion limit nor the C stack bounds it.
"""

import enum
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from datetime import date, time
from itertools import islice
from operator import attrgetter, methodcaller
from pathlib import PurePath
from typing import Any
from uuid import UUID

import orjson

from predictord.problem import Code, Problem

MAX_DEPTH = 1000
MAX_TEXT_BYTES = 1 << 29
"""Text in one document. orjson reserves eight times a string's length, and crashes where it gets no memory."""

_GLANCE_VALUES = 1000
_MAX_UNWRAPS = 16
_OPTIONS = orjson.OPT_SERIALIZE_NUMPY
_SCALARS = frozenset({int, float, bool, type(None)})
_BINARY = (bytes, bytearray, memoryview)


class UnserializablePrediction(Exception):
    """What `predict` returned cannot be sent; the text says what and where."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.problem = Problem(Code.UNSERIALIZABLE_PREDICTION, detail)


class _Unknown(TypeError):
    """A value that has no plainer form."""


def dumps(value: Any, path: str = "$") -> bytes:
    """`value` as JSON, NaN and infinities as `null`; `path` is what errors call it.

    Raises UnserializablePrediction, or what a foreign conversion raises (CUDA, a model's own serializer).
    """
    is_flat = type(value) is dict and _SCALARS.issuperset(map(type, value.values()))
    if not is_flat and _glance_text_bytes(value) > MAX_TEXT_BYTES:
        raise UnserializablePrediction(
            f"{path} has more than {MAX_TEXT_BYTES >> 20} MiB of text, too much for one JSON document; "
            "yield it in pieces or return bytes"
        )
    try:
        return orjson.dumps(value, default=unwrap, option=_OPTIONS)
    except TypeError:
        return _Walk(path).encode(value)


def _glance_text_bytes(value: Any) -> int:
    """A lower bound from the first values, level by level: what is huge is mostly near the root."""
    total, seen = 0, [value]
    for node in seen:
        kind = type(node)
        if kind is str:
            total += len(node)
        elif kind is list or kind is tuple or kind is dict:
            children = node.values() if kind is dict else node
            if len(seen) < _GLANCE_VALUES and not _SCALARS.issuperset(map(type, children)):
                seen.extend(islice(children, _GLANCE_VALUES))
        elif kind not in _SCALARS and kind is _loaded("numpy", "ndarray"):
            total += 2 * node.size
    return total


def unwrap(value: Any) -> Any:
    """A plainer form of a value that orjson does not know, one step; raises TypeError where there is none."""
    for kind, convert in _KNOWN:
        if isinstance(value, kind):
            return convert(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in fields(value) if field.name[0] != "_"}
    for module, name, convert in _FOREIGN:
        foreign = _loaded(module, name)
        if foreign is not None and isinstance(value, foreign):
            return convert(value)
    raise _Unknown(f"is of type {_type_name(value)}")


def _loaded(module: str, name: str) -> Any:
    """A class of a module that somebody has imported; nothing here imports it."""
    return getattr(sys.modules.get(module), name, None)


def _unwrap_array(array: Any) -> Any:
    import numpy

    if array.ndim == 0:
        return array[()]
    if type(array) is numpy.ndarray and array.dtype.kind in "biuf":  # a layout, byte order or width unlike C's
        dtype = array.dtype.newbyteorder("=") if array.dtype.itemsize <= 8 else numpy.float64
        with numpy.errstate(over="ignore"):  # a long double becomes infinite, hence null
            return numpy.ascontiguousarray(array, dtype=dtype)
    return list(array) if array.dtype.kind == "M" else array.tolist()


def _unwrap_scalar(scalar: Any) -> Any:
    kind = scalar.dtype.kind
    if kind == "f":
        return float(scalar)
    if kind == "M":
        return None if str(scalar) == "NaT" else str(scalar)
    if kind in "cm":
        raise _Unknown(f"is of type {_type_name(scalar)}")
    return scalar.item()


def _unwrap_tensor(tensor: Any) -> Any:
    import torch

    tensor = tensor.detach()
    if tensor.is_quantized:
        tensor = tensor.dequantize()
    if tensor.layout is not torch.strided:
        tensor = tensor.to_dense()
    if tensor.is_floating_point() and tensor.dtype not in (torch.float16, torch.float32, torch.float64):
        tensor = tensor.float()  # bfloat16 and float8, which numpy has not
    tensor = tensor.cpu().resolve_conj().resolve_neg()
    return tensor.numpy() if "numpy" in sys.modules else tensor.tolist()


def _unwrap_model(model: Any) -> Any:
    try:
        return model.model_dump(mode="json")
    except ValueError:  # a field that pydantic has no JSON for; it may be one of those above
        try:
            return model.model_dump()
        except ValueError as error:
            raise _Unknown(f"is a {_type_name(model)} that pydantic cannot serialize: {error}") from error


_KNOWN: tuple[tuple[Any, Callable[[Any], Any]], ...] = (
    (enum.Enum, attrgetter("value")),
    ((set, frozenset, tuple), list),
    (float, float),
    (PurePath, str),
    ((date, time), methodcaller("isoformat")),
    (UUID, str),
)

_FOREIGN: tuple[tuple[str, str, Callable[[Any], Any]], ...] = (
    ("numpy", "ndarray", _unwrap_array),
    ("numpy", "generic", _unwrap_scalar),
    ("torch", "Tensor", _unwrap_tensor),
    ("pydantic.main", "BaseModel", _unwrap_model),
)


class _Open:
    """A list or object whose end is not yet written; `step` is the key of the child in hand."""

    __slots__ = ("children", "end", "identity", "step")

    def __init__(self, identity: int, children: Iterator[tuple[int | str, bytes, Any]], end: bytes) -> None:
        self.identity = identity
        self.children = children
        self.end = end
        self.step: int | str = 0


class _Walk:
    def __init__(self, root: str) -> None:
        self._root = root
        self._chunks: list[bytes] = []
        self._open: list[_Open] = []

    def encode(self, value: Any) -> bytes:
        self._put(value)
        while self._open:
            innermost = self._open[-1]
            following = next(innermost.children, None)
            if following is None:
                self._chunks.append(innermost.end)
                self._open.pop()
            else:
                innermost.step, text, child = following
                self._chunks.append(text)
                self._put(child)
        return b"".join(self._chunks)

    def _put(self, value: Any) -> None:
        identity = id(value)
        for _ in range(_MAX_UNWRAPS):
            try:
                self._chunks.append(orjson.dumps(value, default=unwrap, option=_OPTIONS))
                return
            except TypeError:
                pass
            if isinstance(value, int):
                self._chunks.append(_decimal(value).encode())
                return
            if isinstance(value, (list, tuple)):
                self._enter(b"[", _Open(identity, _items(value), b"]"))
                return
            if isinstance(value, dict) and all(type(key) is str for key in value):
                self._enter(b"{", _Open(identity, self._members(value), b"}"))
                return
            if isinstance(value, dict):
                value = {self._key(key): child for key, child in value.items()}
                continue
            try:
                value = unwrap(value)
            except _Unknown as error:
                raise self._refusal(_hint(value) or str(error)) from error
        raise self._refusal(f"is of type {_type_name(value)}")

    def _enter(self, start: bytes, container: _Open) -> None:
        if any(container.identity == outer.identity for outer in self._open):
            raise self._refusal("holds itself")
        if len(self._open) == MAX_DEPTH:
            raise self._refusal(f"is nested deeper than {MAX_DEPTH:,} levels")
        self._chunks.append(start)
        self._open.append(container)

    def _members(self, mapping: dict[str, Any]) -> Iterator[tuple[str, bytes, Any]]:
        comma = b""
        for key, child in mapping.items():
            try:
                name = orjson.dumps(key)
            except TypeError as error:
                self._open.pop()  # the fault is the object's, not a child's
                raise self._refusal("has a key with a lone surrogate") from error
            yield key, comma + name + b":", child
            comma = b","

    def _key(self, key: Any) -> str:
        """As `json.dumps` makes it; numpy scalars and enums count as what they stand for."""
        generic = _loaded("numpy", "generic")
        if generic is not None and isinstance(key, generic):
            key = key.item()
        if isinstance(key, enum.Enum):
            key = key.value
        if isinstance(key, str):
            return str.__str__(key)
        if key is None or isinstance(key, bool):
            return orjson.dumps(key).decode()
        if isinstance(key, int):
            return _decimal(key)
        if isinstance(key, float):
            if math.isfinite(key):
                return float.__repr__(key)
            return "NaN" if math.isnan(key) else "Infinity" if key > 0 else "-Infinity"
        raise self._refusal(f"has a key of type {_type_name(key)}")

    def _refusal(self, reason: str) -> UnserializablePrediction:
        steps = [_step(container.step) for container in self._open]
        if len(steps) > 20:
            steps[10:-5] = ["…"]
        return UnserializablePrediction(
            f"JSON cannot carry what predict returned: {self._root}{''.join(steps)} {reason}"
        )


def _items(values: list[Any] | tuple[Any, ...]) -> Iterator[tuple[int, bytes, Any]]:
    for index, child in enumerate(values):
        yield index, b"," if index else b"", child


def _step(key: int | str) -> str:
    if isinstance(key, int):
        return f"[{key}]"
    return f".{key}" if key.isidentifier() and len(key) <= 60 else f"[{key[:60]!r}]"


def _decimal(number: int) -> str:
    """Digits in halves, since Python refuses to print more than `sys.get_int_max_str_digits()` at once."""
    if number < 0:
        return "-" + _decimal(-number)
    if number.bit_length() < 2000:  # below the least limit that can be set
        return int.__repr__(number)
    half = int(number.bit_length() * math.log10(2) / 2)
    high, low = divmod(number, 10**half)
    return _decimal(high) + _decimal(low).zfill(half)


def _hint(value: Any) -> str | None:
    if isinstance(value, str):
        return "is a str with a lone surrogate"
    if isinstance(value, _BINARY):
        return f"is of type {_type_name(value)}; decode it, or return it alone"
    if isinstance(value, Iterator):
        return f"is of type {_type_name(value)}; make it a list"
    return None


def _type_name(value: Any) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
