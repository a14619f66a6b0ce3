"""Probes: what is measured against what was put in, and kernels that leave neighbours alone."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

import py4DSTEM
from py4DSTEM import DataCube, Ellipse, find_bragg_disks, measure_probe, synthetic_probe
from py4DSTEM.errors import ParameterError, ShapeError, SolveError
from py4DSTEM.process.probe import MeasureProbe, Probe, as_probe
from py4DSTEM.process.probe_kernels import trench_radii
from py4DSTEM.process.rim import fit_rim
from py4DSTEM.process.rim.least_squares import as_is, compressed, softened
from py4DSTEM.process.rim.model import disk_model, disk_slopes
from py4DSTEM.simulate import strained_lattice, vacuum_probe

SHAPE = (64, 70)
CENTER = (30.3, 33.8)


def counts(
    height: float = 500,
    center: tuple[float, float] = CENTER,
    radius: float = 6.2,
    background: float = 3.0,
    seed: int = 0,
    rim: Ellipse | None = None,
) -> NDArray[np.int64]:
    """Poisson counts of a disk with an edge of 0.5 px."""
    image = synthetic_probe((96, 96), radius, 0.5, rim=rim).image(SHAPE, center)
    return np.random.default_rng(seed).poisson(height * image + background)


# ---- a pattern -----------------------------------------------------------------------------------
def test_reference_vacuum(shared_data: Path) -> None:
    """Multislice physics in an 80 Å window: coherent edge, half the amplitude at the aperture."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(shared_data / "strain" / "data.h5") as file:
        probe = measure_probe(file["vacuum_probe"][()])
    truth = json.loads((shared_data / "strain" / "truth.json").read_text())
    assert probe.center == pytest.approx(truth["origin_nominal_row_col"], abs=0.01)
    assert probe.radius_at(0.25) == pytest.approx(truth["disk_radius_px"], abs=0.05)
    assert probe.radius_px == pytest.approx(5.425, abs=0.02)  # half the intensity lies inside it
    assert probe.rim.a / probe.rim.b == pytest.approx(truth["ellipse_ratio_a_over_b"], abs=0.002)
    theta = math.radians(90 - truth["ellipse_major_axis_deg"])  # from rows, not from columns
    assert probe.rim.theta_rad == pytest.approx(theta, abs=0.05)
    assert not probe.patterned


def test_pixels_that_integrate_a_sharp_disk_do_not_bias() -> None:
    fine, found = 20, []
    for k in range(8):
        cx, cy, radius = 20.0 + 0.13 * k, 21.0 + 0.29 * k, 5.4 + 0.05 * k
        x = (np.arange(44 * fine) + 0.5) / fine - 0.5
        disk = np.hypot(x[:, None] - cx, x[None, :] - cy) < radius
        pattern = disk.reshape(44, fine, 44, fine).mean((1, 3))
        probe = measure_probe(1000 * pattern)
        found.append((*(np.array(probe.center) - (cx, cy)), probe.radius_at(0.5) - radius))
    assert np.abs(found).max() < 0.025
    assert np.abs(np.array(found)[:, :2]).max() < 0.01


@pytest.mark.parametrize("dose", [1e6, 2e4])
def test_simulated_probe(dose: float) -> None:
    probe = measure_probe(vacuum_probe((96, 100), 7.3, center=(40.2, 51.7), dose=dose, seed=3))
    off = np.array([*probe.center, probe.radius_px, probe.edge_px])
    off -= [40.2, 51.7, 7.3, 0.7 / math.sqrt(2)]
    sigma = np.array([*probe.sigma_center, probe.sigma_radius_px, probe.sigma_edge_px])
    assert (np.abs(off) < 4 * sigma).all()
    assert probe.rim.a == probe.rim.b
    assert probe.calibration.probe_radius_px == 7.3


