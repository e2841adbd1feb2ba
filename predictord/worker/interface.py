"""What callers are told of a predictor: its docstrings, and what goes in and out by its annotations."""

import inspect
from collections import abc
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import msgspec

from predictord.errors import PredictorError
from predictord.wire import Form, Interface
from predictord.worker.contract import Contract, Kind, read_return_annotation
from predictord.worker.payload import PayloadDecoder

_MAX_DOC_CHARACTERS = 10_000
_BINARY = (bytes, bytearray, memoryview)
_LISTS = (list, abc.Sequence, abc.MutableSequence, abc.Collection, abc.Iterable)
_JSON_TYPES = {dict: "object", list: "array", int: "integer", float: "number", bool: "boolean"}
"""Spares most predictors pydantic."""
_NO_PYDANTIC = ("numpy", "torch")
"""Packages whose classes become JSON here, of a shape that no annotation tells."""


def read_interface(cls: type, contract: Contract, decoder: PayloadDecoder) -> Interface:
    """Read it from the class as it is now; only what pydantic has a schema for is told in detail."""
    streams = contract.kind in (Kind.GENERATOR, Kind.ASYNC_GENERATOR)
    returned = _returned(cls)
    if streams or contract.max_batch_size > 1:
        returned = _item(returned, streams=streams)
    answer, answer_schema = _answer(returned)
    return Interface(
        doc=_doc(cls),
        predict_doc=_doc(getattr(cls, "predict", None)),
        takes_query="query_params" in contract.arguments or "request" in contract.arguments,
        body=_body(contract, decoder),
        body_schema=decoder.schema,
        answer=answer,
        answer_schema=answer_schema,
        streams=streams,
    )


def _returned(cls: type) -> Any:
    try:
        return read_return_annotation(cls)
    except PredictorError:  # a class whose instances are of another class, which nobody has checked
        return Any


def _doc(thing: object) -> str:
    doc = getattr(thing, "__doc__", None)
    return inspect.cleandoc(doc)[:_MAX_DOC_CHARACTERS] if isinstance(doc, str) else ""


def _body(contract: Contract, decoder: PayloadDecoder) -> Form:
    if "payload" not in contract.arguments:
        return Form.ANY if "request" in contract.arguments else Form.NONE
    if contract.payload_annotation is bytes:
        return Form.BYTES
    if contract.payload_annotation is str:
        return Form.TEXT
    return Form.JSON if decoder.schema is not None else Form.ANY


def _item(annotation: Any, *, streams: bool) -> Any:
    """The type of one item of a stream, or of a batch's list."""
    arguments = get_args(annotation)
    return arguments[0] if arguments and (streams or get_origin(annotation) in _LISTS) else Any


def _answer(annotation: Any) -> tuple[Form, bytes | None]:
    """The form of one answer, and the JSON schema where it has one."""
    if annotation is str:
        return Form.TEXT, None
    if isinstance(annotation, type) and issubclass(annotation, _BINARY):
        return Form.BYTES, None
    return (Form.JSON, _schema(annotation)) if _is_json(annotation) else (Form.ANY, None)


def _is_json(annotation: Any) -> bool:
    """Whether it is certain that answers are JSON: a base class or a protocol may stand for text and responses too."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _is_json(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return all(map(_is_json, get_args(annotation)))
    if origin is not None:
        return origin in (dict, list, tuple, set, frozenset)
    if not isinstance(annotation, type) or issubclass(annotation, (str, *_BINARY)):
        return False
    is_response = any(base.__module__ == "starlette.responses" for base in annotation.__mro__)
    return annotation not in (object, Any) and not inspect.isabstract(annotation) and not is_response


def _schema(annotation: Any) -> bytes | None:
    if isinstance(annotation, type) and annotation in _JSON_TYPES:
        return msgspec.json.encode({"type": _JSON_TYPES[annotation]})
    module = getattr(annotation, "__module__", "")
    if module.partition(".")[0] in _NO_PYDANTIC:
        return None
    from pydantic import TypeAdapter  # here, since only predictors that annotate what they return need it

    try:
        # Not by alias: answers have the fields' own names.
        return msgspec.json.encode(TypeAdapter(annotation).json_schema(mode="serialization", by_alias=False))
    except Exception:  # the hooks of any class may run
        return None
