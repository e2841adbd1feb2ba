"""The examples, served unchanged by a real daemon."""

from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"

LOAD_TIME_S = 180
"""Enough for torch and transformers to start on a slow machine with other work."""
