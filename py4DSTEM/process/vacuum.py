"""Where a scan shows the beam and nothing else, and where the beam stands still."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from py4DSTEM.core.cube import Cube
from py4DSTEM.core.detector import Disk, Mask
from py4DSTEM.errors import ParameterError
from py4DSTEM.process.beam import Beam, disk_of, find_beam
from py4DSTEM.process.com import CenterOfMass
from py4DSTEM.process.rim import RimFit, rim_radius
from py4DSTEM.process.virtual import VirtualImages
from py4DSTEM.stream.engine import run
from py4DSTEM.stream.options import RunOptions

__all__ = ["Steady", "check_vacuum", "steady_positions", "vacuum_positions"]

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]

SLACK = 0.01
"""Share of the electrons outside the disk by which vacuum positions may differ."""
STRAY = 0.015
"""Height of anything beside the disk, over that of the disk, that is no vacuum."""
TOLERANCE_PX = 0.2
"""Distance from the middle within which beam positions are averaged."""
ENOUGH_COUNTS = 1e5
"""Electrons beyond which more positions do not make the rim better known than its shape is."""


def vacuum_positions(cube: Cube, options: RunOptions | None = None) -> Bool:
    """Scan positions with the largest share of their electrons in the direct beam, (Rx, Ry).

    Those within noise and one per cent of the best; away from their border where they fill an
    area.  Whether they are vacuum is for `check_vacuum` to say.
    """
    beam = find_beam(cube)
    inside = Disk(1.15 * beam.radius_px + 3.0, center=beam.center)
    whole = Mask(np.ones(cube.Q_shape))
    images = run(VirtualImages(detectors={"disk": inside, "all": whole}), cube, options=options)
    disk, total = (np.asarray(images[name].data, dtype=np.float64) for name in ("disk", "all"))
    lit = np.isfinite(disk) & (total > 0)
    if not lit.any():
        raise ParameterError("no scan position holds any intensity: choose another scan")
    lit &= total > 0.1 * np.median(total[lit])
    share = np.divide(disk, total, out=np.zeros_like(disk), where=lit)
    noise = np.sqrt(np.clip(share * (1 - share), 0, None) / np.maximum(total, 1))
    best = np.sort(share[lit])[-max(4, int(0.01 * lit.sum())) :]
    found = lit & (share + 2 * noise > best.mean() - SLACK)
    return _interior(found)


def _interior(found: Bool) -> Bool:
    """Without positions next to others, where enough remain."""
    from scipy import ndimage  # slow to import

    inner: Bool = ndimage.binary_erosion(found, np.ones((3, 3)), border_value=1)
    return inner if inner.sum() >= 9 else found


def check_vacuum(pattern: Float, fit: RimFit) -> None:
    """Raise `ParameterError` where a pattern shows more than the disk and a smooth halo.

    Looked for: structure inside the disk, and spots of the size of the disk that rise above the
    halo by more than 1.5 % of its height and five sigma.
    """
    from scipy import ndimage  # slow to import

    i, j = np.indices(pattern.shape, dtype=np.float64)
    rho = rim_radius(i - fit.center[0], j - fit.center[1], fit.rim)
    ring = rho.astype(int)
    clean = ndimage.median_filter(np.nan_to_num(pattern), 3)
    halo = ndimage.median(clean, ring, np.arange(ring.max() + 1))[ring]
    outside = rho > 1.15 * fit.radius_px + 3
    width = max(1.0, 0.4 * fit.radius_px)
    rest = ndimage.gaussian_filter(np.where(outside, clean - halo, 0.0), width)
    spread = 1.4826 * float(np.median(np.abs(rest[outside]))) if outside.any() else 0.0
    stray = float(rest.max())
    if stray > max(STRAY * fit.height, 5 * spread):
        raise ParameterError(
            f"no vacuum in the scan: where most electrons are in the direct beam, another spot of "
            f"{100 * stray / fit.height:.2g} % of its height is left; give where= the positions of "
            "a vacuum or amorphous region, measure the probe in a vacuum scan, or use "
            "synthetic_probe(Q_shape, radius_px)"
        )


@dataclass(frozen=True, eq=False)
class Steady:
    """Positions at which the beam is nearly in one place.

    Parameters
    ----------
    where : (Rx, Ry) bool
    wander_px : float
        Rms (px, per axis) by which the beam moves over the positions asked for.
    variance_px2 : float
        What is left of it (px², per axis) in `where`, counting noise taken off: it blurs the edge.
    """

    where: Bool
    wander_px: float
    variance_px2: float


def steady_positions(
    cube: Cube, where: ArrayLike, mean: Float, options: RunOptions | None = None
) -> Steady:
    """Those of the positions `where` at which the beam stands near the middle of all.

    Parameters
    ----------
    cube : Cube
    where : (Rx, Ry) bool
    mean : (Qx, Qy) float64
        Mean pattern of those positions.
    options : RunOptions, optional

    Notes
    -----
    Averaging patterns whose origin wanders widens the edge by the variance of the wander.
    Positions within 0.2 px of the median origin are kept, or the nearest that hold 10⁵ electrons;
    of values that are no counts, the nearest twentieth.
    """
    chosen = np.asarray(where, bool)
    beam = disk_of(mean)
    centers = _centers(cube, chosen, beam, options)
    known = np.isfinite(centers).all(-1) & chosen
    if not known.any():
        raise ParameterError("the chosen scan positions hold no beam: choose others")
    counted = cube.dtype.kind in "bui"  # values in other units do not tell how many electrons
    # Pixels that are dead at every position have no mean.
    counts = max(float(mean[np.isfinite(mean)].sum()), 1.0)
    noise = beam.radius_px**2 / 4 / counts if counted else 0.0
    enough = ENOUGH_COUNTS / counts if counted else known.sum() / 20
    offset = centers - np.median(centers[known], axis=0)
    spread = max(float((offset[known] ** 2).mean()) - noise, 0.0)
    distance = np.where(known, np.abs(offset).max(-1), np.inf)
    near = distance <= max(TOLERANCE_PX, 3 * np.sqrt(noise))
    fewest = min(int(np.ceil(enough)), int(known.sum()))
    if near.sum() < fewest:
        near = distance <= np.partition(distance.ravel(), fewest - 1)[fewest - 1]
    left = max(float(np.var(centers[near], axis=0).mean()) - noise, 0.0)
    return Steady(near, float(np.sqrt(spread)), left)


def _centers(cube: Cube, where: Bool, beam: Beam, options: RunOptions | None) -> Float:
    """Centre of mass near the beam, (Rx, Ry, 2)."""
    mask = Disk(1.3 * beam.radius_px + 3.0, center=beam.center)
    centers = run(CenterOfMass(mask=mask), cube, where=where, options=options)
    moved: Float = np.moveaxis(np.asarray(centers.data), 0, -1)
    return moved
