"""Live images and patterns are what the engine gives."""

import threading

import numpy as np
import pytest

from py4DSTEM import (
    Annulus,
    Calibration,
    Cancelled,
    DataCube,
    Disk,
    Mask,
    ParameterError,
    RunOptions,
    ShapeError,
    center_of_mass,
    max_pattern,
    mean_pattern,
    virtual_images,
)
from py4DSTEM.process.live import patterns
from py4DSTEM.process.live.images import LiveImages
from py4DSTEM.process.live.patterns import LivePattern
from py4DSTEM.process.live.scan import LiveScan
from py4DSTEM.stream.detector_major import detector_major

SHAPE = (6, 9, 27, 30)
RNG = np.random.default_rng(5)
COUNTS = RNG.poisson(3, SHAPE).astype(np.uint16)
COUNTS[..., 10:18, 9:20] += RNG.poisson(2000, (*SHAPE[:2], 8, 11)).astype(np.uint16)
FLOATS = (COUNTS * RNG.normal(1, 0.1, SHAPE)).astype(np.float32)
SCANS = {"counts": COUNTS, "floats": FLOATS}


def disk(x, y, radius=5.0, inner=None):
    shape = Disk(radius, center=(x, y)) if inner is None else Annulus(inner, radius, center=(x, y))
    return shape.weights(SHAPE[2:], Calibration())


def truth(data, weights):
    return np.einsum("abxy,kxy->kab", data.astype(np.float64), weights)


def agree(images, data, weights):
    expected = truth(data, weights)
    np.testing.assert_allclose(images, expected, rtol=1e-12, atol=1e-12 * np.abs(expected).max())


@pytest.fixture(params=SCANS)
def data(request):
    return SCANS[request.param]


def drags():
    """A disk that is moved a little, far, resized, weighted, and put aside."""
    yield disk(13, 14)
    for k in range(8):
        yield disk(13 + 0.6 * k, 14 - 0.3 * k)
    yield disk(3, 4)
    yield disk(13, 14, 20.0)
    yield 0 * disk(3, 4)
    yield -2.5 * disk(13, 14, 9.0, 4.0)
    yield np.random.default_rng(1).normal(size=SHAPE[2:])
    yield disk(26, 29, 3.0)


def test_every_step_of_a_drag(data):
    live = LiveImages(detector_major(DataCube(data)))
    for weights in drags():
        agree(live.images(weights[None]), data, weights[None])
    assert live.exact


@pytest.mark.parametrize("way", ["rows", "shells", "change", "pixels"])
def test_each_way_alone(data, way):
    """All ways lead to the same image."""
    live = LiveImages(detector_major(DataCube(data)))
    live.use_shells((13.2, 13.9))
    live.images(disk(12, 12)[None])
    for weights in drags():
        stack = np.stack([weights, disk(13.2, 13.9, 11.0, 6.0)])
        live.images(np.stack([disk(12, 12), disk(13, 14)]))
        flat = stack.reshape(2, -1)
        ways = live._ways(flat, live._known[2])
        change, rows, shells, pixels = ways[0], *ways[-3:]
        chosen = {"rows": rows, "shells": shells, "change": change, "pixels": pixels}[way]
        images, error = chosen.images(2, SHAPE[0] * SHAPE[1])
        expected = truth(data, stack)
        bound = error + 1e-12 * np.abs(expected).max()
        assert np.abs(images.reshape(expected.shape) - expected).max() <= bound
        assert error <= 1e-11 * np.abs(expected).max()


def test_shells_and_rows_read_less():
    live = LiveImages(detector_major(DataCube(COUNTS)))
    live.use_shells((13.0, 14.0))
    ring = disk(13.0, 14.0, 12.0, 5.0).reshape(1, -1)
    rows, shells, pixels = (way.cost for way in live._ways(ring, []))
    assert shells < 0.8 * pixels and rows < 0.8 * pixels


