"""The unit that `service install` writes: its words, whom it spares, and what systemd makes of it."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.supervisor.test_notify import Manager
from tests.test_cli import run

PREDICTOR = "class Predictor:\n    def predict(self): ...\n"
ODD = 'a "b" $HOME %h \\ é'
"""A folder whose every part systemd would read in a way of its own."""


def install(home: Path, folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "predictor.py").write_text(PREDICTOR)
    return run(folder, "service", "install", *arguments, HOME=str(home), XDG_CONFIG_HOME="", **environment)


def value(unit: str, key: str) -> str:
    [found] = [line.partition("=")[2] for line in unit.splitlines() if line.startswith(f"{key}=")]
    return found


def test_the_unit_serves_with_the_flags_that_were_given(tmp_path: Path) -> None:
    folder = tmp_path / "sentiment"
    result = install(
        tmp_path, folder, "predictor.py:Predictor", "--port", "9000", "--no-reload", "--drain-timeout", "1m",
        "--watch", "prompts.txt", "--watch", "/data/x", "--config", "greeting=a b", "--config", "n=1",
    )  # fmt: skip
    assert (result.returncode, result.stderr) == (0, "")
    path = tmp_path / ".config/systemd/user/predictord-sentiment.service"
    unit = path.read_text()
    assert value(unit, "ExecStart") == (
        f"{sys.executable} -P -m predictord serve {folder}/predictor.py:Predictor --port=9000 --no-reload"
        f" --drain-timeout=1m --watch={folder}/prompts.txt --watch=/data/x"
        ' "--config=greeting=a b" --config=n=1'
    )
    assert (value(unit, "Type"), value(unit, "TimeoutStopSec"), value(unit, "KillMode")) == ("notify", "70", "mixed")
    assert result.stdout.splitlines()[0] == f"wrote {path}. Start it now and at each login:"
    assert "  systemctl --user enable --now predictord-sentiment" in result.stdout.splitlines()


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="there is no systemd-analyze")
@pytest.mark.parametrize("name", ["plain", ODD, "; -a 'b'"])
def test_systemd_accepts_it_whatever_the_folder_is_called(tmp_path: Path, name: str) -> None:
    install(tmp_path, tmp_path / name, "--drain-timeout", "0", "--name", "unit-under-test")
    unit = tmp_path / ".config/systemd/user/unit-under-test.service"
    assert value(unit.read_text(), "TimeoutStopSec") == "infinity"
    checked = subprocess.run(
        ["systemd-analyze", "verify", "--user", unit],
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def test_the_units_commands_start_reload_and_stop_it_as_systemd_expects(tmp_path: Path) -> None:
    install(tmp_path, tmp_path / "p", "--port", "0", "--devices", "cpu")
    unit = (tmp_path / ".config/systemd/user/predictord-p.service").read_text()
    with Manager(str(tmp_path / "notify")) as manager:
        watchdog = {"WATCHDOG_USEC": f"{value(unit, 'WatchdogSec')}000000"}
        environment = {**os.environ, **watchdog, "NOTIFY_SOCKET": manager.address}
        start = shlex.split(value(unit, "ExecStart"))
        process = subprocess.Popen(start, cwd="/", env=environment, start_new_session=True)
        try:
            assert sorted([manager.next(), manager.next()]) == [["READY=1"], ["WATCHDOG=1"]]
            reload = value(unit, "ExecReload").replace("$MAINPID", str(process.pid))
            subprocess.run(shlex.split(reload), check=True)
            assert manager.next()[0] == "RELOADING=1"
            assert manager.next() == ["READY=1"]
            process.terminate()
            assert manager.next() == ["STOPPING=1"]
            assert process.wait(20) == 0
        finally:
            process.kill()
            process.wait()


def test_words_that_mean_something_to_systemd_are_quoted(tmp_path: Path) -> None:
    install(tmp_path, tmp_path / ODD, "--config", "x=\t;", "--name", "odd")
    unit = (tmp_path / ".config/systemd/user/odd.service").read_text()
    assert value(unit, "ExecStart").endswith(
        f' -P -m predictord serve "{tmp_path}/a \\"b\\" $$HOME %%h \\\\ é/predictor.py" "--config=x=\\x09;"'
    )


def test_installing_again_renews_it_and_another_file_is_spared(tmp_path: Path) -> None:
    install(tmp_path, tmp_path / "one" / "same")
    unit = tmp_path / ".config/systemd/user/predictord-same.service"
    assert install(tmp_path, tmp_path / "one" / "same", "--port", "9000").returncode == 0
    assert "--port=9000" in unit.read_text()
    ours = unit.read_text()
    second = install(tmp_path, tmp_path / "two" / "same")
    assert (second.returncode, second.stdout) == (1, "")
    assert second.stderr == (
        f"predictord: {unit} is there already and serves something else;"
        " choose another name with --name, or remove it\n"
    )
    assert unit.read_text() == ours
    assert install(tmp_path, tmp_path / "two" / "same", "--name", "other").returncode == 0


def test_wrong_settings_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    refused = install(tmp_path, tmp_path / "p", "--host", "0.0.0.0", PREDICTORD_TOKEN="secret")
    assert (refused.returncode, (tmp_path / ".config").exists()) == (2, False)
    assert "give --token-file as well" in refused.stderr
    named = install(tmp_path, tmp_path / "p", "--name", "a/b")
    assert named.stderr == ("predictord: --name must be letters, digits, dots, dashes and underscores, not 'a/b'\n")


def test_what_only_this_shell_says_is_pointed_out(tmp_path: Path) -> None:
    result = install(tmp_path, tmp_path / "p", PREDICTORD_PORT="9000")
    assert result.returncode == 0
    assert result.stderr == (
        "predictord: note: PREDICTORD_PORT is set in this shell and will not be in the service;"
        " give it a flag instead\n"
    )
