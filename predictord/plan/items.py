"""A source file as a list of items: definitions that only bind a name, and the rest, which runs at import.

*Inert* items (`def`, `class`, `NAME = literal`, imports) can be told apart by name;
whatever else a module or class body holds is *active* and has no name here.
"""

import ast
import copy
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from weakref import WeakValueDictionary

Function = ast.FunctionDef | ast.AsyncFunctionDef


class ItemKind(StrEnum):
    """What an item is."""

    FUNCTION = "function"
    CLASS = "class"
    CONSTANT = "constant"
    IMPORT = "import"
    ACTIVE = "active"


@dataclass(frozen=True, eq=False)
class Item:
    """One statement of a body, or one name of an import statement; `body` is that of a class."""

    kind: ItemKind
    name: str
    node: ast.stmt
    body: "Body | None" = None


@dataclass(frozen=True, eq=False)
class Body:
    """What a module or class consists of, in order; `document` is its docstring."""

    items: list[Item]
    document: str | None

    def named(self, name: str) -> list[Item]:
        """All inert items that bind a name."""
        return [item for item in self.items if item.name == name]


@dataclass(frozen=True, eq=False)
class Source:
    """A parsed file; `origins` maps names that its imports bind to what they stand for, dotted."""

    body: Body
    tree: ast.Module
    origins: dict[str, str] = field(default_factory=dict)

    @property
    def postpones_annotations(self) -> bool:
        """Whether annotations stay text (`from __future__ import annotations`)."""
        return self.origins.get("annotations") == "__future__.annotations"

    def dotted(self, expression: ast.expr) -> str | None:
        """What an expression such as `np.array` stands for, by the file's imports; `None` if it is no dotted name."""
        if isinstance(expression, ast.Attribute):
            base = self.dotted(expression.value)
            return base and f"{base}.{expression.attr}"
        if isinstance(expression, ast.Name):
            return self.origins.get(expression.id, expression.id)
        return None


_shared: WeakValueDictionary[bytes, Source] = WeakValueDictionary()
"""Trees are large, and the garbage collector walks them: none stays that nobody uses."""


def read_items(source: bytes) -> Source:
    """Parse a file; the answer is shared, so it must not be changed. Raises what `compile` raises."""
    if (known := _shared.get(source)) is not None:
        return known
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the worker that compiles it tells them
        tree = ast.parse(source)
    found = _shared[source] = Source(_read_body(tree.body), tree, dict(_origins(tree)))
    return found


def functions_in(node: ast.AST, prefix: str = "") -> Iterator[tuple[str, Function]]:
    """Functions that a statement defines, under `if` or `try` too but not inside other functions, by qualified name."""
    if isinstance(node, Function):
        yield prefix + node.name, node
        return
    if isinstance(node, ast.ClassDef):
        prefix += f"{node.name}."
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt | ast.ExceptHandler | ast.match_case):
            yield from functions_in(child, prefix)


def without_bodies(node: ast.stmt) -> ast.stmt:
    """A copy of an active statement in which functions have no bodies."""
    stripped = copy.deepcopy(node)
    for _, function in functions_in(stripped):
        function.body = []
    return stripped


def statements(function: Function) -> list[ast.stmt]:
    """The body without bare strings, the docstring among them."""
    return [statement for statement in function.body if not _is_bare_constant(statement)]


def first_line(node: ast.stmt) -> int:
    """Where a definition starts: at its first decorator."""
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    return min([node.lineno, *(one.lineno for one in decorators)])


def document_of(node: ast.Module | ast.ClassDef | Function) -> str | None:
    """The docstring as written."""
    return ast.get_docstring(node, clean=False)


def is_literal(node: ast.expr | None) -> bool:
    """Whether an expression gives the same value wherever it is evaluated: literals, arithmetic on them, patterns."""
    parts: list[ast.expr | None] = []
    match node:
        case ast.Constant():
            pass
        case ast.Tuple(elts=elements) | ast.List(elts=elements) | ast.Set(elts=elements):
            parts = [*elements]
        case ast.Dict(keys=keys, values=values):
            parts = [*keys, *values]
        case ast.UnaryOp(operand=operand):
            parts = [operand]
        case ast.BinOp(left=left, right=right, op=ast.Add() | ast.Sub() | ast.Mult() | ast.Div() | ast.LShift()):
            parts = [left, right]
        case ast.Call(func=ast.Attribute(value=ast.Name(id="re"), attr="compile"), args=arguments, keywords=[]):
            parts = [one for one in arguments if not ast.unparse(one).startswith("re.")]
        case _:
            return False
    return all(map(is_literal, parts))


def is_immutable(item: Item) -> bool:
    """Whether an item is a constant whose value nobody can change in place."""
    value = item.node.value if isinstance(item.node, ast.Assign | ast.AnnAssign) else None
    return item.kind is ItemKind.CONSTANT and isinstance(value, ast.Constant | ast.UnaryOp | ast.BinOp)


def _read_body(nodes: list[ast.stmt]) -> Body:
    first = nodes[0] if nodes else None
    is_documented = isinstance(first, ast.Expr) and _is_bare_constant(first) and isinstance(first.value.value, str)  # type: ignore[attr-defined]
    items = [item for node in nodes for item in _read_statement(node)]
    return Body(items, first.value.value if is_documented else None)  # type: ignore[union-attr]


def _read_statement(node: ast.stmt) -> Iterator[Item]:
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
            yield Item(ItemKind.FUNCTION, name, node)
        case ast.ClassDef(name=name, body=body):
            yield Item(ItemKind.CLASS, name, node, _read_body(body))
        case ast.Assign(targets=[ast.Name(id=name)], value=value) if is_literal(value):
            yield Item(ItemKind.CONSTANT, name, node)
        case ast.AnnAssign(target=ast.Name(id=name), value=value, simple=1) if is_literal(value):
            yield Item(ItemKind.CONSTANT, name, node)
        case ast.Import(names=names):
            for alias in names:
                one = ast.copy_location(ast.Import([alias]), node)
                yield Item(ItemKind.IMPORT, alias.asname or alias.name.partition(".")[0], one)
        case ast.ImportFrom(names=names, module=module) if names[0].name != "*" and module != "__future__":
            for alias in names:
                single = ast.copy_location(ast.ImportFrom(module, [alias], node.level), node)
                yield Item(ItemKind.IMPORT, alias.asname or alias.name, single)
        case _ if not (_is_bare_constant(node) or isinstance(node, ast.Pass) or _never_runs(node)):
            yield Item(ItemKind.ACTIVE, "", node)


def _is_bare_constant(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _never_runs(node: ast.stmt) -> bool:
    """Blocks for type checkers, and for running the file as a script."""
    if not isinstance(node, ast.If) or node.orelse:
        return False
    test = ast.unparse(node.test)
    return test in ("TYPE_CHECKING", "typing.TYPE_CHECKING", "__name__ == '__main__'")


def _origins(tree: ast.Module) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield (
                    alias.asname or alias.name.partition(".")[0],
                    alias.name if alias.asname else alias.name.partition(".")[0],
                )
        elif isinstance(node, ast.ImportFrom):
            prefix = f"{node.module}." if node.module else ""
            yield from ((alias.asname or alias.name, prefix + alias.name) for alias in node.names)
