"""Virtual images where the answer is known, and the same from every kind of array."""

import math

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from py4DSTEM import (
    Annulus,
    DataCube,
    Disk,
    Mask,
    Point,
    Rectangle,
    RunOptions,
    Segment,
    center_of_mass,
    max_pattern,
    mean_pattern,
    run,
    segments,
    std_pattern,
    virtual_image,
    virtual_images,
)
from py4DSTEM.core.calibration import Calibration, Ellipse
from py4DSTEM.errors import CalibrationMissing, ParameterError, ShapeError
from py4DSTEM.process.com import CenterOfMass
from py4DSTEM.process.diffraction import MaxPattern, MeanPattern
from py4DSTEM.process.virtual import VirtualImages

Q_SHAPE = (33, 40)
NONE = Calibration()
KINDS = ["?", "u1", "u2", ">u2", "u4", "i2", "i4", "i8", "f2", "f4", ">f4", "f8"]


def supersampled(detector, calibration, Q_shape, transform=None, samples=48):
    """Share of 48 x 48 points of each pixel that lie inside, by the shape's definition."""
    step = (np.arange(samples) + 0.5) / samples - 0.5
    qx, qy = detector.center or calibration.mean_origin_px
    out = np.empty(Q_shape)
    for i, j in np.ndindex(Q_shape):
        x, y = np.meshgrid(i - qx + step, j - qy + step, indexing="ij")
        if transform is not None:
            x, y = (row[0] * x + row[1] * y for row in transform)
        out[i, j] = inside(detector, x, y).mean()
    return out


def inside(d, x, y):
    r = np.hypot(x, y)
    if isinstance(d, Disk):
        return r < d.radius
    if isinstance(d, Annulus):
        return (r < d.outer) & (r >= d.inner)
    if isinstance(d, Rectangle):
        return (abs(x) < d.height / 2) & (abs(y) < d.width / 2)
    if isinstance(d, Point):
        return (abs(x) < 0.5) & (abs(y) < 0.5)
    turn = (np.arctan2(y, x) - d.start_rad) % (2 * math.pi)
    return (r < d.outer) & (r >= d.inner) & (turn <= d.stop_rad - d.start_rad)


C = (15.3, 18.8)
SHAPES = {
    "disk": Disk(7.7, center=C),
    "small disk": Disk(0.6, center=C),
    "disk over the edge": Disk(9.0, center=(2.5, 37.0)),
    "annulus": Annulus(3.2, 9.1, center=C),
    "thin annulus": Annulus(6.0, 6.4, center=C),
    "rectangle": Rectangle(5.5, 12.25, center=C),
    "point": Point(center=(4.25, 7.0)),
    "segment": Segment(3.0, 11.0, 0.3, 1.9, center=C),
    "pie": Segment(0.0, 11.0, -2.0, 2.9, center=C),
    "narrow pie": Segment(0.0, 9.0, 1.0, 1.2, center=(15.0, 19.0)),
    "all around": Segment(2.0, 6.0, 0.0, 2 * math.pi, center=C),
}


@pytest.mark.parametrize("name", SHAPES)
def test_weights_are_shares_of_area(name):
    detector = SHAPES[name]
    weights = detector.weights(Q_SHAPE, NONE)
    expected = supersampled(detector, NONE, Q_SHAPE)
    assert np.abs(weights - expected).max() < 0.03
    assert weights.sum() == pytest.approx(expected.sum(), rel=5e-3)
    assert weights.min() >= 0 and weights.max() <= 1


def test_weights_in_physical_units():
    calibration = Calibration(origin_px=C, ellipse=Ellipse(1.1, 1.0, 0.7)).replace(
        Q_pixel_size=(0.02, 0.025), Q_pixel_units="A^-1", energy_eV=200e3
    )
    transform = np.diag([0.02, 0.025]) @ calibration.ellipse.correction()
    detector = Annulus(0.06, 0.2, units="A^-1")
    weights = detector.weights(Q_SHAPE, calibration)
    expected = supersampled(detector, calibration, Q_SHAPE, transform)
    assert np.abs(weights - expected).max() < 0.03
    mrad = calibration.wavelength_A * 1e3
    same = Annulus(0.06 * mrad, 0.2 * mrad, units="mrad").weights(Q_SHAPE, calibration)
    np.testing.assert_allclose(same, weights, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.floats(1.0, 30.0), st.floats(34, 36), st.floats(33, 37))
