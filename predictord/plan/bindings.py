"""Which names a file binds at module level, and where: what an expression there means depends on it."""

import ast
import builtins
from collections.abc import Iterable, Iterator

from predictord.plan.change import Refused
from predictord.plan.code import Code, file_name
from predictord.plan.items import Body, ItemKind

_BUILTINS = frozenset(dir(builtins))


def bound_by_active(body: Body) -> set[str]:
    """Names that the active items of a body bind: loops, conditions, computed values, patches."""
    return {name for item in body.items if item.kind is ItemKind.ACTIVE for name in _stored(item.node)}


def require_bound_above(code: Code, path: str, expressions: Iterable[ast.expr], line: int) -> None:
    """Refuse expressions of a `def` line that could mean something else when evaluated now instead of at import."""
    body = code.sources[path].body
    active = bound_by_active(body)
    for expression in expressions:
        for name in (child.id for child in ast.walk(expression) if isinstance(child, ast.Name)):
            lines = [item.node.lineno for item in body.named(name)]
            is_builtin = name in _BUILTINS and not lines
            is_bound_once = len(lines) == 1 and lines[0] < line
            if name in active or not (is_builtin or is_bound_once) or (is_builtin and "*" in active):
                raise Refused(f"{name} at line {line} of {file_name(path)} is not bound once and above")
        if any(isinstance(child, ast.NamedExpr | ast.Lambda | ast.Call) for child in ast.walk(expression)):
            raise Refused(f"`{ast.unparse(expression)}` at line {line} of {file_name(path)} runs code")


def names_evaluated(body: Body, expressions: Iterable[ast.expr]) -> set[str]:
    """The names in expressions, builtins aside."""
    names = {child.id for one in expressions for child in ast.walk(one) if isinstance(child, ast.Name)}
    return {name for name in names if name not in _BUILTINS or body.named(name)}


def is_star_imported(code: Code, path: str) -> bool:
    """Whether any file may import all names of the one at `path`."""
    parts = path.removesuffix(".py").removesuffix("/__init__").split("/")
    for source in code.sources.values():
        for node in ast.walk(source.tree):
            match node:
                case ast.ImportFrom(names=[ast.alias(name="*")], module=module):
                    if not module or module.rpartition(".")[2] == parts[-1]:
                        return True
    return False


def _stored(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
            return
        case ast.Lambda():
            return
        case ast.Name(id=name, ctx=ast.Store() | ast.Del()) | ast.ExceptHandler(name=str(name)):
            yield name
        case ast.Attribute(attr=name, ctx=ast.Store() | ast.Del()):
            yield name
        case ast.alias(name=name, asname=asname):
            yield asname or name.partition(".")[0]
        case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)) | ast.MatchMapping(rest=str(name)):
            yield name
    for child in ast.iter_child_nodes(node):
        yield from _stored(child)
