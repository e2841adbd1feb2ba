"""Who serves, who will and who is leaving, which generation that is, and what the whole is like: state without I/O."""

from collections.abc import Iterator

from predictord.generation import Generation
from predictord.problem import Code, Problem
from predictord.supervisor.place import LoadError, Place, Role
from predictord.supervisor.slot import Slot
from predictord.supervisor.states import WorkerState


class Roster:
    """The places and the generation they serve; the fleet acts on it, everybody else reads it."""

    def __init__(self) -> None:
        self.places: list[Place] = []
        """Who serves, or will when it has loaded; by id."""
        self._others: list[Place] = []
        """Candidates that are not serving yet, and old workers that only finish what they hold."""
        self.generation: Generation
        self.previous: Generation | None = None
        """What served before; `None` while the first generation does."""
        self.late_files: set[str] = set()
        """Paths of project files that only an import found."""
        self.proven = False
        """Whether a worker of this generation has ever been ready."""

    def slots(self) -> Iterator[Slot]:
        """The slots of all living workers."""
        for place in self.everyone():
            yield from place.slots

    @property
    def in_hand(self) -> int:
        """Calls that workers hold."""
        return sum(place.in_hand for place in self.everyone())

    @property
    def is_idle(self) -> bool:
        """Whether no worker does anything, `post_predict` included."""
        return all(place.is_idle for place in self.everyone())

    @property
    def load_error(self) -> LoadError | None:
        """Why a worker's last load failed, if one did."""
        return next((place.load_error for place in self.places if place.load_error is not None), None)

    @property
    def cannot_load(self) -> bool:
        """Whether no worker of this generation has ever been ready, and each one's load has failed."""
        return not self.proven and all(
            place.load_error is not None and place.state in (WorkerState.FAILED, WorkerState.BACKOFF)
            for place in self.places
        )

    def outlook(self) -> Problem | None:
        """`no_worker` when nobody will take a request that waits now; `None` when waiting makes sense."""
        hopeless = (WorkerState.FAILED, WorkerState.BACKOFF)
        for place in self.places:
            if place.role is Role.LEAVING:
                return None  # its candidate loads, or an older worker is to be loaded back
            if place.state not in hopeless or (place.state is WorkerState.BACKOFF and place.load_error is None):
                return None
        error = self.load_error or LoadError("no worker is left")
        return Problem(Code.NO_WORKER, f"the predictor did not load: {error.detail}", error.traceback or None)

    def everyone(self) -> list[Place]:
        """All places: those that serve, candidates, and those that leave."""
        return [*self.places, *self._others]

    def may_serve(self, place: Place) -> bool:
        """Whether it is to take requests: where workers change in turn, those of the older version take none."""
        return place.role is Role.SERVING and place.generation_number == self.generation.number

    def forget_if_gone(self, place: Place) -> None:
        """Drop a candidate or an old worker whose process has ended."""
        if place.process is None and place in self._others:
            self._others.remove(place)

    def serve_generation(self, generation: Generation) -> None:
        """This generation serves from now on; the one before it is what a rollback goes to."""
        if generation.number != self.generation.number:
            self.previous = self.generation if self.proven else None
            self.generation = generation

    def learn_late_files(self, place: Place) -> None:
        """Files that only the import found belong to the generation from now on."""
        late = place.contract.late_files if place.contract else {}
        self.late_files |= late.keys()
        if late.keys() - self.generation.files.keys():
            self.generation = self.generation.with_files(late)
