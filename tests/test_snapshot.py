"""Taking a generation from files on disk."""

import builtins
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from predictord.errors import PredictorError
from predictord.generation import Generation
from predictord.snapshot import take_snapshot


@pytest.fixture
def predictor(tmp_path: Path) -> Path:
    path = tmp_path / "predictor.py"
    path.write_text("import helper\n")
    (tmp_path / "helper.py").write_text("def broken(\n")
    return path


def test_a_snapshot_holds_everything_a_worker_needs(predictor: Path) -> None:
    (predictor.parent / ".env").write_text("MODEL=tiny\n")
    assert take_snapshot(predictor, "Mine", {"a": 1}, number=7) == Generation(
        number=7,
        path=str(predictor),
        class_name="Mine",
        files={str(predictor): b"import helper\n", str(predictor.parent / "helper.py"): b"def broken(\n"},
        config={"a": 1},
        environment={"MODEL": "tiny"},
    )


def test_the_path_is_real_and_absolute(predictor: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = predictor.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "link.py").symlink_to(predictor)
    monkeypatch.chdir(elsewhere)
    assert take_snapshot(Path("link.py"), None, {}) == take_snapshot(predictor, None, {})


def test_each_file_is_read_once(predictor: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor.write_text("import helper\nimport helper as again\nfrom helper import x\n")
    (predictor.parent / "helper.py").write_text("import predictor, helper\n")
    opened: list[str] = []
    original = builtins.open

    def record(file: Any, *arguments: Any, **options: Any) -> Any:
        opened.append(Path(file).name)
        return original(file, *arguments, **options)

    monkeypatch.setattr(builtins, "open", record)
    take_snapshot(predictor, None, {})
    assert opened == ["predictor.py", "helper.py"]


@pytest.mark.parametrize(
    "source", [b"", b"\0", b"\xff\xfe", b"def (", "é".encode("latin-1"), b"#" * 1_000_000], ids=range(6)
)
def test_broken_code_is_taken_as_it_is(source: bytes, predictor: Path) -> None:
    predictor.write_bytes(source)
    assert take_snapshot(predictor, None, {}).files == {str(predictor): source}


def test_what_cannot_be_read_is_named(predictor: Path) -> None:
    with pytest.raises(PredictorError, match=r"cannot read the predictor .*/gone\.py: No such file"):
        take_snapshot(predictor.with_name("gone.py"), None, {})
    with pytest.raises(PredictorError, match=r"cannot read the predictor .*: Is a directory"):
        take_snapshot(predictor.parent, None, {})
    predictor.write_bytes(b"#" * 50_000_000)
    with pytest.raises(PredictorError, match=r"predictor\.py is longer than"):
        take_snapshot(predictor, None, {})


def test_dotenv_rules_hold_and_the_real_environment_wins(predictor: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REAL", "real")
    (predictor.parent / ".env").write_text(
        "REAL=file\nexport A='single $X'  # comment\nB=\"two\\nlines\"\nC=${A}/${REAL}/${NONE:-default}\nEMPTY=\nBARE\n"
    )
    assert take_snapshot(predictor, None, {}).environment == {
        "A": "single $X",
        "B": "two\nlines",
        "C": "single $X/real/default",
        "EMPTY": "",
    }


@pytest.mark.parametrize(("content", "message"), [(b"A=\xff", "is not UTF-8"), (b"A=\0", "contains a null byte")])
def test_a_broken_dotenv_file_is_named(content: bytes, message: str, predictor: Path) -> None:
    (predictor.parent / ".env").write_bytes(content)
    with pytest.raises(PredictorError, match=rf"/\.env {message}"):
        take_snapshot(predictor, None, {})


def test_a_dotenv_folder_is_a_virtual_environment_and_a_pipe_an_error(predictor: Path) -> None:
    path = predictor.parent / ".env"
    path.mkdir()
    assert take_snapshot(predictor, None, {}).environment == {}
    path.rmdir()
    os.mkfifo(path)
    with pytest.raises(PredictorError, match=r"cannot read .*/\.env: Invalid argument"):
        take_snapshot(predictor, None, {})


def test_dotenv_is_imported_only_for_a_file(predictor: Path) -> None:
    program = (
        "import sys, pathlib, predictord.snapshot as s; s.take_snapshot(pathlib.Path(sys.argv[1]), None, {});"
        "sys.exit('dotenv' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program, str(predictor)], check=True, timeout=60)