def test_whole_weights_of_counts_stay_exact():
    live = LiveImages(detector_major(DataCube(COUNTS)))
    live.use_shells((13.0, 14.0))
    for k in range(150):
        weights = np.round(disk(5 + k % 17, 20 - k % 13, 3.0 + k % 9))[None]
        np.testing.assert_array_equal(live.images(weights), truth(COUNTS, weights))


def test_rounding_is_forgotten_before_it_shows():
    """From a beam 1e9 times brighter, back and forth: differences alone would lose digits."""
    data = np.random.default_rng(0).random((2, 3, 8, 16))
    data[..., :8] *= 1e9
    live = LiveImages(detector_major(DataCube(data)))
    weights = np.zeros((1, 8, 16))
    for _ in range(20):
        for bright in (True, False):
            weights = np.zeros((1, 8, 16))
            weights[:, 2:6, 8:15] = 1
            weights[:, 2:4, 0:8] = bright
            images = live.images(weights)
    np.testing.assert_allclose(images, truth(data, weights), rtol=1e-12)


def test_several_detectors_in_turn():
    live = LiveImages(detector_major(DataCube(COUNTS)))
    for k in range(6):
        for x in (4, 12, 20):
            weights = disk(x + 0.5 * k, 14)[None]
            agree(live.images(weights), COUNTS, weights)


def test_images_are_the_caller_s_own():
    live = LiveImages(detector_major(DataCube(COUNTS)))
    weights = disk(13, 14)[None]
    live.images(weights)[:] = 0
    weights_before = weights.copy()
    weights[:] = 7
    agree(live.images(weights_before), COUNTS, weights_before)


def test_bad_weights():
    live = LiveImages(detector_major(DataCube(COUNTS)))
    with pytest.raises(ShapeError):
        live.images(disk(13, 14))
    with pytest.raises(ParameterError, match="finite"):
        live.images(np.full((1, *SHAPE[2:]), np.nan))
    live.cache.close()
    with pytest.raises(ParameterError, match="closed"):
        live.images(disk(13, 14)[None])


# ---- patterns ------------------------------------------------------------------------------------
def rectangle(x, y, height=3, width=4):
    mask = np.zeros(SHAPE[:2], bool)
    mask[x : x + height, y : y + width] = True
    return mask


@pytest.mark.parametrize("how", ["mean", "max", "sum"])
def test_a_rectangle_that_moves(data, how):
    live = LivePattern(DataCube(data))
    for x, y in [(0, 0), (0, 1), (1, 1), (3, 5), (2, 5), (2, 4)]:
        mask = rectangle(x, y)
        chosen = data[mask].astype(np.float64)
        expected = getattr(np, how)(chosen, axis=0)
        np.testing.assert_allclose(live.selection(mask, how), expected, rtol=1e-12)


def test_selection_of_weights_is_that_of_the_engine():
    cube = DataCube(FLOATS)
    live = LivePattern(cube)
    for seed in range(4):
        weights = np.random.default_rng(seed).random(SHAPE[:2]) * rectangle(1, 2)
        expected = mean_pattern(cube, where=weights).data
        np.testing.assert_allclose(live.selection(weights), expected, rtol=1e-12)


def test_pixels_that_are_seen_no_more():
    data = FLOATS.copy()
    data[:, 4:, 3, 4] = np.nan
    live = LivePattern(DataCube(data))
    weights = np.random.default_rng(0).random(SHAPE[:2]) * rectangle(0, 3)
    live.selection(weights)
    moved = weights.copy()
    moved[:, 3] = 0
    assert np.isnan(live.selection(moved)[3, 4])


def test_sums_beyond_all_numbers():
    data = np.full((2, 4, 3, 3), 1e308)
    live, images = LivePattern(DataCube(data)), LiveImages(detector_major(DataCube(data)))
    for columns in (3, 2, 4, 1):
        mask = np.arange(4) < columns + np.zeros((2, 1))
        assert np.isposinf(live.selection(mask, "sum")).all()
        weights = np.zeros((1, 3, 3))
        weights[:, :, :columns] = 1
        assert np.isposinf(images.images(weights)).all()


