"""What a disk looks like around its centre: the tables that the fit of disks works with."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.process.bragg.spot import Spot
from py4DSTEM.process.probe import Probe
from py4DSTEM.process.rim import rim_radius

__all__ = ["Template", "make_template"]

Float = NDArray[np.float64]
_DIFFERENCE_PX = 0.02
_LANES = 8


class Template(NamedTuple):
    """A disk of unit height at S x S subpixel phases, in the m pixels around it.

    Attributes
    ----------
    table : (S, S, 3, m) float32
        Height and its derivatives by the centre along x and y; phase k of S is a centre at
        ``(k + 1/2) / S - 1/2`` px from the middle of a pixel.
    offsets : (m, 2) int64
        Pixels relative to the one that holds the centre.
    exists, core, ring : (m,) float32
        1 for real pixels (m is padded to a multiple of 8); 1 for those inside the disk whatever
        the phase; 1 for those outside.
    area : float
        Sum over all pixels.
    """

    table: NDArray[np.float32]
    offsets: NDArray[np.int64]
    exists: NDArray[np.float32]
    core: NDArray[np.float32]
    ring: NDArray[np.float32]
    area: float


def make_template(probe: Probe | Spot, reach_px: float) -> Template:
    """Tabulate the probe in all pixels within `reach_px` of the one that holds its centre."""
    offsets = _pixels(probe, reach_px)
    m = len(offsets)
    padded = -(-m // _LANES) * _LANES
    offsets = np.concatenate([offsets, np.zeros((padded - m, 2), np.int64)])
    phases = _phases(probe.radius_px)
    centers = (np.arange(phases) + 0.5) / phases - 0.5
    table = np.zeros((phases, phases, 3, padded), np.float32)
    for a, cx in enumerate(centers):
        table[a, :, :, :m] = _height_and_derivatives(probe, offsets[:m], cx, centers)
    rho = rim_radius(offsets[:, 0], offsets[:, 1], probe.rim)
    exists = (np.arange(padded) < m).astype(np.float32)
    margin = 2 * probe.edge_px + 0.7  # of a pixel's diagonal, the centre may be off its middle
    core = (rho < max(probe.radius_px - margin, 0.71)) * exists
    ring = (rho > probe.radius_px + margin) * exists
    area = float(table[:, :, 0].sum(dtype=np.float64) / phases**2)
    return Template(table, offsets, exists, core, ring, area)


def _pixels(probe: Probe | Spot, reach_px: float) -> NDArray[np.int64]:
    half = int(np.ceil(reach_px * np.sqrt(probe.rim.a / probe.rim.b)))
    grid = np.moveaxis(np.mgrid[-half : half + 1, -half : half + 1], 0, -1).reshape(-1, 2)
    near = rim_radius(grid[:, 0], grid[:, 1], probe.rim) <= reach_px
    return grid[near].astype(np.int64)


def _phases(radius_px: float) -> int:
    """Fine steps for small disks; large ones need fewer, and would fill the cache."""
    return 8 if radius_px < 16 else 4


def _height_and_derivatives(
    probe: Probe | Spot, offsets: NDArray[np.int64], cx: float, cy: Float
) -> Float:
    """Height and derivatives (S, 3, m) for centres at one place along x and S along y."""
    y = offsets[:, 1] - cy[:, None]
    x = np.broadcast_to(offsets[:, 0] - cx, y.shape)
    h = _DIFFERENCE_PX
    along_x = probe.height_at(x - h, y) - probe.height_at(x + h, y)
    along_y = probe.height_at(x, y - h) - probe.height_at(x, y + h)
    return np.stack([probe.height_at(x, y), along_x / (2 * h), along_y / (2 * h)], axis=1)
