"""`predict`: the request that its options make, and one prediction of each kind through the command line."""

import asyncio
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent

import pytest
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import MultiPartParser

from predictord.predict_verb import make_request
from predictord.wire import RequestHead
from tests.daemon import eventually

PREDICTOR = """
import sys, threading, time

class Predictor:
    def __init__(self, config):
        print("loading")
        self.config = config

    def predict(self, payload, query_params, headers):
        print("predicting")
        sys.stderr.write("to stderr\\n")
        if payload == "boom":
            raise KeyError("text")
        if payload == "sleep":
            open("sleeping", "w").close()
            time.sleep(60)
        main = threading.current_thread() is threading.main_thread()
        return {"payload": payload, "config": self.config, "main": main, "query": dict(query_params),
                "accept": headers["accept"]}

    def post_predict(self, response):
        open("after", "w").write(str(response["payload"]))
"""


def request(
    data: str | None = None,
    form: tuple[str, ...] = (),
    content_type: str | None = None,
    headers: tuple[str, ...] = (),
    query: tuple[str, ...] = (),
) -> tuple[RequestHead, dict[str, str], bytes]:
    head, body = make_request(data, form, content_type, headers, query)
    fields = {name.decode(): value.decode("latin-1") for name, value in head.headers}
    assert fields["content-length"] == str(len(body))
    return head, fields, body


@pytest.mark.parametrize(
    ("name", "content_type", "expected"),
    [
        ("@ask.json", None, "application/json"),
        ("@cat.jpg", None, "image/jpeg"),
        ("@notes.txt", None, "text/plain"),
        ("@blob", None, "application/octet-stream"),
        ("@ask.json", "text/x-own", "text/x-own"),
        ('{"a": 1}', None, "application/json"),
        ("[]", "text/plain", "text/plain"),
    ],
)
def test_the_content_type_is_the_users_or_follows_from_the_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content_type: str | None, expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if name.startswith("@"):
        (tmp_path / name[1:]).write_bytes(b"\x00\xff")
    _, fields, body = request(name, content_type=content_type)
    assert fields["content-type"] == expected
    assert body == (b"\x00\xff" if name.startswith("@") else name.encode())


def test_without_data_there_is_no_body_and_no_content_type() -> None:
    head, fields, body = request()
    assert (head.method, head.path, body) == ("POST", "/predict", b"")
    assert "content-type" not in fields


def test_headers_win_and_query_is_encoded() -> None:
    head, fields, _ = request("1", headers=("X-Own:  a b ", "Accept: text/event-stream"), query=("q=a b&c", "q=é"))
    assert (fields["x-own"], fields["accept"]) == ("a b", "text/event-stream")
    assert head.query == b"q=a+b%26c&q=%C3%A9"


def test_a_form_reads_back(tmp_path: Path) -> None:
    (tmp_path / "cat.png").write_bytes(b"\x89PNG\r\n--")
    _, fields, body = request(form=("text=a=b é", "text=again", f"image=@{tmp_path}/cat.png"))
    form = asyncio.run(_parse_form(fields["content-type"], body))
    assert form.getlist("text") == ["a=b é", "again"]
    image = form["image"]
    assert isinstance(image, UploadFile)
    assert (image.filename, image.content_type, image.file.read()) == ("cat.png", "image/png", b"\x89PNG\r\n--")
    image.file.close()


def test_a_forms_names_cannot_add_fields() -> None:
    _, _, body = request(form=('a"\r\nx: y=1',))
    assert b'name="a%22%0D%0Ax: y"\r\n\r\n1\r\n' in body


async def _parse_form(content_type: str, body: bytes) -> FormData:
    async def stream() -> AsyncIterator[bytes]:
        yield body

    return await MultiPartParser(Headers({"content-type": content_type}), stream()).parse()  # type: ignore[arg-type]


# --- one prediction of each kind


