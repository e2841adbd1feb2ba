"""What counts as a change of a file that is not code."""

import os
from pathlib import Path

from predictord.supervisor.fingerprint import fingerprints


def test_content_decides(tmp_path: Path) -> None:
    path = tmp_path / "prompt.txt"
    path.write_text("one")
    before = fingerprints([str(path)])
    os.utime(path, (0, 0))
    assert fingerprints([str(path)]) == before
    path.write_text("two")
    os.utime(path, (0, 0))
    assert fingerprints([str(path)]) != before


def test_long_files_go_by_identity_size_and_time(tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    path.touch()
    os.truncate(path, 1 << 40)  # takes hours to read
    before = fingerprints([str(path)])
    assert fingerprints([str(path)]) == before
    os.utime(path, (0, 0))
    assert fingerprints([str(path)]) != before


def test_a_folder_is_the_files_right_in_it(tmp_path: Path) -> None:
    for name in ("one.txt", ".hidden", "one.txt~", "deep/two.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    os.mkfifo(tmp_path / "pipe")
    assert set(fingerprints([str(tmp_path / "gone"), str(tmp_path)], [str(tmp_path)])) == {str(tmp_path / "one.txt")}
