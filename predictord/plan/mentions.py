"""Which names a piece of code mentions: everything by which it could reach a project function or constant."""

import ast
import re
import string
from collections.abc import Iterator

from predictord.plan.trees import remembered

_DOTTED = re.compile(r"[A-Za-z_]\w*([.:][A-Za-z_]\w*)*")
_WORD = re.compile(r"[A-Za-z_]\w*")
_MANGLED = re.compile(r"_[A-Za-z]\w*?(__\w+)")

_OPAQUE_NAMES = {"eval", "exec", "globals", "locals", "vars", "dir", "compile"}
_OPAQUE_ATTRIBUTES = {
    "__dict__", "__code__", "__globals__", "__closure__", "__subclasses__", "__getattribute__",
    "getsource", "getmembers", "get_objects", "get_referrers", "_getframe", "currentframe",
}  # fmt: skip
_BY_NAME = {"getattr", "hasattr", "setattr", "delattr", "methodcaller", "attrgetter", "import_module", "__import__"}


@remembered
def names_in(node: ast.AST) -> tuple[str, ...]:
    """Names, attributes, imported names, and words in strings that can serve as one; docstrings aside."""
    names = [name for child in _walk(node) for name in _names_of(child)]
    return tuple(dict.fromkeys([*names, *(mangled[1] for name in names if (mangled := _MANGLED.fullmatch(name)))]))


@remembered
def opaque_part(node: ast.AST) -> str | None:
    """A construct that can reach names which the code does not spell out, or `None`."""
    for child in _walk(node):
        match child:
            case ast.Name(id=name) if name in _OPAQUE_NAMES:
                return f"{name}()"
            case ast.Attribute(attr=name) if name in _OPAQUE_ATTRIBUTES:
                return name
            case ast.Attribute(value=ast.Name(id="sys"), attr="modules"):
                return "sys.modules"
            case ast.Call() if _called_name(child) in _BY_NAME and not _names_are_spelled_out(child):
                return f"{_called_name(child)}() with a computed name"
    return None


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)):
            yield from _walk(child)


def _names_of(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            yield name
        case ast.alias(name=name, asname=asname):
            yield from name.split(".")
            if asname:
                yield asname
        case ast.MatchClass(kwd_attrs=names) | ast.Global(names=names):
            yield from names
        case ast.Constant(value=str(text)):
            yield from _words(text)


def _words(text: str) -> list[str]:
    if _DOTTED.fullmatch(text):
        return _WORD.findall(text)
    if "{" not in text:
        return []
    try:
        fields = [field for _, field, _, _ in string.Formatter().parse(text) if field]
    except ValueError:
        return _WORD.findall(text)
    return _WORD.findall(" ".join(fields))


def _called_name(call: ast.Call) -> str | None:
    match call.func:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return None


def _names_are_spelled_out(call: ast.Call) -> bool:
    position = 1 if _called_name(call) in ("getattr", "hasattr", "setattr", "delattr") else 0
    return len(call.args) > position and isinstance(call.args[position], ast.Constant)
