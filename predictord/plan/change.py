"""One change to a definition, as it travels to the workers; and the refusal to make it in place."""

from enum import StrEnum

import msgspec


class Action(StrEnum):
    """What happens to a definition; `IMPORTED` and `FORGOTTEN` are for the name that an import binds."""

    CHANGED = "changed"
    ADDED = "added"
    REMOVED = "removed"
    REVALUED = "revalued"
    DOCUMENTED = "documented"
    IMPORTED = "imported"
    FORGOTTEN = "forgotten"


class Change(msgspec.Struct, frozen=True):
    """A definition by file and qualified name; a module's docstring has the empty name.

    `line` is where the definition starts in the new file (in the old one for what is
    removed), which tells two of the same name apart.
    """

    action: Action
    path: str
    name: str
    line: int = 0

    @property
    def text(self) -> str:
        """How a sentence calls it."""
        match self.action:
            case Action.CHANGED:
                return f"{self.name}()"
            case Action.DOCUMENTED:
                return f"the docstring of {self.name}" if self.name else "a docstring"
            case Action.ADDED | Action.REMOVED:
                return f"{self.name} ({self.action})"
            case Action.IMPORTED:
                return f"import of {self.name}"
            case Action.FORGOTTEN:
                return f"import of {self.name} (removed)"
        return self.name


class Refused(Exception):
    """This change cannot be made in a living worker; the text names the culprit."""
