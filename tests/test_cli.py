import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from predictord import __version__
from predictord.settings import declared


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
    assert "..." not in result.stderr.partition("Commands:")[2], "each verb is told in one line"


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
