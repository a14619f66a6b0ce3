"""Features of scan positions: what they are, how they are scaled, and what is left out."""

import numpy as np
import pytest

import py4DSTEM
from py4DSTEM import Annulus, DataCube, Disk, RealSlice, RunOptions, features, simulate
from py4DSTEM.errors import CalibrationMissing, ParameterError, ShapeError
from py4DSTEM.process.classes.features import FeatureBlock, Features, combined
from py4DSTEM.process.classes.scaling import scaled


@pytest.fixture(scope="module")
def cube():
    counts = np.random.default_rng(1).poisson(6, (5, 7, 12, 18)).astype(np.uint16)
    return DataCube(counts).with_calibration(
        origin_px=(5.5, 8.5), Q_pixel_size=0.02, Q_pixel_units="A^-1"
    )


def table(values, **words):
    """Features of one row of positions, (n, columns)."""
    values = np.asarray(values, np.float32)
    block = FeatureBlock("map", "map", values.shape[1:], **{"scale": "none", **words})
    return Features(values, (1, len(values)), (block,))


# ---- extraction ----------------------------------------------------------------------------------
def test_binned_patterns_are_sums_of_blocks(cube):
    found = features(cube, bin=3)
    assert found.blocks[0].shape == (4, 6) and found.data.dtype == np.float32
    expected = cube.data.reshape(5, 7, 4, 3, 6, 3).sum((3, 5)).reshape(35, 24)
    np.testing.assert_array_equal(found.data, expected)
    np.testing.assert_array_equal(found["pattern[1,4]"].data, expected[:, 10].reshape(5, 7))


def test_remainders_are_cropped_and_large_patterns_get_at_most_32_blocks(cube):
    found = features(cube, bin=5)
    np.testing.assert_array_equal(
        found.data[0].reshape(2, 3), cube.data[0, 0, :10, :15].reshape(2, 5, 3, 5).sum((1, 3))
    )
    wide = DataCube(np.ones((1, 2, 40, 70), np.uint8))
    assert features(wide).blocks[0].bin == 3


def test_several_kinds_in_one_pass_agree_with_their_own_functions(cube):
    shapes = {"bf": Disk(3), "adf": Annulus(3, 8)}
    found = features(cube, bin=6, profile_step_px=2.0, detectors=shapes)
    assert [b.name for b in found.blocks] == ["pattern", "profile", "images"]
    images = cube.virtual_images(shapes)
    np.testing.assert_allclose(found["adf"].data, images["adf"].data, rtol=1e-6)
    profiles = cube.radial_profiles(step_px=2.0).data
    np.testing.assert_allclose(found["profile"].data, np.moveaxis(profiles, -1, 0), rtol=1e-6)
    assert features(cube, detectors=shapes).names == ("bf", "adf")


def test_a_mask_scales_blocks_to_full_size(cube):
    keep = np.ones(cube.Q_shape, bool)
    keep[0, 1], keep[3:6, 3:6] = False, False
    flat = DataCube(np.full((2, 3, 12, 18), 4, np.uint16))
    flat.data[:, :, 0, 1] = 60000
    found = features(flat, bin=3, mask=keep).data.reshape(6, 4, 6)
    assert np.isnan(found[:, 1, 1]).all()  # not a pixel of it counts
    found[:, 1, 1] = 36
    np.testing.assert_allclose(found, 36, rtol=1e-6)


@pytest.mark.parametrize("masked", [False, True])
def test_patterns_follow_the_origin_by_whole_pixels(masked):
    still = np.random.default_rng(2).integers(0, 50, (20, 26))
    counts = np.zeros((3, 5, 20, 26), np.uint16)
    x, y = np.indices((3, 5))
    moves = np.stack([x - 1, 2 - y], axis=-1)
    for rx, ry in np.ndindex(3, 5):
        counts[rx, ry] = np.roll(still, moves[rx, ry], (0, 1))
    cube = DataCube(counts).with_calibration(origin_px=np.array((9.2, 12.4)) + moves)
    keep = np.ones((20, 26), bool) if masked else None
    found = features(cube, bin=2, mask=keep)
    np.testing.assert_array_equal(found.data, np.broadcast_to(found.data[0], found.data.shape))
    assert not (features(cube, bin=2, follow_origin=False).data == found.data[0, 0]).all()
    assert found.blocks[0].start == (1, 2) and found.blocks[0].shape == (9, 11)
    assert found.data[0, 0] == still[1:3, 2:4].sum()


