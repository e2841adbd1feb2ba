"""The folder in which daemons are found."""

import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from predictord.errors import PredictordError, SettingsError, StartError
from predictord.runtime import Daemon, RuntimeFolder, choose, runtime_path, socket_address

URLS = ["http://127.0.0.1:8000", "http://[::1]:8000"]
NEEDS_ROOT = pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")

REGISTER = """
import sys, time
from pathlib import Path
from predictord.runtime import RuntimeFolder

with RuntimeFolder(Path(sys.argv[1])).register("/p.py", ["http://127.0.0.1:1"]):
    print("registered", flush=True)
    time.sleep(60)
"""

REGISTER_OFTEN = """
import os, sys
from pathlib import Path
from predictord.runtime import RuntimeFolder

folder = RuntimeFolder(Path(sys.argv[1]))
for _ in range(60):
    with folder.register("/p.py", ["http://127.0.0.1:1"]):
        assert os.getpid() in [daemon.pid for daemon in folder.living()]
    assert os.getpid() not in [daemon.pid for daemon in folder.living()]
"""


@pytest.fixture
def folder(tmp_path: Path) -> RuntimeFolder:
    return RuntimeFolder(tmp_path / "runtime")


def names(folder: RuntimeFolder) -> list[str]:
    return sorted(path.name for path in folder.path.iterdir())


# --- where it is


def test_is_below_the_users_own_run_folder(tmp_path: Path) -> None:
    own = tmp_path / str(os.getuid())
    own.mkdir()
    assert runtime_path(str(tmp_path), "/tmp") == own / "predictord"


@pytest.mark.parametrize("fault", ["missing", "link", "file", pytest.param("foreign", marks=NEEDS_ROOT)])
def test_is_in_tmp_without_a_run_folder_of_ours(tmp_path: Path, fault: str) -> None:
    own = tmp_path / str(os.getuid())
    if fault == "link":
        own.symlink_to(tmp_path)
    elif fault == "file":
        own.touch()
    elif fault == "foreign":
        own.mkdir()
        os.chown(own, 65534, -1)
    assert runtime_path(str(tmp_path), "/tmp") == Path(f"/tmp/predictord-{os.getuid()}")


# --- registering


def test_a_daemon_is_found_while_it_is_registered(folder: RuntimeFolder) -> None:
    assert folder.living() == []
    descriptors = os.listdir("/proc/self/fd")
    with folder.register("/a/p.py", URLS) as control_path:
        (daemon,) = folder.living()
        assert (daemon.pid, daemon.port, daemon.urls, daemon.predictor) == (os.getpid(), 8000, URLS, "/a/p.py")
        assert daemon.started.endswith("+00:00")
        assert control_path == folder.socket_path(os.getpid())
        control_path.touch()
        assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
        assert stat.S_IMODE((folder.path / f"{os.getpid()}.json").stat().st_mode) == 0o600
    assert names(folder) == []
    assert folder.living() == []
    assert os.listdir("/proc/self/fd") == descriptors


def test_a_killed_daemon_is_dead_at_once_and_cleaned_up(folder: RuntimeFolder) -> None:
    with subprocess.Popen([sys.executable, "-c", REGISTER, folder.path], stdout=subprocess.PIPE) as process:
        assert process.stdout and process.stdout.readline() == b"registered\n"
        folder.socket_path(process.pid).touch()
        assert [daemon.pid for daemon in folder.living()] == [process.pid]
        assert not folder.wait_for_end(process.pid, 0.05)
        process.send_signal(signal.SIGKILL)
        assert folder.wait_for_end(process.pid, 5)
    assert folder.living() == []
    assert names(folder) == []


def test_a_pid_that_is_anothers_now_is_no_daemon(folder: RuntimeFolder) -> None:
    folder.path.mkdir(mode=0o700)
    with subprocess.Popen(["sleep", "60"]) as foreign:
        (folder.path / f"{foreign.pid}.json").write_text("{}")
        folder.socket_path(foreign.pid).touch()
        assert folder.living() == []
        assert names(folder) == []
        assert foreign.poll() is None
        foreign.kill()


@pytest.mark.parametrize("suffix", ["json", "sock"])
def test_leftovers_under_our_own_pid_are_replaced(folder: RuntimeFolder, suffix: str) -> None:
    folder.path.mkdir(mode=0o700)
    (folder.path / f"{os.getpid()}.{suffix}").write_text("x" * 1000)
    with folder.register("/p.py", URLS):
        assert [daemon.predictor for daemon in folder.living()] == ["/p.py"]
        assert names(folder) == [f"{os.getpid()}.json"]


def test_what_is_no_daemons_is_left_alone(folder: RuntimeFolder) -> None:
    folder.path.mkdir(mode=0o700)
    (folder.path / "notes.json").touch()
    with folder.register("/p.py", URLS):
        (folder.path / f"{os.getpid()}.json").write_text('{"version": 2}')
        assert folder.living() == []
        assert names(folder) == [f"{os.getpid()}.json", "notes.json"]


