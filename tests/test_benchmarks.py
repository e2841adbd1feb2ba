"""The benchmarks: one short round of some kinds runs, and what they write has every number."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.kinds import KINDS
from benchmarks.results import Results
from benchmarks.table import markdown

ROOT = Path(__file__).parents[1]


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110)


@pytest.mark.skipif(not shutil.which("wrk"), reason="needs wrk; scripts/test installs it")
def test_a_round_writes_a_table_a_picture_and_the_numbers(tmp_path: Path) -> None:
    kinds = ["start", "echo", "stream"]
    effort = ("--rounds", "1", "--duration", "1", "--requests", "20")
    run = bench("--kinds", ",".join(kinds), *effort, "--output", str(tmp_path))
    assert run.returncode == 0, run.stderr
    table = (tmp_path / "results.md").read_text()
    assert run.stdout.strip() == table.strip()
    assert f"`scripts/bench {' '.join(effort)} --kinds start,echo,stream`" in table
    assert str(tmp_path) not in table
    numbers = json.loads((tmp_path / "results.json").read_text())
    for kind in KINDS:
        if kind.name in kinds:
            for contender in ("predictord", "plain"):
                assert numbers[kind.name][contender][0].keys() == {metric.key for metric in kind.metrics}
                assert all(number > 0 for number in numbers[kind.name][contender][0].values())
    assert "<svg" in (tmp_path / "results.svg").read_text()


def test_ratios_are_taken_within_the_rounds_and_the_better_are_bold() -> None:
    results = Results()
    for number, (one, other) in enumerate([(200.0, 100.0), (30.0, 10.0), (8.0, 4.0)]):
        results.add("echo", "predictord", number, {"c16": one, "p50": one})
        results.add("echo", "plain", number, {"c16": other, "p50": other})
    results.add("echo", "predictord", 3, {"c16": 1.0})  # plain failed in this one
    kinds = [kind for kind in KINDS if kind.name == "echo"]
    rows = markdown(results, kinds, ["predictord", "plain"], "").splitlines()[4:]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert cells == [
        ["echo: one after another on one core, median", "ms", "30 (8\u2013200)", "10 (4\u2013100)", "2.00"],
        ["echo: 16 clients", "requests/s", "19 (1\u2013200)", "10 (4\u2013100)", "**2.00**"],
    ]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--kinds", "echo,ecko"], "there is no kind 'ecko'"),
        (["--without", "mosec"], "there is no 'mosec' to leave out"),
        (["--rounds", "0"], "must be positive"),
    ],
)
def test_what_can_not_be_measured_is_said(arguments: list[str], reason: str) -> None:
    run = bench(*arguments)
    assert run.returncode == 2
    assert reason in run.stderr


def test_a_server_that_does_not_start_is_noted_and_the_rest_goes_on(tmp_path: Path) -> None:
    arguments = ["--kinds", "start", "--rounds", "1", "--litserve-python", "/bin/false", "--output", str(tmp_path)]
    run = bench(*arguments)
    assert run.returncode == 1
    assert "* start, round 1 of 1, litserve: ended with exit code 1: it printed nothing" in run.stdout
    assert {"predictord", "plain"} == json.loads((tmp_path / "results.json").read_text())["start"].keys()
