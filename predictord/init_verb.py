"""The `init` verb: a starter predictor, and what to do with it."""

import shlex
from importlib import resources
from pathlib import Path

from predictord.errors import PredictordError, SettingsError

_EXAMPLE = """curl localhost:8000 -H 'Content-Type: application/json' -d '{"text": "a great film and a good book"}'"""


def write_starter(folder: Path) -> str:
    """Write `predictor.py` into the folder, which is made if need be; returns what to do next, for people.

    Raises PredictordError if that file is there already, SettingsError if the folder can't be written.
    """
    path = folder / "predictor.py"
    starter = resources.files("predictord").joinpath("starter.py").read_bytes()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:  # not a look before the write, between which an editor may save
            file.write(starter)
    except FileExistsError as error:
        if Path(error.filename) != path:
            raise SettingsError(f"the folder {str(folder)!r} is a file; name another") from error
        raise PredictordError(f"{path} is there already and was left as it is; name another folder") from error
    except OSError as error:
        raise SettingsError(f"cannot write {path}: {error.strerror}") from error
    return (
        f"wrote {path}. Serve it, and ask it from another terminal:\n\n"
        f"  predictord serve {shlex.quote(str(path))}\n"
        f"  {_EXAMPLE}\n\n"
        "Then edit it and save: the next request runs the new code."
    )
