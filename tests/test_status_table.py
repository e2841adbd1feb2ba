"""`predictord status` as text: what is shown, and that it fits 80 columns."""

import io
import time
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console, RenderableType

from predictord.status_table import render, render_all

GIB = 1 << 30
FAULT = 'SyntaxError: invalid syntax\n  File "/home/ada/p.py", line 3\n    self.x =\nSyntaxError: invalid syntax\n'


def shown(text: RenderableType, columns: int = 80) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=columns, markup=False, highlight=False, emoji=False).print(text)
    return [line.rstrip() for line in out.getvalue().splitlines()]


def worker(number: int, **changes: Any) -> dict[str, Any]:
    device = {"kind": "gpu", "index": number, "uuid": f"GPU-{number}", "name": "NVIDIA H200"}
    return {
        "id": number,
        "pid": 4300 + number,
        "device": device,
        "state": "ready",
        "generation": 3,
        "requests": 12_345,
        "restarts": 0,
        "rss_bytes": 312 << 20,
        "vram_bytes": 14 * GIB,
        "vram_peak_bytes": 15 * GIB,
        "uptime_s": 7500.0,
        "requests_per_s": 60.2,
        "p50_ms": 12.1,
        "p99_ms": 40.4,
        "load_s": 11.2,
        "error": None,
    } | changes


def gpu(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "index": number,
        "uuid": f"GPU-{number}",
        "name": "NVIDIA H200",
        "total_bytes": 139 * GIB,
        "used_bytes": 16 * GIB,
        "utilization": 0.83,
        "others": [],
    } | changes


def failure(**changes: Any) -> dict[str, Any]:
    return {
        "at": time.time(),
        "status": 500,
        "code": "predictor_error",
        "detail": "KeyError: 'text'",
        "traceback": None,
        "worker": 1,
        "request_id": "a",
        "count": 12,
    } | changes


def document(**changes: Any) -> dict[str, Any]:
    return {
        "version": "0.1.0",
        "pid": 4242,
        "state": "ready",
        "predictor": {"path": "/home/ada/predictor.py", "class": "PythonPredictor"},
        "generation": 3,
        "reload": None,
        "workers": [worker(0), worker(1, state="busy", restarts=2)],
        "queue": {"depth": 4, "limit": 1024},
        "requests": {"total": 24_690, "failed": 3, "in_flight": 2},
        "urls": ["http://127.0.0.1:8000", "http://[::1]:8000"],
        "uptime_s": 7509.0,
        "folder": "/home/ada",
        "rates": {"requests_per_s": 120.4, "failed_per_s": 0.1, "p50_ms": 12.0, "p95_ms": 33.0, "p99_ms": 40.4},
        "gpus": [gpu(0), gpu(1)],
        "reloads": [],
        "failures": [],
    } | changes


def on_cpu(**changes: Any) -> dict[str, Any]:
    device = {"kind": "cpu", "index": None, "uuid": None, "name": "CPU"}
    return document(
        workers=[worker(0, device=device, vram_bytes=None, vram_peak_bytes=None)],
        gpus=[],
        **changes,
    )


def test_the_whole_on_the_cpu() -> None:
    assert shown(render(on_cpu())) == [
        "state      ready · generation 3",
        "predictor  /home/ada/predictor.py · PythonPredictor",
        "daemon     http://127.0.0.1:8000, http://[::1]:8000 · pid 4242 · up 2h 5m",
        "requests   24,690, 3 failed · now 120/s · p50 12ms · p99 40ms",
        "queue      4 of 1,024 waiting · 2 in hand",
        "",
        "# device state up requests req/s  p50  p99 restarts  RSS",
        "0 CPU    ready 2h   12,345    60 12ms 40ms        0 312M",
    ]


def test_gpus_have_their_memory_and_who_else_holds_it() -> None:
    others = [{"pid": 999, "name": "python3 train.py " + "--long " * 20, "bytes": 2 * GIB}]
    others += [{"pid": 1000 + number, "name": None, "bytes": 1 << 20} for number in range(6)]
    lines = shown(render(document(gpus=[gpu(0, others=others), gpu(1, total_bytes=None, utilization=None)])))
    assert lines[6:] == [
        "# device state up requests req/s  p50  p99 restarts  RSS   GPU  peak",
        "0 GPU 0  ready 2h   12,345    60 12ms 40ms        0 312M 14.0G 15.0G",
        "1 GPU 1  busy  2h   12,345    60 12ms 40ms        2 312M 14.0G 15.0G",
        "",
        "GPU 0  NVIDIA H200 · 16.0G of 139G in use · 83% busy",
        "  also there: 2,048 MiB by pid 999  python3 train.py --long --long --long --lon…",
        *[f"  also there: 1 MiB by pid {1000 + number}  a process that can't be seen from here" for number in range(4)],
        "  and 2 MiB by 2 more",
        "GPU 1  NVIDIA H200 · memory unknown",
    ]


