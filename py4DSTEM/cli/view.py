"""``py4dstem view``: one image of a scan, or a figure of a result, in one line."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from py4DSTEM.cli.inputs import check_output, choose, open_file, run_options
from py4DSTEM.cli.output import Exit, emit, say

FIGURES = (".png", ".pdf", ".svg")


def run(options: argparse.Namespace) -> int:
    """Make the image or figure, write it, print the path."""
    from py4DSTEM.core.cube import Cube

    out = check_output(options.out, force=options.force, source=options.file)
    value = open_file(options.file, options)
    value = choose(value, options.file, (Cube,)) if _of_scan(options) else _chosen(value, options)
    if isinstance(value, Cube):
        _view_scan(value, out, options)
    else:
        _view_result(value, out)
    emit(str(out))
    return Exit.OK


def _of_scan(options: argparse.Namespace) -> bool:
    """Whether something was asked for that only a scan has."""
    names = ("bf", "adf", "disk", "mask", "mean", "max", "center")
    return any(getattr(options, name) not in (None, False) for name in names)


def _chosen(value: Any, options: argparse.Namespace) -> Any:
    """The scan of a file, or where there is none its one result."""
    from py4DSTEM.core.cube import Cube
    from py4DSTEM.core.slices import ArrayResult

    objects = list(value.values()) if isinstance(value, dict) else [value]
    # Bare arrays may be scans of which the shape is not known.
    if any(isinstance(v, Cube | ArrayResult) for v in objects):
        return choose(value, options.file, (Cube,))
    return choose(value, options.file, (object,)) if len(objects) > 1 else objects[0]


def _view_result(value: Any, out: Path) -> None:
    """A figure where the extension is that of a picture; else the values."""
    import py4DSTEM

    if out.suffix.lower() not in FIGURES:
        py4DSTEM.save(out, value)
        return
    from matplotlib import pyplot as plt

    from py4DSTEM.io.store.atomic import replacing

    figure, _ = py4DSTEM.show(value)
    try:
        with replacing(out) as part:
            figure.savefig(part, format=out.suffix[1:].lower(), dpi=150)
    finally:
        plt.close(figure)


def _view_scan(cube: Any, out: Path, options: argparse.Namespace) -> None:
    import py4DSTEM

    chosen = run_options(options)
    if options.mean or options.max:
        verb = py4DSTEM.mean_pattern if options.mean else py4DSTEM.max_pattern
        result: Any = verb(cube, options=chosen)
    else:
        result = py4DSTEM.virtual_image(cube, _detector(cube, options), options=chosen)
    py4DSTEM.save(out, result)


def _detector(cube: Any, options: argparse.Namespace) -> Any:
    from py4DSTEM import Annulus, Disk, Mask

    if options.mask:
        return Mask(_mask(options.mask))
    center = tuple(options.center) if options.center else None
    beam = None
    if center is None and not _origin_known(cube):
        beam = _beam(cube)
        center = beam.center
    if options.adf:
        inner, outer = options.adf
        return Annulus(inner, outer, center=center, units=options.units)
    if options.disk is not None:
        return Disk(options.disk, center=center, units=options.units)
    return Disk(_bright_field_radius(cube, beam), center=center)


def _origin_known(cube: Any) -> bool:
    """Whether the calibration has an origin, and on the detector."""
    if cube.calibration.origin_px is None:
        return False
    origin = cube.calibration.mean_origin_px
    if all(-0.5 <= o <= n - 0.5 for o, n in zip(origin, cube.Q_shape, strict=True)):
        return True
    say(f"note: the calibrated origin ({origin[0]:.1f}, {origin[1]:.1f}) px is off the detector")
    return False


def _bright_field_radius(cube: Any, beam: Any) -> float:
    """The calibrated convergence angle where it fits the detector, else the radius found."""
    from py4DSTEM.errors import CalibrationMissing

    try:
        radius = float(cube.calibration.semiangle_px())
    except CalibrationMissing:
        return float((beam or _beam(cube)).radius_px)
    if 0.5 <= radius <= max(cube.Q_shape):
        return radius
    say(f"note: the calibrated beam radius of {radius:.3g} px cannot be that of these patterns")
    return float((beam or _beam(cube)).radius_px)


def _beam(cube: Any) -> Any:
    """The beam as it is found; the middle of the detector where there is nothing to be seen."""
    from py4DSTEM.errors import ParameterError
    from py4DSTEM.process.beam import Beam, beam_doubts, find_beam

    try:
        beam = find_beam(cube)
    except ParameterError:
        qx, qy = cube.Q_shape
        say("note: no beam in the patterns that were sampled: the middle of the detector is used")
        return Beam(((qx - 1) / 2, (qy - 1) / 2), max(1.0, min(qx, qy) / 8), None)
    x, y = beam.center
    say(f"note: beam found at ({x:.1f}, {y:.1f}) px, radius {beam.radius_px:.1f} px")
    doubts = beam_doubts(beam)
    if doubts:
        say(
            f"warning: this may not be the beam: {'; '.join(doubts)}. Look at the image of --mean, "
            "and give --center QX QY with --disk RADIUS"
        )
    return beam


def _mask(path: str) -> Any:
    import numpy as np

    from py4DSTEM.errors import ParameterError

    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ParameterError(
            f"--mask {path} cannot be read ({error}): it must be an .npy file of the shape of a "
            "pattern, as numpy.save writes it"
        ) from error
