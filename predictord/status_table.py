"""How `predictord status` looks: the details document as text that fits 80 columns, colours or not."""

import time
from collections.abc import Sequence
from typing import Any

from rich.console import Group, JustifyMethod, RenderableType
from rich.padding import Padding
from rich.table import Column, Table
from rich.text import Text

from predictord.figures import age, count, latency, long_age, memory, rate
from predictord.supervisor.log_line import escape

Document = dict[str, Any]

_STATE_STYLES = {
    "ready": "green",
    "busy": "green",
    "starting": "yellow",
    "reloading": "yellow",
    "degraded": "yellow",
    "draining": "yellow",
    "backoff": "red",
    "failed": "bold red",
}
_MOST_FAILURES = 5
_MOST_OTHERS = 5
_DAY_S = 86_400


def render(document: Document) -> RenderableType:
    """One daemon: what it is, its workers, its GPUs, and what has failed lately."""
    parts: list[RenderableType] = [_daemon(document), _workers(document["workers"])]
    if document["gpus"]:
        parts.append(Group(*(line for gpu in document["gpus"] for line in _gpu(gpu))))
    parts += _errors(document)
    if document["failures"]:
        parts.append(_failures(document["failures"]))
    return Group(*(Padding(part, (0 if index == 0 else 1, 0, 0, 0)) for index, part in enumerate(parts)))


def render_all(rows: Sequence[tuple[int, Document | str]]) -> RenderableType:
    """Several daemons, each by its port, with its document or why there is none."""
    table = _table("port", "state", "generation", "workers", "requests", "pid", "up", "predictor")
    table.columns[-1].justify, table.columns[-1].overflow = "left", "fold"
    for port, document in rows:
        if isinstance(document, str):
            table.add_row(str(port), *[""] * 6, Text(document, "red"))
            continue
        able = sum(worker["state"] in ("ready", "busy") for worker in document["workers"])
        table.add_row(
            str(port),
            _state(document["state"]),
            str(document["generation"]),
            f"{able} of {len(document['workers'])}",
            count(document["requests"]["total"]),
            str(document["pid"]),
            age(document["uptime_s"]),
            escape(document["predictor"]["path"]),
        )
    return table


def _daemon(document: Document) -> Table:
    predictor, requests, rates, queue = (document[key] for key in ("predictor", "requests", "rates", "queue"))
    name = f" · {predictor['class']}" if predictor["class"] else ""
    told = [f"{count(requests['total'])}, {count(requests['failed'])} failed", f"now {rate(rates['requests_per_s'])}/s"]
    told += [f"{key} {latency(rates[f'{key}_ms'])}" for key in ("p50", "p99")]
    grid = Table.grid("", Column(overflow="fold"), padding=(0, 2, 0, 0))
    grid.add_row("state", Text.assemble(_state(document["state"]), f" · generation {document['generation']}"))
    grid.add_row("predictor", f"{escape(predictor['path'])}{escape(name)}")
    urls = ", ".join(document["urls"])
    grid.add_row("daemon", f"{urls} · pid {document['pid']} · up {long_age(document['uptime_s'])}")
    if document["reloads"]:
        last = document["reloads"][0]
        line = f"{_moment(last['at'])} {escape(last['line'])}"
        grid.add_row("last reload", Text(line, "red" if last["kind"] == "failed" else ""))
    grid.add_row("requests", " · ".join(told))
    waiting = f"{count(queue['depth'])} of {count(queue['limit'])} waiting"
    grid.add_row("queue", f"{waiting} · {requests['in_flight']} in hand")
    return grid


