"""Whether one sample fluctuates more than another, and by how many standard deviations."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PlainSerializer, PlainValidator

from py4DSTEM.core.history import History
from py4DSTEM.errors import ParameterError
from py4DSTEM.io.store.schema import register_result
from py4DSTEM.process.amorphous.fem_result import METHODS, FEMMethod, FEMResult, resampled
from py4DSTEM.stream.analysis import Analysis
from py4DSTEM.stream.options import RunOptions

__all__ = ["CompareFEM", "FEMComparison", "fem_significance"]

Float = NDArray[np.float64]
Range = tuple[float, float]


@dataclass(frozen=True, eq=False)
class FEMComparison:
    """Normalised variance of one scan less that of another.

    Parameters
    ----------
    q, difference, sigma : (k,) float64
        Radius in `units`, first less second, and the standard deviation of that.
    q_range : (float, float)
        Of the window whose mean is compared.
    first, second : float
        Mean variance in the window.
    window_difference, window_sigma : float
        Their difference, and its standard deviation.
    method : str
        The definition of the variance.
    units : str
        Of `q`.
    """

    q: Float
    difference: Float
    sigma: Float
    q_range: Range
    first: float
    second: float
    window_difference: float
    window_sigma: float
    method: str
    units: str
    history: History = field(default_factory=History)
    name: str = "difference of variance"

    @property
    def significance(self) -> float:
        """The difference in the window in standard deviations; NaN where these are unknown."""
        known = self.window_sigma > 0
        return self.window_difference / self.window_sigma if known else math.nan

    @property
    def significances(self) -> Float:
        """Of each ring, (k,)."""
        known = self.sigma > 0
        blank = np.full(len(self.q), np.nan)
        ratio: Float = np.divide(self.difference, self.sigma, out=blank, where=known)
        return ratio

    def __repr__(self) -> str:
        low, high = self.q_range
        return (
            f"<FEMComparison {self.window_difference:.3g} ± {self.window_sigma:.2g} from {low:.4g} "
            f"to {high:.4g} {self.units}: {self.significance:.1f} standard deviations>"
        )


register_result("fem-comparison", FEMComparison)


def _known(value: Any) -> FEMResult:
    if not isinstance(value, FEMResult):
        raise ParameterError(
            f"a FEMResult is compared with another, not with a {type(value).__name__}"
        )
    return value


def _named(value: FEMResult) -> str:
    """What the history says of a result: it cannot hold it."""
    return f"{value.name} of {int(value.kept.sum())} positions"


OtherResult = Annotated[Any, PlainValidator(_known), PlainSerializer(_named)]


class CompareFEM(Analysis, kind="fem-significance", version=1):
    """Difference of the normalised variances of two scans, in standard deviations."""

    other: OtherResult = Field(
        description="What to compare with, such as a random network.",
        json_schema_extra={"accepts": ["FEMResult"]},
    )
    q_range: Range = Field(description="Radii of the window, in the unit of the results.")
    method: FEMMethod | None = Field(
        None, description="Definition of the variance; None: that of the first."
    )
    samples: int = Field(1000, ge=10, le=100_000, description="Scans drawn again for the sigma.")
    seed: int = Field(0, ge=0, description="Of the random numbers that draw them.")

    accepts: ClassVar[tuple[type, ...]] = (FEMResult,)
    cites: ClassVar[tuple[str, ...]] = ("10.1016/j.ultramic.2010.05.010",)

    def apply(self, value: FEMResult, options: RunOptions | None = None) -> FEMComparison:
        """The comparison of a result with `other`; `options` are not needed."""
        self.check(value)
        method = self.method or value.method
        first, second = value.by(method), self.other.by(method)
        if first.axis != second.axis:
            raise ParameterError(
                f"the rings differ ({first.axis.step:.5g} {first.units} and "
                f"{second.axis.step:.5g} {second.units}): give both the same calibration and step"
            )
        count = min(len(first.mean), len(second.mean))
        known = np.isfinite(first.variance[:count]) & np.isfinite(second.variance[:count])
        inside = np.zeros(count, bool)
        for one in (first, second):
            inside |= one.window(self.q_range)[:count]
        inside &= known
        if not inside.any():
            raise ParameterError(f"no ring of both results lies in the range {self.q_range}")
        means = [float(one.variance[:count][inside].mean()) for one in (first, second)]
        spread = [self._window_sigma(one, np.flatnonzero(inside), k) for k, one in
                  enumerate((first, second))]  # fmt: skip
        return FEMComparison(
            q=first.q[:count],
            difference=first.variance[:count] - second.variance[:count],
            sigma=np.hypot(first.variance_sigma[:count], second.variance_sigma[:count]),
            q_range=self.q_range,
            first=means[0],
            second=means[1],
            window_difference=means[0] - means[1],
            window_sigma=math.hypot(*spread),
            method=method,
            units=first.units,
            history=self.history(value.history),
        )

    def _window_sigma(self, result: FEMResult, inside: NDArray[np.intp], salt: int) -> float:
        """Standard deviation of the mean over a window, whose rings vary together."""
        index = METHODS.index(result.method)
        if result.method == "variance-image":
            sectors = result.sectors[:, inside]
            means = sectors[np.isfinite(sectors).all(axis=1)].mean(axis=1)
            return float(means.std(ddof=1)) / math.sqrt(len(means)) if len(means) > 1 else math.nan
        rings = result.rings
        chosen = type(rings)(
            rings.mean[:, inside], rings.square[:, inside], rings.noise[:, inside],
            rings.size[inside],
        )  # fmt: skip
        drawn = resampled(chosen, self.samples, self.seed + salt)[:, index]
        return float(drawn.mean(axis=1).std(ddof=1))


def fem_significance(
    first: FEMResult,
    second: FEMResult,
    q_range: Range,
    *,
    method: FEMMethod | None = None,
    samples: int = 1000,
    seed: int = 0,
) -> FEMComparison:
    """By how many standard deviations the variance of one scan exceeds that of another.

    Parameters
    ----------
    first, second : FEMResult
        Of the same rings, such as of a sample and of a random network.
    q_range : (float, float)
        Radii of the window whose mean is compared, in the unit of the results.
    method : str, optional
        Definition of the variance; None: that of `first`.
    samples, seed : int
        Scans drawn again from the positions, and the seed.

    Returns
    -------
    FEMComparison
        ``.significance``, ``.window_difference`` ± ``.window_sigma``; ring by ring
        ``.difference`` ± ``.sigma``.

    Raises
    ------
    ParameterError
        No usable ring in the window, or rings that differ.

    Notes
    -----
    ``(V₁ − V₂)/√(σ₁² + σ₂²)`` of the means over the window; σ is that of the mean over bootstrap
    scans, so that rings that vary together count as what they are.  Positions that overlap vary
    together too: then the true uncertainty is larger.

    Examples
    --------
    >>> import numpy as np
    >>> from py4DSTEM import DataCube, fem
    >>> rng = np.random.default_rng(1)
    >>> flat = DataCube(rng.poisson(20.0, (6, 7, 24, 24)).astype(np.uint16))
    >>> rough = DataCube(rng.poisson(rng.exponential(20.0, (6, 7, 24, 24))).astype(np.uint16))
    >>> a, b = (fem(one, center=(11.5, 11.5), r_max=11) for one in (rough, flat))
    >>> bool(fem_significance(a, b, (4, 10)).significance > 10)
    True
    """
    return CompareFEM(
        other=second, q_range=q_range, method=method, samples=samples, seed=seed
    ).apply(first)
