"""The detector pixel size from crystals of known lattice."""

import math

import h5py
import numpy as np
import pytest

import py4DSTEM
from py4DSTEM import (
    BraggPeaks,
    DataCube,
    DiffractionSlice,
    Ellipse,
    measure_ellipse,
    measure_pixel_size,
)
from py4DSTEM.core.calibration import Calibration
from py4DSTEM.errors import ParameterError, SolveError
from py4DSTEM.process.calibrate.dspacings import STANDARDS, reference_lines
from py4DSTEM.process.calibrate.pixel_size import MeasurePixelSize

SIZE, GOLD = 0.0252, 4.0782
FCC = np.array([3, 4, 8, 11, 12, 16, 19, 20])
CENTER = (47.3, 48.1)


def gold(steps=(SIZE, SIZE), ellipse=None, tilt2_A2=0.0, shape=(96, 96)):
    """Rings of gold on pixels of `steps` (1/Å) behind an ellipse, (Qx, Qy)."""

    x, y = ((np.arange(4 * n) + 0.5) / 4 - 0.5 - c for n, c in zip(shape, CENTER, strict=True))
    offset = np.stack(np.meshgrid(x, y, indexing="ij"), -1)
    correction = np.eye(2) if ellipse is None else ellipse.correction()
    q = np.hypot(*np.moveaxis(offset @ (np.diag(steps) @ correction).T, -1, 0))
    width = 0.85 * SIZE
    pattern = 2 + 3000 * np.exp(-((q / width) ** 2) / 2)
    for line in np.sqrt(FCC) / GOLD:
        seen = math.sqrt(line**2 - tilt2_A2)
        blurred = np.sqrt(seen / np.maximum(q, 0.1 * seen))
        pattern += 40 * (0.4 / line) ** 3 * blurred * np.exp(-(((q - seen) / width) ** 2) / 2)
    return pattern.reshape(shape[0], 4, shape[1], 4).mean((1, 3))


def test_rings_without_noise():
    found = measure_pixel_size(1e5 * gold(), "Au")
    assert found.value == pytest.approx(SIZE, rel=2e-4)
    assert found.lines["label"][:5].tolist() == ["111", "200", "220", "311", "222"]
    np.testing.assert_allclose(found.center, CENTER, atol=5e-3)
    assert found.ratio == pytest.approx(1, abs=3e-4)


def test_uncertainties_are_honest():
    rng, clean = np.random.default_rng(5), gold()
    z = []
    for _ in range(20):
        found = measure_pixel_size(rng.poisson(clean), {"a_A": GOLD, "centring": "F"})
        z.append((found.value - SIZE) / found.sigma)
    assert found.sigma / SIZE < 3e-3
    assert 0.5 < np.std(z) < 1.5 and abs(np.mean(z)) < 0.8


def test_planes_off_the_bragg_condition():
    found = measure_pixel_size(1e3 * gold(tilt2_A2=2e-3), "Au")
    assert found.value == pytest.approx(SIZE, rel=5e-4)
    assert found.tilt2_A2 == pytest.approx(2e-3, rel=0.1)


def test_the_calibrated_vectors_of_a_ring_are_as_long_as_they_should():
    distortion = Ellipse(1.05, 1.0, 0.9)
    pattern = DiffractionSlice(1e3 * gold(ellipse=distortion))
    ellipse = measure_ellipse(pattern)
    cube = DataCube(pattern.data[None, None]).with_calibration(ellipse)
    found = measure_pixel_size(cube, "Au")
    calibration = cube.with_calibration(pixel_size=found).calibration
    angle = np.linspace(0, 2 * math.pi, 60)
    q = math.sqrt(8) / GOLD
    ring = np.stack([np.cos(angle), np.sin(angle)], -1) * q / SIZE
    measured = ring @ np.linalg.inv(distortion.correction()).T
    length = np.hypot(*(measured @ calibration.Q_matrix("A^-1").T).T)
    np.testing.assert_allclose(length, q, rtol=1e-3)
    assert found.mean_size_A == pytest.approx(SIZE / math.sqrt(1.05), rel=1e-3)


def test_oblong_pixels():
    found = measure_pixel_size(1e3 * gold(steps=(SIZE, 1.04 * SIZE)), "Au", per_axis=True)
    np.testing.assert_allclose(found.pixel_size_A, (SIZE, 1.04 * SIZE), rtol=5e-4)
    calibration = Calibration().replace(**found.calibration_changes())
    assert calibration.Q_steps("A^-1") == pytest.approx(found.pixel_size_A)


def test_peaks_of_many_grains():
    scan = py4DSTEM.simulate.polycrystal((12, 12), grains=60, seed=6)
    found = measure_pixel_size(scan.truth.peaks(), "Au")
    assert found.value == pytest.approx(0.0235, rel=1e-3)
    np.testing.assert_allclose(found.center, 0, atol=0.05)


