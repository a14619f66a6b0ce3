"""A number beside the one that it should be."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Check"]


@dataclass(frozen=True)
class Check:
    """One number beside the one that it should be."""

    name: str
    value: float
    expected: float
    tolerance: float
    passed: bool

    @classmethod
    def of(cls, name: str, value: float, expected: float, tolerance: float) -> Check:
        """Passed where value and expected differ by at most the tolerance; NaN never passes."""
        passed = bool(abs(value - expected) <= tolerance)
        return cls(name, float(value), float(expected), float(tolerance), passed)
