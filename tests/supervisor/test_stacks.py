"""The text of `faulthandler`, in the three forms that its thread lines take, becomes a traceback of one thread."""

import faulthandler
import inspect
import tempfile
import threading
from pathlib import Path

import pytest

from predictord.supervisor.stacks import fatal_frames, thread_frames

DUMP = """\
Thread 0x00007f0000000a00 (most recent call first):
  File "/app/helper.py", line 2 in fetch
  File "/app/predictor.py", line 3 in predict
  File "/lib/predictord/worker/sync_server.py", line 71 in _serve
  File "/lib/predictord/worker/main.py", line 39 in main

Thread 0x00007f0000000b00 [tokenizer] (most recent call first):
  File "/app/other thread.py", line 1 in <lambda>

Current thread 0x00007f0000000c00 (most recent call first):
  File "/app/predictor.py", line 1 in <module>
"""
SOURCES = {
    "/app/predictor.py": b"class P:\n    def predict(self):\n        return fetch()\n",
    "/app/helper.py": b"def fetch():\n    wait()\n",
}
HEAD = "Stack of the thread that ran predict (most recent call last):"


def test_frames_of_the_predictor_oldest_first_with_their_source() -> None:
    assert thread_frames(DUMP, 0x7F0000000A00, SOURCES) == "\n".join(
        [
            HEAD,
            '  File "/app/predictor.py", line 3, in predict',
            "    return fetch()",
            '  File "/app/helper.py", line 2, in fetch',
            "    wait()",
        ]
    )


@pytest.mark.parametrize(
    ("thread", "frame"),
    [
        (0x7F0000000B00, '  File "/app/other thread.py", line 1, in <lambda>'),
        (0x7F0000000C00, '  File "/app/predictor.py", line 1, in <module>\n    class P:'),
    ],
    ids=["named", "current"],
)
def test_other_forms_of_a_thread_line(thread: int, frame: str) -> None:
    assert thread_frames(DUMP, thread, SOURCES) == f"{HEAD}\n{frame}"


@pytest.mark.parametrize("dump", ["", "no dump", DUMP], ids=["empty", "garbage", "other threads only"])
def test_nothing_of_the_thread(dump: str) -> None:
    assert thread_frames(dump, 0xABC, SOURCES) is None


def test_line_beyond_the_source_is_told_without_text() -> None:
    dump = 'Thread 0x0a (most recent call first):\n  File "/app/helper.py", line 99 in fetch\n'
    assert thread_frames(dump, 0xA, SOURCES) == f'{HEAD}\n  File "/app/helper.py", line 99, in fetch'


def test_source_of_other_files_comes_from_the_disk(tmp_path: Path) -> None:
    file = tmp_path / "library.py"
    file.write_text("first()\n\tsecond()\n")
    dump = f'Thread 0x0a (most recent call first):\n  File "{file}", line 2 in call\n'
    assert thread_frames(dump, 0xA, {}) == f'{HEAD}\n  File "{file}", line 2, in call\n    second()'


def test_what_this_python_writes_is_understood() -> None:
    here = inspect.currentframe()
    assert here is not None
    with tempfile.TemporaryFile("w+") as file:
        faulthandler.dump_traceback(file, all_threads=True)
        line = here.f_lineno - 1
        file.seek(0)
        text = thread_frames(file.read(), threading.get_ident(), {})
    assert text is not None
    frame, source = text.splitlines()[-2:]
    assert frame == f'  File "{__file__}", line {line}, in {test_what_this_python_writes_is_understood.__name__}'
    assert source == "    faulthandler.dump_traceback(file, all_threads=True)"


def test_of_a_fault_the_frames_of_its_thread_are_left() -> None:
    assert fatal_frames(f"Fatal Python error: Aborted\n\n{DUMP}\nExtension modules: x._core (total: 1)\n", SOURCES) == (
        "Fatal Python error: Aborted\n"
        "Stack of the thread that it came from (most recent call last):\n"
        '  File "/app/predictor.py", line 1, in <module>\n'
        "    class P:"
    )


@pytest.mark.parametrize("dump", ["", "Fatal Python error: Aborted\n\nThread 0x0a (most recent call first):\n"])
def test_of_a_fault_that_names_no_thread_all_is_kept(dump: str) -> None:
    assert fatal_frames(dump, {}) == dump
