"""The elliptic distortion of patterns and peaks whose distortion is known."""

import math

import h5py
import numpy as np
import pytest

import py4DSTEM
from py4DSTEM import DataCube, DiffractionSlice, Ellipse, PointTable, measure_ellipse
from py4DSTEM.errors import ParameterError, ShapeError, SolveError
from py4DSTEM.process.calibrate.ellipse import MeasureEllipse
from py4DSTEM.process.calibrate.rings import Distortion

RATIO, THETA, CENTER = 1.03, 0.7, (31.3, 32.1)
LOG = math.log(RATIO) / 2
TRUTH = Distortion(*CENTER, LOG * math.cos(2 * THETA), LOG * math.sin(2 * THETA))
FINE = 4


def radius(distortion=TRUTH, size=64):
    """Undistorted radius of sub-pixels, (FINE * size, FINE * size)."""
    axis = (np.arange(size * FINE) + 0.5) / FINE - 0.5
    xy = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    return distortion.radii(xy).reshape(size * FINE, -1)


def binned(fine):
    n = len(fine) // FINE
    return fine.reshape(n, FINE, n, FINE).mean((1, 3))


def powder(radii=(12, 17, 22, 27.5), heights=(30, 14, 10, 12), width=1.1, texture=0.0):
    """Sharp rings about a bright beam; `texture` varies them along the azimuth."""
    r = radius()
    axis = np.arange(len(r)) / FINE
    azimuth = np.arctan2(axis[None, :] - CENTER[1], axis[:, None] - CENTER[0])
    pattern = 2 + 3000 * np.exp(-((r / 1.2) ** 2) / 2)
    for k, (R, height) in enumerate(zip(radii, heights, strict=True)):
        spots = 1 + texture * np.sin(9 * azimuth + k) * np.cos(4 * azimuth - k)
        ring = np.sqrt(R / np.maximum(r, 0.1)) * np.exp(-(((r - R) / width) ** 2) / 2)
        pattern += height * spots * ring
    return binned(pattern)


def glass():
    r = radius()
    width = np.where(r < 16, 3.0, 4.5)
    return binned(3 + 40 * np.exp(-r / 5) + 30 * np.exp(-(((r - 16) / width) ** 2) / 2))


def pulls(measured):
    """Errors of centre and (p, q) over their sigma, (4,)."""
    h, two = math.log(measured.ratio) / 2, 2 * measured.ellipse.theta_rad
    values = np.array([*measured.center, h * math.cos(two), h * math.sin(two)])
    return (values - TRUTH.values()) / np.sqrt(np.diag(measured.covariance))


def test_rings_without_noise_are_measured_exactly():
    found = measure_ellipse(1e6 * powder())
    assert found.method == "rings" and len(found.radii_px) == 4
    assert found.ratio == pytest.approx(RATIO, abs=2e-4)
    assert found.ellipse.theta_rad == pytest.approx(THETA, abs=2e-3)
    np.testing.assert_allclose(found.center, CENTER, atol=2e-3)
    np.testing.assert_allclose(found.radii_px, (12, 17, 22, 27.5), atol=0.03)


def test_texture_does_not_pull():
    found = measure_ellipse(1e3 * powder(texture=0.8))
    assert abs(found.ratio - RATIO) < 4e-4
    assert abs(found.ellipse.theta_rad - THETA) < 0.01
    np.testing.assert_allclose(found.center, CENTER, atol=0.01)


@pytest.mark.parametrize("clean", [powder(), 20 * glass()], ids=["powder", "glass"])
def test_uncertainties_are_honest(clean):
    rng = np.random.default_rng(8)
    z = np.array([pulls(measure_ellipse(rng.poisson(clean))) for _ in range(25)])
    # Of a hundred values; the standard deviation of their pulls is known to 7 %.
    assert 0.8 < z.std() < 1.25
    assert np.abs(z.mean(0)).max() < 0.75


def test_a_given_center_is_held():
    found = measure_ellipse(powder(), center=CENTER)
    assert found.center == CENTER and found.sigma_center == (0, 0)
    assert found.ratio == pytest.approx(RATIO, abs=1e-3)


def test_the_correction_makes_the_ring_round():
    measured = measure_ellipse(powder())
    angle = np.linspace(0, 2 * math.pi, 50)
    ring = 20 * np.stack([np.cos(angle), np.sin(angle)], -1) @ np.linalg.inv(TRUTH.matrix()).T
    radii = np.hypot(*(ring @ measured.ellipse.correction().T).T)
    assert np.ptp(radii) / radii.mean() < 5e-4
    before, after = measured.profile[1:, 15:]
    assert after.max() > before.max()


def grains(rng, count=400, noise=0.1, astray=60):
    """Peaks on five rings of a 5 % ellipse, some elsewhere, and the direct beam."""
    stretch = np.linalg.inv(Ellipse(1.05, 1, 2.2).correction())
    r, angle = rng.choice(14 * np.sqrt([3, 4, 8, 11, 12]), count), rng.uniform(0, 7, count)
    xy = np.stack([r * np.cos(angle), r * np.sin(angle)], 1) @ stretch.T
    xy = np.concatenate([
        xy + rng.normal(0, noise, xy.shape), rng.uniform(-60, 60, (astray, 2)), np.zeros((50, 2))
    ])  # fmt: skip
    fields = ("qx", "qy", "intensity", "sigma_qx", "sigma_qy")
    table = np.empty(len(xy), [(name, "f8") for name in fields])
    table["qx"], table["qy"] = xy[:, 0] + 64, xy[:, 1] + 63
    table["intensity"] = np.where(np.hypot(*xy.T) == 0, 50, 1)
    table["sigma_qx"] = table["sigma_qy"] = noise
    table = table[rng.permutation(len(table))]
    return PointTable(table, np.linspace(0, len(table), 51).astype(np.int64), (5, 10))


