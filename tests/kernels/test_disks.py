"""Disks found by the compiled loop against the plain twin."""

import numpy as np
import pytest

from py4DSTEM import DataCube
from py4DSTEM.core.detector import Mask
from py4DSTEM.kernels import compiled, reference
from py4DSTEM.kernels.api import DISK_FIELDS, DISK_REJECTIONS
from py4DSTEM.process.bragg.detect import FindBraggDisks
from py4DSTEM.process.bragg.search import plan_search
from py4DSTEM.process.probe import synthetic_probe

FAST, TWIN = compiled(), reference()
RADIUS = 3.5
COLUMN = {name: k for k, name in enumerate(DISK_FIELDS)}


def patterns(shape=(61, 53), n=3, seed=0, dtype="u2", height=40.0):
    """Disks on a slanted lattice that runs over the edges; counts of several hundred per disk."""
    rng = np.random.default_rng(seed)
    probe = synthetic_probe(shape, RADIUS, 0.6)
    frames = np.full((n, *shape), 1.5)
    for frame in frames:
        start = rng.uniform(0, 12, 2)
        for h in range(-5, 8):
            for k in range(-5, 8):
                center = start + h * np.array([13.1, 2.2]) + k * np.array([-1.7, 12.6])
                frame += height * rng.uniform(0.2, 1) * probe.image(center=center)
    return rng.poisson(frames).astype(dtype), probe


def both(frames, probe, **wanted):
    cube = DataCube(frames[None])
    operation = FindBraggDisks(probe=probe, **{"samples": 4, **wanted})
    plan = plan_search(cube, operation, FAST).plan
    return FAST.find_disks(frames, plan), TWIN.find_disks(frames, plan)


def same(fast, twin, position=1.5e-3):
    np.testing.assert_array_equal(fast.counts, twin.counts)
    np.testing.assert_array_equal(fast.rejected, twin.rejected)
    np.testing.assert_allclose(fast.rows[:, :2], twin.rows[:, :2], atol=position)
    for name in ("intensity", "sigma_qx", "sigma_qy", "significance", "chi2", "sigma_slope"):
        k = COLUMN[name]
        np.testing.assert_allclose(fast.rows[:, k], twin.rows[:, k], rtol=1e-2, err_msg=name)


@pytest.mark.parametrize("subpixel", ["pixel", "parabola", "dft", "fit"])
@pytest.mark.parametrize("shape", [(61, 53), (48, 67)], ids=["odd", "mixed"])
def test_fast_is_plain(subpixel, shape):
    frames, probe = patterns(shape)
    fast, twin = both(frames, probe, subpixel=subpixel)
    assert fast.counts.min() > 10
    same(fast, twin)


@pytest.mark.parametrize("corr_power", [0.0, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("stabilise", [True, False])
def test_correlations(corr_power, stabilise):
    frames, probe = patterns()
    for subpixel in ("parabola", "dft"):
        wanted = {"corr_power": corr_power, "stabilise": stabilise, "subpixel": subpixel}
        fast, twin = both(frames, probe, threshold=None if corr_power == 1 else 0.0, **wanted)
        if corr_power == 1:
            same(fast, twin, 2e-3)
            continue
        # Maxima of whitened noise are as high as those of disks, and many.
        clear = np.concatenate([[0], np.cumsum(fast.counts)[:-1]])
        off = np.abs(fast.rows[clear, :2] - twin.rows[clear, :2])
        assert np.median(off) < 2e-3


@pytest.mark.parametrize("dtype", ["u1", "i2", ">u2", "i4", "u4", "f2", "f4", "f8"])
def test_dtypes(dtype):
    frames, probe = patterns(dtype=dtype)
    expected, _ = both(frames.astype("u2"), probe, gain=1)
    fast, twin = both(frames, probe, gain=1)
    same(fast, twin)
    np.testing.assert_array_equal(fast.rows, expected.rows)


def test_masks_and_unusable_pixels():
    frames, probe = patterns(dtype="f8")
    usable = np.ones(frames.shape[1:], bool)
    usable[:30, 20:24] = False
    usable[40, 12] = False
    frames[0, 5, 7], frames[0, 30, 31], frames[1, 20, 10], frames[2, 33, 3] = (
        np.nan, np.inf, -np.inf, 1e300,
    )  # fmt: skip
    frames[1, 25, 40] = 5e4
    for limits in ({"saturation": 1000.0}, {}):
        same(*both(frames, probe, gain=1, mask=Mask(usable), **limits))


def test_what_is_hidden_has_no_influence():
    frames, probe = patterns(dtype="f4")
    usable = np.ones(frames.shape[1:], bool)
    usable[20:40, 20:24] = False
    expected, _ = both(frames, probe, gain=1, mask=Mask(usable), samples=1)
    frames[:, ~usable] = 300.0
    found, _ = both(frames, probe, gain=1, mask=Mask(usable), samples=1)
    np.testing.assert_array_equal(found.rows, expected.rows)


def test_limits():
    frames, probe = patterns()
    wanted = [
        {"max_peaks": 5}, {"min_significance": 25.0}, {"min_intensity": 700.0},
        {"min_relative_intensity": 0.6, "relative_to": 2}, {"min_spacing_px": 18.0},
        {"edge_px": 9.0}, {"edge_px": 0.0}, {"threshold": 0.0, "subpixel": "parabola"},
    ]  # fmt: skip
    for limits in wanted:
        fast, twin = both(frames, probe, **limits)
        assert len(fast.rows) > 3, limits
        same(fast, twin)


def test_uneven_disks_and_read_noise():
    frames, probe = patterns(height=200)
    i, j = np.indices(frames.shape[1:])
    uneven = np.random.default_rng(1).poisson(frames * (1 + 0.5 * np.sin(i / 9 + j / 11)))
    same(*both(uneven, probe, slope=0.5), position=5e-3)
    same(*both(uneven * 3.0 - 0.7, probe, read_noise=2.0, gain=3.0), position=5e-3)


def test_patterns_without_disks():
    frames, probe = patterns(n=5, dtype="f4")
    plan = plan_search(DataCube(frames[None]), FindBraggDisks(probe=probe), FAST).plan
    frames[0], frames[1], frames[2], frames[3] = 0.0, 7.0, np.nan, -5.0
    for kernels in (FAST, TWIN):
        found = kernels.find_disks(frames, plan)
        assert found.counts[:4].tolist() == [0, 0, 0, 0]
        assert found.counts[4] > 10
        assert found.rejected.shape == (5, len(DISK_REJECTIONS))
    none = FAST.find_disks(frames[:0], plan)
    assert none.rows.shape == (0, len(DISK_FIELDS))
