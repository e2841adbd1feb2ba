"""Edits and their plans: what SWAP, REPLACE and NONE have to be, and the culprit that a refusal names."""
# ruff: noqa: E501 (a table has one edit a line)

import msgspec
import pytest

from predictord.plan.model import Kind, Plan
from predictord.plan.plan import plan
from tests.plan.generations import edited, generation

BASE = '''"""Sizes up texts."""
import functools
import re
from helper import pad, SCALE
from shapes import Box, Base

LIMIT = 10
PATTERN = re.compile("[a-z]+")
LABELS = {"a": 1}


def clean(text: str) -> str:
    """Tidy."""
    return text.strip()


def outer(x):
    def inner(y):
        return y + 1
    return [inner(x), (lambda z: z * 2)(x)]


@functools.lru_cache
def slow(x):
    return x * LIMIT


try:
    import fast
except ImportError:
    def quick(x):
        return x


class Predictor(Base):
    greeting = "hi"
    table = {"x": 1}

    def __init__(self, config):
        self.size = self.measure(config)
        self.box = Box(3)

    def measure(self, config):
        return depth(config)

    def predict(self, payload, factor=2):
        return clean(payload)[:LIMIT] * factor

    def post(self, x):
        return self.box.area() + x

    @property
    def label(self):
        return self.greeting

    @staticmethod
    def fixed(x):
        return x

    @classmethod
    def named(cls):
        return cls.greeting

    def __secret(self):
        return 1

    def __len__(self):
        return 4


def depth(config):
    return len(config)
'''
HELPER = """SCALE = 2


def pad(text):
    return text + " "


def unused(text):
    return text
"""
SHAPES = """import dataclasses
import contextlib


class Base:
    def hook(self):
        return 1

    def over(self):
        return 2


class Box:
    def __init__(self, side):
        self.side = side

    def area(self):
        return self.side * self.side

    def __call__(self):
        return 1


class Other:
    def __init__(self):
        self.x = 1

    def __len__(self):
        return 3


@dataclasses.dataclass
class Point:
    x: int = 1
    y: int = 2

    def norm(self):
        return self.x + self.y


@contextlib.contextmanager
def timed():
    yield 1
"""
FILES = {"predictor.py": BASE, "helper.py": HELPER, "shapes.py": SHAPES}


def planned(old: dict[str, str] | str, new: dict[str, str] | str, *, served: bool = True) -> Plan:
    return plan(generation(old), generation(new), served=served)


def after(*edits: tuple[str, str], file: str = "predictor.py") -> Plan:
    return planned(FILES, {**FILES, file: edited(FILES[file], *edits)})


P, H, S = "predictor.py", "helper.py", "shapes.py"

