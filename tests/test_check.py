"""`check`: each mistake that a start, or every request, would stumble over is told with its place and its cure."""

from pathlib import Path

import pytest

from tests.test_cli import run

PREDICTOR = """
from pydantic import BaseModel

class Ask(BaseModel):
    text: str

class PythonPredictor:
    def __init__(self, config):
        raise RuntimeError("check does not build")

    def predict(self, payload: Ask, headers):
        return payload.text
"""


def test_says_what_it_found_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "predictor.py").write_text(PREDICTOR)
    result = run(tmp_path, "check")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == (
        "predictor.py: class PythonPredictor, sync predict(payload, headers), no batching, with payload schema\n"
    )


def test_uses_the_settings_that_serve_would(tmp_path: Path) -> None:
    (tmp_path / "predictor.py").write_text("class P:\n    async def predict(self, payload): ...\n")
    (tmp_path / "predictord.toml").write_text('max_batch_size = 8\nbatch_interval = "5ms"\n')
    result = run(tmp_path, "check", "predictor.py:P", PREDICTORD_PROT="1")
    assert result.returncode == 0
    assert result.stdout == (
        "predictor.py: class P, async predict(payload), batches of 8 within 5ms, no payload schema\n"
    )
    assert result.stderr == (
        "predictord: note: PREDICTORD_PROT is no setting and is ignored; the nearest is PREDICTORD_PORT\n"
    )


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("class P:\n    def predict(self, payload):\n        return (\n", ":3: SyntaxError: '(' was never closed"),
        ("x = 1\n\ny = x / 0\n", ":3: ZeroDivisionError: division by zero"),
        ("def f():\n    return 1 / 0\n\nf()\n", ":2: ZeroDivisionError: division by zero"),
        ("import json\njson.loads('')\n", ":2: json.decoder.JSONDecodeError: Expecting value"),
        ("import sys\nsys.exit(5)\n", ":2: SystemExit: 5"),
        ("class P:\n    def predict(self, model): ...\n", ":2: predict's argument `model` cannot be filled"),
        ("import nothing_of_that_name\n", ":1: ModuleNotFoundError: No module named 'nothing_of_that_name'"),
        ("x = 1\n", ":1: no class has a predict method"),
    ],
)
def test_tells_file_and_line_of_a_fault_and_exits_1(tmp_path: Path, source: str, fault: str) -> None:
    path = tmp_path / "predictor.py"
    path.write_text(source)
    result = run(tmp_path, "check")
    assert result.returncode == 1
    assert result.stdout.splitlines()[-1].startswith(f"{path}{fault}")
    assert "predictord/worker" not in result.stdout


def test_reads_the_environment_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("GREETING=hello\n")
    (tmp_path / "predictor.py").write_text(
        "import os\nassert os.environ['GREETING'] == 'hello'\nclass P:\n    def predict(self): ...\n"
    )
    assert run(tmp_path, "check").returncode == 0


METHOD = "class P:\n    {}\n"


