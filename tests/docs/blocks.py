"""The fenced blocks of a Markdown page, and the commands in those that show a terminal."""

import re
from dataclasses import dataclass
from pathlib import Path

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_FILE_NAME = re.compile(r"(?:#|<!--) ([\w./-]+)\n")
_COMMAND = re.compile(r"^\$ ((?:.*\\\n)*.*)\n", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """One fenced block; `line` is where it begins in its page."""

    language: str
    text: str
    line: int

    @property
    def file_name(self) -> str | None:
        """The file that it shows: named by a comment in its first line; Python without one is the predictor."""
        named = _FILE_NAME.match(self.text)
        if named:
            return named[1]
        return "predictor.py" if self.language == "python" else None

    @property
    def commands(self) -> list[tuple[str, str]]:
        """Each command after a `$`, with what the page says it prints."""
        parts = _COMMAND.split(self.text)
        assert not parts[0], f"line {self.line}: a console block begins with a command"
        return list(zip(parts[1::2], parts[2::2], strict=True))


def read_blocks(page: Path) -> list[Block]:
    """All blocks of the page, in order."""
    text = page.read_text()
    return [Block(match[1], match[2], text.count("\n", 0, match.start()) + 1) for match in _BLOCK.finditer(text)]
