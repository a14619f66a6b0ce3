"""What the strain panel asks of its lanes, and what they answer; all numbers of the panel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.contrast import fast_limits, histogram
from py4DSTEM.core.pixels import color_numbers, sampled
from py4DSTEM.core.points import PointTable
from py4DSTEM.core.selection import RectangleSelection
from py4DSTEM.errors import SolveError
from py4DSTEM.plot.figures.canvas import symmetric_limit
from py4DSTEM.process.bragg.basis import Basis, choose_basis
from py4DSTEM.process.bragg.lattice import LatticeFit
from py4DSTEM.process.bragg.picking import PickingMap
from py4DSTEM.process.strain import COMPONENTS, strain_map
from py4DSTEM.process.strain_live import GlimpsedStrain, LiveStrain, Spread

__all__ = [
    "PickRequest",
    "Picked",
    "SeenStrain",
    "StrainRequest",
    "StrainWork",
    "VectorsRequest",
    "picked",
]

Float = NDArray[np.float64]
_BINS = 60
_MOST_SAMPLES = 8192
_MAP_SCALE = 0.3
"""Exponent at which strong and weak peaks are seen together."""


# ---- lattice vectors -----------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class PickRequest:
    """The vector map of some peaks, and the lattice that they suggest."""

    peaks: PointTable


@dataclass(frozen=True, eq=False)
class VectorsRequest:
    """How well two vectors (rows) index the peaks."""

    peaks: PointTable
    vectors: Float


@dataclass(frozen=True, eq=False)
class Picked:
    """A map (None: as before) with its colour numbers, and a lattice or why there is none."""

    picking: PickingMap | None
    numbers: NDArray[np.uint8] | None
    basis: Basis | None
    trouble: str = ""


def picked(request: PickRequest | VectorsRequest) -> Iterator[Picked]:
    """Answers, the map before the lattice."""
    if isinstance(request, VectorsRequest):
        g1, g2 = request.vectors.tolist()
        yield _with_basis(Picked(None, None, None), request.peaks, g1, g2)
        return
    picking = PickingMap.of(request.peaks)
    low, high = fast_limits(picking.image.data, (0.0, 99.9))
    numbers = color_numbers(picking.image.data, min(low, 0.0), high, _MAP_SCALE)
    found = Picked(picking, numbers, None)
    yield found
    yield _with_basis(found, request.peaks, None, None)


def _with_basis(found: Picked, peaks: PointTable, g1: Any, g2: Any) -> Picked:
    try:
        basis = choose_basis(peaks, g1=g1, g2=g2)
    except (SolveError, ValueError) as error:
        return Picked(found.picking, found.numbers, None, str(error))
    return Picked(found.picking, found.numbers, basis)


# ---- strain --------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class StrainRequest:
    """The strain of a lattice fit; `region` None: relative to the whole scan."""

    lattice: LatticeFit
    region: RectangleSelection | None
    axis: float | str | None
    method: str
    settled: bool

    def mask(self) -> NDArray[np.bool_] | None:
        """Positions of the reference, (Rx, Ry)."""
        return None if self.region is None else self.region.mask(self.lattice.shape)


@dataclass(frozen=True, eq=False)
class SeenStrain:
    """Everything that the panel shows of a strain map.

    Parameters
    ----------
    maps, sigmas : (4, Rx, Ry) float64
        In %; of theta 1 % is 10 mrad.
    limit, sigma_limit : float
        Of the colours, %.
    counts : (4, n) int64, edges (n + 1,) float64
        How often values occur.
    spreads : mapping
        Of every component over the reference.
    exact : bool
        Whether the uncertainties hold what the measurement cannot resolve, and limits and counts
        all positions.
    """

    glimpse: GlimpsedStrain
    maps: Float
    sigmas: Float
    limit: float
    sigma_limit: float
    counts: NDArray[np.int64]
    edges: Float
    spreads: dict[str, Spread]
    exact: bool


class StrainWork:
    """Answers requests for strain: values at once, and when settled with all uncertainties."""

    def __init__(self) -> None:
        self._live: LiveStrain | None = None

    def __call__(self, request: StrainRequest) -> Iterator[SeenStrain]:
        if self._live is None or self._live.lattice is not request.lattice:
            self._live = LiveStrain(request.lattice)
        mask = request.mask()
        how: dict[str, Any] = {"axis": request.axis, "method": request.method}
        glimpse = self._live.at(mask, **how)
        yield _seen(glimpse, exact=False)
        if request.settled:
            whole = strain_map(request.lattice, mask, **how)
            yield _seen(GlimpsedStrain.of(whole, glimpse.region), exact=True)


def _seen(glimpse: GlimpsedStrain, *, exact: bool) -> SeenStrain:
    maps, sigmas = glimpse.percent(), glimpse.percent(sigmas=True)
    # Along a drag the limits and the histogram are those of some of the positions.
    most = maps[0].size if exact else _MOST_SAMPLES
    some, some_sigmas = ([sampled(one, most) for one in stack] for stack in (maps, sigmas))
    limit = symmetric_limit(*some[:3])
    sigma_limit = symmetric_limit(*some_sigmas, percentile=98)
    counts = [histogram(one, _BINS, (-limit, limit)) for one in some]
    return SeenStrain(
        glimpse,
        maps,
        sigmas,
        limit,
        sigma_limit,
        np.stack([count for count, _ in counts]),
        counts[0][1],
        {name: glimpse.spread(name) for name in COMPONENTS},
        exact,
    )
