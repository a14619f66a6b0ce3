"""How a value was made: steps, parameters, input, environment."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from typing import Any

__all__ = ["History", "Step", "environment"]


@dataclass(frozen=True)
class Step:
    """One thing that was done.

    Parameters
    ----------
    kind, version : str, int
        The operation and the version of its method.
    parameters : mapping
        Everything needed to do it again (plain JSON values).
    time : str
        UTC, ISO 8601.
    cites : tuple of str
        DOIs of the methods used.
    """

    kind: str
    version: int = 1
    parameters: Mapping[str, Any] = field(default_factory=dict)
    time: str = ""
    cites: tuple[str, ...] = ()


@dataclass(frozen=True)
class History:
    """The steps that led to a value, oldest first.

    Parameters
    ----------
    steps : tuple of Step
    source : mapping
        The input: path, size, modification time, format.
    environment : mapping
        Versions in use when the last step ran.
    """

    steps: tuple[Step, ...] = ()
    source: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<History {' → '.join(step.kind for step in self.steps) or 'without steps'}>"

    def _repr_html_(self) -> str:
        from py4DSTEM.core.html import history_html

        return history_html(self)

    def then(
        self,
        kind: str,
        parameters: Mapping[str, Any] | None = None,
        version: int = 1,
        cites: tuple[str, ...] = (),
    ) -> History:
        """This history with one more step, stamped with time and environment."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        step = Step(kind, version, dict(parameters or {}), now, cites)
        return replace(self, steps=(*self.steps, step), environment=environment())

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; `from_dict` takes them back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> History:
        """Rebuild what `to_dict` gave; keys of later versions are ignored."""
        steps = tuple(
            Step(
                kind=str(s.get("kind", "")),
                version=int(s.get("version", 1)),
                parameters=s.get("parameters", {}),
                time=str(s.get("time", "")),
                cites=tuple(s.get("cites", ())),
            )
            for s in values.get("steps", ())
        )
        return cls(steps, values.get("source", {}), values.get("environment", {}))

    def cite(self) -> tuple[str, ...]:
        """DOIs of the methods used, in order, each once."""
        return tuple(dict.fromkeys(doi for step in self.steps for doi in step.cites))


@cache
def environment() -> Mapping[str, str]:
    """Versions of what numbers depend on."""
    names = ("py4DSTEM", "numpy", "scipy", "numba", "h5py")
    return {"python": platform.python_version(), "platform": platform.platform(terse=True)} | {
        name: version for name in names if (version := _version(name))
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
