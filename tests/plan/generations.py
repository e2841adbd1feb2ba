"""Generations written as text, for tests of the plan."""

from predictord.generation import Generation

FOLDER = "/project"


def generation(files: dict[str, str] | str) -> Generation:
    """A generation of these files, or of a lone predictor.py."""
    texts = {"predictor.py": files} if isinstance(files, str) else files
    sources = {f"{FOLDER}/{name}": text.encode() for name, text in texts.items()}
    return Generation(1, f"{FOLDER}/predictor.py", None, sources, {}, {})


def edited(text: str, *edits: tuple[str, str]) -> str:
    """The text with each first occurrence replaced; an edit that changes nothing is a mistake in the test."""
    for old, new in edits:
        assert old in text, old
        text = text.replace(old, new, 1)
    return text