def test_a_position_without_origin_is_unknown(cube):
    origins = np.broadcast_to([5.5, 8.5], (5, 7, 2)).copy()
    origins[1, 2] = np.nan
    origins[4, 4] += 1
    found = features(cube.with_calibration(origin_px=origins), bin=2)
    assert not found.valid[1, 2] and found.valid.sum() == 34


def test_normalised_patterns_do_not_know_the_dose(cube):
    brighter = cube.replace(data=cube.data * 3)
    one, three = (features(c, bin=4, normalize=True) for c in (cube, brighter))
    np.testing.assert_allclose(one.data, three.data, rtol=1e-6)
    np.testing.assert_allclose(one.data.sum(axis=1), 1, rtol=1e-5)
    assert one.blocks[0].transform == "sqrt"


def test_unknown_pixels_make_their_feature_unknown_and_where_leaves_positions_out(cube):
    data = cube.data.astype(np.float32)
    data[2, 3, 4, 4] = np.nan
    found = features(cube.replace(data=data), bin=4)
    assert np.isnan(found.data[17]).sum() == 1 and not found.valid[2, 3]
    where = np.zeros((5, 7), bool)
    where[1:3, 2:5] = True
    np.testing.assert_array_equal(features(cube, bin=4, where=where).valid, where)


def test_bits_do_not_depend_on_workers(cube):
    one, two = (features(cube, bin=3, options=RunOptions(workers=k)).data for k in (1, 2))
    np.testing.assert_array_equal(one, two)


# ---- from results --------------------------------------------------------------------------------
def test_maps_profiles_strain_peaks_and_arrays_side_by_side(cube):
    stack = RealSlice(np.random.default_rng(0).random((2, 5, 7)), labels=("a", "b"))
    array = np.arange(70.0).reshape(5, 7, 2)
    profiles = cube.radial_profiles(step_px=3.0)
    found = features(stack, profiles, array, cube, bin=6)
    assert [b.kind for b in found.blocks] == ["map", "profile", "map", "patterns"]
    np.testing.assert_allclose(found["b"].data, stack["b"].data, rtol=1e-6)
    np.testing.assert_array_equal(found.data[:, -6 - 2 : -6], array.reshape(35, 2))
    twice = features(found, found)
    assert twice.n == 2 * found.n and len({b.name for b in twice.blocks}) == 8


def test_strain_and_peaks_of_a_crystal():
    scan = simulate.strained_lattice((5, 6), (64, 64), probe_radius_px=3.0, seed=1)
    peaks = scan.cube.find_bragg_disks(scan.truth.probe).with_calibration(
        origin_px=scan.truth.calibration.origin_px
    )
    of_peaks = features(peaks, bin=8)
    inside = peaks.points["intensity"].sum()
    assert of_peaks.blocks[0].shape == (8, 8)
    assert of_peaks.data.sum() == pytest.approx(inside, rel=1e-5)
    of_strain = features(py4DSTEM.strain_map(peaks.fit_lattice()))
    assert of_strain.names == ("e_xx", "e_yy", "e_xy", "theta")


def test_a_row_becomes_a_pattern_with_its_calibration(cube):
    found = features(cube, bin=3)
    pattern = found.pattern(found.data[4])
    assert pattern.shape == (4, 6)
    assert pattern.calibration.Q_pixel_size == pytest.approx(0.06)
    # The centre of block i is at pixel 3 i + 1.
    np.testing.assert_allclose(pattern.calibration.origin_px, ((5.5 - 1) / 3, (8.5 - 1) / 3))
    with pytest.raises(ParameterError, match="no binned pattern"):
        features(np.zeros((2, 3))).pattern(np.zeros(1))
    with pytest.raises(ShapeError, match="24 features"):
        found.vector(np.zeros(5))


# ---- scaling -------------------------------------------------------------------------------------
@pytest.mark.parametrize("transform", ["none", "sqrt", "anscombe", "log"])
@pytest.mark.parametrize("scale", ["none", "block", "standard", "robust"])
def test_scaling_can_be_undone(transform, scale):
    counts = np.random.default_rng(3).poisson(30, (40, 3))
    rows = scaled(table(counts, transform=transform, scale=scale))
    np.testing.assert_allclose(rows.original(rows.matrix()), counts, rtol=1e-4, atol=1e-3)


