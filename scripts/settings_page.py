"""Writes the tables of docs/settings.md from the declared settings; `--check` only says whether they are current."""

import re
import sys
from pathlib import Path

from predictord.kinds import SWITCH
from predictord.settings import Setting, declared

PAGE = Path(__file__).parents[1] / "docs/settings.md"
_TABLES = re.compile(r"(?<=<!-- made by scripts/settings_page.py -->\n).*(?=<!-- end -->)", re.DOTALL)


def tables() -> str:
    """One table for each group, under its heading."""
    groups: dict[str, list[str]] = {}
    for setting in declared().values():
        groups.setdefault(setting.group, []).append(_row(setting))
    head = "| flag | default | allowed | |\n| --- | --- | --- | --- |\n"
    return "".join(f"\n### {group}\n\n{head}{''.join(rows)}" for group, rows in groups.items()) + "\n"


def _row(setting: Setting) -> str:
    flag = f"`{setting.flag} {setting.kind.metavar}`" if setting.kind.metavar else f"`{setting.flag}`"
    default = setting.default or ""
    if setting.kind is SWITCH:
        flag += f", `--no-{setting.flag[2:]}`"
        default = default or "off"
    more = " Repeatable." if setting.kind.many else ""
    cells = (flag, default, setting.kind.allowed, setting.line + more)
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |\n"


def main() -> None:
    """Exit 1 where `--check` finds another text."""
    page = PAGE.read_text()
    current = _TABLES.sub(lambda _: tables(), page)
    if "--check" not in sys.argv:
        PAGE.write_text(current)
    elif current != page or not _TABLES.search(page):
        sys.exit(f"{PAGE.name} is out of date; .venv/bin/python scripts/settings_page.py writes it anew")


if __name__ == "__main__":
    main()
