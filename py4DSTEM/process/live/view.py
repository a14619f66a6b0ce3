"""What several detectors show together: a signed sum, an expression, or a centre of mass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.cube import Cube
from py4DSTEM.core.detector import Detector, Mask
from py4DSTEM.core.expression import Expression, combined, signed_sum, weights_of
from py4DSTEM.errors import ParameterError
from py4DSTEM.process.com import CenterOfMass
from py4DSTEM.process.live.scan import LiveResult, LiveScan
from py4DSTEM.process.virtual import VirtualImages
from py4DSTEM.stream.engine import run
from py4DSTEM.stream.options import RunOptions

__all__ = ["DetectorView"]

Float = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class DetectorView:
    """What is shown of the detectors: one image, or the two of a centre of mass.

    Parameters
    ----------
    shapes : mapping of name to Detector
        Those that count.
    factors : mapping of name to float
        Their weights in the signed sum ``Σ factor · image``, which an expression replaces.
    Q_shape : (int, int)
    calibration : Calibration
    expression : str
        Of the names; "": the signed sum.
    response : "sum" or "com"
        The centre of mass is taken under the signed sum of the detectors.

    Notes
    -----
    A detector that sees no pixel would give zeros, which is never meant: all is NaN then, and
    `outside` names it.

    Examples
    --------
    >>> from py4DSTEM import DataCube, Disk
    >>> cube = DataCube(np.ones((2, 3, 16, 16), np.uint16))
    >>> view = DetectorView({"A": Disk(3, center=(8, 8))}, {"A": -1.0}, cube.Q_shape, Calibration())
    >>> view.live(LiveScan(cube)).images.round(1)[0, 0].tolist()
    [-28.3, -28.3, -28.3]
    """

    shapes: Mapping[str, Detector]
    factors: Mapping[str, float]
    Q_shape: tuple[int, int]
    calibration: Calibration
    expression: str = ""
    response: Literal["sum", "com"] = "sum"

    @cached_property
    def weights(self) -> Mapping[str, Float]:
        """Pixel weights of the detectors that matter, by name."""
        return {
            name: shape.weights(self.Q_shape, self.calibration)
            for name, shape in self.shapes.items()
            if name in self._names
        }

    @cached_property
    def _parsed(self) -> Expression | None:
        wanted = self.expression and self.response == "sum"
        return Expression(self.expression) if wanted else None

    @property
    def _names(self) -> set[str]:
        return set(self.factors if self._parsed is None else self._parsed.names)

    @property
    def outside(self) -> tuple[str, ...]:
        """Detectors that see no pixel."""
        return tuple(name for name, weights in self.weights.items() if not weights.any())

    @property
    def follows(self) -> bool:
        """Whether a detector moves with the origin from position to position."""
        return self.calibration.origin_varies and any(
            self.shapes[name].center is None and not isinstance(self.shapes[name], Mask)
            for name in self.weights
        )

    @cached_property
    def single(self) -> Float | None:
        """Weights of one detector that gives the image by itself, where there is one."""
        if self._parsed is None:
            return combined(self.weights, self.factors)
        return weights_of(self._parsed, self.weights)

    # ---- answers ---------------------------------------------------------------------------------
    def live(self, scan: LiveScan) -> LiveResult:
        """The image, or the two of a centre of mass, from the caches of `scan`.

        Returns
        -------
        LiveResult
            ``exact`` tells whether `exact` would give the same.
        """
        if not self.weights:
            raise ParameterError("no detector takes part: the image is the same everywhere")
        stack = np.stack(list(self.weights.values())) if self.single is None else self.single[None]
        found = scan.center_of_mass(stack[0]) if self.response == "com" else scan.images(stack)
        images = found.images if self.single is not None else self._evaluated(found.images)
        if self.outside:
            images = np.full_like(images, np.nan)
        return replace(found, images=images, exact=found.exact and not self.follows)

    def _evaluated(self, images: Float) -> Float:
        if self._parsed is None:
            return images
        values = dict(zip(self.weights, images, strict=True))
        return np.broadcast_to(self._parsed.evaluate(values), images.shape[1:])[None]

    def exact(self, cube: Cube, options: RunOptions | None = None) -> Float:
        """The same from one pass over the scan, (1 or 2, Rx, Ry) float64."""
        if self.outside:
            return np.full((2 if self.response == "com" else 1, *cube.R_shape), np.nan)
        cube = cube.replace(calibration=self.calibration)
        if self.response == "com":
            whole = CenterOfMass(mask=Mask(combined(self.weights, self.factors)))
            return np.asarray(run(whole, cube, options=options).data)
        operation = VirtualImages(detectors={name: self.shapes[name] for name in self.weights})
        images = run(operation, cube, options=options).data
        parsed = self._parsed or Expression(signed_sum(self.factors))
        values = dict(zip(self.weights, images, strict=True))
        return np.broadcast_to(parsed.evaluate(values), images.shape[1:])[None]
