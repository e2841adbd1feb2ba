"""Where detached daemons keep their logs: a folder of the user's own, with a name for each predictor and port."""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from predictord.errors import StartError

_MOST_LOGS = 20


class LogFolder:
    """The folder `predictord` below `$XDG_STATE_HOME`, else below `~/.local/state`; it need not exist yet.

    Logs outlast their daemons, since a daemon that has died is one whose log is wanted.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        given = environ.get("XDG_STATE_HOME", "")
        # The specification says to ignore a relative one.
        state = Path(given) if os.path.isabs(given) else Path("~/.local/state").expanduser()
        self.path = state / "predictord"

    def log_for(self, predictor: Path, port: int) -> Path:
        """Where a daemon of this predictor on this port is to log; of the others the oldest beyond 20 are removed.

        Raises StartError.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StartError(
                f"cannot make the folder {self.path} for the log ({error.strerror}); set XDG_STATE_HOME to another"
            ) from error
        path = self.path / f"{predictor.stem}-{port}-{_digest(str(predictor))}.log"
        for old in self._newest_first("*.log")[_MOST_LOGS - 1 :]:
            if old != path:
                for part in self.path.glob(f"{old.name}*"):
                    part.unlink(missing_ok=True)
        return path

    def find(self, predictor: str | None, port: int | None) -> Path | None:
        """The newest log of this predictor, on this port, if there is one."""
        digests = (
            ["*"] if predictor is None else {_digest(os.path.abspath(predictor)), _digest(os.path.realpath(predictor))}
        )
        found = [
            path for digest in digests for path in self._newest_first(f"*-{'*' if port is None else port}-{digest}.log")
        ]
        return found[0] if found else None

    def _newest_first(self, pattern: str) -> list[Path]:
        dated = []
        for path in self.path.glob(pattern):
            with suppress(OSError):  # removed meanwhile
                dated.append((path.stat().st_mtime, path))
        return [path for _, path in sorted(dated, reverse=True)]


def last_lines(path: Path, count: int) -> list[str]:
    """The last lines of a log and of what it was before it started anew; blocks on the disk. Raises OSError."""
    lines: list[str] = []
    for part in (path, *(path.with_name(f"{path.name}.{number}") for number in (1, 2))):
        with suppress(FileNotFoundError):
            lines = part.read_text(errors="replace").split("\n")[:-1] + lines
        if len(lines) >= count:
            break
    return lines[len(lines) - count :] if count < len(lines) else lines


def _digest(path: str) -> str:
    import hashlib  # costs a start that writes no log 3 ms

    return hashlib.sha256(path.encode(errors="surrogateescape")).hexdigest()[:8]