def test_lattice_probe_keeps_its_ellipse() -> None:
    truth = strained_lattice((2, 2), (128, 128), ellipse=(1.02, 1.0, 0.4), seed=2).truth
    probe = measure_probe(truth.probe)
    assert probe.center == pytest.approx(truth.calibration.mean_origin_px, abs=0.01)
    assert probe.rim.b == pytest.approx(5.0, abs=0.01)
    assert probe.rim.a / probe.rim.b == pytest.approx(1.02, abs=0.002)
    assert probe.rim.theta_rad == pytest.approx(0.4, abs=0.05)


@pytest.mark.parametrize(("height", "background"), [(3000, 3.0), (100, 1.0)])
def test_sigmas_are_honest(height: float, background: float) -> None:
    rng = np.random.default_rng(5)
    pulls = []
    for k in range(60):
        x, y = rng.uniform(30, 31, 2)
        rim = Ellipse(1.015, 1.0, 0.6)
        f = fit_rim(counts(height, (x, y), 5.7, background, seed=k, rim=rim))
        values = [f.center[0] - x, f.center[1] - y, f.radius_px - 5.7, f.edge_px - 0.5]
        pulls.append(np.divide(values, [*f.sigma_center, f.sigma_radius_px, f.sigma_edge_px]))
    assert np.sqrt(np.mean(np.square(pulls), axis=0)) == pytest.approx(1.0, abs=0.25)
    assert np.abs(np.mean(pulls, axis=0)).max() < 0.45


def test_defects_do_not_count() -> None:
    pattern = counts()
    pattern[[30, 10, 36], [30, 10, 33]] = 50_000, 60_000, 2_000
    pattern[35, 36] = 0
    probe = measure_probe(pattern)
    assert probe.center == pytest.approx(CENTER, abs=0.04)
    assert probe.radius_px == pytest.approx(6.2, abs=0.04)
    holes = counts().astype(float)
    holes[25:33, 31] = np.nan
    probe = measure_probe(holes)
    assert probe.center == pytest.approx(CENTER, abs=0.05)
    assert np.isfinite(probe.pattern).all()


@pytest.mark.parametrize("center", [(2.0, 33.0), (-2.0, 33.0), (0.0, 0.0)])
def test_beam_on_the_edge_of_the_detector(center: tuple[float, float]) -> None:
    probe = measure_probe(counts(center=center))
    assert np.abs(np.subtract(probe.center, center)).max() < 4 * max(probe.sigma_center) < 0.5
    assert probe.radius_px == pytest.approx(6.2, abs=4 * probe.sigma_radius_px)


def test_saturated_centre() -> None:
    probe = measure_probe(np.minimum(counts(), 350))
    assert probe.center == pytest.approx(CENTER, abs=0.03)
    assert probe.radius_px == pytest.approx(6.2, abs=0.1)


@pytest.mark.parametrize("spacing", [14, 16, 20])
def test_neighbouring_disks_stay_outside(spacing: int) -> None:
    image = sum(
        share * synthetic_probe(SHAPE, 6.2).image(center=(CENTER[0] + dx, CENTER[1] + dy))
        for share, dx, dy in [(1, 0, 0), (0.7, spacing, 0), (0.7, -spacing, 0), (0.9, 0, spacing)]
    )
    probe = measure_probe(np.random.default_rng(0).poisson(500 * image + 3))
    assert probe.center == pytest.approx(CENTER, abs=0.05)
    assert probe.radius_px == pytest.approx(6.2, abs=0.05)
    assert probe.pattern[0].max() == 0


def test_uneven_illumination() -> None:
    image = synthetic_probe(SHAPE, 6.2).image(center=CENTER)
    slope = 1 + 0.5 * (np.arange(64)[:, None] - CENTER[0]) / 6.2
    probe = measure_probe(np.random.default_rng(0).poisson(500 * image * slope + 3))
    assert probe.center == pytest.approx(CENTER, abs=0.04)
    assert probe.report["ramp"][0] == pytest.approx(0.5, abs=0.05)


# ---- structured apertures ------------------------------------------------------------------------
def bullseye(center: tuple[float, float], radius: float = 14.0) -> NDArray[np.float64]:
    x, y = np.arange(90)[:, None] - center[0], np.arange(96)[None, :] - center[1]
    r = np.hypot(x, y)
    rings = (np.abs(r - 0.35 * radius) < 1.2) | (np.abs(r - 0.7 * radius) < 1.2)
    spokes = np.minimum(np.abs(x), np.abs(y)) < 0.8
    return ndimage.gaussian_filter((r < radius) * np.where(rings | spokes, 0.05, 1.0), 0.5)


