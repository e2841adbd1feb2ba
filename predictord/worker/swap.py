"""Puts new code into this process: all of it between two requests, or nothing.

`prepare` builds everything and may refuse; `commit` only assigns. Functions are changed in
place (`__code__` and what belongs to it), which reaches bound methods, partials, imported
names and wrappers that were handed out before; new functions would miss them. Functions
that did not change move to their new lines, or tracebacks would be wrong.
"""

import ast
import functools
import io
import linecache
from collections.abc import Callable
from importlib.util import decode_source
from types import CellType, CodeType, FunctionType, ModuleType
from typing import Any

import msgspec

from predictord.generation import Generation
from predictord.plan.change import Action, Change
from predictord.plan.code import Code
from predictord.plan.diff import defaults_of
from predictord.plan.items import Body, Item, document_of, read_items
from predictord.plan.model import Kind, Plan
from predictord.plan.plan import plan
from predictord.worker.code_pairs import Pair
from predictord.worker.definitions import annotations_by_name, live_defaults
from predictord.worker.kin import living_kin
from predictord.worker.living import LivingFile, SwapVeto, layers, modules_at
from predictord.worker.loader import Loader
from predictord.worker.ran import Ran

__all__ = ["Swap", "SwapVeto"]

_REMOVED = object()
_NOT_COPIED = {"__dict__", "__weakref__", "__slots__", "__module__", "__qualname__", "__doc__"}


