"""The `check` verb: what a worker would find before it builds the predictor, found here without one."""

import os
import traceback
from dataclasses import dataclass
from pathlib import Path

from predictord.errors import PredictorError
from predictord.generation import Generation
from predictord.settings import Settings
from predictord.snapshot import take_snapshot
from predictord.units import format_duration
from predictord.wire import WorkerOptions
from predictord.worker.contract import Contract, find_class, read_contract
from predictord.worker.failure import describe, hint, predictor_traceback
from predictord.worker.loader import Loader
from predictord.worker.payload import PayloadDecoder


@dataclass(frozen=True)
class Report:
    """What to print, and whether something in it keeps the predictor from being served."""

    lines: tuple[str, ...]
    has_faults: bool


def check_predictor(settings: Settings) -> Report:
    """Import the predictor into this process and read its contract; `__init__` is not called.

    Blocks as long as the import does, and leaves this process in the predictor's folder.
    """
    generation = take_snapshot(settings.predictor_path, settings.class_name, settings.config)
    os.environ.update(generation.environment)
    try:
        contract = _load_contract(generation, settings)
    except PredictorError as error:
        return Report((str(error),), has_faults=True)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # the author's import may raise anything, SystemExit included
        advice = hint(error)
        fault = f"{_place(error, generation)}: {describe(error)}" + (f" ({advice})" if advice else "")
        return Report((predictor_traceback(error).rstrip(), fault), has_faults=True)
    decoder = PayloadDecoder(contract.payload_annotation)
    notes = (*contract.notes, *filter(None, [decoder.note]))
    summary = _summary(generation, contract, has_schema=decoder.schema is not None)
    return Report((*(f"note: {note}" for note in notes), summary), has_faults=False)


def _load_contract(generation: Generation, settings: Settings) -> Contract:
    loader = Loader(generation)
    loader.enter()
    cls = find_class(loader.load(), generation.class_name)
    options = WorkerOptions(settings.concurrency, settings.max_batch_size, settings.batch_interval_s)
    return read_contract(cls, options)


def _place(error: BaseException, generation: Generation) -> str:
    """Where the author has to look: the broken line, else the last one of theirs that ran."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno or 1}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in generation.files]
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else f"{generation.path}:1"


def _summary(generation: Generation, contract: Contract, *, has_schema: bool) -> str:
    batching = "no batching"
    if contract.max_batch_size > 1:
        batching = f"batches of {contract.max_batch_size} within {format_duration(contract.batch_interval_s)}"
    return (
        f"{Path(generation.path).name}: class {contract.class_name}, {contract.kind.replace('_', ' ')}"
        f" predict({', '.join(contract.arguments)}), {batching}, {'with' if has_schema else 'no'} payload schema"
    )
