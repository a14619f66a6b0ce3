"""Disks on the nodes of a lattice: all reflections of a crystal at once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.detectors.base import Center, Detector, Float, Units, pixel_transform, positive
from py4DSTEM.core.detectors.simple import Disk
from py4DSTEM.core.parameters import numbers
from py4DSTEM.errors import ParameterError

__all__ = ["MOST_ORDERS", "DiskLattice", "reduced", "shortest"]

Vector = tuple[float, float]
MOST_ORDERS = 50
_FAR = 1e12


@dataclass(frozen=True)
class DiskLattice(Detector):
    """Equal disks at ``h g1 + k g2``: the dark field of all reflections.

    Parameters
    ----------
    radius : float
        Of each disk, in `units`; at most half the shortest lattice vector, so that none overlap.
    g1, g2 : (float, float)
        Lattice vectors ``(x, y)`` in `units`; not parallel.
    order : int
        ``|h|, |k| <= order``; what lies beside the detector does not count.
    include_center : bool
        Whether the disk at ``h = k = 0`` belongs to it.
    center : (float, float), optional
        Of that disk, ``(qx, qy)`` in pixels; None: the calibrated origin.
    units : "px", "mrad", "A^-1" or "nm^-1"
        Of the radius and the vectors.

    Examples
    --------
    >>> from py4DSTEM import Calibration
    >>> detector = DiskLattice(2.0, (8, 1), (-1, 9), order=1, center=(16, 16))
    >>> round(float(detector.weights((33, 33), Calibration()).sum()) / (8 * 3.14159 * 2**2), 3)
    1.0
    """

    radius: float
    g1: Vector
    g2: Vector
    order: int = 5
    include_center: bool = False
    center: Center = None
    units: Units = "px"
    kind: Literal["lattice"] = "lattice"

    def __post_init__(self) -> None:
        super().__post_init__()
        positive("radius", self.radius)
        for name in ("g1", "g2"):
            object.__setattr__(self, name, numbers(name, getattr(self, name), 2))
        if not 1 <= numbers("order", self.order, 1)[0] <= MOST_ORDERS or self.order % 1:
            raise ParameterError(
                f"order must be a whole number from 1 to {MOST_ORDERS}, not {self.order!r}"
            )
        least = shortest(self.g1, self.g2)
        if self.radius > least / 2 * (1 + 1e-9):
            raise ParameterError(
                f"disks of radius {self.radius:g} overlap on a lattice whose shortest vector is "
                f"{least:g} long: the radius is at most half of that"
            )

    def nodes(self) -> Float:
        """Centres of the disks relative to the detector's centre, (n, 2) float64, in `units`."""
        h, k = np.indices((2 * self.order + 1, 2 * self.order + 1)).reshape(2, -1) - self.order
        kept = (h != 0) | (k != 0) | self.include_center
        nodes: Float = np.stack([h, k], axis=-1)[kept] @ np.array([self.g1, self.g2])
        return nodes

    def weights(self, Q_shape: tuple[int, int], calibration: Calibration) -> Float:
        """Fraction of each pixel that disks cover, (Qx, Qy) float64 in [0, 1]."""
        to_pixels = np.linalg.inv(pixel_transform(calibration, self.units))
        reach = self.radius * float(np.linalg.norm(to_pixels, 2)) + 1.0
        at = self.nodes() @ to_pixels.T + np.array(self.center_px(calibration))
        first = np.clip(np.floor(at - reach), 0, Q_shape).astype(np.int64)
        stop = np.clip(np.ceil(at + reach) + 1, 0, Q_shape).astype(np.int64)
        weights = np.zeros(Q_shape)
        # Each disk in its own window: they do not overlap, and most of the frame has none.
        for node, (i0, j0), (i1, j1) in zip(at, first, stop, strict=True):
            if i0 < i1 and j0 < j1:
                disk = Disk(self.radius, (node[0] - i0, node[1] - j0), self.units)
                weights[i0:i1, j0:j1] += disk.weights((i1 - i0, j1 - j0), calibration)
        return np.minimum(weights, 1.0)

    def signed_distance(self, x: Float, y: Float) -> Float:
        """From the nearest disk; very large where that node of the lattice has no disk."""
        basis, hk = reduced(self.g1, self.g2)
        inverse = np.linalg.inv(basis)
        m0 = np.floor(inverse[0, 0] * x + inverse[1, 0] * y)
        n0 = np.floor(inverse[0, 1] * x + inverse[1, 1] * y)
        nearest = np.full(np.broadcast(x, y).shape, _FAR)
        # Of a reduced lattice the node next to a point is a corner of the cell around it.
        for m, n in ((m0, n0), (m0 + 1, n0), (m0, n0 + 1), (m0 + 1, n0 + 1)):
            h, k = hk[0, 0] * m + hk[1, 0] * n, hk[0, 1] * m + hk[1, 1] * n
            there = np.maximum(np.abs(h), np.abs(k)) <= self.order
            if not self.include_center:
                there &= (m != 0) | (n != 0)
            dx = x - m * basis[0, 0] - n * basis[1, 0]
            dy = y - m * basis[0, 1] - n * basis[1, 1]
            nearest = np.minimum(nearest, np.where(there, np.hypot(dx, dy), _FAR))
        return nearest - self.radius


def reduced(g1: Vector, g2: Vector) -> tuple[Float, NDArray[np.int64]]:
    """The shortest basis of the lattice, (2, 2), and its vectors in terms of g1, g2, (2, 2).

    Lagrange's reduction; a `ParameterError` where the vectors span no lattice.
    """
    a, b = np.array(g1, dtype=np.float64), np.array(g2, dtype=np.float64)
    lengths = math.hypot(*g1), math.hypot(*g2)
    spanned = abs(float(a[0] * b[1] - a[1] * b[0]))
    if not 1e-6 * lengths[0] * lengths[1] < spanned < math.inf:
        raise ParameterError(f"g1={g1} and g2={g2} span no lattice: one is zero, or parallel")
    basis, hk = np.stack([a, b]), np.eye(2, dtype=np.int64)
    for _ in range(100):
        if np.hypot(*basis[1]) < np.hypot(*basis[0]):
            basis, hk = basis[::-1].copy(), hk[::-1].copy()
        turns = round(float(basis[0] @ basis[1] / (basis[0] @ basis[0])))
        if turns == 0:
            break
        basis[1] -= turns * basis[0]
        hk[1] -= turns * hk[0]
    return basis, hk


def shortest(g1: Vector, g2: Vector) -> float:
    """Length of the shortest vector of the lattice."""
    basis, _ = reduced(g1, g2)
    return float(np.hypot(*basis.T).min())