class Swap:
    """One plan for this process; `ran` knows which functions ran while loading."""

    def __init__(self, loader: Loader, plan: Plan, new: Generation, ran: Ran) -> None:
        self._sources = loader.sources
        self._plan = plan
        self._new = new
        self._ran = ran
        self.code: Code | None = None
        """The new files as parsed, once prepared."""
        self._steps: list[Callable[[], object]] = []
        self._removals: list[Callable[[], object]] = []
        self._pending: dict[tuple[str, str], Any] = {}
        self._attributes: dict[type, dict[str, Any]] = {}
        self._modules: dict[str, ModuleType] = {}

    def prepare(self) -> None:
        """Build all that changes. Raises `SwapVeto`; blocks for some milliseconds."""
        if self._plan.changes and (kin := living_kin()):
            raise SwapVeto(f"process {kin}, which the predictor started, has the old code")
        try:
            self._plan_again()
            self._prepare()
        except SwapVeto:
            raise
        except Exception as error:  # whatever evaluating the author's new source raises
            raise SwapVeto(f"the new code cannot be built: {type(error).__name__}: {error}") from error

    def commit(self) -> None:
        """Make the new code live. Only assigns what is ready; call it once, after `prepare`."""
        for step in (*self._steps, *self._removals):
            step()
        self._sources.adopt(self._new.files)  # what is imported only now is of the new generation too

    def preview(self, cls: type) -> type:
        """After `prepare`: a class without bases that reads as `cls` will after `commit`, for the contract check."""
        found = type(cls.__name__, (), {"__module__": cls.__module__, "__qualname__": cls.__qualname__})
        for base in reversed(cls.__mro__[:-1]):
            for name, value in {**vars(base), **self._attributes.get(base, {})}.items():
                if value is not _REMOVED and name not in _NOT_COPIED:
                    setattr(found, name, value)
        return found

    def _plan_again(self) -> None:
        """Refuse what the plan would have refused, had it known of functions that ran though no code shows it."""
        unforeseen = self._ran.unforeseen
        if self._plan.changes and unforeseen:
            known = self._sources.known()
            files = {path: known.get(path, source) for path, source in self._new.files.items()}
            planned = plan(msgspec.structs.replace(self._new, files=files), self._new, ran=unforeseen)
            if planned.kind is Kind.REPLACE:
                raise SwapVeto(planned.reason)

    def _prepare(self) -> None:
        self._modules = modules_at(self._new.files)
        code = self.code = Code(self._new.files)
        files = [
            LivingFile(module, old, self._new.files[path], [one for one in self._plan.changes if one.path == path])
            for path, module in self._modules.items()
            if (old := self._sources.read(path)) != self._new.files[path]
        ]
        for file in files:
            file.require_at_rest()
            self._move(file)
            for pair in file.pairs.pairs:
                if pair.is_changed:
                    self._change(file, pair)
                self._redocument(file, pair)
        changes = [(self._turn(file, change), file, change) for file in files for change in file.changes]
        for _, file, change in sorted(changes, key=lambda one: one[0]):
            self._bind(code, file, change)
        for path, name in self._plan.memos:
            self._clear_memo(path, name)

    # --- functions

    def _move(self, file: LivingFile) -> None:
        for old, new in file.pairs.moved.items():
            for function in file.functions.get(old, ()):
                self._assign(function, "__code__", new)
        lines = io.StringIO(decode_source(file.source)).readlines()
        entry = (len(file.source), None, lines, file.path)  # no time: never compared with the disk
        self._steps.append(functools.partial(linecache.cache.__setitem__, file.path, entry))

    def _change(self, file: LivingFile, pair: Pair) -> None:
        living = file.functions.get(pair.old_code, [])
        if self._ran.did(file.path, pair.old.name):
            raise SwapVeto(f"{pair.old.place} ran while loading")
        if not living and pair.old.is_conditional:
            return
        holder, name = file.namespace(pair.old.name) if not pair.old.is_conditional else (None, "")
        if holder is not None and not any(one in living for one in layers(file.value(pair.old.name))):
            raise SwapVeto(f"{pair.old.place} is not what its source says")
        for function in living:
            self._change_function(file, pair, function, holder, name)

    def _change_function(self, file: LivingFile, pair: Pair, function: FunctionType, holder: Any, name: str) -> None:
        old, new = pair.old.node, pair.new.node
        defaults, keyword_defaults = file.maker.defaults(new, defaults_of(old), live_defaults(function))
        annotations = file.maker.annotations(new, annotations_by_name(old), function.__annotations__)
        in_place = function.__code__.co_freevars == pair.new_code.co_freevars
        if not in_place and not _only_class_differs(function.__code__, pair.new_code):
            raise SwapVeto(f"{pair.old.place} has other free variables")
        if not in_place and not (isinstance(holder, type) and vars(holder)[name] is function):
            raise SwapVeto(f"{pair.old.place} begins or ends to use super(), and others hold it")
        successor = _rebuilt(function, pair.new_code, holder)
        successor.__defaults__, successor.__kwdefaults__ = defaults, keyword_defaults
        successor.__annotations__ = annotations
        if isinstance(holder, type) and vars(holder)[name] is function:
            self._attributes.setdefault(holder, {})[name] = successor
        if not in_place:
            self._assign(holder, name, successor)
            return
        self._assign(function, "__code__", pair.new_code)
        self._assign(function, "__defaults__", defaults)
        self._assign(function, "__kwdefaults__", keyword_defaults)
        self._steps.append(function.__annotations__.clear)  # the same dict, which functools.wraps has copied on
        self._steps.append(functools.partial(function.__annotations__.update, annotations))

    def _redocument(self, file: LivingFile, pair: Pair) -> None:
        if document_of(pair.old.node) == document_of(pair.new.node) or pair.old.is_conditional:
            return
        document = pair.new_code.co_consts[0] if document_of(pair.new.node) is not None else None
        old = pair.old_code.co_consts[0] if document_of(pair.old.node) is not None else None
        for layer in layers(file.value(pair.old.name)):
            if layer.__doc__ == old and not isinstance(layer, type):
                self._assign(layer, "__doc__", document)

    def _clear_memo(self, path: str, name: str) -> None:
        if (module := self._modules.get(path)) is None:
            return
        value: Any = module
        for part in name.split("."):
            value = vars(value).get(part)
        for layer in layers(value):
            if hasattr(layer, "cache_clear"):
                self._steps.append(layer.cache_clear)

    # --- names

    def _turn(self, file: LivingFile, change: Change) -> tuple[int, int]:
        """Imports come first, for definitions to use them; those of what is only being made come last."""
        if change.action is not Action.IMPORTED:
            return 1, change.line
        node = _item(file.new.body, change.name).node
        return (2 if self._imported_file(file, node) else 0), change.line

    def _imported_file(self, file: LivingFile, node: ast.stmt) -> str | None:
        if not isinstance(node, ast.ImportFrom):
            return None
        module = file.maker.module_of(node)
        return next((path for path, one in self._modules.items() if one.__name__ == module), None)

    def _bind(self, code: Code, file: LivingFile, change: Change) -> None:
        match change.action:
            case Action.DOCUMENTED if not change.line:
                target = file.value(change.name) if change.name else file.module
                self._assign(target, "__doc__", _document(file.new.body, change.name))
            case Action.ADDED:
                file.require_absent(change.name)
                self._add(file, change.name, self._made(code, file, change))
            case Action.REVALUED:
                self._revalue(file, change.name)
            case Action.REMOVED | Action.FORGOTTEN:
                file.value(change.name)
                if self._ran.did(file.path, change.name) and change.action is Action.REMOVED:
                    raise SwapVeto(f"{change.name} ran while loading")
                holder, name = file.namespace(change.name)
                self._removals.append(functools.partial(delattr, holder, name))
                if isinstance(holder, type):
                    self._attributes.setdefault(holder, {})[name] = _REMOVED
            case Action.IMPORTED:
                self._add(file, change.name, self._imported(file, change.name))

    def _made(self, code: Code, file: LivingFile, change: Change) -> Any:
        item = _item(file.new.body, change.name)
        match item.node:
            case ast.ClassDef() as node:
                return file.maker.class_(node)
            case ast.Assign(value=value):
                return file.maker.value(value)
        definition = next(one for one in code.functions if one.node is item.node)
        holder, _ = file.namespace(change.name)
        return file.maker.function(
            definition, file.pairs.added[change.name, change.line], holder if isinstance(holder, type) else None
        )

    def _imported(self, file: LivingFile, name: str) -> Any:
        node = _item(file.new.body, name).node
        assert isinstance(node, ast.Import | ast.ImportFrom)
        pending = (self._imported_file(file, node) or "", node.names[0].name)
        return self._pending[pending] if pending in self._pending else file.maker.imported(node, name)

    def _revalue(self, file: LivingFile, name: str) -> None:
        old, live = file.maker.value(_constant(_item(file.old.body, name))), file.value(name)
        if type(old) is not type(live) or old != live:
            raise SwapVeto(f"{name} is not what its source says")
        value = file.maker.value(_constant(_item(file.new.body, name)))
        self._add(file, name, value)
        for path, module in self._modules.items():
            for alias, dotted in read_items(self._new.files[path]).origins.items():
                is_copy = dotted.rpartition(".")[2] == name and vars(module).get(alias, _REMOVED) is live
                if is_copy and path != file.path:
                    self._assign(module, alias, value)

    def _add(self, file: LivingFile, name: str, value: Any) -> None:
        holder, attribute = file.namespace(name)
        self._assign(holder, attribute, value)
        if isinstance(holder, type):
            self._attributes.setdefault(holder, {})[attribute] = value
        else:
            file.maker.made[name] = self._pending[file.path, name] = value

    def _assign(self, target: Any, name: str, value: Any) -> None:
        self._steps.append(functools.partial(setattr, target, name, value))


def _only_class_differs(old: CodeType, new: CodeType) -> bool:
    return set(old.co_freevars) ^ set(new.co_freevars) == {"__class__"}


def _rebuilt(function: FunctionType, code: CodeType, holder: Any) -> FunctionType:
    """The function that a re-import would have made: the same names and closure, with other code."""
    cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
    closure = tuple(cells[name] if name in cells else CellType(holder) for name in code.co_freevars)
    found = FunctionType(code, function.__globals__, function.__name__, None, closure)
    found.__dict__.update(vars(function))
    return found


def _item(body: Body, name: str) -> Item:
    first, _, rest = name.partition(".")
    item = body.named(first)[-1]
    return _item(item.body, rest) if rest and item.body is not None else item


def _document(body: Body, name: str) -> str | None:
    found = _item(body, name).body if name else body
    return found.document if found is not None else None


def _constant(item: Item) -> ast.expr:
    assert isinstance(item.node, ast.Assign | ast.AnnAssign) and item.node.value is not None
    return item.node.value