SWAPS: dict[str, tuple[str, list[tuple[str, str]]]] = {
    "predict": (P, [("[:LIMIT]", "[LIMIT:]")]),
    "function that predict calls": (P, [("text.strip()", "text.lstrip()")]),
    "function in another file": (H, [('text + " "', 'text + "-"')]),
    "method of an object that __init__ made": (S, [("self.side * self.side", "self.side + 1")]),
    "__len__ of a class that only requests use": (S, [("return 3", "return 5")]),
    "__init__ of a class that only requests use": (S, [("self.x = 1", "self.x = 2")]),
    "property": (P, [("return self.greeting", "return self.greeting + '!'")]),
    "static method": (P, [("def fixed(x):\n        return x", "def fixed(x):\n        return -x")]),
    "class method": (P, [("return cls.greeting", "return cls.greeting * 2")]),
    "mangled method": (P, [("return 1", "return 2")]),
    "nested function": (P, [("y + 1", "y + 2")]),
    "lambda in a function": (P, [("z * 2", "z * 3")]),
    "cached function": (P, [("x * LIMIT", "x + LIMIT")]),
    "function under try": (P, [("def quick(x):\n        return x", "def quick(x):\n        return -x")]),
    "context manager": (S, [("yield 1", "yield 2")]),
    "method of a dataclass": (S, [("self.x + self.y", "self.x")]),
    "method of a base": (S, [("return 1", "return 10")]),
    "constant": (P, [("LIMIT = 10", "LIMIT = 20")]),
    "constant that is arithmetic": (P, [("LIMIT = 10", "LIMIT = 2 * 10")]),
    "pattern": (P, [("[a-z]+", "[A-Z]+")]),
    "constant imported elsewhere": (H, [("SCALE = 2", "SCALE = 3")]),
    "class attribute": (P, [('"hi"', '"hello"')]),
    "class attribute that is a dict": (P, [('table = {"x": 1}', 'table = {"x": 2}')]),
    "override added": (P, [("    def post(", "    def over(self):\n        return 3\n\n    def post(")]),
    "super() begins": (P, [("return self.box.area() + x", "return super().hook()")]),
    "literal default": (P, [("factor=2", "factor=3")]),
    "parameter with a default": (P, [("factor=2", "factor=2, unit='m'")]),
    "signature of predict": (P, [("payload, factor=2", "payload, query_params, factor=2")]),
    "predict becomes a generator": (P, [("return clean(payload)", "yield clean(payload)")]),
    "docstring": (P, [('"""Tidy."""', '"""Tidies."""')]),
    "docstring of the module": (P, [("Sizes up texts.", "Measures texts.")]),
    "annotation of a builtin": (P, [("def clean(text: str) -> str", "def clean(text: str | None) -> str")]),
    "new function": (P, [("def outer", "def fresh(x: int = 3) -> int:\n    return x\n\n\ndef outer")]),
    "new static method": (P, [("    def post(", "    @staticmethod\n    def fresh(x):\n        return x\n\n    def post(")]),
    "new cached function": (P, [("def outer", "@functools.lru_cache\ndef fresh(x):\n    return x\n\n\ndef outer")]),
    "new constant": (P, [("LIMIT = 10", "LIMIT = 10\nMOST = 3")]),
    "new class attribute": (P, [('greeting = "hi"', 'greeting = "hi"\n    farewell = "bye"')]),
    "new class": (P, [("def outer", "class Fresh(ValueError):\n    def f(self):\n        return 1\n\n\ndef outer")]),
    "function renamed with its uses": (P, [("def clean", "def tidy"), ("clean(payload)", "tidy(payload)")]),
    "function removed": (H, [("\n\ndef unused(text):\n    return text\n", "")]),
    "import from the standard library": (P, [("import re", "import json\nimport re")]),
    "import of a name from the standard library": (P, [("import re", "import re\nfrom collections import Counter")]),
    "import of a known name": (P, [("import pad, SCALE", "import pad, SCALE, unused")]),
    "import removed": (P, [("import pad, SCALE", "import pad")]),
    "function moved": (P, [("def clean(text: str) -> str:\n    \"\"\"Tidy.\"\"\"\n    return text.strip()\n", ""), ("def depth", "def clean(text: str) -> str:\n    return text.strip()\n\n\ndef depth")]),
}  # fmt: skip