@pytest.mark.parametrize(
    ("source", "flags", "fault"),
    [
        (
            METHOD.format("def predict(self, payload) -> set[bytes]: ..."),
            [],
            ":2: predict's return annotation promises bytes, in set[bytes], which JSON cannot carry;"
            " convert it, or return bytes or a Response",
        ),
        (
            "from __future__ import annotations\nimport socket\n"
            + METHOD.format("def predict(self) -> socket.socket: ..."),
            [],
            ":4: predict's return annotation promises socket.socket, which JSON cannot carry;",
        ),
        (
            "from collections.abc import Iterator\n"
            + METHOD.format("def predict(self) -> Iterator[complex]:\n        yield 1j"),
            [],
            ":3: predict's return annotation promises complex, which JSON cannot carry;",
        ),
        (
            METHOD.format("def predict(self, payload: dict[str, int]): ..."),
            ["--max-batch-size", "8"],
            ":2: payload's annotation dict[str, int] is ignored, since payload is a list when max_batch_size > 1;"
            " write `list[...]`",
        ),
        (
            METHOD.format("max_batch_size = 8\n    def predict(self, payload: list[int]) -> int: ..."),
            [],
            ":3: predict's return annotation is int, but with max_batch_size > 1 predict returns a list with one result"
            " for each item",
        ),
        (
            METHOD.format("def predict(self, payload):\n        yield 1"),
            ["--max-batch-size", "8"],
            ":2: predict is a generator, which cannot batch; return a list, or set max_batch_size to 1 (it is 8)",
        ),
        (
            METHOD.format("def predict(self, image): ..."),
            [],
            ":2: predict's argument `image` cannot be filled; name it payload, query_params, headers or request,"
            " or give it a default",
        ),
        (
            METHOD.format("def predict(self): ...\n    def __init__(self, tensorflow_client, config): ..."),
            [],
            ":3: __init__'s argument `tensorflow_client` cannot be filled; name it config, or give it a default",
        ),
        (
            METHOD.format("def predict(self): ...\n    async def __init__(self): ..."),
            [],
            ":3: nobody would run an __init__ of kind async; make it `def`, without yield",
        ),
        (
            METHOD.format("def predict(payload): ..."),
            [],
            ":2: predict has no `self`; write `def predict(self, ...)`",
        ),
        (
            "def predict(payload): ...\n",
            [],
            ":1: no class has a predict method; write `class PythonPredictor` with `def predict(self, payload)`",
        ),
        (
            "class A:\n    def predict(self): ...\nclass B(A): ...\n",
            [],
            ":1: several classes have a predict method: A, B; choose one with FILE:CLASS or name it Predictor",
        ),
    ],
)  # fmt: skip
def test_each_mistake_is_told_with_its_place_and_its_cure(
    tmp_path: Path, source: str, flags: list[str], fault: str
) -> None:
    path = tmp_path / "predictor.py"
    path.write_text(source)
    result = run(tmp_path, "check", *flags)
    assert (result.returncode, result.stderr) == (1, "")
    assert result.stdout.startswith(f"{path}{fault}")


def test_all_that_every_request_would_fail_at_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "predictor.py").write_text(
        METHOD.format("max_batch_size = 2\n    def predict(self, payload: int) -> str: ...")
    )
    result = run(tmp_path, "check")
    assert result.returncode == 1
    assert [line.split(":3: ")[1][:20] for line in result.stdout.splitlines()] == [
        "payload's annotation",
        "predict's return ann",
    ]


@pytest.mark.parametrize(
    ("source", "flags", "note"),
    [
        (
            "from starlette.datastructures import FormData\n"
            + METHOD.format("def predict(self, payload: FormData): ..."),
            [],
            "{path}:3: payload's annotation starlette.datastructures.FormData is ignored: pydantic has no schema for"
            " it, so that payload is what the request's Content-Type makes of it",
        ),
        (
            METHOD.format("def predict(self, payload: 'Ask'): ..."),
            [],
            "{path}:2: payload's annotation 'Ask' is ignored, since it cannot be evaluated here"
            " (name 'Ask' is not defined)",
        ),
        (
            METHOD.format("def predict(self, *args): ..."),
            [],
            "{path}:2: predict is given nothing, since only parameters named payload, query_params, headers or request"
            " are filled; a decorator needs functools.wraps to show those of the function below it",
        ),
        (
            METHOD.format("def predict(self): ..."),
            ["--config", "a=1"],
            "the config goes nowhere, since __init__ has no argument `config`",
        ),
        (
            METHOD.format("def predict(self): ..."),
            ["--batch-interval", "5ms"],
            "batch_interval does nothing while max_batch_size is 1",
        ),
    ],
)  # fmt: skip
def test_what_may_not_be_meant_is_a_note(tmp_path: Path, source: str, flags: list[str], note: str) -> None:
    path = tmp_path / "predictor.py"
    path.write_text(source)
    result = run(tmp_path, "check", *flags)
    assert result.returncode == 0
    noted, summary = result.stdout.splitlines()
    assert noted == "note: " + note.format(path=path)
    assert summary.startswith("predictor.py: class P, ")