def _workers(workers: Sequence[Document]) -> Table:
    columns = ["#", "device", "state", "up", "requests", "req/s", "p50", "p99", "restarts", "RSS"]
    has_gpus = any(worker["device"]["kind"] == "gpu" for worker in workers)
    table = _table(*columns, *(["GPU", "peak"] if has_gpus else []))
    for worker in workers:
        cells: list[str | Text] = [
            str(worker["id"]),
            _device(worker["device"]),
            _state(worker["state"]),
            age(worker["uptime_s"]),
            count(worker["requests"]),
            rate(worker["requests_per_s"]),
            latency(worker["p50_ms"]),
            latency(worker["p99_ms"]),
            count(worker["restarts"]),
            memory(worker["rss_bytes"]),
        ]
        table.add_row(*cells, *([memory(worker["vram_bytes"]), memory(worker["vram_peak_bytes"])] if has_gpus else []))
    return table


def _gpu(gpu: Document) -> list[Text]:
    use = "" if gpu["utilization"] is None else f" · {gpu['utilization']:.0%} busy"
    used, total = gpu["used_bytes"], gpu["total_bytes"]
    held = "memory unknown" if used is None or total is None else f"{memory(used)} of {memory(total)} in use"
    title = f"{_device({'kind': 'gpu', **gpu})}  {escape(gpu['name'])} · {held}{use}"
    lines = [title]
    others = gpu["others"]
    for other in others[:_MOST_OTHERS]:
        name = escape(other["name"] or "a process that can't be seen from here")
        lines.append(f"  also there: {_mib(other['bytes'])} by pid {other['pid']}  {name}")
    if len(others) > _MOST_OTHERS:
        rest = others[_MOST_OTHERS:]
        lines.append(f"  and {_mib(sum(other['bytes'] for other in rest))} by {len(rest)} more")
    return [Text(line, no_wrap=True, overflow="ellipsis") for line in lines]


def _errors(document: Document) -> list[RenderableType]:
    """Why the last reload, or workers' last loads, have failed, each reason once and with its traceback."""
    found: dict[str, str] = {}
    reload = document["reload"]
    if reload is not None and reload["error"]:
        found[reload["error"]] = "the last reload failed"
    for worker in document["workers"]:
        if worker["error"]:
            found.setdefault(worker["error"], f"worker {worker['id']} did not load")
    parts: list[RenderableType] = []
    for error, title in found.items():
        detail, _, traceback = error.partition("\n")
        text = Text(f"{title}: {escape(detail)}", "red")
        for line in traceback.rstrip().splitlines():
            text.append(f"\n    {escape(line)}", "dim")
        parts.append(text)
    return parts


def _failures(failures: Sequence[Document]) -> RenderableType:
    grid = Table.grid("", Column(justify="right"), "", "", Column(overflow="fold"), padding=(0, 2, 0, 0))
    for failure in failures[:_MOST_FAILURES]:
        detail = escape(failure["detail"].partition("\n")[0])
        where = "" if failure["worker"] is None or detail.startswith("worker ") else f"worker {failure['worker']}"
        grid.add_row(_moment(failure["at"]), f"{count(failure['count'])}x", str(failure["status"]), where, detail)
    left_out = len(failures) - _MOST_FAILURES
    title = "failed lately" + (f" (and {left_out} more kinds)" if left_out > 0 else "")
    return Group(title, Padding(grid, (0, 0, 0, 2)))


def _table(*headers: str) -> Table:
    """Numbers to the right, names to the left, a space between, and nothing at the edges."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for header in headers:
        justify: JustifyMethod = "left" if header in ("device", "state") else "right"
        table.add_column(header, justify=justify, no_wrap=header != "predictor")
    return table


def _state(state: str) -> Text:
    return Text(state, _STATE_STYLES.get(state, ""))


def _device(device: Document) -> str:
    if device["kind"] == "cpu":
        return "CPU"
    uuid = device["uuid"] or ""
    return f"MIG {uuid[4:8]}" if uuid.startswith("MIG-") else f"GPU {device['index']}"


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / (1 << 20):,.0f} MiB"


def _moment(at: float) -> str:
    """Local time, with the day where it is not of the last 24 hours."""
    return time.strftime("%H:%M:%S" if time.time() - at < _DAY_S else "%d %b %H:%M", time.localtime(at))
