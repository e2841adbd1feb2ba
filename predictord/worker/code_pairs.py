"""Which code object of the old file became which of the new one.

Live functions are recognised by the value of their code: compiling the same source again
gives equal code objects, lines included, so no two functions of a file are mixed up.
"""

import ast
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import CodeType

from predictord.plan.code import Code, Definition
from predictord.plan.items import first_line

_OPTIMIZED = 0x01
"""`CO_OPTIMIZED`: the code of a function, not of a module or class body."""


@dataclass(frozen=True, eq=False)
class Pair:
    """One function in both files; `is_changed` if it does more than move."""

    old: Definition
    new: Definition
    old_code: CodeType
    new_code: CodeType
    is_changed: bool


@dataclass
class CodePairs:
    """All functions of one file.

    `added` has the code of new ones, by name and first line; `moved` has every code object
    that only moves, nested ones included; `inner` names the outer function of code inside
    changed or removed ones, which must not be alive any more.
    """

    pairs: list[Pair] = field(default_factory=list)
    moved: dict[CodeType, CodeType] = field(default_factory=dict)
    inner: dict[CodeType, str] = field(default_factory=dict)
    added: dict[tuple[str, int], CodeType] = field(default_factory=dict)


def pair_codes(path: str, old: bytes, new: bytes, changed: set[tuple[str, int]]) -> CodePairs:
    """Pair the functions of a file; `changed` has names and first new lines. Raises what `compile` raises."""
    old_tree, new_tree = compile_source(path, old), compile_source(path, new)
    old_codes, new_codes = _by_line(old_tree), _by_line(new_tree)
    found = CodePairs()
    predecessors, successors = _by_name(Code({path: old})), _by_name(Code({path: new}))
    for name, definitions in successors.items():
        for definition in definitions if name not in predecessors else ():
            line = first_line(definition.node)
            found.added[name, line] = new_codes[definition.node.name, line]
    for name, definitions in predecessors.items():
        after = successors.get(name, [])
        for position, definition in enumerate(definitions):
            old_code = old_codes[definition.node.name, first_line(definition.node)]
            if position >= len(after) or len(after) != len(definitions):
                found.inner.update(dict.fromkeys(_nested(old_code), name))
                continue
            successor = after[position]
            line = first_line(successor.node)
            pair = Pair(definition, successor, old_code, new_codes[successor.node.name, line], (name, line) in changed)
            found.pairs.append(pair)
            if pair.is_changed:
                found.inner.update(dict.fromkeys(_nested(old_code), name))
            else:
                found.moved.update(in_step(pair.old_code, pair.new_code))
    for one, other in zip(_lambdas(old_tree), _lambdas(new_tree), strict=False):
        found.moved.update(in_step(one, other))
    return found


def compile_source(path: str, source: bytes | ast.Module) -> CodeType:
    """The code of a module, without repeating the warnings of its import."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return compile(source, path, "exec", dont_inherit=True)


def _by_name(code: Code) -> dict[str, list[Definition]]:
    found: dict[str, list[Definition]] = {}
    for definition in code.functions:
        found.setdefault(definition.name, []).append(definition)
    return found


def _children(code: CodeType) -> list[CodeType]:
    return [one for one in code.co_consts if isinstance(one, CodeType)]


def _by_line(tree: CodeType) -> dict[tuple[str, int], CodeType]:
    found = {}
    for child in _children(tree):
        if child.co_flags & _OPTIMIZED:
            found[child.co_name, child.co_firstlineno] = child
        else:
            found.update(_by_line(child))
    return found


def _lambdas(tree: CodeType) -> Iterator[CodeType]:
    for child in _children(tree):
        if child.co_name.startswith("<"):
            yield child
        elif not child.co_flags & _OPTIMIZED:
            yield from _lambdas(child)


def _nested(code: CodeType) -> Iterator[CodeType]:
    for child in _children(code):
        yield child
        yield from _nested(child)


def in_step(old: CodeType, new: CodeType) -> Iterator[tuple[CodeType, CodeType]]:
    """Pairs of a code object and those nested in it, of two that were compiled from the same structure."""
    yield old, new
    inner = _children(old), _children(new)
    if len(inner[0]) == len(inner[1]):
        for one, other in zip(*inner, strict=True):
            yield from in_step(one, other)