def test_peaks_of_many_grains():
    rng = np.random.default_rng(2)
    z = []
    for _ in range(20):
        found = measure_ellipse(grains(rng))
        turn = (found.ellipse.theta_rad - 2.2 + math.pi / 2) % math.pi - math.pi / 2
        z.append([
            (found.ratio - 1.05) / found.sigma_ratio, turn / found.sigma_theta_rad,
            (found.center[0] - 64) / found.sigma_center[0],
            (found.center[1] - 63) / found.sigma_center[1],
        ])  # fmt: skip
    assert found.method == "peaks" and len(found.radii_px) == 5
    assert 0.6 < np.std(z) < 1.25 and np.abs(z).max() < 4


def test_simulated_scans():
    glass = py4DSTEM.simulate.amorphous((10, 10), seed=4)
    found = measure_ellipse(glass.cube)
    assert found.method == "amorphous"
    assert found.ratio - 1 < 4 * found.sigma_ratio < 0.02
    np.testing.assert_allclose(found.center, glass.truth.origin_px.mean((0, 1)), atol=0.15)
    scan = py4DSTEM.simulate.polycrystal((16, 16), grains=200, probe_radius_px=1.2, seed=200)
    cube = scan.cube.with_calibration(Q_pixel_size=0.024, Q_pixel_units="A^-1")
    found = measure_ellipse(cube, reference="Au")
    assert found.ratio - 1 < 4 * found.sigma_ratio < 2e-3
    np.testing.assert_allclose(found.center, scan.truth.origin_px.mean((0, 1)), atol=0.05)


@pytest.mark.parametrize("reference", [None, "Au"])
def test_reference_data(shared_data, reference):
    with h5py.File(shared_data / "strain" / "data.h5") as file:
        pattern = DiffractionSlice(file["calibration"][()])
    found = measure_ellipse(pattern, reference=reference)
    assert found.ratio == pytest.approx(1.018, abs=5e-4)
    assert abs(found.ratio - 1.018) < 3 * found.sigma_ratio
    # The major axis lies 35° from the columns towards the rows.
    assert math.degrees(found.ellipse.theta_rad) == pytest.approx(90 - 35, abs=0.7)
    np.testing.assert_allclose(found.center, (63.1, 64.6), atol=0.02)


@pytest.mark.parametrize(
    "pattern",
    [
        np.zeros((64, 64)),
        np.full((64, 64), 7.0),
        np.full((64, 64), np.nan),
        np.random.default_rng(0).poisson(5, (64, 64)),
        np.zeros((3, 3)),
    ],
    ids=["empty", "flat", "nan", "noise", "tiny"],
)
def test_patterns_without_rings(pattern):
    with pytest.raises(SolveError, match=r"ring"):
        measure_ellipse(pattern)


def test_what_cannot_be_measured_is_said():
    with pytest.raises(ShapeError):
        measure_ellipse(np.zeros((2, 3, 4, 5)))
    with pytest.raises(ParameterError, match="real numbers"):
        measure_ellipse(np.zeros((8, 8), complex))
    with pytest.raises(ParameterError, match="inner_px"):
        measure_ellipse(powder(), inner_px=20, outer_px=10)
    with pytest.raises(ParameterError, match="method"):
        measure_ellipse(powder(), method="circle")
    with pytest.raises(SolveError):
        measure_ellipse(powder(), inner_px=100)
    few = grains(np.random.default_rng(1), count=8, astray=0)
    with pytest.raises(SolveError):
        measure_ellipse(few)
    unknown = few.points.copy()
    unknown["qx"] = np.nan
    with pytest.raises(SolveError, match="finite"):
        measure_ellipse(PointTable(unknown, few.offsets, few.shape))


def test_masked_and_hot_pixels_do_not_matter():
    pattern = np.random.default_rng(3).poisson(20 * powder()).astype(float)
    pattern[:20, 28:34] = np.nan
    pattern[40, 12] = 1e7
    found = measure_ellipse(pattern)
    assert found.ratio == pytest.approx(RATIO, abs=2e-3)
    np.testing.assert_allclose(found.center, CENTER, atol=0.03)


def test_the_result_describes_itself_and_is_kept(tmp_path):
    cube = DataCube(powder()[None, None])
    found = cube.measure_ellipse()
    assert "±" in repr(found) and "center" in found.text()
    assert found.history.steps[-1].kind == MeasureEllipse.kind
    again = MeasureEllipse(**found.history.steps[-1].parameters).apply(cube)
    assert again.ellipse == found.ellipse
    assert cube.with_calibration(found).calibration.ellipse == found.ellipse
    py4DSTEM.save(tmp_path / "ellipse.h5", found)
    read = py4DSTEM.read(tmp_path / "ellipse.h5")
    assert read.ellipse == found.ellipse and repr(read) == repr(found)
    np.testing.assert_array_equal(read.profile, found.profile)
