"""Taking a generation: what the disk says now becomes what every worker of it loads."""

import io
import os
from pathlib import Path
from typing import Any

from predictord.errors import PredictorError
from predictord.generation import Generation
from predictord.project import read_project, read_source


def take_snapshot(
    path: Path, class_name: str | None, config: dict[str, Any], number: int = 1, *, late_files: tuple[str, ...] = ()
) -> Generation:
    """Read the predictor at `path`, the project files that it imports and `.env` beside it; each is read once.

    `late_files` are paths that workers of the last generation found by importing and
    that no reading of the source shows; they are taken too, where they still exist.
    Code that is broken is taken as it is: the worker that loads it reports that.
    Raises `PredictorError` for what cannot be read or is too large. Blocks on the disk.
    """
    predictor = os.path.realpath(path)
    try:
        files = read_project(predictor, late_files)
    except OSError as error:
        raise PredictorError(f"cannot read the predictor {predictor}: {error.strerror}") from error
    environment = _read_environment(os.path.join(os.path.dirname(predictor), ".env"))
    return Generation(number, predictor, class_name, files, config, environment)


def _read_environment(path: str) -> dict[str, str]:
    """What a `.env` file adds to the real environment, which wins, also in `${NAME}`."""
    if not os.path.exists(path) or os.path.isdir(path):  # some call their virtual environment so
        return {}
    try:
        text = read_source(path).decode()
    except OSError as error:
        raise PredictorError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise PredictorError(f"{path} is not UTF-8: {error}") from error
    if "\0" in text:
        raise PredictorError(f"{path} contains a null byte, which no environment variable can carry")
    from dotenv.main import DotEnv  # takes 50 ms to import, and `dotenv_values` lets the file win

    values = DotEnv(None, io.StringIO(text), override=False).dict()
    # The workers' environment is this process's own, hence the look at `os.environ` here.
    return {name: value for name, value in values.items() if value is not None and name not in os.environ}