REPLACES: dict[str, tuple[str, list[tuple[str, str]], str]] = {
    "__init__": (P, [("Box(3)", "Box(4)")], "__init__"),
    "method that __init__ calls": (P, [("return depth(config)", "return depth(config) + 1")], "measure is named in Predictor.__init__()"),
    "what that calls": (P, [("len(config)", "len(config) + 1")], "depth is named in Predictor.measure()"),
    "dunder of the predictor": (P, [("return 4", "return 5")], "__len__"),
    "__call__ of an object that __init__ made": (S, [("def __call__(self):\n        return 1", "def __call__(self):\n        return 2")], "__call__"),
    "field of a dataclass": (S, [("x: int = 1", "x: int = 3")], "Point"),
    "head of a class": (P, [("class Predictor(Base)", "class Predictor(Base, object)")], "Predictor"),
    "class removed": (S, [("class Other:\n    def __init__(self):\n        self.x = 1\n\n    def __len__(self):\n        return 3\n", "")], "Other"),
    "dunder added": (P, [("    def post(", "    def __eq__(self, other):\n        return True\n\n    def post(")], "__eq__"),
    "decorator added": (P, [("def outer", "@functools.cache\ndef outer")], "decorators of outer()"),
    "parameters under a decorator": (P, [("def slow(", "def slow(extra=1, *, ")], "decorators, and its parameters changed"),
    "decorator removed": (P, [("@functools.lru_cache\n", "")], "decorators of slow()"),
    "predict becomes async": (P, [("def predict", "async def predict")], "async def"),
    "unloaded package imported": (P, [("import re", "import re\nimport scipy")], "import scipy"),
    "computed constant": (P, [("LIMIT = 10", "LIMIT = len('abc')")], "LIMIT"),
    "computed default": (P, [("factor=2", "factor=max(1, 2)")], "factor"),
    "unbound annotation": (P, [("text: str", "text: Unknown")], "Unknown"),
    "annotation bound below": (P, [("text: str", "text: Predictor")], "Predictor"),
    "still imported": (H, [("def pad(text):\n    return text + \" \"\n", "")], "predictor.py still imports the name"),
    "name that shadows a builtin": (P, [("def outer", "def len(x):\n    return 3\n\n\ndef outer")], "len is named in depth()"),
    "max_batch_size": (P, [('greeting = "hi"', 'greeting = "hi"\n    max_batch_size = 8')], "max_batch_size"),
    "predict removed": (P, [("def predict", "def predict_all")], "predict"),
    "active item": (P, [("import fast", "import faster")], "runs at import"),
    "new active item": (P, [("LIMIT = 10", "LIMIT = 10\nprint(1)")], "`print(1)` in predictor.py runs at import, and is new"),
    "syntax": (P, [("return text.strip()", "return (")], "does not compile"),
    "counter": (P, [("return self.box.area() + x", "return x"), ("return clean", "self.n = 1\n        return clean")], "self.n"),
}  # fmt: skip

NONES: dict[str, tuple[str, list[tuple[str, str]]]] = {
    "comment": (P, [("LIMIT = 10", "LIMIT = 10  # characters")]),
    "comment in __init__": (P, [("self.box = Box(3)", "# a box\n        self.box = Box(3)")]),
    "layout": (P, [("def outer(x):", "\n\n\ndef outer(\n    x\n):")]),
    "import for type checkers": (P, [("import re\n", "import re\nif TYPE_CHECKING:\n    import numpy\n")]),
    "script": (P, [("def outer", "if __name__ == '__main__':\n    print(1)\n\ndef outer")]),
}


@pytest.mark.parametrize("name", SWAPS)
def test_an_edit_that_loading_does_not_see_is_swapped(name: str) -> None:
    file, edits = SWAPS[name]
    found = after(*edits, file=file)
    assert found.kind is Kind.SWAP, found.reason
    assert found.changes


@pytest.mark.parametrize("name", REPLACES)
def test_an_edit_that_loading_may_see_replaces_and_names_the_culprit(name: str) -> None:
    file, edits, culprit = REPLACES[name]
    found = after(*edits, file=file)
    assert found.kind is Kind.REPLACE
    assert culprit in found.reason


def test_an_edit_of_the_constructor_is_told_in_plain_words() -> None:
    found = after(("self.box = Box(3)", "self.box = Box(4)"))
    assert found.reason == "Predictor.__init__() may run while loading"


@pytest.mark.parametrize("name", NONES)
def test_comments_layout_and_what_never_runs_only_move_lines(name: str) -> None:
    file, edits = NONES[name]
    found = after(*edits, file=file)
    assert found.kind is Kind.NONE, found.reason
    assert found.relocates


def predictor(
    init: str = "pass", predict: str = "return self.h(payload)", *, top: str = "", body: str = "", after: str = "", base: str = ""
) -> str:  # fmt: skip
    """A predictor with a method `h`; `top` and `after` are module level, `body` is class level."""
    return f"""{top}
def pad(x):
    return x + 1

class Predictor{base}:
    {body}
    def __init__(self, config):
        {init}
    def h(self, x):
        return pad(x)
    def predict(self, payload):
        {predict}
{after}
"""


