"""From a generation to a predictor that can be called; whatever fails on the way is a `PredictorError`."""

from collections.abc import Callable

from predictord.errors import PredictorError
from predictord.generation import Generation
from predictord.wire import WorkerOptions
from predictord.worker.contract import build, find_class, read_contract
from predictord.worker.failure import describe, hint, predictor_traceback
from predictord.worker.loader import Loader
from predictord.worker.outcome import Stopping
from predictord.worker.predictor import LoadedPredictor


def load_predictor(
    loader: Loader,
    generation: Generation,
    options: WorkerOptions,
    on_checked: Callable[[], None] = lambda: None,
) -> LoadedPredictor:
    """Import, check the contract, call `on_checked`, then `__init__`.

    Raises `PredictorError` for everything that the predictor's code raises, `SystemExit`
    included, with the traceback from its own frames on.
    """
    try:
        loader.enter()
        cls = find_class(loader.load(), generation.class_name)
        contract = read_contract(cls, options)
        on_checked()
        return LoadedPredictor(build(cls, contract, generation.config), contract)
    except (Stopping, PredictorError, EOFError):
        raise
    except BaseException as error:
        advice = hint(error)
        traceback = predictor_traceback(error)
        raise PredictorError(describe(error), f"{traceback}{advice}\n" if advice else traceback) from error


def looks_async(generation: Generation) -> bool:
    """Whether to import with a loop running, which must be known before the class is.

    A wrong guess costs little: an async `predict` that no project file spells out is
    imported before the loop starts, a sync one is imported inside a loop.
    """
    return any(b"async def predict(" in source for source in generation.files.values())
