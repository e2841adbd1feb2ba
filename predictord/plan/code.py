"""All project files of one generation: which functions and classes there are, and what each is made of."""

import ast
import builtins
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from predictord.plan.items import Body, Function, Item, ItemKind, Source, functions_in, is_immutable, read_items

_PLAIN_BASES = {"object", "typing.Generic", "typing.Protocol", "abc.ABC"}
_PLAIN_METACLASSES = {"abc.ABCMeta"}
_PLAIN_CLASS_DECORATORS = {"dataclasses.dataclass", "typing.final"}


@dataclass(frozen=True, eq=False)
class Definition:
    """A function at module or class level; `owner` is its class, `is_conditional` says that it is under an `if`."""

    path: str
    name: str
    node: Function
    owner: "Class | None"
    is_conditional: bool = False

    @property
    def key(self) -> tuple[str, str]:
        """What names the same function in another generation."""
        return self.path, self.name

    @property
    def place(self) -> str:
        """How a sentence calls it."""
        return f"{self.name}()"


@dataclass(frozen=True, eq=False)
class Class:
    """A class at module or class level."""

    path: str
    name: str
    node: ast.ClassDef
    body: Body


class Code:
    """The parsed files of a generation. Raises what `compile` raises for a file that does not parse."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.sources: dict[str, Source] = {path: read_items(source) for path, source in files.items()}
        self.functions: list[Definition] = []
        self.classes: list[Class] = []
        self._by_name: dict[str, list[Definition]] = {}
        for path, source in self.sources.items():
            self._collect(path, source.body, None)
        self._collect_names()

    def _collect_names(self) -> None:
        self.class_names = {one.node.name for one in self.classes}
        for found in self.functions:
            self._by_name.setdefault(found.node.name, []).append(found)
        self.function_names = set(self._by_name)
        bound = [(item.name, is_immutable(item)) for _, _, item in self.items()]
        self.bound_names = {name for name, _ in bound}
        self.plain_values = {name for name, is_plain in bound if is_plain} - {
            name for name, plain in bound if not plain
        }

    def _collect(self, path: str, body: Body, owner: Class | None) -> None:
        prefix = f"{owner.name}." if owner else ""
        for item in body.items:
            if item.kind is ItemKind.CLASS and item.body is not None and isinstance(item.node, ast.ClassDef):
                found = Class(path, prefix + item.name, item.node, item.body)
                self.classes.append(found)
                self._collect(path, item.body, found)
            else:
                is_conditional = item.kind is ItemKind.ACTIVE
                self.functions += [
                    Definition(path, name, node, owner, is_conditional)
                    for name, node in functions_in(item.node, prefix)
                ]

    def named(self, name: str) -> list[Definition]:
        """All functions of that name, whichever their class or file."""
        return self._by_name.get(name, [])

    def items(self) -> Iterator[tuple[str, Class | None, Item]]:
        """Every item with its file and class."""
        for path, source in self.sources.items():
            yield from ((path, None, item) for item in source.body.items)
        for found in self.classes:
            yield from ((found.path, found, item) for item in found.body.items)

    def methods(self, owner: Class) -> list[Definition]:
        """The functions of a class's own body."""
        return [function for function in self.functions if function.owner is owner]

    def foreign_part(self, found: Class, seen: tuple[Class, ...] = ()) -> str | None:
        """The base, metaclass or decorator of a class that other people's code stands behind, or `None`."""
        source = self.sources[found.path]
        for decorator in found.node.decorator_list:
            target = decorator.func if isinstance(decorator, ast.Call) else decorator
            if source.dotted(target) not in _PLAIN_CLASS_DECORATORS:
                return f"decorator {ast.unparse(decorator)}"
        for keyword in found.node.keywords:
            if keyword.arg != "metaclass" or source.dotted(keyword.value) not in _PLAIN_METACLASSES:
                return f"argument {ast.unparse(keyword)}"
        for base in found.node.bases:
            dotted = source.dotted(base.value if isinstance(base, ast.Subscript) else base) or ""
            own = self.classes_meant(found.path, dotted)
            if not own and dotted not in _PLAIN_BASES and not _is_exception(dotted):
                return f"base {ast.unparse(base)}"
            for one in own:
                if one not in seen and (foreign := self.foreign_part(one, (*seen, found))):
                    return foreign
        return None

    def classes_meant(self, path: str, dotted: str) -> list[Class]:
        """The project classes that a dotted name in a file may stand for."""
        module, _, name = dotted.rpartition(".")
        stem = module.rpartition(".")[2]
        return [
            found
            for found in self.classes
            if found.node.name == name and (_stem(found.path) == stem if module else found.path == path)
        ]


def _is_exception(dotted: str | None) -> bool:
    value = getattr(builtins, dotted or "", None)
    return isinstance(value, type) and issubclass(value, BaseException)


def _stem(path: str) -> str:
    folder, name = os.path.split(path.removesuffix(".py"))
    return os.path.basename(folder) if name == "__init__" else name


def file_name(path: str) -> str:
    """How a sentence calls a file."""
    return os.path.basename(path)
