"""The preview tells what the search does."""

from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pytest
from disk_scans import add, as_cube, grid_scan

from py4DSTEM import find_bragg_disks, preview_bragg_disks, show_preview
from py4DSTEM.errors import ParameterError
from py4DSTEM.process.bragg.detect import FindBraggDisks
from py4DSTEM.process.bragg.preview import REASONS, Previews, spread_positions


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


@pytest.mark.parametrize("subpixel", ["fit", "dft"])
def test_previews_of_one_scan_remember_only_what_stays_the_same(scan, subpixel):
    cube = scan.cube()
    previews = Previews(cube)
    positions = [(0, 0), (3, 2)]
    for changes in (
        {"probe": scan.probe},
        {"probe": scan.probe, "min_significance": 20.0, "min_spacing_px": 14.0},
        {"probe": None, "samples": 9},
        {"probe": scan.probe, "saturation": 30.0, "leave_out_defects": False},
    ):
        wanted = {"subpixel": subpixel, **changes}
        probe = wanted.pop("probe")
        kept = previews.preview(FindBraggDisks(probe=probe, **wanted), positions)
        anew = preview_bragg_disks(cube, probe, positions=positions, **wanted)
        assert dict(kept.chosen) == dict(anew.chosen)
        assert kept.threshold == anew.threshold
        for one, other in zip(kept.peaks, anew.peaks, strict=True):
            assert one.tobytes() == other.tobytes()


def test_the_verdicts_of_the_preview_are_those_of_the_twin(scan):
    from py4DSTEM.kernels import compiled
    from py4DSTEM.kernels.disk_reasons import examine_disks
    from py4DSTEM.kernels.twins_disks import examine
    from py4DSTEM.process.bragg.search import plan_search

    cube = scan.cube()
    wanted = FindBraggDisks(probe=scan.probe, threshold=0.0, min_significance=30.0)
    plan = plan_search(cube, wanted, compiled()).plan
    pattern = np.asarray(cube[1, 2].data)
    fast, slow = examine_disks(pattern, plan), examine(pattern, plan)
    assert [(c.pixel, c.verdict) for c in fast] == [(c.pixel, c.verdict) for c in slow]
    assert {"disk", "weak"} <= {c.verdict for c in fast}
    places = [
        (c.row[:2], d.row[:2]) for c, d in zip(fast, slow, strict=True) if c.verdict == "disk"
    ]
    np.testing.assert_allclose(*np.moveaxis(np.array(places), 1, 0), atol=0.02)


def test_the_probe_and_the_template_are_shown_in_the_middle(scan):
    previews = Previews(scan.cube())
    assert previews.images() == {}
    previews.preview(FindBraggDisks(probe=scan.probe), [(0, 0)])
    images = previews.images()
    shape = scan.cube().Q_shape
    for image in images.values():
        assert image.shape == shape
        weights = np.maximum(image.data, 0.0)
        for axis, size in enumerate(shape):
            along = weights.sum(axis=1 - axis)
            assert along @ np.arange(size) / along.sum() == pytest.approx(size // 2, abs=0.1)


def test_positions_are_spread_over_scans_of_any_shape():
    assert len(spread_positions((40, 7))) == 9
    assert spread_positions((1, 1)) == [(0, 0)]
    assert spread_positions((2, 9)) == [(0, 1), (0, 4), (0, 7), (1, 1), (1, 4), (1, 7)]


def test_disks_per_pattern_are_counted(scan):
    preview = preview_bragg_disks(scan.cube(), scan.probe)
    numbers, edges = preview.histogram()
    assert numbers.sum() == len(preview.counts) == 6
    assert edges[0] == preview.counts.min()
    assert edges[-1] > preview.counts.max()
    wide = replace(preview, peaks=tuple(np.zeros(n) for n in (0, 3, 40, 100)))
    numbers, edges = wide.histogram(5)
    assert numbers.tolist() == [2, 1, 0, 0, 1]
    assert edges[1] == 21
