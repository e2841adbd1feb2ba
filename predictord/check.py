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
from predictord.worker.contract import Contract, Kind, find_class, read_contract, read_return_annotation
from predictord.worker.failure import describe, hint, predictor_traceback
from predictord.worker.loader import Loader
from predictord.worker.payload import PayloadDecoder
from predictord.worker.return_type import unsendable


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
        cls, contract = _load_contract(generation, settings)
    except PredictorError as error:
        return Report((str(error),), has_faults=True)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # the author's import may raise anything, SystemExit included
        advice = hint(error)
        fault = f"{_place(error, generation)}: {describe(error)}" + (f" ({advice})" if advice else "")
        return Report((predictor_traceback(error).rstrip(), fault), has_faults=True)
    decoder = PayloadDecoder(contract.payload_annotation)
    notes = [f"note: {note}" for note in _notes(settings, contract, decoder)]
    faults = [*contract.faults, *_return_faults(cls, contract)]
    if faults:
        return Report((*notes, *faults), has_faults=True)
    return Report((*notes, _summary(generation, contract, has_schema=decoder.schema is not None)), has_faults=False)


def _load_contract(generation: Generation, settings: Settings) -> tuple[type, Contract]:
    loader = Loader(generation)
    loader.enter()
    cls = find_class(loader.load(), generation.class_name)
    options = WorkerOptions(settings.concurrency, settings.max_batch_size, settings.batch_interval_s)
    return cls, read_contract(cls, options)


def _return_faults(cls: type, contract: Contract) -> list[str]:
    streams = contract.kind in (Kind.GENERATOR, Kind.ASYNC_GENERATOR)
    fault = unsendable(read_return_annotation(cls), streams=streams, batched=contract.max_batch_size > 1)
    return [f"{contract.place}: predict's return annotation {fault}"] if fault else []


def _notes(settings: Settings, contract: Contract, decoder: PayloadDecoder) -> list[str]:
    """What is no error, but may not be what its author thinks."""
    notes = list(contract.notes)
    if decoder.note:
        notes.append(f"{contract.place}: {decoder.note}")
    if settings.config and not contract.init_takes_config:
        notes.append("the config goes nowhere, since __init__ has no argument `config`")
    if contract.batch_interval_s and contract.max_batch_size == 1:
        notes.append("batch_interval does nothing while max_batch_size is 1")
    return notes


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