def test_few_grains_need_an_approximate_size_and_take_that_of_the_calibration():
    scan = py4DSTEM.simulate.polycrystal((16, 16), grains=200, probe_radius_px=1.2, seed=200)
    cube = scan.cube.with_calibration(Q_pixel_size=0.0245, Q_pixel_units="A^-1")
    found = measure_pixel_size(cube, "Au")
    assert found.value == pytest.approx(0.0235, rel=2e-3)


def test_reference_data(shared_data):
    with h5py.File(shared_data / "strain" / "data.h5") as file:
        pattern = DiffractionSlice(file["calibration"][()])
    ellipse = measure_ellipse(pattern, reference="Au")
    calibrated = DiffractionSlice(pattern.data, Calibration(ellipse=ellipse.ellipse))
    found = measure_pixel_size(calibrated, "Au")
    assert found.mean_size_A == pytest.approx(0.0172, rel=5e-4)
    assert found.value == pytest.approx(0.0172 * math.sqrt(1.018), rel=5e-4)
    calibration = calibrated.calibration.replace(**found.calibration_changes())
    # E maps true vectors to measured ones, in the frame of x = columns; here x = rows.
    turn = math.radians(90 - 35)
    axis = np.array([math.cos(turn), math.sin(turn)])
    along = np.outer(axis, axis)
    distortion = math.sqrt(1.018) * along + (np.eye(2) - along) / math.sqrt(1.018)
    angle = np.linspace(0, 2 * math.pi, 72)
    for line in np.sqrt(FCC) / GOLD:
        ring = line * np.stack([np.cos(angle), np.sin(angle)], -1) @ distortion.T / 0.0172
        length = np.hypot(*(ring @ calibration.Q_matrix("A^-1").T).T)
        np.testing.assert_allclose(length, line, rtol=1e-3)


@pytest.mark.parametrize("reference", ["W", "TlCl", "Si"])
def test_a_wrong_crystal_is_refused(reference):
    with pytest.raises(SolveError, match=r"not those of|fit"):
        measure_pixel_size(10 * gold(), reference)


def test_a_wrong_scale_is_refused():
    with pytest.raises(SolveError, match="not those"):
        measure_pixel_size(10 * gold(), "Au", approximate=0.034)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("Unobtainium", "known: "),
        ({"a_A": -4.0}, "positive"),
        ({"a_A": float("nan")}, "finite"),
        ({"a_A": 4.0, "centring": "Q"}, "centring"),
        ({"b_A": 4.0}, "keys"),
        ({"d_A": [2.0, 1.0], "weights": [1.0]}, "weights"),
        ([], "positive"),
        ([2.0, 0.0], "positive"),
        ({"a_A": 0.1}, "in Å"),
    ],
)
def test_references_that_make_no_sense(reference, message):
    with pytest.raises(ParameterError, match=message):
        measure_pixel_size(gold(), reference)


def test_one_line_and_several_rings_is_not_enough():
    with pytest.raises(SolveError, match="one line"):
        measure_pixel_size(gold(), [GOLD / math.sqrt(3)])
    # Alone in the window, the 220 ring gives the scale.
    alone = measure_pixel_size(1e3 * gold(), [GOLD / math.sqrt(8)], inner_px=23, outer_px=30)
    assert alone.value == pytest.approx(SIZE, rel=2e-3)


@pytest.mark.parametrize("value", [0.0, 5.0, math.nan])
def test_patterns_without_rings(value):
    with pytest.raises(SolveError, match="ring"):
        measure_pixel_size(np.full((64, 64), value), "Au")


def test_reference_lines():
    silicon = reference_lines("Si")
    assert silicon.labels[:6] == ("111", "220", "311", "400", "331", "422")
    assert 1 / silicon.q_A[0] == pytest.approx(3.13560, abs=1e-4)
    assert reference_lines("W").labels[:3] == ("110", "200", "211")
    graphite = reference_lines("graphite")
    assert "001" not in graphite.labels and graphite.labels[0] == "002"
    assert all(len(reference_lines(name)) > 5 for name in STANDARDS)
    given = reference_lines({"q_A": [0.5, 0.3], "weights": [1, 2]})
    np.testing.assert_array_equal(given.q_A, [0.3, 0.5])
    np.testing.assert_array_equal(given.weights, [1, 0.5])


def test_the_result_describes_itself_and_is_kept(tmp_path):
    cube = DataCube(gold()[None, None])
    found = cube.measure_pixel_size("Au")
    assert "±" in repr(found) and "111" in found.text()
    parameters = found.history.steps[-1].parameters
    assert MeasurePixelSize(**parameters).apply(cube).value == found.value
    py4DSTEM.save(tmp_path / "size.h5", found)
    read = py4DSTEM.read(tmp_path / "size.h5")
    assert repr(read) == repr(found)
    np.testing.assert_array_equal(read.lines, found.lines)


def test_peaks_have_calibration_as_methods():
    scan = py4DSTEM.simulate.polycrystal((12, 12), grains=60, seed=6)
    peaks = BraggPeaks(**vars(scan.truth.peaks()))
    assert peaks.measure_pixel_size("Au").value == measure_pixel_size(peaks, "Au").value
    assert peaks.measure_ellipse().ratio == measure_ellipse(peaks).ratio