def test_masked_pixels_are_left_out():
    data = FLOATS.copy()
    data[1, 2, 3, 4], data[:, :, 5, 6] = np.nan, np.inf
    cube, mask = DataCube(data), rectangle(0, 1)
    live = LivePattern(cube)
    live.selection(rectangle(0, 0))
    mean, top = live.selection(mask), live.selection(mask, "max")
    np.testing.assert_allclose(mean, mean_pattern(cube, where=mask).data, rtol=1e-12)
    np.testing.assert_allclose(top, max_pattern(cube, where=mask).data)
    assert np.isnan(mean[5, 6]) and np.isnan(top[5, 6]) and np.isfinite(mean[3, 4])


@pytest.mark.parametrize("how", ["mean", "max", "sum"])
def test_large_selections_go_through_the_engine(monkeypatch, how):
    monkeypatch.setattr(patterns, "ENGINE_BYTES", 1)
    live, mask = LivePattern(DataCube(COUNTS)), rectangle(2, 3)
    expected = getattr(np, how)(COUNTS[mask].astype(float), axis=0)
    np.testing.assert_allclose(live.selection(mask, how), expected, rtol=1e-12)


def test_bad_selections():
    live = LivePattern(DataCube(COUNTS))
    with pytest.raises(ParameterError, match="no scan position"):
        live.selection(np.zeros(SHAPE[:2]))
    with pytest.raises(ShapeError):
        live.selection(np.ones((2, 2)))
    with pytest.raises(ParameterError, match="negative"):
        live.selection(-np.ones(SHAPE[:2]))
    with pytest.raises(ParameterError, match="how"):
        live.selection(rectangle(0, 0), "median")
    cancel = threading.Event()
    cancel.set()
    for how in ("sum", "max"):
        with pytest.raises(Cancelled):
            live.selection(rectangle(0, 0), how, RunOptions(cancel=cancel))
    assert live.selection(rectangle(0, 0), "sum").sum() == COUNTS[rectangle(0, 0)].sum()


def test_one_pattern():
    np.testing.assert_array_equal(LivePattern(DataCube(COUNTS)).pattern(2, 7), COUNTS[2, 7])


# ---- scans ---------------------------------------------------------------------------------------
def test_coarse_then_whole(data, monkeypatch):
    monkeypatch.setattr("py4DSTEM.process.live.scan.LEVELS", (6, 20, 4096))
    weights = disk(13, 14)[None]
    with LiveScan(DataCube(data)) as live:
        sizes = []
        for result in live.coarse_images(weights):
            sizes.append(result.images[0].size)
            part = truth(data, weights)[:, result.rows][:, :, result.columns]
            np.testing.assert_allclose(result.images, part, rtol=1e-12)
            assert result.exact == (result.images[0].size == 54)
        assert len(sizes) == 3 and sizes == sorted(sizes) and sizes[-1] == 54
        assert live.cache_fraction == 0.0
        live.build()
        assert live.cache_fraction == 1.0 and live.cache_bytes >= data.nbytes
        result = live.images(weights)
        assert result.exact
        agree(result.images, data, weights)
    assert live.cache_bytes == 0


def test_images_of_the_engine():
    cube = DataCube(COUNTS)
    live = LiveScan(cube)
    live.build()
    weights = np.stack([disk(13.3, 14.2), disk(13, 14, 12, 6)])
    expected = virtual_images(cube, {"a": Mask(weights[0]), "b": Mask(weights[1])}).data
    np.testing.assert_allclose(live.images(weights).images, expected, rtol=1e-12)


@pytest.mark.parametrize("masked", [False, True])
def test_center_of_mass_of_the_engine(masked):
    data = FLOATS.copy()
    data[1, 2] = 0
    cube, weights = DataCube(data), disk(13, 14) if masked else None
    live = LiveScan(cube)
    live.build()
    expected = center_of_mass(cube, weights).data
    assert np.isnan(expected[:, 1, 2]).all()
    for _ in range(2):
        np.testing.assert_allclose(live.center_of_mass(weights).images, expected, rtol=1e-11)