def test_the_area_of_a_disk(radius, x, y):
    weights = Disk(radius, center=(x, y)).weights((70, 71), NONE)
    assert weights.sum() == pytest.approx(math.pi * radius**2, rel=1e-9)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("inner", [0.0, 4.0])
def test_segments_add_up_to_the_annulus(count, inner):
    parts = segments(count, inner, 11.0, start_rad=0.4, center=C)
    total = sum(s.weights(Q_SHAPE, NONE) for s in parts.values())
    whole = (Annulus(inner, 11.0, center=C) if inner else Disk(11.0, center=C)).weights(
        Q_SHAPE, NONE
    )
    np.testing.assert_allclose(total, whole, atol=0.03)
    assert total.sum() == pytest.approx(whole.sum(), rel=1e-3)


def test_presets_from_a_known_semiangle():
    cube = DataCube(np.ones((1, 2, 64, 64), np.uint8)).with_calibration(
        Q_pixel_size=0.5, Q_pixel_units="mrad", semiangle_mrad=4.0, origin_px=(31.5, 31.5)
    )
    found = cube.detector_presets()
    assert list(found) == ["bf", "abf", "laadf", "haadf"]
    assert found["bf"].radius == 8 and (found["abf"].inner, found["abf"].outer) == (4, 8)
    assert found["laadf"].inner == pytest.approx(8.8) and found["haadf"].inner == 24
    assert found["haadf"].weights((64, 64), cube.calibration)[0, 0] > 0.5
    images = cube.virtual_images(found)
    assert images["bf"].data[0, 0] == pytest.approx(math.pi * 64, rel=1e-3)
    with pytest.raises(CalibrationMissing, match="convergence"):
        DataCube(np.ones((1, 1, 8, 8))).detector_presets()


# ---- detectors that follow the origin ------------------------------------------------------------
def wandering(rng, radius=6.0, R_shape=(4, 5), Q_shape=(41, 44), reach=3.0):
    origins = np.array([20.0, 21.5]) + rng.uniform(-reach, reach, (*R_shape, 2))
    data = np.array(
        [[Disk(radius, center=tuple(o)).weights(Q_shape, NONE) for o in row] for row in origins]
    )
    return DataCube(data).with_calibration(origin_px=origins), origins


def test_a_wandering_disk_has_a_constant_bright_field():
    cube, _ = wandering(np.random.default_rng(0))
    images = cube.virtual_images(
        {"bf": Disk(8), "df": Annulus(9, 12), "fixed": Disk(8, center=(20, 21))}
    )
    area = math.pi * 36
    np.testing.assert_allclose(images["bf"].data, area, rtol=1e-3)
    np.testing.assert_allclose(images["df"].data, 0, atol=1e-9)
    assert np.ptp(images["fixed"].data) > 1


def test_following_is_close_to_weights_at_each_origin():
    rng = np.random.default_rng(1)
    cube, origins = wandering(rng)
    cube = cube.replace(data=rng.random(cube.shape))
    for shape in (Disk(6.3), Annulus(4.5, 9.5), Rectangle(7, 9), Segment(2, 9, 0, 2)):
        image = cube.virtual_image(shape).data
        for p in np.ndindex(cube.R_shape):
            there = Calibration(origin_px=origins[p])
            expected = (shape.weights(cube.Q_shape, there) * cube.data[p]).sum()
            assert image[p] == pytest.approx(expected, rel=0.02)


