"""What the calibration wizard measures: one job per page, and all that is shown of its answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from py4DSTEM.core.calibration import Calibration, Measured
from py4DSTEM.core.cube import Cube
from py4DSTEM.core.points import PointTable
from py4DSTEM.gui.stage import Curves, Marks, Overlay
from py4DSTEM.plot import residuals
from py4DSTEM.plot.residuals import Chart, Maps
from py4DSTEM.process.bragg.vector_map import bragg_vector_map
from py4DSTEM.process.calibrate.ellipse import MeasureEllipse
from py4DSTEM.process.calibrate.origin import CalibrateOrigin, MeasureOrigin
from py4DSTEM.process.calibrate.outlines import ellipse_rings, line_rings
from py4DSTEM.process.calibrate.pixel_size import MeasurePixelSize
from py4DSTEM.process.calibrate.rotation import MeasureRotation
from py4DSTEM.process.diffraction import mean_pattern
from py4DSTEM.stream.options import RunOptions

__all__ = ["Found", "ellipse", "origin", "pixel_size", "rotation"]

_ORIGIN, _RING = "#D55E00", "#56B4E9"


@dataclass(frozen=True, eq=False)
class Found:
    """A measured quantity, in words and pictures."""

    value: Measured
    words: str
    overlays: Mapping[str, Overlay] = field(default_factory=dict)
    maps: Maps | None = None
    charts: Mapping[str, Chart] = field(default_factory=dict)
    """By the names that they are chosen by."""


def origin(step: CalibrateOrigin, value: Cube | PointTable, options: RunOptions) -> Found:
    """The origin of every position, and a surface through it unless it is kept as measured."""
    shared = {name: getattr(step, name) for name in MeasureOrigin.model_fields}
    measured = MeasureOrigin(**shared).measured(value, None, options)
    if step.model == "none" and not step.blend:
        return Found(measured, measured.text(), _cross(measured), residuals.origin_sigmas(measured))
    fit = measured.fit(step.model, blend=step.blend)
    words = f"{measured.text()}\n{fit.text()}"
    return Found(fit, words, _cross(fit), residuals.origin_residuals(measured, fit))


def _cross(found: Any) -> dict[str, Overlay]:
    center = Calibration(origin_px=found.origin_px).mean_origin_px
    return {"diffraction": Marks(np.array([center]), ("origin",), "+", _ORIGIN, 16.0)}


def ellipse(step: MeasureEllipse, value: Any, options: RunOptions) -> Found:
    """The elliptic distortion, and the rings before and after in polar coordinates."""
    source = _ring_source(value, options)
    found = step.apply(source, options)
    where = _origin_of(source)
    picture = bragg_vector_map(source) if isinstance(source, PointTable) else source
    return Found(
        found,
        residuals.ellipse_words(found, where),
        {"diffraction": Curves(ellipse_rings(found, where), _RING)},
        residuals.ellipse_maps(found, picture),
        {
            "residual by direction": residuals.ring_deviations(found, source),
            "radial profile": residuals.ring_profiles(found),
        },
    )


def pixel_size(step: MeasurePixelSize, value: Any, options: RunOptions) -> Found:
    """The pixel size, and how far each line lies from its ring."""
    source = _ring_source(value, options)
    found = step.apply(source, options)
    names, rings = zip(*line_rings(found, _origin_of(source)), strict=True)
    overlays: dict[str, Overlay] = {
        "diffraction": Curves(rings, _RING),
        "diffraction lines": Marks(np.array([ring[0] for ring in rings]), names, "o", _RING, 3.0),
    }
    words = residuals.pixel_size_words(found)
    return Found(found, words, overlays, None, {"lines": residuals.line_deviations(found)})


def rotation(step: MeasureRotation, value: Any, options: RunOptions) -> Found:
    """Rotation and flip, and what every angle would leave."""
    found = step.apply(value, options)
    charts = {"angles": residuals.rotation_curves(found)}
    return Found(found, residuals.rotation_words(found), {}, None, charts)


def _ring_source(value: Any, options: RunOptions) -> Any:
    """The pattern of a scan; patterns and peaks as they are."""
    return mean_pattern(value, options=options) if isinstance(value, Cube) else value


def _origin_of(source: Any) -> tuple[float, float]:
    """What the centre of rings is relative to."""
    return source.calibration.mean_origin_px if isinstance(source, PointTable) else (0.0, 0.0)
