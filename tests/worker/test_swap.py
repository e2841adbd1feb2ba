"""New code in a living predictor: each case loads a project in a process of its own, swaps, and looks."""
# ruff: noqa: E501 (an edit is one line)

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

HARNESS = """
import gc, inspect, json, sys, traceback
from pathlib import Path
from predictord.plan.plan import plan
from predictord.snapshot import take_snapshot
from predictord.wire import WorkerOptions
from predictord.worker.contract import read_contract
from predictord.worker.loader import Loader
from predictord.worker.loading import load_predictor
from predictord.worker.ran import Ran
from predictord.worker.swap import Swap, SwapVeto

folder = Path(sys.argv[1])
old = take_snapshot(folder / "predictor.py", None, {})
loader = Loader(old)
with Ran(old) as ran:
    predictor = load_predictor(loader, old, WorkerOptions())
model = predictor.predict.__self__
import predictor as module

def save(name, *edits):
    text = (folder / name).read_text()
    for before, after in edits:
        assert before in text, before
        text = text.replace(before, after)
    (folder / name).write_text(text)

def swap(served=True):
    global old
    new = take_snapshot(folder / "predictor.py", None, {}, 2)
    planned = plan(old, new, served=served)
    if planned.kind == "replace":
        return planned.reason
    one = Swap(loader, planned, new, ran)
    try:
        one.prepare()
    except SwapVeto as veto:
        return f"veto: {veto}"
    global contract
    contract = read_contract(one.preview(type(model)), WorkerOptions())
    one.commit()
    assert contract == read_contract(type(model), WorkerOptions())
    old = new
    return str(planned.kind)

answers = []
say = answers.append
"""


def run(tmp_path: Path, files: dict[str, str], script: str) -> list[Any]:
    """What the script said, with the harness above before it."""
    for name, text in files.items():
        (tmp_path / name).write_text(textwrap.dedent(text))
    code = HARNESS + textwrap.dedent(script) + "\nprint('\\n' + json.dumps(answers))\n"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    answers: list[Any] = json.loads(done.stdout.splitlines()[-1])
    return answers


BASE = """
    import functools
    from helper import SCALE, pad

    LIMIT = 3

    def wrapped(function):
        @functools.wraps(function)
        def wrapper(*arguments):
            return function(*arguments)
        return wrapper

    def clean(text, mark="."):
        "Tidy."
        return text.strip() + mark

    @functools.lru_cache
    def slow(x):
        return x * LIMIT

    class Base:
        def hook(self):
            return "base"

    class Predictor(Base):
        greeting = "hi"

        def __init__(self):
            self.ready = True

        def predict(self, payload):
            return pad(clean(payload)) * SCALE

        def hook(self):
            return "own"

        @property
        def size(self):
            "How large."
            return 1

        @staticmethod
        def fixed(x):
            return x

        @wrapped
        def inner(self):
            return 1

        def fail(self):
            raise ValueError

        def __secret(self):
            return 1
"""
HELPER = """
    SCALE = 1

    def pad(text):
        return text + "_"
"""
FILES = {"predictor.py": BASE, "helper.py": HELPER}


def test_functions_change_wherever_they_went(tmp_path: Path) -> None:
    script = """
    bound, size = predictor.predict, type(model).size
    import functools
    held = [module.clean, functools.partial(module.clean, "x"), model.hook, model.inner]
    save("predictor.py", ("text.strip() + mark", "mark + text.strip()"), ('mark="."', 'mark="!"'), ("Tidy.", "Tidies."),
         ('return "own"', 'return "new"'), ("def inner(self):\\n        return 1", "def inner(self):\\n        return 2"),
         ("How large.", "How big."), ("def fixed(x):\\n        return x", "def fixed(x):\\n        return -x"))
    say(swap())
    say([held[0]("a"), held[1](), held[2](), bound("b"), model.fixed(1), model.inner()])
    say([module.clean.__doc__, type(model).size.__doc__, type(model).size is size])
    """
    assert run(tmp_path, FILES, script) == [
        "swap",
        ["!a", "!x", "new", "!b_", -1, 2],
        ["Tidies.", "How big.", True],
    ]


