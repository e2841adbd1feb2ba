"""Whether an object of a project class gets into the hands of other people's code, which may call any method of it.

Flow does not matter and scopes do not either: a name that holds such an object anywhere
holds one everywhere. That finds too much, never too little.
"""

import ast
from collections.abc import Iterable, Iterator

from predictord.plan.code import Code

_KEEPS_NOTHING = {
    "isinstance", "issubclass", "type", "super", "len", "print", "repr", "str", "bool", "int", "float", "id", "hash",
    "list", "tuple", "set", "dict", "sorted", "reversed", "enumerate", "zip", "iter", "next", "range", "min", "max",
    "getattr", "hasattr", "callable", "any", "all", "sum", "abs", "round",
}  # fmt: skip


_HANDING_ON = (
    ast.stmt, ast.Call, ast.NamedExpr, ast.comprehension, ast.withitem,
)  # fmt: skip


def escape(code: Code, nodes: Iterable[ast.AST], class_names: set[str]) -> str | None:
    """The call or assignment that hands out an object of these classes, or `self`; `None` if there is none."""
    return _Holders(code, list(nodes), class_names).escape()


class _Holders:
    def __init__(self, code: Code, nodes: list[ast.AST], class_names: set[str]) -> None:
        self._code = code
        self._nodes = [child for node in nodes for child in ast.walk(node) if isinstance(child, _HANDING_ON)]
        self._names = {"self", "cls", *class_names}
        while (size := len(self._names)) is not None:
            for node in self._nodes:
                self._names.update(self._learn(node))
            if len(self._names) == size:
                break

    def escape(self) -> str | None:
        for node in self._nodes:
            match node:
                case ast.Call() if not self._is_own(node.func) and self._arguments_carry(node):
                    return f"{ast.unparse(node.func)}()"
                case ast.Assign(targets=targets, value=value) if self._carries(value):
                    for target in targets:
                        if isinstance(target, ast.Attribute) and ast.unparse(target.value) not in ("self", "cls"):
                            return ast.unparse(target)
        return None

    def _learn(self, node: ast.AST) -> Iterator[str]:
        match node:
            case ast.Assign(targets=targets, value=value) if self._carries(value):
                for target in targets:
                    yield from _bound(target)
            case (
                ast.AnnAssign(target=target, value=ast.expr() as value)
                | ast.AugAssign(target=target, value=value)
                | ast.NamedExpr(target=target, value=value)
                | ast.For(target=target, iter=value)
                | ast.AsyncFor(target=target, iter=value)
                | ast.comprehension(target=target, iter=value)
                | ast.withitem(context_expr=value, optional_vars=ast.expr() as target)
            ) if self._carries(value):
                yield from _bound(target)
            case ast.Match(subject=value, cases=cases) if self._carries(value):
                for child in (child for case in cases for child in ast.walk(case.pattern)):
                    yield from filter(None, (getattr(child, "name", None), getattr(child, "rest", None)))
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                given = (child for child in ast.walk(node) if isinstance(child, ast.Return | ast.Yield | ast.YieldFrom))
                if any(one.value is not None and self._carries(one.value) for one in given):
                    yield name
            case ast.Call() if self._is_own(node.func) and self._arguments_carry(node):
                yield from self._parameters(_tail(node.func))

    def _parameters(self, name: str) -> Iterator[str]:
        """Where the arguments of a call to project code arrive."""
        for function in self._code.functions:
            owner = function.owner.node.name if function.owner else None
            if name == function.node.name or (name == owner and function.node.name in ("__init__", "__new__")):
                yield from (child.arg for child in ast.walk(function.node.args) if isinstance(child, ast.arg))
        for found in self._code.classes:
            if found.node.name == name:  # the fields of a dataclass
                yield from (item.name for item in found.body.items if item.name)

    def _is_own(self, callee: ast.expr) -> bool:
        """Whether a call goes to project code, or to a builtin that keeps nothing of what it is given."""
        if isinstance(callee, ast.Attribute):
            base = ast.unparse(callee.value)
            return callee.attr in self._code.function_names and (base in ("self", "cls", "super()"))
        if not isinstance(callee, ast.Name):
            return False
        own = [found for found in self._code.classes if found.node.name == callee.id]
        if own:
            return not any(map(self._code.foreign_part, own))
        return callee.id in self._code.function_names or callee.id in _KEEPS_NOTHING

    def _arguments_carry(self, call: ast.Call) -> bool:
        return any(self._carries(one) for one in [*call.args, *(keyword.value for keyword in call.keywords)])

    def _carries(self, node: ast.AST) -> bool:
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name):
                return name in self._names
            case ast.Call(func=callee):
                receiver = callee.value if isinstance(callee, ast.Attribute) else callee
                is_own_method = _tail(callee) in self._code.function_names
                came_from = _tail(callee) in self._names or (not is_own_method and self._holds(receiver))
                return came_from or self._arguments_carry(node)
            case ast.Compare() | ast.JoinedStr() | ast.Constant():
                return False
            case ast.Subscript(value=value):
                return self._carries(value)
        return any(self._carries(child) for child in ast.iter_child_nodes(node))

    def _holds(self, receiver: ast.expr) -> bool:
        """Whether a method of this object may give an object out again: `self.tools.get("x")`, not `self.load()`."""
        return ast.unparse(receiver) not in ("self", "cls") and self._carries(receiver)


def _tail(callee: ast.expr) -> str:
    return callee.attr if isinstance(callee, ast.Attribute) else getattr(callee, "id", "")


def _bound(target: ast.expr) -> Iterator[str]:
    match target:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            yield name
        case ast.Subscript(value=value) | ast.Starred(value=value):
            yield from _bound(value)
        case ast.Tuple(elts=parts) | ast.List(elts=parts):
            for part in parts:
                yield from _bound(part)