def test_daemons_that_come_and_go_never_lose_each_other(folder: RuntimeFolder) -> None:
    processes = [subprocess.Popen([sys.executable, "-c", REGISTER_OFTEN, folder.path]) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    assert names(folder) == []


# --- a folder that is not to be trusted


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("link", "is a symbolic link"),
        ("dangling", "is a symbolic link"),
        ("file", "is no folder"),
        ("open", "has mode 0777 instead of 0700"),
        ("readable", "has mode 0750 instead of 0700"),
        pytest.param("foreign", "belongs to user 65534", marks=NEEDS_ROOT),
    ],
)
def test_an_unsafe_folder_is_refused(folder: RuntimeFolder, tmp_path: Path, fault: str, sentence: str) -> None:
    target = tmp_path / "target"
    if fault == "file":
        folder.path.touch()
    elif fault == "dangling":
        folder.path.symlink_to(target)
    elif fault == "link":
        target.mkdir(mode=0o700)
        folder.path.symlink_to(target)
    else:
        folder.path.mkdir(mode=0o700)
        folder.path.chmod({"open": 0o777, "readable": 0o750}.get(fault, 0o700))
        if fault == "foreign":
            os.chown(folder.path, 65534, -1)
    with pytest.raises(StartError, match=sentence), folder.register("/p.py", URLS):
        pass
    with pytest.raises(StartError, match=sentence):
        folder.living()
    assert list(tmp_path.rglob("*.json")) == []


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    missing = tmp_path / "missing" / "runtime"
    with (
        pytest.raises(StartError, match=f"cannot register this daemon in {missing}: No such file or directory"),
        RuntimeFolder(missing).register("/p.py", URLS),
    ):
        pass


# --- choosing


def daemon(pid: int, port: int, predictor: str) -> Daemon:
    return Daemon(pid, port, [], predictor, "")


A1, A2, B = daemon(1, 8001, "/x/a.py"), daemon(2, 8002, "/x/a.py"), daemon(3, 8003, "/x/b.py")


@pytest.mark.parametrize(
    ("daemons", "predictor", "port", "chosen"),
    [
        ([A1], None, None, A1),
        ([A1, A2, B], None, 8002, A2),
        ([A1, A2, B], "/x/b.py", None, B),
        ([A1, A2, B], "/x/y/../b.py", None, B),
        ([A1, A2, B], "/x/a.py", 8001, A1),
    ],
)
def test_the_one_that_matches_is_chosen(
    daemons: list[Daemon], predictor: str | None, port: int | None, chosen: Daemon
) -> None:
    assert choose(daemons, predictor, port) is chosen


def test_a_path_is_known_by_its_link_and_by_its_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target, link = tmp_path / "target.py", tmp_path / "link.py"
    target.touch()
    link.symlink_to(target)
    started_by_link = daemon(1, 1, str(link))
    monkeypatch.chdir(tmp_path)
    assert choose([started_by_link], "link.py") == choose([started_by_link], "target.py") == started_by_link
    link.unlink()
    link.symlink_to(tmp_path / "newer.py")
    assert choose([started_by_link], "link.py") == started_by_link


@pytest.mark.parametrize(
    ("daemons", "predictor", "port", "sentence"),
    [
        ([], None, None, "no daemon is running; `predictord serve` starts one"),
        ([], "a.py", 1, "no daemon of a.py on port 1 is running; `predictord serve` starts one"),
        ([B], None, 1, "no daemon on port 1 is running; there is /x/b.py on port 8003 (pid 3)"),
        ([A1], "/x/b.py", 8001, "no daemon of /x/b.py on port 8001 is running; there is /x/a.py on port 8001 (pid 1)"),
    ],
)
def test_none_is_an_answer(daemons: list[Daemon], predictor: str | None, port: int | None, sentence: str) -> None:
    with pytest.raises(PredictordError) as caught:
        choose(daemons, predictor, port)
    assert str(caught.value) == sentence
    assert type(caught.value) is PredictordError


def test_several_are_named(folder: RuntimeFolder) -> None:
    with pytest.raises(SettingsError) as caught:
        choose([A1, A2, B], "/x/a.py")
    assert str(caught.value) == (
        "2 daemons match; choose one with --port:\n  /x/a.py on port 8001 (pid 1)\n  /x/a.py on port 8002 (pid 2)"
    )


# --- long paths


def test_a_socket_may_have_a_path_of_any_length(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 100) / ("y" * 100) / "1.sock"
    path.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        with socket_address(path) as address:
            listener.bind(address)
        listener.listen()
        with socket_address(path) as address:
            client.connect(address)
    assert stat.S_ISSOCK(path.stat().st_mode)