def test_lines_and_sources_are_right_after_a_swap(tmp_path: Path) -> None:
    script = """
    save("predictor.py", ("    LIMIT = 3".strip(), "# one\\n# two\\nLIMIT = 4"))
    say(swap())
    say(module.LIMIT)
    try:
        model.fail()
    except ValueError as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        say([last.line, (folder / "predictor.py").read_text().splitlines()[last.lineno - 1].strip()])
    say(inspect.getsource(module.clean).splitlines()[0])
    say(inspect.getsource(type(model).predict).splitlines()[0].strip())
    save("predictor.py", ("# one", "# one\\n# and a half"))
    say(swap())
    say(inspect.getsource(module.clean).splitlines()[0])
    """
    assert run(tmp_path, FILES, script) == [
        "swap",
        4,
        ["raise ValueError", "raise ValueError"],
        'def clean(text, mark="."):',
        "def predict(self, payload):",
        "none",
        'def clean(text, mark="."):',
    ]


def test_constants_reach_those_who_imported_them(tmp_path: Path) -> None:
    script = """
    save("helper.py", ("SCALE = 1", "SCALE = 2"))
    save("predictor.py", ('greeting = "hi"', 'greeting = "hello"'))
    say(swap())
    say([predictor.predict("a"), model.greeting])
    """
    assert run(tmp_path, FILES, script) == ["swap", ["a._a._", "hello"]]


def test_names_come_and_go(tmp_path: Path) -> None:
    script = """
    save("helper.py", ("def pad", "MORE = 3\\n\\ndef extra(x: int = 2) -> int:\\n    return x * MORE\\n\\ndef pad"))
    save("predictor.py", ("import SCALE, pad", "import SCALE, pad, extra\\nfrom collections import Counter\\nimport json"),
         ("LIMIT = 3", "LIMIT = 3\\nMOST = [1]\\nclass Fresh(ValueError):\\n    def f(self):\\n        return LIMIT\\n"),
         ("return pad(clean(payload)) * SCALE", "return [extra(), json.dumps(Counter(payload)), Fresh().f(), self.sized, self.more(1)]"),
         ("    def hook(self):\\n        return \\"own\\"\\n", ""),
         ("    def fail", "    @property\\n    def sized(self):\\n        return self.hook() + super().hook()\\n\\n    def more(self, x: Counter):\\n        return MOST\\n\\n    def fail"))
    say(swap())
    say(predictor.predict("a"))
    say([module.extra.__annotations__ == {"x": int, "return": int}, type(model).more.__qualname__, hasattr(module, "MOST")])
    """
    assert run(tmp_path, FILES, script) == [
        "swap",
        [6, '{"a": 1}', 3, "basebase", [1]],
        [True, "Predictor.more", True],
    ]


def test_super_begins_and_ends(tmp_path: Path) -> None:
    script = """
    save("predictor.py", ('return "own"', 'return super().hook() + "!"'))
    say(swap())
    say(model.hook())
    save("predictor.py", ('return super().hook() + "!"', 'return "own again"'))
    say(swap())
    say(model.hook())
    """
    assert run(tmp_path, FILES, script) == ["swap", "base!", "swap", "own again"]


def test_mangled_methods_and_signatures(tmp_path: Path) -> None:
    script = """
    save("predictor.py", ("def __secret(self):\\n        return 1", "def __secret(self):\\n        return 2"),
         ("def predict(self, payload):", "def predict(self, payload, query_params):"),
         ("return pad(clean(payload)) * SCALE", "yield self.__secret()"))
    say(swap())
    say([list(contract.arguments), contract.kind, list(predictor.predict(1, 2))])
    """
    assert run(tmp_path, FILES, script) == ["swap", [["payload", "query_params"], "generator", [2]]]


def test_stale_answers_are_forgotten(tmp_path: Path) -> None:
    script = """
    module.slow(2)
    save("predictor.py", ("LIMIT = 3", "LIMIT = 4"))
    say(swap())
    say(module.slow(2))
    """
    assert run(tmp_path, FILES, script) == ["swap", 8]


