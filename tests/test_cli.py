import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from predictord import __version__
from predictord.settings import declared

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


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PREDICTORD_")}
    return subprocess.run(
        [sys.executable, "-m", "predictord", *arguments],
        cwd=folder,
        env=clean | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_version(tmp_path: Path) -> None:
    result = run(tmp_path, "--version")
    assert (result.returncode, result.stdout) == (0, f"predictord {__version__}\n")


def test_help_of_serve_tells_every_setting_within_80_columns(tmp_path: Path) -> None:
    result = run(tmp_path, "serve", "--help")
    assert result.returncode == 0
    assert max(map(len, result.stdout.splitlines())) <= 80
    text = " ".join(result.stdout.split())
    for setting in declared().values():
        assert setting.flag in text
        assert setting.line in text
        assert setting.default is None or f"default: {setting.default}" in text
        assert f"{setting.group}:" in text


def test_starting_is_cheap(tmp_path: Path) -> None:
    heavy = (
        "msgspec",
        "starlette",
        "uvicorn",
        "uvloop",
        "rich",
        "yaml",
        "orjson",
        "pynvml",
        "asyncio",
        "numpy",
        "torch",
    )
    code = f"import sys, predictord.cli; print([name for name in {heavy!r} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["serve"], "the predictor must be a Python file, but there is no 'predictor.py' in {folder}"),
        (["check", "."], "the predictor must be a Python file, not the folder '.'; name the file in it"),
        (["serve", "p.py", "--port", "x"], "--port must be a whole number, from 0 to 65535, not 'x'"),
        (["serve", "p.py", "--config", "x"], "--config must be KEY=VALUE, not 'x'"),
        (
            ["serve", "p.py", "--host", "::"],
            "--host '::' can be reached from other machines: give --token-file as well",
        ),
        (
            ["predict", "p.py", "--config-file", "c.xml"],
            "--config-file must be a .yaml, .yml, .json or .toml file, not ",
        ),
        (["predict", "p.py", "-d", "1", "-F", "a=1"], "--data and --form both make the body; give one of them"),
        (
            ["predict", "p.py", "-d", "@nix"],
            "--data must be a file that can be read, not 'nix': No such file or directory",
        ),
        (["predict", "p.py", "-F", "a"], "--form must be NAME=VALUE, not 'a'"),
        (["predict", "p.py", "-H", "a"], "--header must be 'NAME: VALUE', not 'a'"),
        (["predict", "p.py", "--query", "a"], "--query must be NAME=VALUE, not 'a'"),
        (["serve", "--prot", "1"], "No such option '--prot'."),
        (["sreve"], "No such command 'sreve'."),
    ],
)
def test_wrong_usage_exits_2_with_one_line(tmp_path: Path, arguments: list[str], line: str) -> None:
    (tmp_path / "p.py").write_text("")
    result = run(tmp_path, *arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith(f"predictord: {line.format(folder=tmp_path)}")
    assert result.stderr.count("\n") == 1


def test_no_verb_shows_the_help_and_exits_2(tmp_path: Path) -> None:
    result = run(tmp_path)
    assert result.returncode == 2
    assert "Commands:" in result.stderr


def test_check_says_what_it_found_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "predictor.py").write_text(PREDICTOR)
    result = run(tmp_path, "check")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == (
        "predictor.py: class PythonPredictor, sync predict(payload, headers), no batching, with payload schema\n"
    )


def test_check_uses_the_settings_that_serve_would(tmp_path: Path) -> None:
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
def test_check_tells_file_and_line_of_a_fault_and_exits_1(tmp_path: Path, source: str, fault: str) -> None:
    path = tmp_path / "predictor.py"
    path.write_text(source)
    result = run(tmp_path, "check")
    assert result.returncode == 1
    assert result.stdout.splitlines()[-1].startswith(f"{path}{fault}")
    assert "predictord/worker" not in result.stdout


def test_check_reads_the_environment_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("GREETING=hello\n")
    (tmp_path / "predictor.py").write_text(
        "import os\nassert os.environ['GREETING'] == 'hello'\nclass P:\n    def predict(self): ...\n"
    )
    assert run(tmp_path, "check").returncode == 0


def test_ctrl_c_exits_130(tmp_path: Path) -> None:
    (tmp_path / "predictor.py").write_text("import time\nopen('importing', 'w').close()\ntime.sleep(60)\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "predictord", "check"],
        cwd=tmp_path,
        # A shell's background job has SIGINT ignored, and its children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 30
    while not (tmp_path / "importing").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