def test_whole_shifts_are_exact():
    rng = np.random.default_rng(2)
    origins = 20 + rng.integers(-3, 4, (3, 4, 2)).astype(float)
    origins -= origins.mean((0, 1)) - 20  # the mean is where weights are made
    data = rng.integers(0, 100, (3, 4, 41, 43)).astype(np.uint16)
    whole = np.round(origins)
    cube = DataCube(data).with_calibration(origin_px=whole)
    image = cube.virtual_image(Rectangle(5, 3)).data
    assert image.shape == (3, 4)
    mean = np.array(cube.calibration.mean_origin_px)
    for p in np.ndindex(3, 4):
        shift = whole[p] - mean
        weights = Rectangle(5, 3, center=tuple(mean)).weights((41, 43), NONE)
        padded = np.zeros((41, 43))
        a, b = np.floor(shift).astype(int)
        fx, fy = shift - (a, b)
        for da, wa in ((a, 1 - fx), (a + 1, fx)):
            for db, wb in ((b, 1 - fy), (b + 1, fy)):
                padded += wa * wb * np.roll(weights, (da, db), (0, 1))
        assert image[p] == pytest.approx((padded * data[p]).sum(), rel=1e-12)


def test_a_ring_beyond_the_frame_follows_too():
    """What is outside at the mean origin may be inside at another one."""
    origins = np.array([[(20.0, 20.0), (14.0, 24.0), (26.0, 16.0)]])
    cube = DataCube(np.ones((1, 3, 41, 41), np.uint8)).with_calibration(origin_px=origins)
    image = cube.virtual_image(Annulus(10, 40)).data
    for k, origin in enumerate(origins[0]):
        weights = Annulus(10, 40, center=tuple(origin)).weights((41, 41), NONE)
        assert image[0, k] == pytest.approx(weights.sum(), rel=1e-3)


def test_positions_without_an_origin_are_nan_and_spoil_nothing():
    cube, origins = wandering(np.random.default_rng(3))
    origins[1, 2] = np.nan
    image = cube.with_calibration(origin_px=origins).virtual_image(Disk(8)).data
    assert np.isnan(image[1, 2]) and np.isfinite(image).sum() == image.size - 1


def test_following_can_be_chosen():
    cube, _ = wandering(np.random.default_rng(4))
    fixed = cube.virtual_image(Disk(8), follow_origin=False).data
    assert np.ptp(fixed) > 1 > np.ptp(cube.virtual_image(Disk(8), follow_origin=True).data)
    still = cube.with_calibration(origin_px=(20, 21))
    with pytest.raises(ParameterError, match="center_of_mass"):
        still.virtual_image(Disk(8), follow_origin=True)
    np.testing.assert_array_equal(
        still.virtual_image(Disk(8)).data,
        still.virtual_image(Disk(8, center=(20, 21))).data,
    )


# ---- numbers -------------------------------------------------------------------------------------
def make(rng, kind, shape=(3, 4, 12, 15)):
    dtype = np.dtype(kind)
    if dtype.kind == "b":
        return rng.random(shape) < 0.5
    if dtype.kind == "f":
        return (rng.random(shape) * 100).astype(dtype)
    info = np.iinfo(dtype)
    return rng.integers(max(info.min, -(2**30)), min(info.max, 2**30), shape).astype(dtype)


@pytest.mark.parametrize("kind", KINDS)
def test_every_dtype_is_summed_exactly(kind):
    array = make(np.random.default_rng(5), kind)
    mask = np.zeros((12, 15), bool)
    mask[2:9, 3:11] = True
    image, com, total = run(
        [
            VirtualImages(detectors={"m": Mask(mask)}),
            CenterOfMass(),
            VirtualImages(detectors={"all": Mask(np.ones((12, 15)))}),
        ],
        DataCube(array),
    )
    wide = array.astype(np.float64) if array.dtype.kind == "f" else array.astype(np.int64)
    tolerance = 1e-12 if array.dtype.kind == "f" else 0
    np.testing.assert_allclose(image.data[0], wide[:, :, mask].sum(-1), rtol=tolerance)
    np.testing.assert_allclose(total.data[0], wide.sum((2, 3)), rtol=tolerance)
    usable = wide.sum((2, 3)) > 0
    x = (wide * np.arange(12)[:, None]).sum((2, 3))[usable] / wide.sum((2, 3))[usable]
    np.testing.assert_allclose(com["x"].data[usable], x, rtol=1e-12)
    mean, largest = run([MeanPattern(), MaxPattern()], DataCube(array))
    np.testing.assert_allclose(mean.data, wide.mean((0, 1)), rtol=1e-12)
    np.testing.assert_array_equal(largest.data, array.max((0, 1)))
    assert largest.dtype == array.dtype.newbyteorder("=")