TO_H = [("return pad(x)", "return pad(x) * 2")]
TO_PAD = [("return x + 1", "return x + 2")]
TRAPS: dict[str, tuple[str, list[tuple[str, str]]]] = {
    "captured method": (predictor("self.f = self.h"), TO_H),
    "captured method's callee": (predictor("self.f = self.h"), TO_PAD),
    "partial": (predictor("self.f = partial(self.h)"), TO_H),
    "compiled": (predictor("self.f = torch.compile(self.h)"), TO_H),
    "compiled function's callee": (predictor("self.f = torch.compile(self.h)"), TO_PAD),
    "lambda": (predictor("self.f = lambda x: self.h(x)"), TO_H),
    "lambda's own code": (predictor("self.f = lambda x: x"), [("lambda x: x", "lambda x: -x")]),
    "thread": (predictor("Thread(target=self.h).start()"), TO_H),
    "getattr": (predictor('getattr(self, "h")(1)'), TO_H),
    "methodcaller": (predictor('methodcaller("h")(self)'), TO_H),
    "computed getattr": (predictor('getattr(self, "h" + "")(1)'), TO_H),
    "eval": (predictor('eval("self." + "h")(1)'), TO_H),
    "format": (predictor('"{0.h}".format(self)'), TO_H),
    "hasattr": (predictor('self.x = hasattr(self, "extra")'), [("    def h", "    def extra(self):\n        pass\n    def h")]),
    "names listed": (predictor("self.x = list(vars(type(self)))"), [("    def h", "    def extra(self):\n        pass\n    def h")]),
    "inspected": (predictor("inspect.signature(self.h)"), TO_H),
    "warm-up": (predictor("self.predict(1)", "return payload"), [("return payload", "return [payload]")]),
    "unpickled object": (predictor("self.x = pickle.load(f)[0]", after="class Box:\n    def __getitem__(self, i):\n        return 1"), [("return 1", "return 2")]),
    "library holds self": (predictor("lib.register(self)"), TO_H),
    "library's attribute holds self": (predictor("lib.callback = self"), TO_H),
    "library holds an object": (predictor("box = Box()\n        lib.register([box])", after="class Box:\n    def on(self):\n        return 1"), [("return 1", "return 2")]),
    "library holds what a function gave": (predictor("lib.register(make())", after="def make():\n    return Box()\nclass Box:\n    def on(self):\n        return 1"), [("return 1", "return 2")]),
    "foreign base": (predictor(after="class Net(torch.nn.Module):\n    def forward(self):\n        return 1"), [("return 1", "return 2")]),
    "foreign base of its own name": (predictor(after="class Module(torch.nn.Module):\n    def forward(self):\n        return 1"), [("return 1", "return 2")]),
    "metaclass": (predictor(after="class Net(metaclass=lib.Meta):\n    def forward(self):\n        return 1"), [("return 1", "return 2")]),
    "class decorator": (predictor(after="@lib.register\nclass Net:\n    def forward(self):\n        return 1"), [("return 1", "return 2")]),
    "hook override added": (predictor(after="class Net(lib.Base):\n    x = 1"), [("    x = 1", "    x = 1\n    def hook(self):\n        return 2")]),
    "__init_subclass__": (predictor(base="(Root)", top="class Root:\n    def __init_subclass__(cls):\n        cls.n = 1"), [("cls.n = 1", "cls.n = 2")]),
    "descriptor": (predictor(top="class Field:\n    def __set_name__(self, owner, name):\n        self.n = 1", body="field = Field()"), [("self.n = 1", "self.n = 2")]),
    "property that __init__ reads": (predictor("self.x = self.size", body="@property\n    def size(self):\n        return 1"), [("return 1", "return 2")]),
    "unknown decorator": (predictor(body="@lib.mark\n    def g(self):\n        return 1"), [("return 1", "return 2")]),
    "own decorator's body": (predictor(top="def mark(f):\n    def g(*a):\n        return f(*a)\n    return g", body="@mark\n    def k(self):\n        return 1"), [("return f(*a)", "return [f(*a)]")]),
    "inspecting decorator": (predictor(top="def mark(f):\n    f.n = f.__name__\n    return f", body="@mark\n    def k(self):\n        return 1"), [("return 1", "return 2")]),
    "registering decorator": (predictor(top="ALL = []\ndef mark(f):\n    ALL.append(f)\n    return f", body="@mark\n    def k(self):\n        return 1"), [("return 1", "return 2")]),
    "cached property": (predictor(top="import functools", body="@functools.cached_property\n    def k(self):\n        return 1"), [("return 1", "return 2")]),
    "singledispatch": (predictor(top="import functools\n@functools.singledispatch\ndef k(x):\n    return 1"), [("return 1", "return 2")]),
    "instance cache": (predictor(predict="self.cache[payload] = 1\n        return self.h(payload)"), TO_H),
    "history": (predictor(predict="self.seen.append(payload)\n        return self.h(payload)"), TO_H),
    "local alias of a list": (predictor(predict="seen = self.seen\n        seen.append(payload)\n        return self.h(payload)"), TO_H),
    "list passed to a function": (predictor(predict="note(self.seen, payload)\n        return self.h(payload)", after="def note(seen, x):\n    seen.append(x)"), TO_H),
    "list that a method returns": (predictor(predict="self.notes().append(payload)\n        return self.h(payload)", body="def notes(self):\n        return self.seen"), TO_H),
    "iterator": (predictor("self.ids = iter(range(9))", "return [next(self.ids), self.h(payload)]"), TO_H),
    "iterator in a loop": (predictor("self.ids = iter(range(9))", "return [i for i, x in zip(self.ids, 'ab')] + [self.h(payload)]"), TO_H),
    "lazy model": (predictor(predict="if self.model is None:\n            self.model = lib.load()\n        return self.h(payload)"), TO_H),
    "mutable default": (predictor(body="def note(self, x, seen=[]):\n        seen.append(x)\n        return seen", predict="return [self.note(payload), self.h(payload)]"), TO_H),
    "global": (predictor(top="N = 0", predict="global N\n        N += 1\n        return self.h(payload)"), TO_H),
    "nonlocal": (predictor("self.f = counter()", after="def counter():\n    n = 0\n    def count():\n        nonlocal n\n        n += 1\n    return count"), TO_H),
    "memo of a library": (predictor(predict="return self.memo.cached(self.h, payload)"), TO_H),
    "discarded call": (predictor(predict="self.chat.tell(payload)\n        return self.h(payload)"), TO_H),
    "state that begins": (predictor(body="n = 0"), [("return self.h(payload)", "Predictor.n += 1\n        return self.h(payload)")]),
    "constant that __init__ reads": (predictor("self.n = LIMIT", top="LIMIT = 1"), [("LIMIT = 1", "LIMIT = 2")]),
    "constant in a default": (predictor(top="LIMIT = 1", body="def g(self, n=LIMIT):\n        return n"), [("LIMIT = 1", "LIMIT = 2")]),
    "constant that another is made of": (predictor(top="LIMIT = 1\nDOUBLE = LIMIT * 2"), [("LIMIT = 1", "LIMIT = 2")]),
    "monkeypatched": (predictor(after="def other(x):\n    return 1\nPredictor.h = other"), [("return 1", "return 2")]),
    "condition": (predictor(top="if True:\n    X = 1\nelse:\n    X = 2"), [("if True", "if False")]),
    "closure made while loading": (predictor("self.f = make(1)", after="def make(n):\n    def f(x):\n        return x + n\n    return f"), [("return x + n", "return x - n")]),
    "class body calls it": (predictor(body="table = pad(1)"), TO_PAD),
    "reordered across a use": (predictor(top="A = 1", after="def g(x=A):\n    return x"), [("A = 1\n", ""), ("def g", "A = 1\ndef g")]),
    "enum": (predictor(top="import enum\nclass Mode(enum.Enum):\n    A = 1"), [("A = 1", "A = 2")]),
    "named tuple": (predictor(top="import typing\nclass Pair(typing.NamedTuple):\n    a: int = 1"), [("a: int = 1", "a: int = 2")]),
    "alias at import": (predictor(after="g = pad"), TO_PAD),
    "imported under another name": (predictor("from predictor import pad as fill\n        self.x = fill(1)"), TO_PAD),
    "module __getattr__": (predictor(after="def __getattr__(name):\n    return 1"), [("return 1", "return 2")]),
    "rebound name": (predictor(after="pad = lib.wrap(pad)"), TO_PAD),
    "docstring that is read": (predictor("self.x = type(self).h.__doc__", body='"""Doc."""'), [("Doc.", "Text.")]),
    "names of a star import": (predictor(top="from predictor import *\nA = 1"), [("A = 1", "A = 2")]),
}  # fmt: skip


