"""What all steps of an analysis have in common: a name, a version, validated parameters."""

from __future__ import annotations

from abc import ABC
from typing import Any, ClassVar

from py4DSTEM.core.parameters import Parameters
from py4DSTEM.errors import ParameterError

__all__ = ["Described", "steps"]


class Described(Parameters, ABC):
    """A step that is described by its parameters.

    Subclass with ``kind="..."`` and ``version=...``; the fields are the parameters (a pydantic
    model: frozen, unknown keys refused) and are at once the keyword arguments of the public
    function, the options on the command line, a step of a recipe and the entry in the history.
    """

    kind: ClassVar[str] = ""
    version: ClassVar[int] = 1
    cites: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, kind: str = "", version: int = 1, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if kind:
            cls.kind, cls.version = kind, version
            _register(cls)

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Swallow the class arguments that pydantic would otherwise pass to its configuration."""

    def parameters(self) -> dict[str, Any]:
        """The parameters as plain JSON values."""
        return self.model_dump(mode="json")


_REGISTRY: dict[str, type[Described]] = {}


def _register(cls: type[Described]) -> None:
    known = _REGISTRY.get(cls.kind)
    if known is not None and known.__qualname__ != cls.__qualname__:
        raise ParameterError(f"two steps are called {cls.kind!r}: {known} and {cls}")
    _REGISTRY[cls.kind] = cls


def steps(base: type[Any]) -> dict[str, Any]:
    """Subclasses of `base` by kind, of all modules imported so far."""
    return {kind: cls for kind, cls in _REGISTRY.items() if issubclass(cls, base)}
