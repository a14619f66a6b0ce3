"""What an analysis is: validated parameters and one method, applied to a result or to a scan."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from py4DSTEM.core.history import History
from py4DSTEM.core.parameters import Parameters
from py4DSTEM.errors import ParameterError
from py4DSTEM.stream.options import RunOptions

__all__ = ["Analysis", "analyses"]


class Analysis(Parameters, ABC):
    """A computation on values that earlier steps made: peaks, a lattice, a pattern, a scan.

    The counterpart of `Operation` for what is not one pass over the scan (though `apply` may run
    operations).  Subclass with ``kind="..."`` and ``version=...``; the fields are at once the
    keyword arguments of the public function, the options on the command line, a step of a recipe
    and the entry in the history.
    """

    kind: ClassVar[str] = ""
    version: ClassVar[int] = 1
    cites: ClassVar[tuple[str, ...]] = ()
    accepts: ClassVar[tuple[type, ...]] = ()
    """What `apply` takes first; the command line opens its FILE as one of these."""

    def __init_subclass__(cls, kind: str = "", version: int = 1, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if kind:
            cls.kind, cls.version = kind, version
            _register(cls)

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Swallow the class arguments that pydantic would otherwise pass to its configuration."""

    @abstractmethod
    def apply(self, value: Any, options: RunOptions | None = None) -> Any:
        """The result for one value of a type in `accepts`."""

    def parameters(self) -> dict[str, Any]:
        """The parameters as plain JSON values."""
        return self.model_dump(mode="json")

    def check(self, value: Any) -> None:
        """Raise `ParameterError` unless `value` is of a type in `accepts`."""
        if not isinstance(value, self.accepts):
            names = " or ".join(cls.__name__ for cls in self.accepts)
            raise ParameterError(f"{self.kind} works on {names}, not on {type(value).__name__}")

    def history(self, before: History) -> History:
        """`before` with this step added."""
        return before.then(self.kind, self.parameters(), self.version, self.cites)


_REGISTRY: dict[str, type[Analysis]] = {}


def _register(cls: type[Analysis]) -> None:
    known = _REGISTRY.get(cls.kind)
    if known is not None and known.__qualname__ != cls.__qualname__:
        raise ParameterError(f"two analyses are called {cls.kind!r}: {known} and {cls}")
    _REGISTRY[cls.kind] = cls


def analyses() -> Mapping[str, type[Analysis]]:
    """Analyses by kind, of all modules imported so far."""
    return dict(_REGISTRY)