@pytest.mark.parametrize("height", [500, 8])
def test_bullseye(height: float) -> None:
    pattern = np.random.default_rng(1).poisson(height * bullseye((44.0, 47.0)) + 0.2)
    probe = measure_probe(pattern)
    assert probe.patterned
    assert probe.center == pytest.approx((44, 47), abs=0.3)
    assert probe.radius_px == pytest.approx(14.0, abs=0.3)
    kernel = probe.kernel()
    assert abs(kernel.sum()) < 1e-9
    found = correlated(bullseye((40.0, 50.0)), kernel)
    assert found == pytest.approx((40 + probe.center[0] - 44, 50 + probe.center[1] - 47), abs=0.4)
    assert not measure_probe(counts(8)).patterned


def test_image_of_a_bullseye_moves() -> None:
    probe = measure_probe(1000 * bullseye((44.0, 47.0)))
    moved = probe.image(center=(probe.center[0] + 3, probe.center[1] - 2))
    still = probe.image()
    assert np.abs(moved[10:, :-10] - np.roll(still, (3, -2), (0, 1))[10:, :-10]).max() < 1e-6
    inside = still[probe.pattern > 0.5 * probe.pattern.max()]
    assert inside.mean() > 1


# ---- scans ---------------------------------------------------------------------------------------
def vacuum_scan(wander: float, shape: tuple[int, int] = (12, 12)) -> DataCube:
    rng = np.random.default_rng(0)
    disk = synthetic_probe((48, 50), 5.5, 0.5)
    u, v = np.meshgrid(*(np.linspace(-wander, wander, n) for n in shape), indexing="ij")
    frames = [
        rng.poisson(40 * disk.image(center=(23.2 + a, 25.1 + 0.5 * b)))
        for a, b in zip(u.ravel(), v.ravel(), strict=True)
    ]
    return DataCube(np.reshape(frames, (*shape, 48, 50)).astype(np.uint16))


@pytest.mark.parametrize("wander", [0.0, 1.0])
def test_vacuum_scan(wander: float) -> None:
    probe = vacuum_scan(wander).measure_probe()
    assert probe.center == pytest.approx((23.2, 25.1), abs=0.08 if wander else 0.02)
    assert probe.radius_px == pytest.approx(5.5, abs=0.03)
    assert probe.edge_px == pytest.approx(0.5, abs=0.04)
    assert probe.report["wander_px"] == pytest.approx(wander * 0.5, abs=0.06)
    assert probe.report["positions"] <= probe.report["positions_asked"] == 144


def specimen_with_vacuum() -> tuple[DataCube, NDArray[np.bool_]]:
    scan = strained_lattice((10, 12), (96, 96), dose=20_000, wander_px=0.2, seed=4)
    data = np.array(scan.cube.data)
    empty = np.zeros((10, 12), bool)
    empty[:, :4] = True
    disk = synthetic_probe((96, 96), 5.0, 0.5)
    rng = np.random.default_rng(2)
    for x, y in np.argwhere(empty):
        image = disk.image(center=scan.truth.origin_px[x, y])
        data[x, y] = rng.poisson(20_000 * image / image.sum() + 0.02)
    return DataCube(data, scan.cube.calibration), empty


def test_vacuum_is_found() -> None:
    cube, empty = specimen_with_vacuum()
    probe = measure_probe(cube, where="auto")
    assert probe.radius_px == pytest.approx(5.0, abs=0.02)
    assert probe.edge_px == pytest.approx(0.5, abs=0.03)
    assert probe.report["positions_asked"] <= empty.sum()
    given = measure_probe(cube, where=empty)
    assert probe.center == pytest.approx(given.center, abs=0.1)
    assert given.history.steps[-1].parameters == {"where": {"positions": 40, "of": 120}}
    assert MeasureProbe(where=((0, 10), (0, 4))).apply(cube).center == given.center
    assert measure_probe(cube, where=((0, 10), (0, 4))).center == given.center


