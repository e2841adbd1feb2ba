"""The worker's side of a swap: see whether new code can be put into the living predictor, and put it in."""

from predictord.errors import PredictorError
from predictord.generation import Generation
from predictord.plan.code import Code
from predictord.plan.model import Plan
from predictord.wire import CommitSwap, Prepared, PrepareSwap, Ready, Swapped, WorkerOptions
from predictord.worker.contract import Contract, read_contract
from predictord.worker.loader import Loader
from predictord.worker.predictor import LoadedPredictor
from predictord.worker.ran import Ran
from predictord.worker.swap import Swap, SwapVeto


class Swapping:
    """One worker's; called on the thread that serves, between two requests."""

    def __init__(self, predictor: LoadedPredictor, loader: Loader, options: WorkerOptions, ran: Ran) -> None:
        self._predictor = predictor
        self._loader = loader
        self._options = options
        self._ran = ran
        self._prepared: tuple[Swap, Contract] | None = None
        self._code: Code | None = None
        """The parsed files of the last swap, for the next one to compare with."""

    def answer(self, message: PrepareSwap | CommitSwap) -> Prepared | Swapped:
        """Carry out one half of a swap."""
        if isinstance(message, CommitSwap):
            return Swapped(self._commit())
        try:
            self._prepared = self._prepare(message.plan, message.generation)
        except SwapVeto as veto:
            return Prepared(str(veto))
        return Prepared()

    def _prepare(self, plan: Plan, new: Generation) -> tuple[Swap, Contract]:
        swap = Swap(self._loader, plan, new, self._ran)
        swap.prepare()
        living = type(self._predictor.instance)
        try:
            contract = read_contract(swap.preview(living), self._options)
        except PredictorError as error:
            # A fresh worker says it with line and cause, and costs the old code nothing.
            raise SwapVeto(f"the contract check of the new code fails ({error})") from error
        if contract.is_async is not self._predictor.contract.is_async:
            raise SwapVeto("predict changed between def and async def")
        return swap, contract

    def _commit(self) -> Ready:
        if self._prepared is None:
            raise RuntimeError("CommitSwap without PrepareSwap")
        (swap, contract), self._prepared = self._prepared, None
        swap.commit()
        self._code = swap.code
        self._predictor.adopt(contract)
        return self._predictor.ready()
