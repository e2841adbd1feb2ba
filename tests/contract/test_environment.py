"""Where a predictor finds itself: folder, module name, `.env`, and child processes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import Daemon

SOURCE = """
import os, pickle, sys
import multiprocessing as mp
import subprocess
from helpers import sibling
from helpers.sibling import GREETING

AT_IMPORT = {name: os.environ.get(name) for name in ("PLAIN", "QUOTED", "EXPANDED", "REAL", "EXPORTED")}
WORDS = open("words.txt").read()

def square(n):
    return n * n

class PythonPredictor:
    def __init__(self, config):
        self.at_init = os.getcwd()

    def predict(self, payload):
        return getattr(self, payload["ask"])(**{k: v for k, v in payload.items() if k != "ask"})

    def place(self):
        return {"cwd": os.getcwd(), "init": self.at_init, "path": sys.path[0], "name": __name__, "file": __file__,
                "module": sys.modules[__name__].WORDS, "greeting": GREETING, "words": WORDS,
                "pickled": type(pickle.loads(pickle.dumps(self))).__name__, "sibling": sibling.__name__}

    def environment(self):
        return AT_IMPORT

    def process(self, method):
        context = mp.get_context(method)
        with context.Pool(1) as pool:
            return pool.apply_async(square, (7,)).get(40)

    def command(self):
        return [subprocess.run(["cat"], capture_output=True, text=True, check=True).stdout, "end"]
"""

ENV = """
PLAIN=plain # a comment
QUOTED="two words"
EXPANDED=${PLAIN}-er
export EXPORTED=yes
REAL=from the file
PREDICTORD_MAX_QUEUE=7
"""

FILES = {
    ".env": ENV,
    "words.txt": "some words",
    "helpers/__init__.py": "",
    "helpers/sibling.py": "GREETING = 'hello'",
}


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with Daemon(SOURCE, files=FILES, environment={"REAL": "from outside"}, file_name="my_model.py") as daemon:
        yield daemon


def ask(daemon: Daemon, question: str, **arguments: Any) -> Any:
    response = daemon.predict({"ask": question, **arguments})
    assert response.status_code == 200, response.text
    return response.json()


def test_the_folder_is_here(daemon: Daemon) -> None:
    place = ask(daemon, "place")
    folder = str(daemon.folder.resolve())
    assert (place["cwd"], place["init"], place["path"]) == (folder, folder, folder)


def test_siblings_and_relative_files_work(daemon: Daemon) -> None:
    place = ask(daemon, "place")
    assert (place["greeting"], place["words"], place["sibling"]) == ("hello", "some words", "helpers.sibling")


def test_module_is_the_files_stem(daemon: Daemon) -> None:
    place = ask(daemon, "place")
    assert (place["name"], Path(place["file"]).name, place["module"]) == ("my_model", "my_model.py", "some words")
    assert place["pickled"] == "PythonPredictor"


def test_dot_env_is_there_before_the_import(daemon: Daemon) -> None:
    assert ask(daemon, "environment") == {
        "PLAIN": "plain",
        "QUOTED": "two words",
        "EXPANDED": "plain-er",
        "EXPORTED": "yes",
        "REAL": "from outside",
    }


def test_dot_env_is_not_for_the_supervisor(daemon: Daemon) -> None:
    assert daemon.status()["queue"]["limit"] == 1024


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing_from_predict(daemon: Daemon, method: str) -> None:
    assert ask(daemon, "process", method=method) == 49


def test_commands_from_predict(daemon: Daemon) -> None:
    assert ask(daemon, "command") == ["", "end"]


def test_token_is_hidden_from_workers() -> None:
    source = """
    import os
    class Predictor:
        def predict(self):
            with open("/proc/self/environ", "rb") as file:
                return [os.environ.get("PREDICTORD_TOKEN"), b"open-sesame" in file.read()]
    """
    with Daemon(source, environment={"PREDICTORD_TOKEN": "open-sesame"}, token="open-sesame") as daemon:
        assert daemon.predict({}).json() == [None, False]
