"""The picture of a scan in the report: its bright-field image beside a mean pattern.

A picture is never worth a result: where no beam is found there is one of a few patterns.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from py4DSTEM.batch.previews import write_preview
from py4DSTEM.core.axis import Axis
from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.cube import Cube
from py4DSTEM.core.slices import RealSlice
from py4DSTEM.io.store import atomic
from py4DSTEM.process.live.scan import FirstLook, LiveScan
from py4DSTEM.process.virtual import VirtualImages
from py4DSTEM.stream.options import RunOptions
from py4DSTEM.stream.tile import Tile

__all__ = ["PREVIEW", "Overview"]

PREVIEW = "preview.png"
_NAME = "bright field"


class _Apart(VirtualImages):
    """Images that are summed for themselves: what else a pass makes keeps its bits."""

    def measures(self, plan: Any) -> None:
        return None

    def step(self, plan: Any, tile: Tile, kernels: Any) -> dict[str, Any]:
        detectors = kernels.compile_detectors(plan.fixed_weights)
        own = kernels.measure(tile.frames, detectors)
        return super().step(plan, replace(tile, measured=own), kernels)


class Overview:
    """What is drawn of one scan, as the desktop program shows it first.

    Parameters
    ----------
    cube : DataCube
    """

    def __init__(self, cube: Cube) -> None:
        self._cube = cube
        self._look = _first_look(cube)
        self._image: RealSlice | None = None

    def operations(self) -> tuple[VirtualImages, ...]:
        """The bright-field image, to be made in a pass that is due anyway; () without a beam."""
        disk = None if self._look is None else self._look.detector
        if disk is None:
            return ()
        if not disk.weights(self._cube.Q_shape, self._cube.calibration).any():
            return ()
        return (_Apart(detectors={"BF": disk}, follow_origin=False),)

    def take(self, found: Any) -> None:
        """The result of `operations`."""
        image = found["BF"] if found.labels else found
        self._image = RealSlice(image.data, self._cube.calibration, name=_NAME)

    def write(self, folder: Path, options: RunOptions | None = None) -> None:
        """Draw it; at a grid of positions where no pass has made the image."""
        if self._image is None and self.operations():
            self._image = self._coarse(options)
        value: Any = self._cube
        if self._image is not None and self._look is not None:
            value = [self._image, self._look.mean]
        with atomic.replacing(folder / PREVIEW) as part:
            write_preview(value, part)

    def _coarse(self, options: RunOptions | None) -> RealSlice | None:
        (wanted,) = self.operations()
        weights = wanted.detectors["BF"].weights(self._cube.Q_shape, self._cube.calibration)
        try:
            with LiveScan(self._cube) as live:
                live.coarse(options)
                found = live.images(weights[None])
        except Exception:  # what cannot be read fails the steps, not the picture
            return None
        steps = [int(k[1] - k[0]) if len(k) > 1 else 1 for k in (found.rows, found.columns)]
        axes = [
            replace(axis, step=axis.step * n) for axis, n in zip(self._axes, steps, strict=True)
        ]
        return RealSlice(found.images[0], Calibration(R=(axes[0], axes[1])), name=_NAME)

    @property
    def _axes(self) -> tuple[Axis, Axis]:
        return self._cube.calibration.R


def _first_look(cube: Cube) -> FirstLook | None:
    try:
        with LiveScan(cube) as live:
            return live.first_look()
    except Exception:  # what cannot be read fails the steps, not the picture
        return None
