"""Strain maps of one scan, made in different ways, beside one another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.history import History
from py4DSTEM.core.slices import RealSlice
from py4DSTEM.errors import ParameterError, ShapeError
from py4DSTEM.io.store.schema import register_result
from py4DSTEM.process.strain import COMPONENTS, StrainMap

__all__ = ["StrainComparison", "StrainDifference", "compare_strain"]

Float = NDArray[np.float64]
_FEWEST = 3


@dataclass(frozen=True, eq=False)
class StrainDifference:
    """One component of one strain map less that of another.

    Parameters
    ----------
    first, second, component : str
    difference : (Rx, Ry) float64
        Second less first, less `offset`; NaN where either is unknown.
    offset : float
        Median of the difference: the references differ by it.
    rms : float
        Of `difference`.
    correlation : float
        Pearson's, of the two maps; NaN where one of them is constant.
    pulls : (n,) float64
        `difference` over its uncertainty where both maps state one: of unit standard deviation
        where both uncertainties are honest and independent.
    """

    first: str
    second: str
    component: str
    difference: Float
    offset: float
    rms: float
    correlation: float
    pulls: Float

    @property
    def count(self) -> int:
        """Positions that both maps know."""
        return int(np.isfinite(self.difference).sum())

    @property
    def pull_rms(self) -> float:
        """Rms of the pulls; NaN without any."""
        return float(np.sqrt(np.mean(self.pulls**2))) if self.pulls.size else float("nan")

    def within(self, sigmas: float) -> float:
        """Share of the positions whose pull is at most `sigmas`; NaN without any."""
        return float((np.abs(self.pulls) <= sigmas).mean()) if self.pulls.size else float("nan")


@dataclass(frozen=True, eq=False)
class StrainComparison:
    """Differences between strain maps, by pair and component.

    Parameters
    ----------
    maps : mapping of str to StrainMap
        In the axes of the first.
    differences : tuple of StrainDifference
    """

    maps: Mapping[str, StrainMap]
    differences: tuple[StrainDifference, ...]
    history: History = field(default_factory=History)
    name: str = "strain comparison"

    def __getitem__(self, key: tuple[str, str, str]) -> StrainDifference:
        """The difference of (first, second, component)."""
        for one in self.differences:
            if (one.first, one.second, one.component) == key:
                return one
        known = [(d.first, d.second, d.component) for d in self.differences]
        raise KeyError(f"no difference {key}, only {known}")

    def to_slice(self) -> RealSlice:
        """All differences as one labelled stack ``(n, Rx, Ry)``."""
        some = next(iter(self.maps.values()))
        labels = tuple(f"{d.component}: {d.second} - {d.first}" for d in self.differences)
        stack = np.stack([d.difference for d in self.differences])
        return RealSlice(stack, some.calibration, self.history, self.name, labels, "")

    def text(self) -> str:
        """A table: offset, rms, correlation and pulls of every pair and component."""
        title = f"{'second - first':<32} {'component':<9} {'n':>7} {'offset':>10} {'rms':>9} "
        title += f"{'corr.':>6} {'pull rms':>8} {'in 1σ':>6} {'in 2σ':>6}"
        return "\n".join([title, *map(_row, self.differences)])

    def __repr__(self) -> str:
        return f"<StrainComparison of {', '.join(map(repr, self.maps))}>"


def _to_parts(comparison: StrainComparison) -> dict[str, Any]:
    maps = {f"map {k}": one for k, one in enumerate(comparison.maps.values())}
    differences = {f"difference {k}": one for k, one in enumerate(comparison.differences)}
    names = {"maps": tuple(comparison.maps), "history": comparison.history, "name": comparison.name}
    return {**names, **maps, **differences}


def _from_parts(parts: Mapping[str, Any]) -> StrainComparison:
    maps = {name: parts[f"map {k}"] for k, name in enumerate(parts["maps"])}
    differences = tuple(d for name, d in parts.items() if name.startswith("difference "))
    return StrainComparison(maps, differences, parts["history"], parts["name"])


register_result("strain-difference", StrainDifference)
register_result("strain-comparison", StrainComparison, _to_parts, _from_parts)


def _row(one: StrainDifference) -> str:
    pair = f"{one.second} - {one.first}"
    return (
        f"{pair:<32} {one.component:<9} {one.count:>7} {one.offset:>+10.2e} {one.rms:>9.2e} "
        f"{one.correlation:>6.3f} {one.pull_rms:>8.2f} {one.within(1):>6.1%} {one.within(2):>6.1%}"
    )


def compare_strain(maps: Mapping[str, StrainMap]) -> StrainComparison:
    """Compare strain maps of one scan with one another.

    Parameters
    ----------
    maps : mapping of str to StrainMap
        Two or more of the same scan shape; all are turned into the axes of the first.  Components
        that a method does not know (theta of a ring) are left out.

    Returns
    -------
    StrainComparison
        ``.text()`` is a table; ``comparison["first", "second", "e_xx"]`` one difference.

    Raises
    ------
    ParameterError
        Fewer than two maps, or a pair that shares fewer than 3 positions in every component.
    ShapeError
        The scans differ in shape.

    Notes
    -----
    A common offset (the median of the difference) is removed first, because references may differ.
    The pull is the difference over ``sqrt(sigma1² + sigma2²)``: below one where the maps share the
    noise of the counts they are made from.

    Examples
    --------
    >>> import numpy as np
    >>> e = np.linspace(0, 0.01, 12).reshape(3, 4)
    >>> def strain(extra):
    ...     return StrainMap(e + extra, e, e, e, np.full((3, 4, 4, 4), np.nan),
    ...                      np.ones((3, 4), bool), np.eye(2))
    >>> comparison = compare_strain({"a": strain(0.0), "b": strain(0.001)})
    >>> round(comparison["a", "b", "e_xx"].offset, 6), round(comparison["a", "b", "e_xx"].rms, 6)
    (0.001, 0.0)
    """
    if not (isinstance(maps, Mapping) and all(isinstance(m, StrainMap) for m in maps.values())):
        raise ParameterError(
            f'strain maps are compared by name, as {{"a": strain_map(...), ...}}, not {type(maps)}'
        )
    if len(maps) < 2:
        raise ParameterError(f"a comparison needs two strain maps or more, not {len(maps)}")
    first = next(iter(maps.values()))
    for name, one in maps.items():
        if one.shape != first.shape:
            raise ShapeError(f"strain map {name!r} is {one.shape}, the first {first.shape}")
    turned = {
        name: one.rotated(first.axis_angle_rad - one.axis_angle_rad)
        if one.axis_angle_rad != first.axis_angle_rad
        else one
        for name, one in maps.items()
    }
    differences: list[StrainDifference] = []
    for a, b in combinations(turned, 2):
        found = [d for c in COMPONENTS if (d := _difference(turned, a, b, c)) is not None]
        if not found:
            raise ParameterError(
                f"strain maps {a!r} and {b!r} share fewer than {_FEWEST} positions: nothing to "
                "compare"
            )
        differences += found
    return StrainComparison(turned, tuple(differences), first.history)


def _difference(
    maps: Mapping[str, StrainMap], first: str, second: str, component: str
) -> StrainDifference | None:
    """None where too few positions know both."""
    one, other = maps[first], maps[second]
    x, y = getattr(one, component), getattr(other, component)
    known = one.mask & other.mask & np.isfinite(x) & np.isfinite(y)
    if known.sum() < _FEWEST:
        return None
    offset = float(np.median(y[known] - x[known]))
    difference = np.where(known, y - x - offset, np.nan)
    sigma = np.hypot(one.sigma(component), other.sigma(component))
    stated = known & np.isfinite(sigma) & (sigma > 0)
    varies = min(float(np.ptp(x[known])), float(np.ptp(y[known]))) > 0
    return StrainDifference(
        first,
        second,
        component,
        difference,
        offset,
        float(np.sqrt(np.mean(difference[known] ** 2))),
        float(np.corrcoef(x[known], y[known])[0, 1]) if varies else float("nan"),
        difference[stated] / sigma[stated],
    )
