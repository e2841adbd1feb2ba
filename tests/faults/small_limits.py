"""The door's fixed limits, made small for one daemon.

They are constants and no settings, so the daemon of a test runs with a `sitecustomize` that
sets them before `predictord` is started. Everything else is the real thing.
"""

import os
from collections.abc import Mapping
from pathlib import Path

LIMITS: Mapping[str, float] = {
    "HEAD_TIMEOUT_S": 0.6,
    "BODY_GAP_S": 0.6,
    "READER_TIMEOUT_S": 0.6,
    "IDLE_TIMEOUT_S": 0.9,
    "LINGER_S": 0.2,
    "SWEEP_S": 0.05,
}


def environment(folder: Path, limits: Mapping[str, float] = LIMITS) -> dict[str, str]:
    """Environment variables of a daemon with these limits; `folder` is where the hook is written."""
    lines = ["from predictord.supervisor import limits", ""]
    lines += [f"assert isinstance(limits.{name}, float); limits.{name} = {value!r}" for name, value in limits.items()]
    (folder / "sitecustomize.py").write_text("\n".join(lines) + "\n")
    return {"PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)}