def test_sums_do_not_wrap():
    array = np.full((1, 2, 64, 64), 65535, np.uint16)
    image = virtual_image(DataCube(array), Mask(np.ones((64, 64)))).data
    assert (image == 65535 * 4096).all()
    std = std_pattern(DataCube(array)).data
    assert (std == 0).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_stay_where_they_are(bad):
    rng = np.random.default_rng(6)
    array = rng.random((3, 4, 12, 15)).astype(np.float32)
    clean = DataCube(array.copy())
    array[1, 2, 4, 4] = bad
    array[2, 3] = bad
    detectors = {"d": Disk(3, center=(4, 4)), "far": Disk(2, center=(9, 10))}
    a, b = (virtual_images(c, detectors).data for c in (DataCube(array), clean))
    other = np.ones((3, 4), bool)
    other[1, 2] = other[2, 3] = False
    np.testing.assert_array_equal(a[:, other], b[:, other])
    assert np.isnan(a[:, 2, 3]).all() and a[1, 1, 2] == b[1, 1, 2]
    assert a[0, 1, 2] == pytest.approx(b[0, 1, 2] - clean.data[1, 2, 4, 4], rel=1e-6)
    com = center_of_mass(DataCube(array)).data
    assert np.isnan(com[:, 2, 3]).all() and np.isfinite(com[:, other]).all()
    good = np.isfinite(array)
    expected = np.where(good, array, 0).sum((0, 1), dtype=float) / good.sum((0, 1))
    np.testing.assert_allclose(mean_pattern(DataCube(array)).data, expected, rtol=1e-6)
    assert np.isfinite(max_pattern(DataCube(array)).data).all()


def test_a_pixel_that_is_never_finite_is_nan():
    array = np.ones((2, 2, 4, 5), np.float32)
    array[:, :, 1, 2] = np.nan
    for f in (mean_pattern, max_pattern, std_pattern):
        image = f(DataCube(array)).data
        assert np.isnan(image[1, 2]) and np.isfinite(image).sum() == 19


def test_empty_patterns_have_no_centre():
    array = np.zeros((1, 2, 4, 5), np.uint8)
    array[0, 1, 2, 3] = 9
    com = center_of_mass(DataCube(array)).data
    assert np.isnan(com[:, 0, 0]).all() and com[:, 0, 1].tolist() == [2, 3]
    assert virtual_image(DataCube(array), Disk(1, center=(0, 0))).data[0, 0] == 0


# ---- any array, any view, any number of workers --------------------------------------------------
DETECTORS = {
    "disk": Disk(4.2, center=(8.1, 9.7)),
    "ring": Annulus(3, 8, center=(8.1, 9.7)),
    "s": Segment(1, 7, 0.2, 2.2, center=(8.1, 9.7)),
}
OPERATIONS = [VirtualImages(detectors=DETECTORS), CenterOfMass(), MeanPattern(), MaxPattern()]


def stored(array, how, folder):
    if how == "memmap":
        np.save(folder / "a.npy", array)
        return np.load(folder / "a.npy", mmap_mode="r")
    if how == "h5py":
        return h5py.File(folder / "a.h5", "w").create_dataset(
            "a", data=array, chunks=(2, 3, 9, 20), compression="gzip"
        )
    if how == "zarr":
        zarr = pytest.importorskip("zarr")
        out = zarr.create_array(store=str(folder / "a.zarr"), shape=array.shape,
                                dtype=array.dtype, chunks=(2, 3, 17, 20))  # fmt: skip
        out[...] = array
        return out
    if how == "dask":
        dask = pytest.importorskip("dask.array")
        return dask.from_array(array, chunks=(2, 3, -1, -1))
    if how == "fortran":
        return np.asfortranarray(array)
    return array


