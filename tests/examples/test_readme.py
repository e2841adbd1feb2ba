"""The README: what it shows runs, and its tables miss nothing."""

import json
import re
from pathlib import Path

from predictord.errors import ExitCode
from predictord.problem import STATUS
from predictord.settings import declared
from tests.daemon import Daemon

README = (Path(__file__).parents[2] / "README.md").read_text()


def test_the_predictor_gives_the_reply() -> None:
    block = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    exchange = re.search(r"-d '(.*)'\n(.*)\n```", README)
    assert block and exchange
    with Daemon(block[1]) as daemon:
        answer = daemon.predict(json.loads(exchange[1]))
    assert answer.text == exchange[2]


def test_every_setting_is_in_a_table() -> None:
    flags = set(re.findall(r"--(?:no-)?[\w-]+", " ".join(first_cells())))
    missing = [
        setting.flag
        for setting in declared().values()
        if not flags & {setting.flag, setting.flag.replace("--", "--no-")}
    ]
    assert missing == []


def test_every_error_code_stands_beside_its_status() -> None:
    for code, status in STATUS.items():
        rows = [row for row in table_rows() if f"`{code}`" in row]
        assert rows and str(status) in rows[0], f"{status} {code}"


def test_every_exit_code_is_in_a_table() -> None:
    assert {int(cell) for cell in first_cells() if cell.isdigit()} >= set(ExitCode)


def table_rows() -> list[str]:
    return [line for line in README.splitlines() if line.startswith("|")]


def first_cells() -> list[str]:
    return [row.split("|")[1].strip() for row in table_rows()]
