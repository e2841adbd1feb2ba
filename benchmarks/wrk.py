"""Load by wrk, which costs less than any server here: keep-alive connections, each with one request under way."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from benchmarks import processes
from benchmarks.server import BODY, Server, ServerFailed

_SCRIPT = Path(__file__).with_name("post.lua")


class Load(NamedTuple):
    """What one run of wrk has seen."""

    requests_per_s: float
    p99_ms: float
    server_cpu_us: float
    """Of all the server's processes, a request."""
    supervisor_cpu_us: float
    """Of the process that was started alone."""


def is_installed() -> bool:
    """Whether there is a wrk to run."""
    return shutil.which("wrk") is not None


def load(server: Server, connections: int, duration_s: float) -> Load:
    """Keep the server busy for a while; raises ServerFailed if any answer was wrong or missing."""
    pids = server.pids()
    before, supervisor_before = processes.cpu_s(pids), processes.cpu_s([server.pid])
    run = subprocess.run(
        [
            *(
                "wrk",
                "--threads",
                "1",
                "--connections",
                str(connections),
                "--duration",
                f"{max(1, round(duration_s))}s",
            ),
            *("--timeout", "10s", "--latency", "--script", str(_SCRIPT), f"http://127.0.0.1:{server.port}/predict"),
        ],
        env={**os.environ, "BENCH_BODY": BODY.decode()},
        capture_output=True,
        text=True,
        check=False,
    )
    used, supervisor_used = processes.cpu_s(pids) - before, processes.cpu_s([server.pid]) - supervisor_before
    counted = json.loads(run.stdout.rpartition("COUNTED ")[2] or "{}")
    if not counted.get("requests"):
        raise ServerFailed(f"wrk counted no request: {run.stderr or run.stdout}")
    if counted["refused"] or counted["broken"]:
        raise ServerFailed(
            f"{counted['refused']} of {counted['requests']} answers were no 200, and {counted['broken']} connections "
            f"broke: {server.log_end()}"
        )
    return Load(
        requests_per_s=counted["requests"] / counted["duration_us"] * 1e6,
        p99_ms=counted["p99_us"] / 1e3,
        server_cpu_us=used / counted["requests"] * 1e6,
        supervisor_cpu_us=supervisor_used / counted["requests"] * 1e6,
    )
