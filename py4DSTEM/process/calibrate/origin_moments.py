"""The origin as the centre of mass of the pattern, or of a disk around the beam."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from py4DSTEM.core.cube import Cube
from py4DSTEM.process.calibrate.origin_disk import (
    EMPTY,
    LOST,
    OriginOperation,
    expected_origins,
    kept_pixels,
    windows,
)
from py4DSTEM.stream.operation import Measures, Parts
from py4DSTEM.stream.tile import Tile

if TYPE_CHECKING:
    from py4DSTEM.kernels.api import Kernels

__all__ = ["MomentOrigin"]

Float = NDArray[np.float64]
_ROUNDS = 4


@dataclass(frozen=True, eq=False)
class _Plan:
    expected: Float
    keep: NDArray[np.bool_]
    detectors: Float | None


class MomentOrigin(OriginOperation, kind="moment-origin", version=1):
    """Centre of mass of each pattern, or of a disk that follows the beam.

    The sigma are those of counted electrons: ``σ² = Σ (i − c)² I / (Σ I)²``.
    """

    radius_px: float | None = Field(
        None, gt=0, description="Radius of the disk that counts; None: the whole pattern."
    )

    method: ClassVar[str] = "com"

    @classmethod
    def examples(cls) -> list[Self]:
        """Instances for the conformance tests."""
        near = {"center": (8.7, 10.4), "search_px": 4.0}
        return [cls(**near), cls(**near, radius_px=6.5)]

    def prepare(self, cube: Cube, kernels: Kernels) -> _Plan:
        expected = expected_origins(cube.R_shape, self.center, self.descan)
        keep = kept_pixels(self.mask, cube.Q_shape, cube.calibration)
        if self.radius_px is not None:
            return _Plan(expected, keep, None)
        # About the expected centre: far from zero the second moments would cancel.
        x, y = (np.arange(n) - c for n, c in zip(cube.Q_shape, self.center, strict=True))
        x, y = x[:, None] * keep, y[None, :] * keep
        weights = np.ones(cube.Q_shape) * keep
        return _Plan(expected, keep, np.stack([weights, x, y, x**2, y**2]))

    def measures(self, plan: _Plan) -> Measures | None:
        return None if plan.detectors is None else Measures(detectors=plan.detectors)

    def step(self, plan: _Plan, tile: Tile, kernels: Kernels) -> Parts:
        expected = tile.local(plan.expected)
        if tile.measured is not None and tile.measured.detectors is not None:
            around = np.array(self.center)
            sums = tile.measured.detectors
        else:
            around, sums = self._about_beam(tile, plan, expected)
        total = sums[:, :1]
        lit = np.isfinite(total) & (total > 0)
        moments = np.divide(sums[:, 1:], total, out=np.full((len(sums), 4), np.nan), where=lit)
        first, second = moments[:, :2], moments[:, 2:]
        variance = np.maximum(second - first**2, 0.0) / np.where(lit, total, 1.0)
        center = around + first
        far = np.hypot(*(center - expected).T) > self.search_px
        reason = np.where(lit[:, 0], np.where(far, LOST, 0), EMPTY).astype(np.uint8)
        center = np.where(far[:, None], np.nan, center)
        return {"origin": np.concatenate([center, np.sqrt(variance)], axis=1), "reason": reason}

    def _about_beam(self, tile: Tile, plan: _Plan, expected: Float) -> tuple[Float, Float]:
        """Sums over a disk that is moved to its own centre of mass a few times."""
        radius = self.radius_px or 0.0
        half = math.ceil(radius + self.search_px)
        part = windows(tile.frames, expected, half, plan.keep)
        middle = part.corner + half
        span = np.arange(-half, half + 1.0)
        center = expected - middle
        for _ in range(_ROUNDS):
            x = span[None, :, None] - center[:, 0, None, None]
            y = span[None, None, :] - center[:, 1, None, None]
            values = part.values * np.clip(radius + 0.5 - np.hypot(x, y), 0.0, 1.0)
            sums = np.stack([values.sum((1, 2)), *((values * w).sum((1, 2))
                             for w in (x, y, x**2, y**2))], axis=-1)  # fmt: skip
            before = center
            lit = sums[:, :1] > 0
            center = center + np.divide(sums[:, 1:3], sums[:, :1], where=lit,
                                        out=np.zeros((len(sums), 2)))  # fmt: skip
            center = np.clip(center, -half, half)
        return middle + before, sums
