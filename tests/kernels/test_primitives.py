"""The smaller primitives against their twins, and where the truth is known."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from py4DSTEM.errors import ParameterError, ShapeError
from py4DSTEM.kernels import bin_dtype, compiled, reference
from py4DSTEM.kernels.clean import neighbour_table
from py4DSTEM.kernels.order import ordered_value

FAST, TWIN = compiled(), reference()
KINDS = st.sampled_from(["u2", ">u2", "f4"])
SHAPES = [(1, 1), (5, 9), (17, 33), (40, 12)]
FEW = settings(max_examples=25, deadline=None)


@st.composite
def patterns(draw, kinds=KINDS):  # few dtypes: each is compiled anew
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n, shape = draw(st.sampled_from([0, 1, 3, 6])), draw(st.sampled_from(SHAPES))
    dtype = np.dtype(draw(kinds))
    frames = (1000 * rng.standard_normal((n, *shape))).astype(np.int64)
    if dtype.kind == "u":
        frames = np.abs(frames) % 256
    frames = frames.astype(dtype)
    if dtype.kind == "f" and draw(st.booleans()):
        wrong = rng.random(frames.shape) < draw(st.sampled_from([0.1, 0.9]))
        frames[wrong] = rng.choice([np.nan, np.inf, -np.inf], wrong.sum())
    return rng, frames


def close(a, b):
    assert a.dtype == b.dtype and a.shape == b.shape
    np.testing.assert_allclose(a, b, rtol=1e-6 if a.dtype == np.float32 else 1e-9, atol=1e-6)


@FEW
@given(patterns(), st.booleans())
def test_center_of_mass(case, weighted):
    rng, frames = case
    weights = rng.random(frames.shape[1:]) if weighted else None
    fast, twin = (k.center_of_mass(frames, weights) for k in (FAST, TWIN))
    np.testing.assert_allclose(fast, twin, rtol=1e-6, atol=1e-6)


@FEW
@given(patterns(), st.sampled_from([0, 1, 3]), st.booleans())
def test_shifted_sums(case, count, whole):
    rng, frames = case
    weights = rng.random((count, *frames.shape[1:])) * (
        rng.random((count, *frames.shape[1:])) < 0.3
    )
    shifts = rng.normal(0, 6, (len(frames), 2))
    shifts = np.round(shifts) if whole else shifts
    shifts[1:2, 0] = np.nan
    close(*(k.shifted_sums(frames, weights, shifts) for k in (FAST, TWIN)))


def test_a_whole_shift_moves_the_detector_exactly():
    rng = np.random.default_rng(3)
    frames = rng.integers(0, 99, (1, 20, 30)).astype(np.uint16)
    weights = np.zeros((1, 20, 30))
    weights[0, 5:9, 4:11] = 1
    moved = FAST.shifted_sums(frames, weights, [[3.0, -2.0]])
    assert moved.tolist() == [[frames[0, 8:12, 2:9].sum()]]
    gone = FAST.shifted_sums(frames, weights, [[300.0, -1e12]])
    assert gone.tolist() == [[0.0]]


@FEW
@given(patterns(), st.integers(1, 9), st.floats(0.4, 5))
def test_radial_sums(case, n_bins, step):
    rng, frames = case
    radius = rng.uniform(-1, n_bins * step * 1.3, frames.shape[1:])
    radius[0, 0] = np.nan
    a, b = (k.radial_sums(frames, k.radial_plan(radius, n_bins, step)) for k in (FAST, TWIN))
    close(a.sums, b.sums)
    close(*np.broadcast_arrays(a.norms, b.norms))


@FEW
@given(patterns(), st.integers(1, 9), st.floats(0.4, 5), st.booleans())
def test_radial_sums_centered(case, n_bins, step, more):
    rng, frames = case
    origins = rng.uniform(-3, 20, (len(frames), 2))
    origins[2:3] = np.nan
    extra = {}
    if more:
        extra = {"ellipse": rng.normal(0, 1, (2, 2)), "mask": rng.random(frames.shape[1:]) < 0.7}
    a, b = (k.radial_sums_centered(frames, origins, n_bins, step, **extra) for k in (FAST, TWIN))
    close(a.sums, b.sums)
    close(a.norms, b.norms)


def test_rings_of_a_flat_pattern_are_flat():
    i, j = np.indices((40, 50))
    plan = FAST.radial_plan(np.hypot(i - 18.3, j - 22.1), 15)
    found = FAST.radial_sums(np.full((5, 40, 50), 7, dtype=np.uint16), plan)
    np.testing.assert_allclose(found.sums / found.norms, 7, rtol=1e-12)
    assert found.norms.shape == (1, 15)
    moved = FAST.radial_sums_centered(np.full((5, 40, 50), 7.0), np.full((5, 2), 19.5), 15)
    np.testing.assert_allclose(moved.sums / moved.norms, 7, rtol=1e-12)


@FEW
@given(patterns(), st.integers(1, 6), st.integers(1, 6))
def test_bin_frames(case, bx, by):
    _, frames = case
    if frames.dtype.kind == "f":
        frames = np.nan_to_num(frames, posinf=5, neginf=-5)
    close(*(k.bin_frames(frames, bx, by) for k in (FAST, TWIN)))


def test_binned_integers_never_overflow():
    frames = np.full((1, 9, 9), 65535, dtype=np.uint16)
    assert FAST.bin_frames(frames, 4, 4).tolist() == [[[65535 * 16] * 2] * 2]
    assert FAST.bin_frames(frames > 0, 2, 2).dtype == np.uint8
    for kind in (np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32):
        info, held = np.iinfo(kind), np.iinfo(bin_dtype(kind, 1000))
        assert held.min <= 1000 * info.min and 1000 * info.max <= held.max


@FEW
@given(patterns(st.sampled_from(["?", "u1", "i1", ">u2", "i4", "u8", "i8", "f2", "f4", "f8"])))
def test_keys_keep_the_order(case):
    _, frames = case
    keys = FAST.ordered_uint(frames)
    assert (keys == TWIN.ordered_uint(frames)).all() and keys.dtype.kind == "u"
    good = np.isfinite(frames)
    values = frames[good]
    assert (values[np.argsort(keys[good], kind="stable")] == np.sort(values)).all()
    assert (ordered_value(keys[good], frames.dtype) == values).all()


@FEW
@given(patterns(st.sampled_from(["u1", "u2", "f4"])))
def test_histogram_digit(case):
    _, frames = case
    keys = FAST.ordered_uint(frames)
    bits = keys.dtype.itemsize * 8
    prefix = np.zeros(keys.shape[1:], dtype=np.uint64)
    for shift in range(bits - 8, -8, -8):
        a, b = np.zeros((2, *prefix.shape, 256), dtype=np.int64)
        FAST.histogram_digit(keys, prefix, shift, a, skip_last=frames.dtype.kind == "f")
        TWIN.histogram_digit(keys, prefix, shift, b, skip_last=frames.dtype.kind == "f")
        assert (a == b).all()
        prefix += a.argmax(axis=-1).astype(np.uint64) << np.uint64(shift)


@FEW
@given(patterns(), st.integers(1, 9))
def test_repair_pixels(case, count):
    rng, frames = case
    pixels, table = neighbour_table(rng.random(frames.shape[1:]) < 0.2, count)
    close(*(k.repair_pixels(frames, pixels, table) for k in (FAST, TWIN)))


def test_a_bad_pixel_becomes_the_median_of_its_neighbours():
    frames = np.arange(2 * 5 * 6, dtype=np.uint16).reshape(2, 5, 6)
    frames[:, 2, 3] = 60000
    bad = np.zeros((5, 6), dtype=bool)
    bad[2, 3] = True
    fixed = FAST.repair_pixels(frames, *neighbour_table(bad, 4))
    assert fixed[:, 2, 3].tolist() == [15, 45] and frames[0, 2, 3] == 60000
    assert fixed.dtype == frames.dtype


@FEW
@given(patterns())
def test_apply_dark_gain(case):
    rng, frames = case
    dark, gain = rng.normal(size=(2, *frames.shape[1:]))
    close(*(k.apply_dark_gain(frames, dark, gain) for k in (FAST, TWIN)))
    close(*(k.apply_dark_gain(frames, 3.0) for k in (FAST, TWIN)))


@FEW
@given(patterns(), st.floats(-300, 300))
def test_threshold_counts(case, high):
    _, frames = case
    for a, b in zip(*(k.threshold_counts(frames, high) for k in (FAST, TWIN)), strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape and (a == b).all()


@FEW
@given(patterns(), st.integers(1, 6), st.sampled_from([0.0, 0.3, 0.5, 1.0]))
def test_subtract_radial_background(case, n_bins, quantile):
    rng, frames = case
    radius = rng.uniform(-1, n_bins * 2.5, frames.shape[1:])
    close(
        *(
            k.subtract_radial_background(frames, k.radial_plan(radius, n_bins, 2.0), quantile)
            for k in (FAST, TWIN)
        )
    )


def test_nonsense_is_refused():
    frames = np.ones((2, 8, 9))
    plan = FAST.radial_plan(np.ones((8, 8)), 3)
    wrong = [
        (ShapeError, lambda: FAST.shifted_sums(frames, np.ones((1, 8, 8)), np.zeros((2, 2)))),
        (ShapeError, lambda: FAST.shifted_sums(frames, np.ones((1, 8, 9)), np.zeros((3, 2)))),
        (ShapeError, lambda: FAST.radial_sums(frames, plan)),
        (ShapeError, lambda: FAST.subtract_radial_background(frames, plan)),
        (ShapeError, lambda: FAST.radial_sums_centered(frames, np.zeros((3, 2)), 4)),
        (ShapeError, lambda: FAST.repair_pixels(frames, [1], [[1], [2]])),
        (ShapeError, lambda: FAST.apply_dark_gain(frames, np.ones((8, 8)))),
        (ParameterError, lambda: FAST.radial_plan(np.ones((8, 8)), 0)),
        (ParameterError, lambda: FAST.bin_frames(frames, 0, 1)),
        (ParameterError, lambda: FAST.subtract_radial_background(frames, plan, 1.5)),
    ]
    for error, call in wrong:
        with pytest.raises(error):
            call()


def test_importing_the_kernels_does_not_import_numba():
    code = "import sys, py4DSTEM.kernels as k; k.reference(); assert 'numba' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
