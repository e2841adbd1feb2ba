"""The zygote process by itself: what it imports, when it declines, and how its workers are born."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from predictord.birth import PACKET_BYTES, Bear, Born, Warm, Warmed, decode_from_zygote, encode
from predictord.wire import PREFIX, Hello, decode_to_supervisor

LIMIT_S = 20


class Zygote:
    """A zygote of this process in `folder`/project; its installed packages are in `folder`/site-packages."""

    def __init__(self, folder: Path) -> None:
        self.project = folder / "project"
        self.installed = folder / "site-packages"
        self.shared = folder / "shared"
        for path in (self.project, self.installed, self.shared):
            path.mkdir()
        self.control, self._far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.control.settimeout(LIMIT_S)

    def warm(self, *modules: str) -> str:
        """Start it, and return what it says against itself."""
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "predictord.worker", "zygote", str(self._far.fileno()), str(os.getpid())],
            pass_fds=[self._far.fileno()],
            cwd=self.project,
            env={**os.environ, "PYTHONPATH": f"{self.shared}:{self.installed}", "OLD": "old", "GONE": "gone"},
            start_new_session=True,
        )
        self._far.close()
        self.control.send(encode(Warm(list(modules), str(self.project / "predictor.py"))))
        answer = decode_from_zygote(self.control.recv(PACKET_BYTES))
        assert isinstance(answer, Warmed)
        return answer.obstacle

    def bear(self) -> tuple[Born, socket.socket]:
        near, far = socket.socketpair()
        near.settimeout(LIMIT_S)
        output, stacks = os.open("/dev/null", os.O_WRONLY), os.open("/dev/null", os.O_WRONLY)
        request = Bear(7, {"NEW": "new", "GONE": None})
        socket.send_fds(self.control, [encode(request)], [far.fileno(), output, stacks])
        for descriptor in (far.detach(), output, stacks):
            os.close(descriptor)
        answer = decode_from_zygote(self.control.recv(PACKET_BYTES))
        assert isinstance(answer, Born)
        return answer, near

    def end(self) -> None:
        self.control.close()
        self.process.kill()
        self.process.wait(LIMIT_S)


@pytest.fixture
def zygote(tmp_path: Path) -> Iterator[Zygote]:
    zygote = Zygote(tmp_path)
    yield zygote
    zygote.end()


THREAD = "import threading, time; threading.Thread(target=time.sleep, args=(60,), daemon=True, name='ticker').start()"
NATIVE = "import _thread, time; _thread.start_new_thread(time.sleep, (60,))"


@pytest.mark.parametrize(
    ("source", "obstacle"),
    [
        (THREAD, r"started a thread \(ticker\)"),
        (NATIVE, "started 1 native threads"),
        ("import subprocess; subprocess.Popen(['sleep', '60'])", "started a process"),
        ("raise RuntimeError('no\\nlicense')", "importing heavy raised RuntimeError: no license"),
        ("import absent_dependency", "importing heavy raised ModuleNotFoundError"),
        ("import sys; sys.exit(3)", "importing heavy raised SystemExit: 3"),
    ],
)
def test_what_is_not_safe_to_fork_is_told(zygote: Zygote, source: str, obstacle: str) -> None:
    (zygote.installed / "heavy.py").write_text(source)
    assert re.search(obstacle, zygote.warm("heavy"))


def test_cuda_that_a_fork_would_lose_is_told(zygote: Zygote) -> None:
    (zygote.installed / "torch.py").write_text("class cuda:\n    _is_in_bad_fork = staticmethod(lambda: True)")
    assert zygote.warm("torch") == "an import has begun to use CUDA"


def test_only_installed_modules_are_imported(zygote: Zygote) -> None:
    for folder in (zygote.project, zygote.shared):
        (folder / "mine.py").write_text("raise RuntimeError")
        (folder / f"in_{folder.name}.py").write_text("raise RuntimeError")
    assert zygote.warm("mine", "in_project", "in_shared", "absent", "absent.part") == ""


def test_names_taken_from_a_module_are_asked_for(zygote: Zygote) -> None:
    (zygote.installed / "lazy").mkdir()
    (zygote.installed / "lazy" / "__init__.py").write_text("def __getattr__(name): raise RuntimeError('asked ' + name)")
    assert zygote.warm("lazy.Model") == "importing lazy.Model raised RuntimeError: asked Model"


def test_modules_find_the_predictors_arguments(zygote: Zygote) -> None:
    (zygote.installed / "heavy.py").write_text("import os, sys, __main__\nraise RuntimeError(sys.argv, os.getcwd())")
    assert zygote.warm("heavy").endswith(f"(['{zygote.project}/predictor.py'], '{zygote.project}')")


def test_a_project_file_named_like_an_imported_module_is_told(zygote: Zygote) -> None:
    (zygote.installed / "heavy.py").write_text("import helper")
    (zygote.installed / "helper.py").write_text("")
    assert zygote.warm("heavy") == ""
    (zygote.project / "helper.py").write_text("")
    born, control = zygote.bear()
    control.close()
    assert (born.pid, born.obstacle) == (0, f"{zygote.project}/helper.py has the name of an installed module")


def test_a_worker_is_ours_and_holds_nothing_of_the_zygote(zygote: Zygote) -> None:
    assert zygote.warm() == ""
    ours = set(os.listdir(f"/proc/{zygote.process.pid}/fd"))
    born, control = zygote.bear()
    with closing(control):
        assert hello(control) == born.pid
        assert os.getsid(born.pid) == born.pid
        status = Path(f"/proc/{born.pid}/status").read_text()
        assert f"PPid:\t{os.getpid()}\n" in status
        assert len(os.listdir(f"/proc/{born.pid}/fd")) == len(ours) + 1  # control and stacks, not that of the zygote
        assert set(os.listdir(f"/proc/{zygote.process.pid}/fd")) == ours
        zygote.process.kill()
        zygote.process.wait(LIMIT_S)
        assert os.waitpid(born.pid, os.WNOHANG) == (0, 0)
    assert os.waitpid(born.pid, 0)[1] == 0


def test_a_killed_worker_tells_us_its_signal(zygote: Zygote) -> None:
    zygote.warm()
    born, control = zygote.bear()
    with closing(control):
        hello(control)
        os.kill(born.pid, signal.SIGKILL)
        assert os.waitpid(born.pid, 0)[1] == signal.SIGKILL


def test_many_are_born_at_once(zygote: Zygote) -> None:
    zygote.warm()
    births = [zygote.bear() for _ in range(60)]
    for born, control in births:
        assert hello(control) == born.pid
        control.close()  # nobody else holds an end of it, or its end of file would not come
        assert os.waitpid(born.pid, 0)[1] == 0


def hello(control: socket.socket) -> int:
    header_bytes, _ = PREFIX.unpack(control.recv(PREFIX.size, socket.MSG_WAITALL))
    message = decode_to_supervisor(control.recv(header_bytes, socket.MSG_WAITALL))
    assert isinstance(message, Hello)
    return message.pid
