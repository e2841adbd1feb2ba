"""Measures predictord and a server written by hand (starlette on uvicorn) side by side, on this machine.

A round starts, measures and stops one server after another; numbers are medians over the rounds, with least and
most, and ratios are taken within the rounds. Close other programs first: with few cores everything is noise.
"""

import argparse
import json
import os
import platform
import sys
from datetime import date
from importlib.metadata import version
from pathlib import Path

from benchmarks import wrk
from benchmarks.contenders import contenders
from benchmarks.kinds import KINDS, Effort
from benchmarks.plot import draw
from benchmarks.rounds import run_rounds
from benchmarks.table import markdown

ROOT = Path(__file__).parents[1]


def main() -> int:
    """Returns 1 when anything could not be measured."""
    options = parse()
    kinds = [kind for kind in KINDS if kind.name in options.kinds]
    found = [contender for contender in contenders(options.litserve_python) if contender.name not in options.without]
    names = [contender.name for contender in found]
    effort = Effort(options.duration, options.requests)
    results = run_rounds(kinds, found, options.rounds, effort, lambda line: print(line, file=sys.stderr, flush=True))

    options.output.mkdir(parents=True, exist_ok=True)
    table = markdown(results, kinds, names, preface(options))
    (options.output / "results.md").write_text(table)
    (options.output / "results.json").write_text(json.dumps(results.document(), indent=1) + "\n")
    written = ["results.md", "results.json"]
    if draw(results, kinds, names, options.output / "results.svg"):
        written.append("results.svg")
    print(table)
    print(f"{', '.join(written)} are in {options.output}", file=sys.stderr)
    return 1 if results.failures else 0


def parse() -> argparse.Namespace:
    """The options; ends the program when they can't be."""
    names = [kind.name for kind in KINDS]
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description=__doc__,
        epilog="kinds:\n" + "\n".join(f"  {kind.name:10} {kind.title}" for kind in KINDS),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--kinds", type=split, default=names, metavar="A,B", help="only these; default: all, see below")
    parser.add_argument("--rounds", type=int, default=3, help="default: 3")
    parser.add_argument("--duration", type=float, default=4, metavar="S", help="of each load; default: 4 s")
    parser.add_argument("--requests", type=int, default=1000, help="of each latency measurement; default: 1000")
    parser.add_argument("--without", type=split, default=[], metavar="A", help="leave out predictord or plain")
    parser.add_argument("--litserve-python", metavar="PYTHON", help="compare LitServe too, run by this interpreter")
    parser.add_argument(
        "--output",
        type=Path,
        default=ROOT / "build" / "bench",
        metavar="FOLDER",
        help="for results.md, results.json and results.svg; default: build/bench",
    )
    options = parser.parse_args()
    for wrong in set(options.kinds) - set(names):
        parser.error(f"there is no kind {wrong!r}; the kinds are {', '.join(names)}")
    for wrong in set(options.without) - {"predictord", "plain"}:
        parser.error(f"there is no {wrong!r} to leave out")
    if options.rounds < 1 or options.requests < 1 or options.duration <= 0:
        parser.error("--rounds, --requests and --duration must be positive")
    if not wrk.is_installed():
        parser.error("wrk is not installed; scripts/bench installs it, or your distribution has it as `wrk`")
    return options


def split(names: str) -> list[str]:
    """The names in a comma list."""
    return names.split(",")


def preface(options: argparse.Namespace) -> str:
    """What was measured, where and how."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("predictord", "uvicorn", "starlette"))
    return (
        f"{date.today()}, {_processor()}, {len(os.sched_getaffinity(0))} cores, Linux {platform.release()}, "
        f"Python {platform.python_version()}, {versions}; `{_command(options)}`. Medians (least–most) of "
        f"{options.rounds} interleaved rounds; server and load on the same machine."
    )


def _command(options: argparse.Namespace) -> str:
    """What to type for the same again; folders of this machine are left out."""
    command = f"scripts/bench --rounds {options.rounds} --duration {options.duration:g} --requests {options.requests}"
    if len(options.kinds) < len(KINDS):
        command += f" --kinds {','.join(options.kinds)}"
    if options.without:
        command += f" --without {','.join(options.without)}"
    return command + (" --litserve-python …" if options.litserve_python else "")


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


if __name__ == "__main__":
    sys.exit(main())