def test_mig_instances_are_told_apart() -> None:
    device = {"kind": "gpu", "index": 0, "uuid": "MIG-7e1f0a2b-1", "name": "NVIDIA H200 MIG 1g"}
    assert any(line.startswith("0 MIG 7e1f") for line in shown(render(document(workers=[worker(0, device=device)]))))


def test_the_last_reload_is_the_consoles_line() -> None:
    now = time.time()
    reload = {"kind": "swap", "at": now, "line": "swap: predict() · weights kept · 31 ms"}
    today = time.strftime("%H:%M:%S", time.localtime(now))
    lines = shown(render(on_cpu(reloads=[reload])))
    assert f"last reload  {today} swap: predict() · weights kept · 31 ms" in lines
    long_ago = shown(render(on_cpu(reloads=[{**reload, "at": 86_400.0 * 14}])))
    assert any("last reload  15 Jan" in line for line in long_ago)


def test_why_it_failed_is_told_once_with_the_traceback() -> None:
    workers = [worker(number, state="failed", error=FAULT, uptime_s=None, p50_ms=None) for number in range(2)]
    lines = shown(render(document(state="failed", workers=workers, gpus=[])))
    assert lines[-4:] == [
        "worker 0 did not load: SyntaxError: invalid syntax",
        '      File "/home/ada/p.py", line 3',
        "        self.x =",
        "    SyntaxError: invalid syntax",
    ]
    after = shown(render(on_cpu(reload={"kind": "failed", "error": FAULT})))
    assert "the last reload failed: SyntaxError: invalid syntax" in after


def test_failures_are_folded_and_the_latest_five_kinds_are_shown() -> None:
    failures = [failure(), failure(worker=None, status=503, detail="the queue is full\nand more", count=1200)]
    failures += [failure(detail=f"E{number}") for number in range(5)]
    lines = shown(render(on_cpu(failures=failures)))
    title = lines.index("failed lately (and 2 more kinds)")
    assert [line[10:] for line in lines[title + 1 : title + 3]] == [
        "     12x  500  worker 1  KeyError: 'text'",
        "  1,200x  503            the queue is full",
    ]
    assert len(lines) == title + 6


HOSTILE = st.text(st.characters(exclude_categories=()), max_size=200)


@settings(max_examples=50)
@given(HOSTILE, HOSTILE, st.sampled_from([80, 100]))
def test_nothing_goes_beyond_the_columns_or_moves_the_cursor(text: str, name: str, columns: int) -> None:
    everything = document(
        predictor={"path": "/" + text, "class": name},
        gpus=[gpu(0, name=name, others=[{"pid": 1, "name": text, "bytes": 1}])],
        reloads=[{"kind": "failed", "at": 0.0, "line": text}],
        reload={"kind": "failed", "error": text + "\n" + name},
        failures=[failure(detail=text)],
    )
    for line in shown(render(everything), columns):
        assert cell_len(line) <= columns
        assert "\x1b" not in line


def test_the_widest_row_fits_80_columns() -> None:
    widest = {
        "state": "draining",
        "uptime_s": 86_400.0 * 99,
        "requests": 999_999,
        "requests_per_s": 12_345.0,
        "p50_ms": 999.0,
        "p99_ms": 300_000.0,
        "restarts": 999,
        "rss_bytes": 99 * GIB,
        "vram_bytes": 99 * GIB,
        "vram_peak_bytes": 99 * GIB,
    }
    lines = shown(render(document(workers=[worker(10, **widest)])))
    row = next(line for line in lines if line.startswith("10 GPU 10"))
    assert "…" not in row


def test_several_daemons_are_a_line_each() -> None:
    rows: list[tuple[int, dict[str, Any] | str]] = [
        (8000, document()),
        (8001, on_cpu(state="degraded")),
        (8002, "no answer"),
    ]
    assert shown(render_all(rows)) == [
        "port state    generation workers requests  pid up predictor",
        "8000 ready             3  2 of 2   24,690 4242 2h /home/ada/predictor.py",
        "8001 degraded          3  1 of 1   24,690 4242 2h /home/ada/predictor.py",
        "8002                                              no answer",
    ]
