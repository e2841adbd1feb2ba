"""The starter: written where it is asked for, never over a file, and working as the printed lines say."""

import json
import re
import shlex
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.daemon import Daemon, eventually
from tests.test_cli import run


def test_writes_a_predictor_that_check_accepts_and_says_what_to_do_next(tmp_path: Path) -> None:
    result = run(tmp_path, "init", "a new/place")
    path = tmp_path / "a new" / "place" / "predictor.py"
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines()[0].startswith("wrote a new/place/predictor.py.")
    assert "  predictord serve 'a new/place/predictor.py'" in result.stdout.splitlines()
    checked = run(path.parent, "check")
    assert checked.returncode == 0
    assert checked.stdout == (
        "predictor.py: class PythonPredictor, sync predict(payload), no batching, with payload schema\n"
    )


def test_the_printed_curl_line_works_and_an_edit_goes_live(tmp_path: Path) -> None:
    printed = run(tmp_path, "init").stdout
    [curl] = re.findall(r"^  (curl .*)$", printed, re.MULTILINE)
    path = tmp_path / "predictor.py"
    assert curl in path.read_text()
    with Daemon(path, "--config", "bonus=10") as daemon:
        command = shlex.split(curl.replace("localhost:8000", daemon.url))
        answer = subprocess.run([*command, "-sS"], capture_output=True, text=True, timeout=30, check=True)
        assert json.loads(answer.stdout) == {"label": "positive", "score": 13}
        assert daemon.predict({"txt": "good"}).json()["errors"][0]["loc"] == ["text"]
        path.write_text(path.read_text().replace('"good": 1', '"good": 5').replace('"negative"', '"poor"'))
        eventually(lambda: daemon.predict({"text": "good"}).json()["score"] == 15)
        eventually(lambda: httpx.get(daemon.url + "/status").json()["reload"]["kind"] == "replace")


@pytest.mark.parametrize("existing", ["predictor.py", "place"])
def test_never_writes_over_a_file(tmp_path: Path, existing: str) -> None:
    (tmp_path / existing).write_text("mine")
    result = run(tmp_path, "init", *(["place"] if existing == "place" else []))
    assert (tmp_path / existing).read_text() == "mine"
    assert result.stdout == ""
    assert (result.returncode, result.stderr) == {
        "predictor.py": (
            1,
            "predictord: predictor.py is there already and was left as it is; name another folder\n",
        ),
        "place": (2, "predictord: the folder 'place' is a file; name another\n"),
    }[existing]


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    result = run(tmp_path, "init", "/proc/nowhere")
    assert result.returncode == 2
    assert result.stderr.startswith("predictord: cannot write /proc/nowhere/predictor.py: ")
