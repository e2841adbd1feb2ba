"""A generation: the immutable snapshot of code, configuration and environment that workers load."""

from typing import Any

import msgspec


class Generation(msgspec.Struct, frozen=True):
    """One version of a predictor, exactly as every worker of that version loads it.

    `path` is the predictor's real, absolute path; `files` maps absolute paths of
    project files (the predictor's own included) to their bytes; `class_name` is what
    `predictor.py:Name` chose, or `None`; `environment` is what `.env` adds to the real
    environment of workers.
    """

    number: int
    path: str
    class_name: str | None
    files: dict[str, bytes]
    config: dict[str, Any]
    environment: dict[str, str]

    def with_files(self, files: dict[str, bytes]) -> "Generation":
        """The same generation with project files that only an import found; known files stay as they are."""
        return msgspec.structs.replace(self, files={**files, **self.files})