def test_scales():
    values = np.random.default_rng(4).normal((5, -2), (3, 0.1), (500, 2))
    values[0] = 1000
    standard = scaled(table(values, scale="standard")).matrix()
    np.testing.assert_allclose(standard.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(standard.std(0), 1, rtol=1e-4)
    robust = scaled(table(values, scale="robust")).matrix()
    np.testing.assert_allclose(np.median(robust, 0), 0, atol=1e-5)
    np.testing.assert_allclose(robust[1:].std(0), 1, rtol=0.1)  # one outlier does not matter
    block = scaled(table(values, scale="block")).matrix()
    assert block.var(axis=0).sum() == pytest.approx(1, rel=1e-4)


def test_anscombe_makes_the_noise_of_counts_one():
    means = np.array([8.0, 40.0, 300.0])
    counts = np.random.default_rng(5).poisson(means, (20_000, 3))
    spread = scaled(table(counts, transform="anscombe")).matrix().std(axis=0)
    np.testing.assert_allclose(spread, 1, rtol=0.03)


def test_constant_and_unknown_features_are_dropped_and_named():
    values = np.random.default_rng(6).random((9, 4))
    values[:, 1], values[:, 2] = 7.25, np.nan
    rows = scaled(table(values))
    assert rows.columns.tolist() == [0, 3]
    assert rows.report["features dropped (constant)"] == 1
    assert rows.report["features dropped (unknown)"] == 1
    assert rows.report["dropped"] == ["map[1]", "map[2]"]
    assert rows.original(rows.matrix())[:, 1].tolist() == [7.25] * 9


def test_unknown_values_mask_their_position_or_get_the_median():
    values = np.arange(12.0).reshape(6, 2)
    values[3, 0], values[5] = np.nan, np.nan
    masked = scaled(table(values))
    assert masked.positions.tolist() == [0, 1, 2, 4]
    filled = scaled(table(values), "median")
    assert filled.positions.tolist() == [0, 1, 2, 3, 4]
    assert filled.matrix()[3, 0] == 3.0  # of 0, 2, 4 and 8
    assert filled.report["values filled"] == 1


def test_features_may_be_a_memory_map(tmp_path, cube):
    whole = features(cube, bin=3)
    np.save(tmp_path / "features.npy", whole.data)
    mapped = np.load(tmp_path / "features.npy", mmap_mode="r")
    there = Features(mapped, whole.R_shape, whole.blocks)
    np.testing.assert_array_equal(scaled(there).matrix(), scaled(whole).matrix())


# ---- bad input -----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.full((6, 2), np.nan), "no feature is known"),
        (np.ones((6, 2)), "constant"),
        (np.where(np.eye(4, 4), np.nan, np.arange(16.0).reshape(4, 4)), "missing='median'"),
    ],
)
def test_nothing_left_to_tell_positions_apart(values, words):
    with pytest.raises(ParameterError, match=words):
        scaled(table(values))


def test_bad_sources_and_parameters(cube):
    with pytest.raises(ParameterError, match="no features are known of a str"):
        features("scan")
    with pytest.raises(ShapeError, match="different shapes"):
        features(np.zeros((2, 3)), np.zeros((3, 2)))
    with pytest.raises(ShapeError, match=r"\(Rx, Ry\)"):
        features(np.zeros(5))
    with pytest.raises(ParameterError, match="bin=13"):
        features(cube, bin=13)
    with pytest.raises(ParameterError, match="bin, a profile_step_px or detectors"):
        features(cube, bin=None)
    with pytest.raises(CalibrationMissing, match="calibrate_origin"):
        features(cube, follow_origin=True)
    with pytest.raises(ParameterError, match="scale"):
        features(cube, scale="huge")
    with pytest.raises(ShapeError, match="radial_profiles"):
        features(cube.mean_radial_profile())
    with pytest.raises(ParameterError, match="no feature 'x'"):
        features(cube)["x"]
    with pytest.raises(ShapeError, match="cannot have the shape"):
        Features(np.zeros((3, 2), np.float32), (1, 4), (FeatureBlock("map", "m", (2,)),))
    one = features(cube)
    with pytest.raises(ParameterError, match="different names"):
        Features(np.zeros((35, 2), np.float32), (5, 7), (FeatureBlock("map", "m", (1,)),) * 2)
    assert combined([one]) is one


def test_origins_that_wander_too_far(cube):
    origins = np.broadcast_to([5.5, 8.5], (5, 7, 2)).copy()
    origins[0, 0] = 0, 0
    origins[4, 4] = 11, 17
    with pytest.raises(ShapeError, match="follow_origin=False"):
        features(cube.with_calibration(origin_px=origins))
