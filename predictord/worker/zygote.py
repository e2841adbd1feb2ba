"""The zygote: imports a predictor's installed modules once, then makes workers that share their memory.

It only imports: with any thread of its own, or with CUDA begun, a fork of it could hang.
Workers are forked twice, so that the kernel gives them to the supervisor, a subreaper,
and the zygote's end costs them nothing. What runs in a
worker is `serve_worker`, as in one that is exec'd, below this file's `main`, so that a
worker's end is that of any Python program.
"""

import gc
import importlib
import os
import socket
import sys
import threading
import time
from importlib.machinery import all_suffixes
from types import ModuleType
from typing import NamedTuple

from predictord.birth import PACKET_BYTES, Bear, Born, Warm, Warmed, decode_to_zygote, encode
from predictord.imports import is_installed
from predictord.linux import die_with_parent
from predictord.worker.main import serve_worker

# Every worker that may be swapped needs these, and shares them when they are here already.
for _module in ("predictord.worker.ran", "predictord.worker.swapping"):
    importlib.import_module(_module)

_DESCRIPTORS = 3
_BAD_FORK = 3
"""Exit code of a trial child in which CUDA can't be used."""


class Birth(NamedTuple):
    """What a newborn worker finds: its end of everything, and who forked it."""

    environment: dict[str, str | None]
    control_fd: int
    output_fd: int
    stacks_fd: int
    intermediate_pid: int


def main() -> None:
    """Run as `python -m predictord.worker zygote CONTROL_FD SUPERVISOR_PID`; each worker comes out of it too."""
    control_fd, supervisor_pid = map(int, sys.argv[2:4])
    die_with_parent(supervisor_pid)
    control = socket.socket(fileno=control_fd)
    control.set_inheritable(False)
    birth = Zygote(control).run()
    if birth is not None:
        control.close()
        _become_worker(birth, supervisor_pid)
        serve_worker(birth.control_fd, birth.stacks_fd)


class Zygote:
    """One set of imports, made once and never changed."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._names_before = set(sys.modules)

    def run(self) -> Birth | None:
        """Import, then make workers until the supervisor closes the socket; returns a `Birth` in each worker."""
        message = decode_to_zygote(self._control.recv(PACKET_BYTES))
        assert isinstance(message, Warm)
        obstacle = self._warm(message)
        self._control.send(encode(Warmed(obstacle)))
        while not obstacle:
            packet, descriptors, flags, _ = socket.recv_fds(self._control, PACKET_BYTES, _DESCRIPTORS)
            if not packet:
                break
            request = decode_to_zygote(packet)
            assert isinstance(request, Bear)
            birth = self._bear(request, descriptors, cut=bool(flags & socket.MSG_CTRUNC))
            if birth is not None:
                return birth
        return None

    def _warm(self, message: Warm) -> str:
        # As a worker's loader does it, for modules that look at these while they are imported.
        sys.argv = [message.path]
        sys.modules["__main__"] = ModuleType("__main__")
        gc.disable()  # looking for garbage takes a tenth of an import, and finds none
        for name in message.modules:
            if is_installed(name.partition(".")[0], [os.getcwd(), *sys.path]):
                try:
                    _import(name)
                except BaseException as error:
                    return f"importing {name} raised {type(error).__name__}: {' '.join(str(error).split())}"
        if "pydantic" in sys.modules:
            importlib.import_module("predictord.worker.typed_payload").warm_up()
        gc.collect()
        obstacle = self._shadow() or _unsafe()
        # Objects that the collector does not touch stay in shared memory.
        gc.freeze()
        gc.enable()
        return obstacle

    def _shadow(self) -> str:
        """A project file by the name of a module that is imported here, and that the worker would import instead."""
        imported = {name for name in sys.modules.keys() - self._names_before if "." not in name}
        for entry in os.listdir():
            name = next((entry.removesuffix(suffix) for suffix in all_suffixes() if entry.endswith(suffix)), entry)
            if name in imported and (name != entry or os.path.exists(f"{entry}/__init__.py")):
                return f"{os.path.abspath(entry)} has the name of an installed module"
        return ""

    def _bear(self, request: Bear, descriptors: list[int], *, cut: bool) -> Birth | None:
        pid, obstacle = 0, ""
        try:
            obstacle = self._shadow()
            if cut or len(descriptors) != _DESCRIPTORS:
                obstacle = "its file descriptors did not arrive; raise the limit of open files"
            if not obstacle:
                for descriptor in descriptors:
                    os.set_inheritable(descriptor, False)  # recv_fds makes them inheritable
                pid, intermediate_pid = _fork_twice()
                if intermediate_pid:
                    control_fd, output_fd, stacks_fd = descriptors
                    descriptors = []
                    return Birth(request.environment, control_fd, output_fd, stacks_fd, intermediate_pid)
        except OSError as error:
            obstacle = str(error)
        finally:
            # Before the next fork, or that worker would hold this one's ends open.
            for descriptor in descriptors:
                os.close(descriptor)
        self._control.send(encode(Born(request.number, pid, obstacle)))
        return None


def _import(name: str) -> None:
    """Import a module, or what `from … import` would take from one; one that is not there is the worker's to miss."""
    try:
        importlib.import_module(name)
        return
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
    parent, _, attribute = name.rpartition(".")
    if parent:
        _import(parent)
        getattr(sys.modules.get(parent), attribute, None)  # packages such as transformers import when asked


