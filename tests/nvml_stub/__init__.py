"""A GPU driver made of a text file: `nvml_stub.c` built as libnvidia-ml.so.1, for the real pynvml."""

import ctypes
import os
import subprocess
from pathlib import Path

_SOURCE = Path(__file__).with_name("nvml_stub.c")


class NvmlStub:
    """The library in `folder`; `says` sets what it answers from now on, running processes included."""

    def __init__(self, folder: Path) -> None:
        self.library = folder / "libnvidia-ml.so.1"
        self.file = folder / "behaviour.txt"
        flags = ["-shared", "-fPIC", "-w", f"-Wl,-soname,{self.library.name}"]
        subprocess.run(["gcc", *flags, "-o", self.library, _SOURCE], check=True)

    def says(self, behaviour: str) -> None:
        """Replace the behaviour in one step; `nvml_stub.c` has the format."""
        draft = self.file.with_suffix(".new")
        draft.write_text(behaviour.strip().replace("; ", "\n") + "\n")
        draft.replace(self.file)

    def environ(self, **more: str) -> dict[str, str]:
        """The environment in which a process finds this library, without CUDA's variables but `more`."""
        own = {name: value for name, value in os.environ.items() if not name.startswith("CUDA_")}
        return own | {"LD_LIBRARY_PATH": str(self.library.parent), "NVML_STUB": str(self.file)} | more

    def load(self) -> None:
        """Let this process find the library by its name, too: from now on the loader knows it by its soname."""
        ctypes.CDLL(str(self.library))