def test_what_is_imported_later_is_of_the_new_generation(tmp_path: Path) -> None:
    files = {
        "predictor.py": "class Predictor:\n    def predict(self, payload):\n        import later\n        return later.f()\n",
        "later.py": "def f():\n    return 1\n",
    }
    script = """
    save("later.py", ("return 1", "return 2"))
    say(swap())
    (folder / "later.py").write_text("broken(")
    say(predictor.predict(1))
    """
    assert run(tmp_path, files, script) == ["swap", 2]


VETOES = {
    "value": ('module.LIMIT = 5', ("LIMIT = 3", "LIMIT = 4"), "LIMIT is not what its source says"),
    "function": ("module.clean = print", ("text.strip()", "text"), "clean() is not what its source says"),
    "function gone": ("del module.clean", ("text.strip()", "text"), "clean is gone"),
    "name there already": ("module.MOST = 3", ("LIMIT = 3", "LIMIT = 3\nMOST = 4"), "MOST is there already"),
    "running": ("import threading, time; module.time = time; module.clean.__code__ = module.clean.__code__; threading.Thread(target=module.wait, daemon=True).start(); time.sleep(0.1)", ("time.sleep(9)", "time.sleep(8)"), "wait() is still running"),
    "suspended": ("running = module.items(); next(running)", ("yield 1", "yield 2"), "items() is still running"),
    "closure in use": ("held = module.make()", ("lambda: 1", "lambda: 2"), "a function that make() made is still in use"),
    "child": ("import os, time; os.fork() or (time.sleep(9), os._exit(0))", ("text.strip()", "text"), "which the predictor started"),
    "unloaded": ("import xml", ("import functools", "import functools\nimport helper.missing"), "helper.missing is not loaded"),
}  # fmt: skip


@pytest.mark.parametrize("name", VETOES)
def test_a_worker_refuses_what_the_plan_cannot_see(tmp_path: Path, name: str) -> None:
    prepare, edit, reason = VETOES[name]
    more = "\n    def wait():\n        time.sleep(9)\n\n    def items():\n        yield 1\n\n    def make():\n        return lambda: 1\n"
    script = f"{prepare}\nsave('predictor.py', {edit!r})\nsay(swap())\nsay([module.clean.__doc__ if hasattr(module, 'clean') else None])"
    said = run(tmp_path, {**FILES, "predictor.py": BASE + more}, script)[0]
    assert said.startswith("veto: ")
    assert reason in said


def test_a_function_that_a_library_looked_up_by_data_ran(tmp_path: Path) -> None:
    files = {
        "predictor.py": """
            import sys
            sys.path.append("site-packages")
            from library import run

            LIMIT = 1

            def first():
                return LIMIT

            def second():
                return 1

            class Predictor:
                def __init__(self):
                    self.found = run("name.txt")

                def predict(self, payload):
                    return [first(), second(), self.found]
            """,
        "name.txt": "predictor first",
    }
    (tmp_path / "site-packages").mkdir()
    (tmp_path / "site-packages/library.py").write_text(
        "import sys\n"
        "def run(path):\n"
        "    module, name = open(path).read().split()\n"
        "    return getattr(sys.modules[module], name)()\n"
    )
    script = """
    say([module.first.__code__.co_names, module.second.__code__.co_names])
    save("predictor.py", ("def second():\\n    return 1", "def second():\\n    return 2"))
    say(swap())
    save("predictor.py", ("LIMIT = 1", "LIMIT = 2"))
    say(swap())
    save("predictor.py", ("LIMIT = 2", "LIMIT = 1"), ("    return LIMIT", "    return 2"))
    say(swap())
    say(predictor.predict(1))
    """
    assert run(tmp_path, files, script) == [
        [["LIMIT"], []],
        "swap",
        "veto: LIMIT is named in first()",
        "veto: first() ran while loading",
        [1, 2, 1],
    ]