def predict(folder: Path, source: str, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    (folder / "predictor.py").write_text(source)
    return subprocess.run(
        [sys.executable, "-m", "predictord", "predict", *arguments],
        cwd=folder,
        input=stdin,
        capture_output=True,
        timeout=60,
    )


def test_the_body_alone_is_on_stdout_and_the_rest_on_stderr(tmp_path: Path) -> None:
    result = predict(tmp_path, PREDICTOR, "-d", '{"a": 1}', "--config", "n=2", "--query", "k=v", "-H", "Accept: x/y")
    assert result.returncode == 0
    assert json.loads(result.stdout) == {
        "payload": {"a": 1},
        "config": {"n": 2},
        "main": True,
        "query": {"k": "v"},
        "accept": "x/y",
    }
    assert (tmp_path / "after").read_text() == "{'a': 1}"
    said = result.stderr.decode()
    assert re.search(r"\nHTTP 200\ncontent-type: application/json\n(.*\n)*load [\d.]+ ms, predict [\d.]+ ms\n\Z", said)
    assert {"loading", "predicting", "to stderr"} <= set(said.splitlines())


@pytest.mark.parametrize(
    ("arguments", "stdin", "payload"),
    [
        (["-d", "@-"], b'{"a": [1]}', "{'a': [1]}"),
        (["-d", "@-", "--content-type", "text/plain"], b"plain", "'plain'"),
        (["-d", "@note.txt"], b"", "'from a file'"),
        (["-d", "@blob"], b"", repr(b"\x00\xff")),
        (["-d", "raw", "--content-type", "application/octet-stream"], b"", "b'raw'"),
        (["-F", "file=@pixel.png", "-F", "n=3"], b"", "[('file', 'pixel.png', 'image/png', 4), ('n', '3')]"),
        ([], b"", "b''"),
    ],
)
def test_the_body_may_come_from_anywhere(tmp_path: Path, arguments: list[str], stdin: bytes, payload: str) -> None:
    (tmp_path / "note.txt").write_text("from a file")
    (tmp_path / "blob").write_bytes(b"\x00\xff")
    (tmp_path / "pixel.png").write_bytes(b"\x89PNG")
    source = """
    class Predictor:
        def predict(self, payload):
            if not hasattr(payload, "multi_items"):
                return repr(payload)
            return repr([
                (name, item.filename, item.content_type, len(item.file.read())) if name == "file" else (name, item)
                for name, item in payload.multi_items()
            ])
    """
    result = predict(tmp_path, dedent(source), *arguments, stdin=stdin)
    assert (result.returncode, result.stdout.decode()) == (0, payload)


@pytest.mark.parametrize(
    ("data", "status", "code", "detail"),
    [
        ('"boom"', 500, "predictor_error", "KeyError: 'text'"),
        ("{", 400, "invalid_payload", "invalid JSON at line 1"),
    ],
)
def test_an_error_exits_1_with_the_problem_on_stdout(
    tmp_path: Path, data: str, status: int, code: str, detail: str
) -> None:
    result = predict(tmp_path, PREDICTOR, "-d", data)
    problem = json.loads(result.stdout)
    assert (result.returncode, problem["status"], problem["code"]) == (1, status, code)
    assert problem["detail"].startswith(detail)
    assert "traceback" not in problem
    assert f"HTTP {status}\ncontent-type: application/problem+json\n" in result.stderr.decode()
    place = f'  File "{tmp_path}/predictor.py", line 13, in predict\n    raise KeyError("text")\n'
    assert (place in result.stderr.decode()) is (status == 500)


@pytest.mark.parametrize(
    ("source", "data", "flags", "body"),
    [
        ("async def predict(self, payload):\n        return [payload]", "1", [], "[1]"),
        ("max_batch_size = 4\n    def predict(self, payload):\n        return [len(payload)]", "5", [], "1"),
        ("def predict(self, payload):\n        return [len(payload)]", "5", ["--max-batch-size", "2"], "1"),
        ("max_batch_size = 4\n    async def predict(self, payload):\n        return [payload]", "5", [], "[5]"),
        ("def predict(self):\n        yield {'a': 1}\n        yield 2", "5", [], '{"a":1}\n2\n'),
        ("async def predict(self):\n        yield b'a'\n        yield b'b'", "5", [], "ab"),
        (
            "def predict(self):\n        from starlette.responses import StreamingResponse\n"
            "        return StreamingResponse(iter(['x', 'y']))",
            "5",
            [],
            "xy",
        ),
    ],
)
def test_each_kind_of_predictor_answers(tmp_path: Path, source: str, data: str, flags: list[str], body: str) -> None:
    result = predict(tmp_path, f"class Predictor:\n    {source}\n", "-d", data, *flags)
    assert (result.returncode, result.stdout.decode()) == (0, body), result.stderr


def test_a_predictor_that_does_not_load_is_told_with_its_traceback(tmp_path: Path) -> None:
    result = predict(tmp_path, "class Predictor:\n    def __init__(self): 1 / 0\n    def predict(self): ...\n")
    assert (result.returncode, result.stdout) == (1, b"")
    assert f'File "{tmp_path}/predictor.py", line 2, in __init__' in result.stderr.decode()
    assert result.stderr.decode().endswith("predictord: ZeroDivisionError: division by zero\n")


def test_a_stream_comes_as_it_is_made_and_its_failure_exits_1(tmp_path: Path) -> None:
    source = """
    import os, time
    class Predictor:
        def predict(self):
            yield "first\\n"
            while not os.path.exists("go"):
                time.sleep(0.01)
            yield "second\\n"
            raise ValueError("late")
    """
    (tmp_path / "predictor.py").write_text(dedent(source))
    command = [sys.executable, "-m", "predictord", "predict"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == b"first\n"
        (tmp_path / "go").touch()
        assert process.stdout.read() == b"second\n"
        assert process.stderr.read().endswith(b"predictord: ValueError: late\n")
    assert process.returncode == 1


@pytest.mark.parametrize(
    ("source", "data"),
    [
        (PREDICTOR, '"sleep"'),
        ("import time\nclass P:\n    def __init__(self):\n        open('sleeping', 'w').close()\n"
         "        time.sleep(60)\n    def predict(self): ...", "1"),
        ("import asyncio\nclass P:\n    async def predict(self):\n        open('sleeping', 'w').close()\n"
         "        await asyncio.sleep(60)\n", "1"),
    ],
    ids=["predict", "load", "async"],
)  # fmt: skip
def test_ctrl_c_ends_it_with_130(tmp_path: Path, source: str, data: str) -> None:
    (tmp_path / "predictor.py").write_text(source)
    process = subprocess.Popen(
        [sys.executable, "-m", "predictord", "predict", "-d", data],
        cwd=tmp_path,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    eventually(lambda: (tmp_path / "sleeping").exists(), 30)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130


class Terminal:
    """What a person at a terminal does: reads until something appears, and types."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.seen = ""

    def wait_for(self, text: str, within_s: float = 30) -> None:
        end = time.monotonic() + within_s
        while text not in self.seen:
            assert select.select([self._descriptor], [], [], end - time.monotonic())[0], self.seen
            self.seen += os.read(self._descriptor, 4096).decode()

    def type(self, line: str) -> None:
        self.seen = ""
        os.write(self._descriptor, line.encode() + b"\n")


@contextmanager
def terminal(*command: str, cwd: Path) -> Iterator[tuple[Terminal, "subprocess.Popen[bytes]"]]:
    """Run a command whose standard streams are a terminal of its own."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(command, cwd=cwd, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    try:
        yield Terminal(ours), process
    finally:
        os.close(ours)
        process.kill()
        process.wait()


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_a_breakpoint_has_the_terminal(tmp_path: Path, kind: str) -> None:
    (tmp_path / "predictor.py").write_text(
        f"class Predictor:\n    {kind} predict(self, payload):\n        breakpoint()\n        return payload\n"
    )
    command = (sys.executable, "-m", "predictord", "predict", "-d", '["a", "b"]')
    with terminal(*command, cwd=tmp_path) as (screen, process):
        screen.wait_for("(Pdb) ")
        screen.type("p payload")
        screen.wait_for("['a', 'b']")
        screen.type("payload.append('typed')")
        screen.wait_for("(Pdb) ")
        screen.type("c")
        screen.wait_for('["a","b","typed"]\r\nload ')
        assert process.wait(30) == 0


def test_a_breakpoint_has_the_terminal_while_the_body_goes_to_a_file(tmp_path: Path) -> None:
    (tmp_path / "predictor.py").write_text(
        "class Predictor:\n    def predict(self, payload):\n        breakpoint()\n        return payload\n"
    )
    shell = f"{sys.executable} -m predictord predict -d 7 > body"
    with terminal("/bin/sh", "-c", shell, cwd=tmp_path) as (screen, process):
        screen.wait_for("(Pdb) ")
        screen.type("p payload * 6")
        screen.wait_for("42")
        screen.type("c")
        screen.wait_for("predict ")
        assert process.wait(30) == 0
    assert (tmp_path / "body").read_bytes() == b"7"
