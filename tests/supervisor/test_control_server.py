"""The private door: what it answers, and whom."""

import asyncio
import os
import socket
import stat
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
import uvloop

from predictord.runtime import socket_address
from predictord.supervisor.control_server import MAX_REQUEST_BYTES, ControlServer, Handler
from tests.daemon import eventually, in_background


class Gate:
    """A handler that answers once the gate is open, from any thread."""

    def __init__(self) -> None:
        self.entered = 0
        self.left = 0
        self.open = threading.Event()

    async def handle(self, _request: dict[str, Any]) -> dict[str, Any]:
        self.entered += 1
        while not self.open.is_set():
            await asyncio.sleep(0.01)
        self.left += 1
        return {"passed": True}


async def echo(request: dict[str, Any]) -> dict[str, Any]:
    return {"echo": request}


async def fail(_request: dict[str, Any]) -> dict[str, Any]:
    raise KeyError("lost")


async def strange(_request: dict[str, Any]) -> dict[str, Any]:
    return {"thing": object()}


HANDLERS: dict[str, Handler] = {"echo": echo, "fail": fail, "strange": strange}


@contextmanager
def serving(path: Path, handlers: Mapping[str, Handler] = HANDLERS) -> Iterator[None]:
    """A server on a thread with a loop of its own, as the supervisor's."""
    loop = uvloop.new_event_loop()
    task = loop.create_task(ControlServer(handlers).run(path))

    def turn() -> None:
        with closing(loop), suppress(asyncio.CancelledError):
            loop.run_until_complete(task)

    thread = threading.Thread(target=turn)
    thread.start()
    try:
        eventually(lambda: answers(path))
        yield
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join(10)
        assert not thread.is_alive()


def answers(path: Path) -> bool:
    """Whether the server listens yet; its socket's file is there a moment earlier."""
    with suppress(FileNotFoundError, ConnectionRefusedError):
        return "refused" in ask(path, "probe")
    return False


def connect(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(10)
    try:
        with socket_address(path) as address:
            connection.connect(address)
    except OSError:
        connection.close()
        raise
    return connection


def send(path: Path, line: bytes) -> bytes:
    """What comes back for these bytes, up to the end of the connection."""
    with connect(path) as connection, connection.makefile("rb") as replies:
        with suppress(BrokenPipeError):
            connection.sendall(line)
            connection.shutdown(socket.SHUT_WR)
        try:
            return replies.read()
        except ConnectionResetError:
            return b""


def ask(path: Path, verb: str, **more: Any) -> dict[str, Any]:
    reply = send(path, msgspec.json.encode({"verb": verb, **more}) + b"\n")
    assert reply.endswith(b"\n")
    document: dict[str, Any] = msgspec.json.decode(reply)
    return document


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "1.sock"


def test_a_handler_gets_the_request_and_its_reply_comes_back(path: Path) -> None:
    with serving(path):
        assert ask(path, "echo", fresh=True) == {"echo": {"verb": "echo", "fresh": True}}


def test_a_long_wait_holds_up_nobody(path: Path) -> None:
    gate = Gate()
    with serving(path, {**HANDLERS, "gate": gate.handle}):
        with in_background(lambda: ask(path, "gate"), lambda: ask(path, "gate")) as replies:
            eventually(lambda: gate.entered == 2)
            assert "echo" in ask(path, "echo")
            gate.open.set()
        assert replies == [{"passed": True}, {"passed": True}]


def test_a_handler_ends_its_work_when_the_client_leaves(path: Path) -> None:
    gate = Gate()
    with serving(path, {"gate": gate.handle}):
        with connect(path) as connection:
            connection.sendall(b'{"verb": "gate"}\n')
            eventually(lambda: gate.entered)
        gate.open.set()
        eventually(lambda: gate.left)
        assert ask(path, "gate") == {"passed": True}


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (b'{"verb": "fail"}\n', "KeyError: 'lost'"),
        (b'{"verb": "strange"}\n', "TypeError: Encoding objects of type object is unsupported"),
        (b'{"verb": "other"}\n', "this daemon knows no verb 'other'; is it of another version?"),
        (b'{"verb": ["echo"]}\n', "this daemon knows no verb ['echo']; is it of another version?"),
        (b"{}\n", "this daemon knows no verb None; is it of another version?"),
        (b"\n", "the request is no JSON object: Input data was truncated"),
        (b"[1]\n", "the request is no JSON object: Expected `object`, got `array`"),
        (b"\xff\n", "the request is no JSON object: JSON is malformed"),
        (b'{"a":' * 10_000 + b"\n", "the request is no JSON object: "),
    ],
)
def test_what_cannot_be_done_is_refused_in_a_sentence(path: Path, line: bytes, sentence: str) -> None:
    with serving(path):
        reply = msgspec.json.decode(send(path, line), type=dict[str, str])
        assert list(reply) == ["refused"]
        assert reply["refused"].startswith(sentence)
        assert "echo" in ask(path, "echo")


@pytest.mark.parametrize("line", [b"", b'{"verb": "echo"}', b"{}" + b" " * MAX_REQUEST_BYTES + b"\n", b"x" * (4 << 20)])
def test_what_is_no_line_gets_no_answer(path: Path, line: bytes) -> None:
    with serving(path):
        assert send(path, line) == b""
        assert "echo" in ask(path, "echo")


def test_a_client_that_says_nothing_costs_nothing(path: Path) -> None:
    with serving(path):
        silent = [connect(path) for _ in range(50)]
        silent[0].sendall(b'{"verb"')
        assert "echo" in ask(path, "echo")
        for connection in silent:
            with connection:
                assert connection.recv(1) == b""


def test_the_socket_is_ours_alone(path: Path) -> None:
    umask = os.umask(0)
    try:
        with serving(path):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
    finally:
        os.umask(umask)


def test_a_path_may_be_long(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 200) / "1.sock"
    path.parent.mkdir()
    with serving(path):
        assert "echo" in ask(path, "echo")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else for a moment")
def test_another_user_gets_no_answer_even_where_files_let_it_in(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(path), socket.socket(socket.AF_UNIX) as connection:
        path.chmod(0o666)
        path.parent.chmod(0o711)
        monkeypatch.chdir(path.parent)  # the folders above are closed to others
        os.seteuid(65534)
        try:
            connection.connect(path.name)
        finally:
            os.seteuid(0)
        connection.settimeout(5)
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(b'{"verb": "echo"}\n')
            assert connection.recv(100) == b""
        assert "echo" in ask(path, "echo")
