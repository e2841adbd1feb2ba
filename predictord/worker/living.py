"""A loaded project file: its module, its functions wherever they went, and whether any of them is running."""

import gc
import sys
from collections.abc import Iterable, Iterator
from types import AsyncGeneratorType, CodeType, CoroutineType, FrameType, FunctionType, GeneratorType, ModuleType
from typing import Any

from predictord.plan.change import Change
from predictord.plan.items import Source, read_items
from predictord.worker.code_pairs import pair_codes
from predictord.worker.definitions import Maker

_ABSENT = object()


class SwapVeto(Exception):
    """This process cannot take the new code in place; the text says why. Nothing has changed."""


class LivingFile:
    """One file that differs between its loaded and its new source. Raises `SwapVeto` if it is in no state to change."""

    def __init__(self, module: ModuleType, old: bytes, new: bytes, changes: list[Change]) -> None:
        self.module = module
        self.path = module.__file__ or ""
        self.changes = changes
        self.source = new
        self.old: Source = read_items(old)
        self.new: Source = read_items(new)
        self.maker = Maker(module, self.new.postpones_annotations)
        self.pairs = pair_codes(self.path, old, new, {(change.name, change.line) for change in changes})
        # Every function refers to its module's names, so none is missed: closures, lambdas, what libraries hold.
        self.functions: dict[CodeType, list[FunctionType]] = {}
        for found in gc.get_referrers(vars(module)):
            if type(found) is FunctionType and found.__globals__ is vars(module):
                self.functions.setdefault(found.__code__, []).append(found)

    def require_at_rest(self) -> None:
        """Refuse if code that changes is running, suspended, or was handed on by its outer function."""
        for code in self.functions.keys() & self.pairs.inner.keys():
            raise SwapVeto(f"a function that {self.pairs.inner[code]}() made is still in use")
        outer = {pair.old_code: pair.old.name for pair in self.pairs.pairs if pair.is_changed}
        changing = {**self.pairs.inner, **outer}
        alive = [function.__code__ for code in outer for function in self.functions.get(code, ())]
        for code in (*_codes_on_stacks(), *_codes_suspended(alive)):
            if code in changing and code.co_filename == self.path:
                raise SwapVeto(f"{changing[code]}() is still running")

    def namespace(self, name: str) -> tuple[Any, str]:
        """The module or class that binds a qualified name, and the name there."""
        holder: Any = self.module
        *parents, last = name.split(".")
        for parent in parents:
            holder = vars(holder).get(parent)
            if not isinstance(holder, type):
                raise SwapVeto(f"{parent} is not the class that its source says")
        return holder, _mangled(last, parents)

    def value(self, name: str) -> Any:
        """What is bound to a qualified name; refuses if nothing is."""
        holder, attribute = self.namespace(name)
        found = vars(holder).get(attribute, _ABSENT)
        if found is _ABSENT:
            raise SwapVeto(f"{name} is gone")
        return found

    def require_absent(self, name: str) -> None:
        """Refuse if somebody bound a name that the source did not."""
        holder, attribute = self.namespace(name)
        if attribute in vars(holder):
            raise SwapVeto(f"{name} is there already, though no source says so")


def layers(value: Any, depth: int = 0) -> Iterator[Any]:
    """A value, and what decorators put it around: properties, methods, wrappers and their closures."""
    yield value
    inner = [getattr(value, name, None) for name in ("__func__", "fget", "fset", "fdel", "__wrapped__")]
    if isinstance(value, FunctionType):
        inner += [cell.cell_contents for cell in value.__closure__ or () if _is_full(cell)]
    for part in inner:
        if depth < 9 and part is not None and part is not value and (callable(part) or isinstance(part, property)):
            yield from layers(part, depth + 1)


def modules_at(paths: Iterable[str]) -> dict[str, ModuleType]:
    """The loaded modules of these files. Raises `SwapVeto` if one is loaded twice."""
    wanted = set(paths)
    found: dict[str, ModuleType] = {}
    for module in list(sys.modules.values()):
        path = getattr(module, "__file__", None)
        if not isinstance(module, ModuleType) or path is None or path not in wanted:
            continue
        if found.setdefault(path, module) is not module:
            raise SwapVeto(f"{path} is loaded under two names")
    return found


def _codes_on_stacks() -> Iterator[CodeType]:
    for top in sys._current_frames().values():
        frame: FrameType | None = top
        while frame is not None:
            yield frame.f_code
            frame = frame.f_back


def _codes_suspended(codes: list[CodeType]) -> Iterator[CodeType]:
    for found in gc.get_referrers(*codes) if codes else ():
        match found:
            case GeneratorType():
                yield found.gi_code
            case CoroutineType():
                yield found.cr_code
            case AsyncGeneratorType():
                yield found.ag_code


def _mangled(name: str, parents: list[str]) -> str:
    if parents and name.startswith("__") and not name.endswith("__"):
        return f"_{parents[-1].lstrip('_')}{name}"
    return name


def _is_full(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False
