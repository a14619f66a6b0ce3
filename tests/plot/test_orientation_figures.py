"""Figures of orientations: spots where the pattern has them, edges where grains meet."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.collections import LineCollection

import py4DSTEM
from py4DSTEM import Calibration, simulate
from py4DSTEM.errors import CalibrationMissing, ParameterError


@pytest.fixture(scope="module")
def scan():
    return simulate.polycrystal(
        (3, 4), (96, 128), grains=2, thickness_A=25, Q_pixel_size_A=0.03, dose=None, seed=5
    )


def known(scan, calibration: Calibration) -> py4DSTEM.OrientationMap:
    return py4DSTEM.orientation_map(scan.truth.matrices, "Au", calibration=calibration)


def test_spots_are_drawn_where_the_pattern_has_them(scan) -> None:
    found = known(scan, scan.truth.calibration)
    figure = py4DSTEM.show_pattern_match(scan.cube[1, 2], found, (1, 2), thickness_A=25)
    (ax,) = figure.axes
    drawn = np.concatenate([c.get_offsets() for c in ax.collections])[:, ::-1]
    true = scan.truth.peaks()[1, 2]
    scattered = true[np.argsort(-true["intensity"])][1:]  # the first is the direct beam
    at = np.stack([scattered["qx"], scattered["qy"]], axis=-1)
    inside = ((at > 0) & (at < (95, 127))).all(axis=1)
    places = at[inside & (scattered["intensity"] > 0.1 * scattered["intensity"][0])]
    assert len(places) > 2
    apart = np.linalg.norm(places[:, None] - drawn[None], axis=-1).min(axis=1)
    assert apart.max() < 0.05
    close(figure)


def test_what_cannot_be_compared_is_refused(scan) -> None:
    found = known(scan, scan.truth.calibration)
    pattern = scan.cube[0, 0]
    with pytest.raises(ParameterError, match="outside"):
        py4DSTEM.show_pattern_match(pattern, found, (3, 0))
    with pytest.raises(ParameterError, match="match 1 of 1"):
        py4DSTEM.show_pattern_match(pattern, found, (0, 0), match=1)
    empty = py4DSTEM.orientation_map(np.full((3, 4, 3, 3), np.nan), "Au")
    with pytest.raises(ParameterError, match="nothing is indexed"):
        py4DSTEM.show_pattern_match(pattern, empty, (0, 0))
    with pytest.raises(CalibrationMissing):
        py4DSTEM.show_pattern_match(pattern, known(scan, Calibration()), (0, 0))


def test_lines_run_between_the_positions_of_two_grains() -> None:
    angles = np.zeros((4, 6, 3))
    angles[:, 4:, 0] = np.radians(20)
    angles[3, :4, 1] = np.radians(30)
    flat = py4DSTEM.orientation_map(py4DSTEM.matrices_from_euler(angles), "Au")
    figure = py4DSTEM.show_orientation_grains(py4DSTEM.segment_orientations(flat))
    lines = [c for c in figure.axes[0].collections if isinstance(c, LineCollection)]
    drawn = {tuple(map(tuple, piece)) for c in lines for piece in c.get_segments()}
    upright = {((3.5, r - 0.5), (3.5, r + 0.5)) for r in range(4)}
    level = {((c - 0.5, 2.5), (c + 0.5, 2.5)) for c in range(4)}
    assert drawn == upright | level
    close(figure)


def close(figure) -> None:
    from matplotlib import pyplot as plt

    plt.close(figure)