def test_no_vacuum_in_the_scan() -> None:
    scan = strained_lattice((6, 6), (96, 96), seed=4)
    with pytest.raises(ParameterError, match=r"no vacuum in the scan.*where="):
        measure_probe(scan.cube, where="auto")


# ---- bad input -----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("pattern", "error", "text"),
    [
        (np.zeros(SHAPE), ParameterError, "empty"),
        (np.full(SHAPE, np.nan), ParameterError, "finite"),
        (np.full(SHAPE, 5), ParameterError, "no rim"),
        (np.random.default_rng(0).poisson(np.full(SHAPE, 10.0)), ParameterError, "no rim"),
        (np.random.default_rng(0).poisson(np.full(SHAPE, 0.01)), ParameterError, "more counts"),
        (100 * synthetic_probe((200, 200), 60.0).image(SHAPE, (30, 33)), ParameterError, "larger"),
        (np.minimum(counts(), 120), ParameterError, "saturated"),
        (np.ones((3, 64, 64)), ShapeError, "DataCube"),
        (np.ones((2, 2)), ShapeError, "one pattern"),
        (np.ones(SHAPE, complex), ParameterError, "real"),
    ],
)
def test_bad_patterns(pattern: NDArray[np.float64], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        measure_probe(pattern)


@pytest.mark.parametrize("seed", [513, 519, 523, 539])
def test_specks_are_no_disk(seed: int) -> None:
    """Patches of ones, so few of them lit that the rim of what they fill is dark, or empty."""
    rng = np.random.default_rng(seed)
    size = 2 + seed % 3
    patches = rng.random((60 // size + 1, 66 // size + 2)) < 0.04 + 0.3 * rng.random()
    pattern = np.kron(patches.astype("u1"), np.ones((size, size), "u1"))[:60, :66]
    i, j = np.indices(pattern.shape)
    pattern = pattern * (np.hypot(i - 30, j - 33) < 12 + 10 * rng.random())
    with pytest.raises(ParameterError, match="no disk in the pattern"):
        measure_probe(pattern)
    with pytest.raises(ParameterError, match="no probe could be measured"):
        find_bragg_disks(DataCube(np.stack([[pattern, pattern]])))


def test_a_glow_without_an_edge_is_no_disk() -> None:
    i, j = np.indices(SHAPE)
    glow = 4000 * np.exp(-np.hypot(i - CENTER[0], j - CENTER[1]) / 4)
    with pytest.raises(ParameterError, match="no rim"):
        measure_probe(np.random.default_rng(2).poisson(glow))


def test_a_fit_that_fails_is_no_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise SolveError("numbers that are not finite")

    monkeypatch.setattr("py4DSTEM.process.probe.fit_rim", fail)
    with pytest.raises(ParameterError, match=r"no probe could be measured.*not finite"):
        find_bragg_disks(DataCube(np.stack([[counts(), counts()]])))


# ---- the fit -------------------------------------------------------------------------------------
@pytest.mark.parametrize("stretch", [(0.0, 0.0), (1e-4, 2e-4), (0.05, -0.03), (-0.2, 0.25)])
def test_slopes_of_the_model_are_its_derivatives(stretch: tuple[float, float]) -> None:
    i, j = (a.ravel().astype(float) for a in np.indices((30, 33)))
    p = np.array([14.2, 15.7, 7.3, math.log(0.8), 50, 3, 0.2, -0.1, *stretch])
    slopes, step = disk_slopes(p, i, j), 1e-5
    for k, along in enumerate(np.eye(10)):
        numeric = disk_model(p + step * along, i, j) - disk_model(p - step * along, i, j)
        assert slopes[:, k] == pytest.approx(
            numeric / (2 * step), abs=1e-7 * np.abs(numeric).max() / step
        )


@pytest.mark.parametrize("soft", [False, True])
def test_compressed_least_squares_are_the_same(soft: bool) -> None:
    """Sum of squares and its gradient, one unknown without effect."""
    rng = np.random.default_rng(4)
    residual, slopes = rng.normal(size=40) * 3, rng.normal(size=(40, 4)) * [1, 1e4, 0, 1e-3]
    few, triangle = compressed(*(softened if soft else as_is)(residual, slopes))
    assert few.shape == (5,)
    losses = 2 * (np.sqrt(1 + residual**2) - 1) if soft else residual**2
    weights = 1 / np.sqrt(1 + residual**2) if soft else np.ones(40)
    assert few @ few == pytest.approx(losses.sum(), rel=1e-12)
    assert triangle.T @ few == pytest.approx(slopes.T @ (weights * residual), rel=1e-9)


def test_a_large_disk_is_fitted_with_all_its_pixels() -> None:
    """Its way is found with some of them; what is found is as precise as all of them allow."""
    disk, (x, y) = synthetic_probe((140, 150), 52.0, 0.8), (68.4, 74.7)
    expected = 40 * disk.image(center=(x, y)) + 1.0
    probe = measure_probe(np.random.default_rng(6).poisson(expected))
    slope = 40 * (disk.image(center=(x + 1e-3, y)) - disk.image(center=(x - 1e-3, y))) / 2e-3
    best = math.sqrt(1 / (slope**2 / expected).sum())  # Cramér–Rao, all else known
    assert max(probe.sigma_center) < 1.6 * best
    assert probe.center == pytest.approx((x, y), abs=3 * best)
    assert probe.radius_px == pytest.approx(52.0, abs=3 * best)


def test_bad_regions() -> None:
    cube = vacuum_scan(0.0, (3, 4))
    with pytest.raises(ShapeError, match="where has shape"):
        measure_probe(cube, where=np.ones((4, 3), bool))
    with pytest.raises(ParameterError, match="at least one"):
        measure_probe(cube, where=np.zeros((3, 4), bool))
    with pytest.raises(ParameterError, match="where"):
        measure_probe(cube, where="vacuum")
    with pytest.raises(ParameterError, match="single pattern"):
        measure_probe(cube[0, 0], where=np.ones((3, 4), bool))
    with pytest.raises(ParameterError, match="selects no position"):
        MeasureProbe(where=((2, 2), (0, 4))).apply(cube)
    with pytest.raises(ParameterError, match=r"no beam|empty"):
        measure_probe(DataCube(np.zeros((2, 2, 16, 16), np.uint16)))


def test_bad_synthetic_probes() -> None:
    for radius, edge in ((0.0, 0.5), (4.0, -1.0), (math.nan, 0.5), (20.0, 0.5)):
        with pytest.raises(ParameterError):
            synthetic_probe((32, 32), radius, edge)
    with pytest.raises(ShapeError):
        synthetic_probe((32,), 4.0)  # type: ignore[arg-type]


# ---- kernels -------------------------------------------------------------------------------------
def correlated(pattern: NDArray[np.float64], kernel: NDArray[np.float64]) -> tuple[float, float]:
    """The highest place of a correlation, by a parabola along each axis."""
    spectrum = np.fft.rfft2(pattern) * np.conj(np.fft.rfft2(kernel))
    c = np.fft.irfft2(spectrum, pattern.shape)
    i, j = np.unravel_index(int(c.argmax()), c.shape)
    steps = [(c[i - 1, j], c[i + 1, j]), (c[i, j - 1], c[i, j + 1])]
    x, y = (0.5 * (b - a) / (2 * c[i, j] - a - b) for a, b in steps)
    return float(i + x), float(j + y)


def test_kernels_are_centred_and_normalised() -> None:
    probe = synthetic_probe(SHAPE, 6.2, 0.5, rim=Ellipse(1.03, 1.0, 0.4))
    pattern = probe.image(center=(30, 33)) + 0.3
    for kind, total in (("flat", 1.0), ("edge", 0.0), ("sigmoid", 0.0), ("patterned", 0.0)):
        kernel = probe.kernel(kind)
        assert kernel.shape == SHAPE
        assert kernel.dtype == np.float64
        assert kernel.sum() == pytest.approx(total, abs=1e-12)
        assert correlated(pattern, kernel) == pytest.approx((30, 33), abs=1e-6)


@pytest.mark.parametrize("kind", ["auto", "edge", "sigmoid"])
@pytest.mark.parametrize("radii", [3.0, 3.5, 5.0])
def test_trench_leaves_the_neighbours_alone(kind: str, radii: float) -> None:
    """A strong neighbour on one side must not draw a weak disk."""
    probe = synthetic_probe((96, 96), 5.0, 0.5)
    spacing = radii * 5.0
    kernel = probe.kernel(kind, spacing_px=spacing)  # type: ignore[arg-type]
    for shift in (0.0, 0.2, 0.4):
        alone = probe.image(center=(48 + shift, 48))
        # Ten times as strong as the disk itself, which is looked for in its own neighbourhood.
        crowd = alone + 10 * probe.image(center=(48 + shift + spacing, 48))
        bias = nearby(crowd, kernel) - nearby(alone, kernel)
        assert abs(bias) < 0.02


def test_a_trench_that_reaches_the_neighbours_biases() -> None:
    probe = synthetic_probe((96, 96), 5.0, 0.5)
    wide = probe.kernel("edge", trench_px=(5.0, 10.0))
    crowd = probe.image(center=(48, 48)) + 3 * probe.image(center=(63, 48))
    assert abs(nearby(crowd, wide) - 48) > 0.1


def nearby(pattern: NDArray[np.float64], kernel: NDArray[np.float64]) -> float:
    """Row of the maximum near (48, 48)."""
    c = np.fft.irfft2(np.fft.rfft2(pattern) * np.conj(np.fft.rfft2(kernel)), pattern.shape)
    line = c[:, 48]
    i = 46 + int(line[46:51].argmax())
    return i + 0.5 * (line[i - 1] - line[i + 1]) / (line[i - 1] - 2 * line[i] + line[i + 1])


def test_trench_radii() -> None:
    inner, outer = trench_radii(5.0, 0.5, 15.0)
    assert (inner, outer) == (6.0, 7.5)
    assert trench_radii(5.0, 0.5, 13.5)[1] == pytest.approx(6.5)
    with pytest.raises(ParameterError, match="no room"):
        synthetic_probe((64, 64), 5.0).kernel("edge", spacing_px=11.0)
    flat = synthetic_probe((64, 64), 5.0).kernel("auto", spacing_px=11.0)
    assert flat.sum() == pytest.approx(1)


def test_kernels_of_the_wrong_shape() -> None:
    probe = synthetic_probe((64, 64), 12.0)
    with pytest.raises(ParameterError, match="does not fit"):
        probe.kernel("flat", Q_shape=(20, 64))
    with pytest.raises(ShapeError):
        probe.kernel("flat", Q_shape=(64,))  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="no kernel"):
        probe.kernel("round")  # type: ignore[arg-type]


# ---- files and coercion --------------------------------------------------------------------------
def test_round_trip(tmp_path: Path) -> None:
    probe = measure_probe(counts(rim=Ellipse(1.05, 1.0, 0.5)))
    path = tmp_path / "probe.h5"
    py4DSTEM.save(path, probe)
    for again in (py4DSTEM.read(path), Probe.from_file(path), as_probe(str(path))):
        assert isinstance(again, Probe)
        assert np.array_equal(again.pattern, probe.pattern)
        assert again.rim == probe.rim
        assert again.center == probe.center
        assert again.sigma_center == probe.sigma_center
        assert again.report["chi2"] == probe.report["chi2"]
        assert again.history.steps == probe.history.steps
    made = synthetic_probe((32, 32), 5.0)
    py4DSTEM.save(path, {"a": made, "b": made})
    with pytest.raises(ParameterError, match="2 probes"):
        Probe.from_file(path)


def test_as_probe() -> None:
    probe = synthetic_probe((32, 32), 5.0)
    assert as_probe(probe) is probe
    assert as_probe(counts()).radius_px == pytest.approx(6.2, abs=0.05)
    assert "5.000 px" in repr(probe)
    assert "±" in repr(as_probe(counts()))