def _unsafe() -> str:
    """Why a fork of this process could hang, or would have no GPU; empty if neither."""
    if threading.active_count() > 1:
        names = ", ".join(thread.name for thread in threading.enumerate() if thread is not threading.main_thread())
        return f"an import started a thread ({names})"
    if any(target.startswith("/dev/nvidia-uvm") for target in _open_files()):
        return "an import has begun to use the GPU"
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        if file.read().strip():
            return "an import started a process"
    return _try_fork()


def _try_fork() -> str:
    """Fork once; OpenBLAS ends its threads for that and begins them anew, others would be missing in the child."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = _BAD_FORK if _cuda_is_lost() else 0
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code == _BAD_FORK:
        return "an import has begun to use CUDA"
    if code != 0:
        return f"a fork of it ended with {code}"
    threads = len(os.listdir("/proc/self/task"))
    return f"an import started {threads - 1} native threads" if threads > 1 else ""


def _cuda_is_lost() -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and bool(torch.cuda._is_in_bad_fork())


def _open_files() -> list[str]:
    found = []
    for number in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{number}"))
        except FileNotFoundError:
            continue  # that of the listing itself
    return found


def _fork_twice() -> tuple[int, int]:
    """The grandchild's pid and 0 here; 0 and its parent's pid in the grandchild. Raises OSError."""
    sys.stdout.flush()
    sys.stderr.flush()
    told, tell = os.pipe()
    try:
        intermediate_pid = os.fork()
        if intermediate_pid == 0:
            # Nothing but the worker may leave this branch: it would run on as a second zygote.
            intermediate_pid, pid = os.getpid(), 0
            try:
                pid = os.fork()
                if pid:
                    os.write(tell, b"%d" % pid)
            except BaseException:
                os._exit(1)
            if pid:
                os._exit(0)
            return 0, intermediate_pid
        os.close(tell)
        tell = -1
        text = os.read(told, 32)
        os.waitpid(intermediate_pid, 0)
    finally:
        os.close(told)
        if tell >= 0:
            os.close(tell)
    if not text:
        raise OSError("the worker could not be forked")
    return int(text), 0


def _become_worker(birth: Birth, supervisor_pid: int) -> None:
    """Take on what an exec would have given."""
    os.setsid()
    # Before its parent has ended, PR_SET_PDEATHSIG would fire for that and not for the supervisor.
    while os.getppid() == birth.intermediate_pid:
        time.sleep(0.0002)
    die_with_parent(supervisor_pid)
    os.dup2(birth.output_fd, 1)
    os.dup2(birth.output_fd, 2)
    os.close(birth.output_fd)
    for name, value in birth.environment.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    _seed()


def _seed() -> None:
    """Give each worker random numbers of its own; Python's `random` sees to that itself after a fork."""
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.seed()
