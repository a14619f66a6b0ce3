"""Crystallinity where the share of the Bragg spots is known."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

import py4DSTEM
from py4DSTEM import simulate
from py4DSTEM.errors import CalibrationMissing, ParameterError


@cache
def grains_in_glass(dose: float) -> tuple[Any, Any, Any]:
    """Disks of known strength on a known diffuse ring; the left half has no disks."""
    shape: Any = ((8, 10), (96, 96))
    scan = simulate.polycrystal(*shape, grains=3, seed=1, dose=dose)
    clean = simulate.polycrystal(*shape, grains=3, seed=1, dose=None)
    origin = scan.truth.origin_px
    x, y = np.moveaxis(np.indices((96, 96))[None, None] - origin[..., None, None], 2, 0)
    radius = np.hypot(x, y)
    ring = np.exp(-(((radius - 20) / 8) ** 2))
    ring *= 0.3 * dose / ring.sum(axis=(2, 3), keepdims=True)
    noise = np.random.default_rng(5).poisson(ring)
    spots = np.asarray(scan.cube.data, np.int64)
    spots[:, :4] = 0
    cube = scan.cube.replace(data=(spots + noise).astype(np.uint16))
    inside = (radius >= 4.5) & (radius < 47.5)
    bragg = (clean.cube.data * dose * inside).sum(axis=(2, 3))
    bragg[:, :4] = 0
    truth = bragg / (bragg + (ring * inside).sum(axis=(2, 3)))
    return cube.with_calibration(origin_px=origin, probe_radius_px=2.5), truth, scan.truth.labels


@pytest.mark.parametrize(("dose", "bias"), [(2e3, 0.03), (2e4, 0.02), (1.2e5, 0.012)])
def test_the_share_of_the_spots(dose: float, bias: float) -> None:
    cube, truth, labels = grains_in_glass(dose)
    found = cube.crystallinity(inner_px=5.0, outer_px=47.0)
    assert found.inner_px == 5 and found.outer_px == 47
    off = found.fraction - truth
    assert abs(off[:, 4:]).mean() < bias
    assert (found.fraction[:, :4] < 0.01 + 60 / dose).all() and (
        found.amorphous[:, :4] > 0.95
    ).all()
    crystal = np.arange(10) >= 4
    for grain in np.unique(labels[:, 4:]):
        here = (labels == grain) & crystal
        if here.sum() > 12:
            scatter = off[here].std() / np.median(found.sigma[here])
            assert 0.6 < scatter < 2.0


def test_pieces_add_up_and_are_kept() -> None:
    cube, _, _ = grains_in_glass(2e4)
    where = np.zeros(cube.R_shape, bool)
    where[2:5, 3:7] = True
    found = cube.crystallinity(where=where)
    assert np.isnan(found.fraction[~where]).all() and np.isfinite(found.fraction[where]).all()
    np.testing.assert_allclose(
        found.fraction[where], (found.bragg / (found.bragg + found.diffuse))[where]
    )
    assert found.maps.labels == ("fraction", "sigma", "bragg", "diffuse")
    assert found.history.steps[-1].kind == "crystallinity" and "%" in found.text()


def test_a_mask_takes_hot_pixels_out() -> None:
    cube, _, _ = grains_in_glass(2e4)
    data = np.array(cube.data)
    data[:, :, 60, 30] = 900
    mask = np.ones((96, 96), bool)
    mask[60, 30] = False
    hot = cube.replace(data=data)
    plain, masked = hot.crystallinity(), hot.crystallinity(mask=mask)
    assert plain.fraction[:, :4].min() > 0.05 > masked.fraction[:, :4].max()


def test_what_it_cannot_do_without() -> None:
    cube, _, _ = grains_in_glass(2e4)
    raw = py4DSTEM.DataCube(cube.data)
    with pytest.raises(CalibrationMissing, match="origin"):
        raw.crystallinity(inner_px=4)
    with pytest.raises(ParameterError, match="inner_px"):
        raw.with_calibration(origin_px=(47, 48)).crystallinity()
    with pytest.raises(ParameterError, match="no ring"):
        cube.crystallinity(inner_px=40, outer_px=20)
    with pytest.raises(ParameterError, match="no ring"):
        cube.with_calibration(origin_px=(-9.0, 5.0)).crystallinity(inner_px=3)


def test_patterns_without_counts_and_positions_without_origin() -> None:
    cube, _, _ = grains_in_glass(2e4)
    data, origin = np.array(cube.data), np.array(cube.calibration.origin_px)
    data[1, 2] = 0
    origin[3, 4] = np.nan
    found = cube.replace(data=data).with_calibration(origin_px=origin).crystallinity()
    assert np.isnan(found.fraction[1, 2]) and np.isnan(found.fraction[3, 4])
    assert np.isfinite(found.fraction).sum() == 78
    nothing = cube.replace(data=np.zeros_like(data)).crystallinity()
    assert "nothing is scattered" in nothing.text()


def test_peaks_are_counted_without_the_beam() -> None:
    peaks = simulate.polycrystal((3, 4), (96, 96), grains=2, seed=1).truth.peaks()
    found = py4DSTEM.bragg_counts(peaks)
    np.testing.assert_array_equal(found["peaks"].data, peaks.counts - 1)
    np.testing.assert_allclose(found["intensity"].data, 0.4)
    weak = py4DSTEM.bragg_counts(peaks, min_intensity=0.02)
    assert (weak["peaks"].data < found["peaks"].data).all()
    with pytest.raises(CalibrationMissing, match="origin"):
        py4DSTEM.bragg_counts(py4DSTEM.PointTable(peaks.points, peaks.offsets, peaks.shape))