@pytest.mark.parametrize("name", TRAPS)
def test_a_trap_is_seen(name: str) -> None:
    old, edits = TRAPS[name]
    found = planned(old, edited(old, *edits))
    assert found.kind is Kind.REPLACE
    assert found.reason


HARMLESS: dict[str, tuple[str, list[tuple[str, str]]]] = {
    "plain": (predictor(), TO_H),
    "computed getattr in predict": (predictor(predict='return getattr(self, "h" + "")(payload)'), TO_H),
    "body under an own wrapper": (predictor(top="import functools\ndef mark(f):\n    @functools.wraps(f)\n    def g(*a):\n        return f(*a)\n    return g", body="@mark\n    def k(self):\n        return 1"), [("return 1", "return 2")]),
    "body under an own wrapper with arguments": (predictor(top="def retry(n):\n    def mark(f):\n        def g(*a):\n            return f(*a)\n        return g\n    return mark", body="@retry(3)\n    def k(self):\n        return 1"), [("return 1", "return 2")]),
    "no_grad": (predictor(top="import torch", body="@torch.no_grad()\n    def k(self):\n        return 1"), [("return 1", "return 2")]),
    "helper object used while loading": (predictor("self.box = Box()\n        self.x = lib.load(config['x']).to('cpu')", after="class Box:\n    def area(self):\n        return 1"), [("return 1", "return 2")]),
    "local list": (predictor(predict="out = []\n        out.append(self.h(payload))\n        out.sort()\n        return out"), TO_H),
    "list that holds what is kept": (predictor(predict="out = [self.prompt]\n        out.append({'a': payload})\n        return out"), [("'a'", "'b'")]),
    "local result changed": (predictor(predict="out = self.model(payload)\n        out['x'] = 1\n        return out"), [("= 1", "= 2")]),
    "payload changed": (predictor(predict="payload['x'] = LIMIT\n        return payload", top="LIMIT = 1"), [("LIMIT = 1", "LIMIT = 2")]),
    "logging": (predictor(top="import logging\nlog = logging.getLogger(__name__)", predict="return self.h(payload)"), [("return self.h", "log.info('got %s', payload)\n        return self.h")]),
    "print": (predictor(), [("return self.h", "print(payload, self.x)\n        return self.h")]),
    "opaque code in a request": (predictor(predict="return eval('1')"), TO_PAD),
}  # fmt: skip


