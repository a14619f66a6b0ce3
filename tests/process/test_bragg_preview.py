"""The preview tells what the search does."""

import matplotlib as mpl
import numpy as np
import pytest
from disk_scans import add, as_cube, grid_scan

from py4DSTEM import find_bragg_disks, preview_bragg_disks, show_preview
from py4DSTEM.errors import ParameterError
from py4DSTEM.process.bragg.preview import REASONS


@pytest.fixture(scope="module")
def scan():
    made = grid_scan(5, 20, 2, n=12)
    for image, centers in zip(made.expected, made.centers, strict=True):
        add(image, centers[0] + 11, 0.9, 5)  # too faint to be significant, if it is seen at all
    return made


def test_the_preview_is_the_search(scan):
    cube = scan.cube()
    positions = [(0, 0), (3, 2), (1, 1)]
    preview = preview_bragg_disks(cube, scan.probe, positions=positions)
    peaks = find_bragg_disks(cube, scan.probe)
    for k, (rx, ry) in enumerate(positions):
        np.testing.assert_array_equal(preview.peaks[k], peaks[rx, ry])
        np.testing.assert_array_equal(preview.patterns[k], np.asarray(cube[rx, ry].data))
        disks = [c for c in preview.candidates[k] if c.verdict == "disk"]
        assert len(disks) == len(preview.peaks[k])
        highest = max(preview.candidates[k], key=lambda c: c.height)
        assert preview.correlations[k][highest.pixel] == pytest.approx(highest.height)
        assert all(c.height > preview.threshold for c in preview.candidates[k])
    chosen = peaks.report["chosen"]
    assert {n: v for n, (v, _) in preview.chosen.items()} == {
        n: c["value"] for n, c in chosen.items()
    }
    assert preview.seconds > 0


def test_everything_left_out_has_a_reason(scan):
    limits = {"min_spacing_px": 25.0, "min_significance": 60.0, "threshold": 0.0}
    preview = preview_bragg_disks(scan.cube(), scan.probe, **limits)
    assert preview.patterns.shape[0] == 6
    seen = {why for k in range(6) for why in preview.left_out(k)}
    assert {"near", "weak"} <= seen <= set(REASONS)
    text = preview.text()
    for word in ("radius 5.00 px", "spacing_px", "min_spacing_px of a higher", "whole scan"):
        assert word in text
    assert "6 patterns" in repr(preview)


def test_a_preview_is_drawn(scan):
    mpl.use("agg")
    cube = as_cube(scan.counts())
    figure = show_preview(cube.preview_bragg_disks(scan.probe, threshold=0.0))
    assert len(figure.axes) == 6
    assert figure.legends
    assert "disks" in figure.axes[0].get_title()
    figure.canvas.draw()
    mpl.pyplot.close(figure)


def test_positions_outside_the_scan(scan):
    for wrong in ([(0, 9)], [(-1, 0)], []):
        with pytest.raises(ParameterError, match="position"):
            preview_bragg_disks(scan.cube(), scan.probe, positions=wrong)