def test_images_without_any_cache():
    result = LiveScan(DataCube(COUNTS)).images(disk(13, 14)[None])
    assert result.images.shape == (1, len(result.rows), len(result.columns))


def test_nan_is_told():
    data = FLOATS.copy()
    data[0, 0, 0, 0] = np.nan
    live = LiveScan(DataCube(data))
    live.build()
    assert not live.images(disk(13, 14)[None]).exact


def test_a_build_without_room_or_cancelled_leaves_the_coarse_cache():
    live = LiveScan(DataCube(COUNTS), memory_bytes=10)
    live.coarse(positions=12)
    with pytest.raises(MemoryError):
        live.build()
    cancel = threading.Event()
    cancel.set()
    live = LiveScan(DataCube(COUNTS))
    with pytest.raises(Cancelled):
        live.build(RunOptions(cancel=cancel))
    assert live.cache_fraction == 0.0
    assert live.images(disk(13, 14)[None]).images.shape[0] == 1


def test_another_calibration_shares_the_caches():
    cube = DataCube(COUNTS)
    first = LiveScan(cube)
    first.build()
    second = first.recalibrated(cube.with_calibration(Q_pixel_size=0.01, Q_pixel_units="A^-1"))
    first.close()
    first.close()
    assert second.cache_fraction == 1.0
    agree(second.images(disk(13, 14)[None]).images, COUNTS, disk(13, 14)[None])
    with pytest.raises(ParameterError, match="closed"):
        first.images(disk(13, 14)[None])
    with pytest.raises(ParameterError, match="same data"):
        second.recalibrated(DataCube(FLOATS))
    second.close()
    assert second.cache_bytes == 0


def test_images_while_it_is_built():
    live, stop = LiveScan(DataCube(COUNTS)), threading.Event()
    live.coarse(positions=12)
    errors = []

    def builds():
        try:
            for _ in range(5):
                live.build()
        except Exception as error:  # reported by the test
            errors.append(error)
        stop.set()

    thread = threading.Thread(target=builds)
    thread.start()
    weights = disk(13, 14)[None]
    while not stop.is_set():
        result = live.images(weights)
        part = truth(COUNTS, weights)[:, result.rows][:, :, result.columns]
        np.testing.assert_allclose(result.images, part, rtol=1e-12)
    thread.join()
    assert not errors


def test_first_look():
    look = LiveScan(DataCube(COUNTS)).first_look()
    x, y = look.detector.center
    assert abs(x - 13.5) < 0.6 and abs(y - 14) < 0.6 and 3.5 < look.detector.radius < 7
    assert look.mean.shape == SHAPE[2:]


def test_first_look_of_a_large_detector():
    i, j = np.indices((1400, 1100))
    pattern = (np.hypot(i - 900, j - 300) < 100).astype(np.uint8) * 50
    look = LiveScan(DataCube(pattern[None, None])).first_look()
    assert np.allclose(look.beam.center, (900, 300), atol=2)
    assert abs(look.beam.radius_px - 100) < 3 and look.mean.shape == (1400, 1100)


@pytest.mark.parametrize(
    "data",
    [
        np.zeros((2, 3, 8, 9)),
        np.full((1, 4, 8, 9), np.nan),
        np.full((2, 2, 8, 9), np.inf),
        np.ones((1, 1, 1, 1), np.uint8),
        np.full((2, 2, 4, 4), -5, np.int16),
        np.full((2, 2, 4, 4), 1e308),
        np.ones((3, 1, 1, 600), bool),
    ],
    ids=["empty", "nan", "inf", "1x1", "negative", "huge", "line"],
)
def test_odd_scans(data):
    """They are looked at and imaged; nothing fails."""
    with LiveScan(DataCube(data)) as live:
        look = live.first_look()
        assert look.mean.shape == data.shape[2:]
        weights = np.ones((1, *data.shape[2:]))
        list(live.coarse_images(weights))
        live.build()
        live.use_shells((0.0, 0.0))
        images = live.images(weights).images
        live.center_of_mass()
    assert images.shape == (1, *data.shape[:2])