@pytest.mark.parametrize("name", HARMLESS)
def test_what_only_looks_like_a_trap_is_swapped(name: str) -> None:
    old, edits = HARMLESS[name]
    found = planned(old, edited(old, *edits))
    assert found.kind is Kind.SWAP, found.reason


def test_state_does_not_matter_before_the_first_request() -> None:
    old = predictor(predict="self.seen.append(payload)\n        return self.h(payload)")
    assert planned(old, edited(old, *TO_H), served=False).kind is Kind.SWAP
    assert planned(old, edited(old, *TO_H)).reason == "requests change self.seen.append in Predictor.predict()"


def test_settings_and_sets_of_files_replace() -> None:
    old = generation(FILES)
    assert plan(old, old).kind is Kind.NONE
    for change in (
        {"config": {"a": 1}},
        {"environment": {"A": "1"}},
        {"class_name": "Other"},
        {"path": "/project/other.py"},
        {"files": {**old.files, "/project/new.py": b""}},
        {"files": {path: source for path, source in old.files.items() if "helper" not in path}},
    ):
        assert plan(old, msgspec.structs.replace(old, **change)).kind is Kind.REPLACE


def test_a_plan_travels_over_the_wire() -> None:
    found = after(("[:LIMIT]", "[LIMIT:]"), ("x * LIMIT", "x - LIMIT"))
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(found), type=Plan) == found
    assert found.reason == "slow() and Predictor.predict()"
    assert found.memos == (("/project/predictor.py", "slow"),)