VIEWS = {
    "whole": lambda c: c,
    "cropped": lambda c: c.crop(R=((1, 6), (0, -1)), Q=((1, None), (0, 19))),
    "binned": lambda c: c.pad(2).bin(R=(1, 2), Q=2).pad(4),
    "padded": lambda c: c.pad(((1, 0), (2, 3))),
    "swapped": lambda c: c.swap_Q().swap_R(),
    "reshaped": lambda c: c.reshape_scan((8, 7)),
}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("how", ["memory", "memmap", "h5py", "zarr", "dask", "fortran"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning:zarr")
def test_parity(how, view, tmp_path):
    array = np.random.default_rng(7).poisson(9, (7, 8, 17, 20)).astype(np.uint16)
    plain = DataCube(np.asarray(VIEWS[view](DataCube(array)).data[...]))
    cube = VIEWS[view](DataCube(stored(array, how, tmp_path)))
    assert cube.shape == plain.shape and cube.dtype == plain.dtype
    expected = run(OPERATIONS, plain, options=RunOptions(1))
    results = [run(OPERATIONS, cube, options=RunOptions(n, memory="64 KB")) for n in (1, 2, 3)]
    for k, operation in enumerate(OPERATIONS):
        one, two, three = (r[k].data for r in results)
        assert one.tobytes() == two.tobytes() == three.tobytes(), operation.kind
        np.testing.assert_array_equal(one, expected[k].data)  # counts: exact in any tiles
    if how == "h5py":
        cube_file = cube.data
        while hasattr(cube_file, "_source"):
            cube_file = cube_file._source
        cube_file.file.close()


def test_where_leaves_the_rest_blank():
    array = np.random.default_rng(8).poisson(9, (7, 8, 17, 20)).astype(np.uint16)
    where = np.zeros((7, 8), bool)
    where[2:5, 3] = True
    images = virtual_images(DataCube(array), DETECTORS, where=where)
    whole = virtual_images(DataCube(array), DETECTORS)
    np.testing.assert_array_equal(images.data[:, where], whole.data[:, where])
    assert np.isnan(images.data[:, ~where]).all()


def test_the_result_describes_itself():
    cube = DataCube(np.ones((2, 3, 17, 20))).with_calibration(R_pixel_size=3, R_pixel_units="A")
    images = cube.virtual_images(DETECTORS)
    assert images.labels == tuple(DETECTORS) and images.axes[0].step == 3
    assert images["ring"].name == "ring" and images.history.steps[-1].kind == "virtual-images"
    again = VirtualImages(**images.history.steps[-1].parameters)
    np.testing.assert_array_equal(run(again, cube).data, images.data)
    unnamed = cube.virtual_images([Disk(2, center=(5, 5)), Point(center=(3, 3))])
    assert unnamed.labels == ("disk_0", "point_1")


def test_what_cannot_be_done_is_said():
    cube = DataCube(np.ones((2, 3, 17, 20)))
    with pytest.raises(CalibrationMissing, match="find_beam"):
        cube.virtual_image(Disk(3))
    with pytest.raises(CalibrationMissing, match="pixel size"):
        cube.virtual_image(Disk(3, center=(1, 1), units="mrad"))
    with pytest.raises(ShapeError, match="mask"):
        cube.virtual_image(Mask(np.ones((3, 3))))
    with pytest.raises(ParameterError, match="virtual_image for one"):
        cube.virtual_images(Disk(3))
    with pytest.raises(ParameterError):
        cube.virtual_images({})
    for bad in (lambda: Disk(0), lambda: Disk(math.nan), lambda: Annulus(5, 5),
                lambda: Segment(1, 2, 1, 1), lambda: Rectangle(0, 1), lambda: segments(0, 1, 2),
                lambda: Mask(np.full((2, 2), np.nan)), lambda: Mask(np.ones(3))):  # fmt: skip
        with pytest.raises(ParameterError):
            bad()
