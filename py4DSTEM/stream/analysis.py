"""What an analysis is: validated parameters and one method, applied to a result or to a scan."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from py4DSTEM.core.history import History
from py4DSTEM.errors import ParameterError
from py4DSTEM.stream.options import RunOptions
from py4DSTEM.stream.step import Described, steps

__all__ = ["Analysis", "analyses"]


class Analysis(Described):
    """A computation on values that earlier steps made: peaks, a lattice, a pattern, a scan.

    The counterpart of `Operation` for what is not one pass over the scan (though `apply` may run
    operations).  Subclass with ``kind="..."`` and ``version=...``; the fields are its parameters
    (`Described`).
    """

    accepts: ClassVar[tuple[type, ...]] = ()
    """What `apply` takes first; the command line opens its FILE as one of these."""

    @abstractmethod
    def apply(self, value: Any, options: RunOptions | None = None) -> Any:
        """The result for one value of a type in `accepts`."""

    def check(self, value: Any) -> None:
        """Raise `ParameterError` unless `value` is of a type in `accepts`."""
        if not isinstance(value, self.accepts):
            names = " or ".join(cls.__name__ for cls in self.accepts)
            raise ParameterError(f"{self.kind} works on {names}, not on {type(value).__name__}")

    def history(self, before: History) -> History:
        """`before` with this step added."""
        return before.then(self.kind, self.parameters(), self.version, self.cites)


def analyses() -> Mapping[str, type[Analysis]]:
    """Analyses by kind, of all modules imported so far."""
    return steps(Analysis)
