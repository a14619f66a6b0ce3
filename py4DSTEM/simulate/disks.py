"""Patterns made of soft-edged disks on a diffuse background."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.special import erfc

from py4DSTEM.core.calibration import Calibration

__all__ = ["DiskShape", "add_disks", "diffuse"]

Float = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class DiskShape:
    """One diffraction disk of total intensity one.

    ``p(r) = ½ erfc((r − R) / w) / (π (R² + w²/2))`` with ``r`` after `correction`, which maps
    detector offsets to undistorted ones; the integral over the plane is exactly one (for R ≫ w).
    """

    radius_px: float
    edge_px: float = 0.7
    correction: Float = field(default_factory=lambda: np.eye(2))

    @classmethod
    def of(cls, calibration: Calibration, edge_px: float = 0.7) -> DiskShape:
        """The disk of a calibration with a known probe radius."""
        ellipse = calibration.ellipse
        matrix = np.eye(2) if ellipse is None else ellipse.correction()
        return cls(calibration.semiangle_px(), edge_px, matrix)

    @property
    def reach(self) -> int:
        """Pixels from the nearest pixel to the centre that hold all but 10⁻⁶ of the disk."""
        stretch = float(np.linalg.norm(np.linalg.inv(self.correction), 2))
        return math.ceil((self.radius_px + 3.2 * self.edge_px) * stretch + 0.5)

    def profile(self, x: Float, y: Float) -> Float:
        """Intensity at offsets (x, y) from the centre, per pixel."""
        t = self.correction
        r = np.hypot(t[0, 0] * x + t[0, 1] * y, t[1, 0] * x + t[1, 1] * y)
        area = math.pi * (self.radius_px**2 + self.edge_px**2 / 2) / abs(np.linalg.det(t))
        profile: Float = erfc((r - self.radius_px) / self.edge_px) / (2 * area)
        return profile


def add_disks(frames: Float, centers: Float, weights: Float, shape: DiskShape) -> Float:
    """Frames ``(n, Qx, Qy)`` with disks of ``weights (n, k)`` at ``centers (n, k, 2)``."""
    margin = shape.reach
    padded = np.pad(frames, ((0, 0), (2 * margin,) * 2, (2 * margin,) * 2))
    weights = np.broadcast_to(weights, centers.shape[:2])
    reaching = (centers > -margin) & (centers < np.array(frames.shape[1:]) - 1 + margin)
    for k in np.flatnonzero(reaching.all(axis=2).any(axis=0)):
        _add_one(padded, centers[:, k] + 2 * margin, weights[:, k], shape)
    inner = slice(2 * margin, -2 * margin)
    return padded[:, inner, inner]


def _add_one(padded: Float, centers: Float, weights: Float, shape: DiskShape) -> None:
    """Add the same disk, at its own place, to every padded frame."""
    margin = shape.reach
    limits = np.array(padded.shape[1:]) - margin - 1
    pixel = np.clip(np.rint(centers), margin, limits).astype(np.int64)
    window = np.arange(-margin, margin + 1)
    rows, columns = pixel[:, :1] + window, pixel[:, 1:] + window
    # A disk beyond the margin is clipped to it, where its distance already makes it vanish.
    x = (rows - centers[:, :1])[:, :, None]
    y = (columns - centers[:, 1:])[:, None, :]
    frame = np.arange(len(padded))[:, None, None]
    patch = weights[:, None, None] * shape.profile(x, y)
    padded[frame, rows[:, :, None], columns[:, None, :]] += patch


def diffuse(Q_shape: tuple[int, int], origins: Float, width_px: float, correction: Float) -> Float:
    """Background ``b(q) = (1 + q²/w²)^(−3/2) / (2π w²)`` about each origin, (n, Qx, Qy).

    Its integral over the plane is one; a detector catches a part of it.
    """
    i = np.arange(Q_shape[0])[None, :, None] - origins[:, 0, None, None]
    j = np.arange(Q_shape[1])[None, None, :] - origins[:, 1, None, None]
    t = correction
    x, y = t[0, 0] * i + t[0, 1] * j, t[1, 0] * i + t[1, 1] * j
    base = 1 + (x**2 + y**2) / width_px**2
    scale = abs(np.linalg.det(t)) / (2 * math.pi * width_px**2)
    background: Float = scale / (base * np.sqrt(base))
    return background
