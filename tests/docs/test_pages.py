"""The README and docs/: every snippet runs as the page says, every link leads somewhere, no table misses an entry."""

import json
import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from predictord.errors import ExitCode
from predictord.problem import STATUS
from predictord.settings import declared
from tests.daemon import Daemon
from tests.docs.blocks import read_blocks
from tests.docs.matching import json_differs
from tests.docs.session import ROOT, Session
from tests.nvml_stub import NvmlStub

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FILES = ("python", "toml", "yaml", "dotenv")
NO_CODE = ""
"""The language of diagrams and of what a terminal shows without a command."""
TWO_GPUS = "count 2; name.0 NVIDIA L4; name.1 NVIDIA L4"


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> NvmlStub:
    """What a page shows shall not depend on the machine's own GPUs."""
    return NvmlStub(tmp_path_factory.mktemp("nvml"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_snippet_does_what_the_page_says(page: Path, driver: NvmlStub) -> None:
    driver.says(TWO_GPUS if page.stem == "gpus" else "count 0")
    # A short path, since `status` wraps long ones.
    with TemporaryDirectory(prefix="docs-") as folder, Session(Path(folder), driver.environ()) as session:
        for block in read_blocks(page):
            try:
                if block.language in FILES:
                    assert block.file_name, "its first line is no comment with the file's name"
                    session.write(block.file_name, block.text)
                elif block.language == "console":
                    for command, expected in block.commands:
                        session.run(command, expected)
                elif block.language == "json":
                    difference = json_differs(json.loads(block.text), json.loads(session.last_output))
                    assert difference is None, f"{difference}\n{session.last_output}"
                else:
                    assert block.language == NO_CODE, f"nothing here runs {block.language}"
            except AssertionError as error:
                raise AssertionError(f"{page.name}, block at line {block.line}: {error}") from error


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_link_leads_somewhere(page: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        name, _, anchor = target.partition("#")
        file = page.parent / name if name else page
        if "://" not in target and not (file.exists() and (not anchor or anchor in anchors(file))):
            broken.append(target)
    assert broken == []


def test_every_page_is_linked_from_the_readme() -> None:
    linked = re.findall(r"\]\((docs/[\w-]+\.md)", PAGES[0].read_text())
    assert {f"docs/{page.name}" for page in PAGES[1:]} == set(linked)


def test_the_settings_page_is_what_the_settings_say() -> None:
    script = ROOT / "scripts/settings_page.py"
    checked = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr


def test_the_readme_names_every_setting_and_every_exit_code() -> None:
    readme = PAGES[0].read_text()
    flags = set(re.findall(r"--(?:no-)?[\w-]+", readme))
    assert {setting.flag for setting in declared().values()} - flags == set()
    assert {int(cell) for cell in first_cells(PAGES[0]) if cell.isdigit()} >= set(ExitCode)


def test_every_metric_is_named() -> None:
    page = (ROOT / "docs/monitoring.md").read_text()
    with Daemon("class Predictor:\n    def predict(self): ...\n") as daemon:
        shown = daemon.client.get("/metrics").text
    families = set(re.findall(r"^# TYPE (predictord_\w+)", shown, re.MULTILINE))
    assert len(families) > 20
    assert families - set(re.findall(r"predictord_\w+", page)) == set()


def test_every_error_code_stands_beside_its_status() -> None:
    for code, status in STATUS.items():
        rows = [row for row in table_rows(ROOT / "docs/errors.md") if f"`{code}`" in row]
        assert rows and str(status) in rows[0].split("|")[1], f"{status} {code}"


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def table_rows(page: Path) -> list[str]:
    return [line for line in page.read_text().splitlines() if line.startswith("|")]


def first_cells(page: Path) -> list[str]:
    return [row.split("|")[1].strip() for row in table_rows(page)]
