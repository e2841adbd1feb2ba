"""Every error that predictord raises, split by who must act, and the exit codes they lead to."""

from enum import IntEnum


class ExitCode(IntEnum):
    """What the command line's exit status says."""

    STOPPED = 0
    """Stopped as asked, and drained."""
    NO = 1
    """The verb ran and the answer is no: a prediction failed, a check found faults."""
    USAGE = 2
    """Wrong usage or settings, a predictor file that does not exist included."""
    CANNOT_START = 3
    """Port in use, `--no-reload` load failure, NVML broken."""
    LOST_TERMINAL = 129
    INTERRUPTED = 130
    """Ctrl-C; once: drained, twice: forced."""
    TERMINATED = 143
    """SIGTERM twice."""


class PredictordError(Exception):
    """Base of all errors here; its text is one sentence that tells a person what to do."""


class SettingsError(PredictordError):
    """A flag, variable or file has a value that is not allowed; the user corrects it."""


class PredictorError(PredictordError):
    """The predictor's code or signature is at fault; its author corrects it.

    `traceback` is text that starts at the author's own frames, or empty.
    """

    def __init__(self, message: str, traceback: str = "") -> None:
        super().__init__(message)
        self.traceback = traceback


class WorkerError(PredictordError):
    """A worker process died, hung or broke the protocol."""


class StartError(PredictordError):
    """The service cannot start on this machine as it is: port in use, driver broken."""
