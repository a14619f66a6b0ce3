"""Bragg disks of simulated scans whose truth is known."""

import inspect
import itertools
import threading
import warnings

import numpy as np
import pytest
from disk_scans import add, as_cube, bound, compare, grid_scan

import py4DSTEM
from py4DSTEM import DataCube, find_bragg_disks, find_spots, preview_bragg_disks
from py4DSTEM.core.lazy import BlockArray
from py4DSTEM.errors import ParameterError, ShapeError
from py4DSTEM.process.bragg.detect import FindBraggDisks
from py4DSTEM.process.probe import Probe, synthetic_probe
from py4DSTEM.simulate import strained_lattice
from py4DSTEM.stream.options import RunOptions

# ---- precision -----------------------------------------------------------------------------------
PRECISION = [(3, 10, 1), (3, 100, 5), (5, 3, 0.3), (5, 30, 2), (10, 1, 0.1), (10, 30, 5)]


@pytest.mark.parametrize(("radius", "height", "background"), PRECISION)
def test_precision_is_the_cramer_rao_bound(radius, height, background):
    scan = grid_scan(radius, height, background, n=24 if radius < 10 else 15)
    found = compare(find_bragg_disks(scan.cube(), scan.probe), scan.centers)
    assert len(found.errors) == scan.centers[..., 0].size
    known, unknown = bound(radius, height, background)
    # A radially symmetric disk: not knowing height and background costs nothing.
    assert unknown == pytest.approx(known, rel=1e-3)
    scatter = 2 / np.sqrt(2 * found.errors.size)
    assert found.rms < (1.05 + scatter) * unknown
    assert found.pulls.std() == pytest.approx(1, abs=0.06 + scatter / 2)
    assert np.abs(found.errors.mean(axis=0)).max() < 4 * unknown / np.sqrt(len(found.errors))
    assert np.median(found.points["chi2"]) == pytest.approx(1, abs=0.05)


def test_refinements_rank_by_precision():
    scan = grid_scan(5, 10, 1, n=16)
    cube, rms = scan.cube(), {}
    for subpixel in ("pixel", "parabola", "dft", "fit"):
        peaks = find_bragg_disks(cube, scan.probe, subpixel=subpixel)
        found = compare(peaks, scan.centers)
        assert found.false == 0
        rms[subpixel] = found.rms
        assert np.isfinite(peaks.points["sigma_qx"]).all() == (subpixel == "fit")
    assert rms["fit"] < 1.1 * bound(5, 10, 1)[1]
    # Of even disks and many counts the correlation of the square root tells nearly as much.
    assert rms["dft"] < 1.15 * bound(5, 10, 1)[1]
    assert max(rms["fit"], rms["dft"]) < 0.95 * rms["parabola"] < 0.5 * rms["pixel"]


# ---- bias ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("spacing_radii", [3.0, 3.5, 5.0])
@pytest.mark.parametrize("radius", [3, 5, 8])
def test_a_bright_neighbour_does_not_draw(radius, spacing_radii):
    spacing = spacing_radii * radius
    shape, pairs = (64, int(4 * spacing) + 20), 12
    rng = np.random.default_rng(radius)
    centers, expected = [], np.full((pairs, *shape), 20.0)
    for image in expected:
        first = np.array([31.5, 10 + radius]) + rng.uniform(-0.5, 0.5, 2)
        row = [first + k * np.array([0, spacing]) for k in range(4)]
        for k, center in enumerate(row):
            add(image, center, 30_000 if k % 2 else 3_000, radius)
        centers.append(row)
    probe = synthetic_probe(shape, radius, np.hypot(0.5, 12**-0.5))
    # All but free of noise, and the slope must not hide a bias.
    peaks = find_bragg_disks(as_cube(rng.poisson(expected).astype("u2")), probe)
    found = compare(peaks, centers)
    assert len(found.errors) == 4 * pairs
    for k in range(4):
        bias = found.errors[found.which[:, 1] == k].mean(axis=0)
        assert np.abs(bias).max() < 0.02, (k, bias)


# ---- uneven disks --------------------------------------------------------------------------------
@pytest.mark.parametrize(("radius", "height"), [(3.5, 100), (5, 40), (5, 400)])
def test_uneven_disks(radius, height):
    scan = grid_scan(radius, height, 0.05 * height, n=16, ramp=0.6)
    peaks = find_bragg_disks(scan.cube(), scan.probe)
    found = compare(peaks, scan.centers)
    ramps = scan.ramps[tuple(found.which.T)]
    pull_of_mass = ramps * radius / 4  # where the centre of mass of a sloping disk is
    assert np.abs(pull_of_mass).max() > 0.2
    along = (found.errors * pull_of_mass).sum() / (pull_of_mass**2).sum()
    assert abs(along) * 0.6 * radius / 4 < 0.03
    assert found.pulls.std() == pytest.approx(1, abs=0.1)
    slopes = np.stack([found.points["slope_x"], found.points["slope_y"]], -1) * radius
    assert np.corrcoef(slopes.ravel(), ramps.ravel())[0, 1] > 0.8
    assert peaks.report["chosen"]["slope"]["value"] == pytest.approx(0.6 / 6**0.5, rel=0.25)


def test_even_disks_are_not_called_uneven():
    for seed in range(2):
        scan = grid_scan(3, 5, 0.5, n=16, seed=seed)
        peaks = find_bragg_disks(scan.cube(seed=seed), scan.probe)
        assert peaks.report["chosen"]["slope"]["value"] == 0.01
        assert "even" in peaks.report["chosen"]["slope"]["why"]


# ---- cameras -------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("gain", "read", "dtype"),
    [(37.5, 0, "f4"), (1e-8, 0, "f4"), (37, 0, "u2"), (1, 2, "f4"), (30, 20, "f4")],
)
def test_cameras_that_do_not_count(gain, read, dtype):
    scan = grid_scan(5, 12, 1, n=16)
    cube = scan.cube(gain=gain, read=read, dtype=dtype)
    peaks = find_bragg_disks(cube, scan.probe, read_noise=read)
    found = compare(peaks, scan.centers)
    assert len(found.errors) == scan.centers[..., 0].size
    assert found.false == 0
    assert peaks.report["chosen"]["gain"]["value"] == pytest.approx(gain, rel=0.1)
    assert found.rms < 1.15 * bound(5, 12, 1, 1, read / gain)[1]
    assert found.pulls.std() == pytest.approx(1, abs=0.1)


def test_a_known_gain_is_used():
    scan = grid_scan(5, 12, 1, n=4)
    data = scan.counts(dtype="f4") * 5
    peaks = find_bragg_disks(as_cube(data), scan.probe, gain=5.0)
    assert "gain" not in peaks.report["chosen"]
    counted = find_bragg_disks(scan.cube(), scan.probe, gain=1.0)
    np.testing.assert_allclose(peaks.points["qx"], counted.points["qx"], atol=1e-3)
    np.testing.assert_allclose(peaks.points["sigma_qx"], counted.points["sigma_qx"], rtol=1e-2)


# ---- detection -----------------------------------------------------------------------------------
def significances(truth, dose, background):
    """Expected height over its standard deviation of every disk, (Rx, Ry, n), as numbers known.

    With N electrons in the disk on b per pixel: ``N / √(N + b area)``, at most.
    """
    area = np.pi * truth.calibration.semiangle_px() ** 2
    counts = truth.fractions * dose
    return counts / np.sqrt(counts + background * area)


@pytest.mark.parametrize("radius", [3.5, 5.0])
def test_recall_and_precision(radius):
    dose, shape = 25_000, (128, 128)
    scan = strained_lattice((6, 6), shape, probe_radius_px=radius, dose=dose, seed=3)
    peaks = find_bragg_disks(scan.cube, scan.truth.probe)
    data = np.asarray(scan.cube.data).reshape(-1, *shape)
    beside = float(np.median(data))
    positions = scan.truth.positions_px().reshape(len(data), -1, 2)
    inside = ((positions > radius) & (positions < np.array(shape) - 1 - radius)).all(-1)
    clear = significances(scan.truth, dose, beside) > 8
    found = compare(peaks, positions)
    seen = np.zeros(inside.shape, bool)
    seen[tuple(found.which.T)] = True
    wanted = inside & clear
    assert wanted.sum() > 36 * 15
    assert seen[wanted].mean() >= 0.995
    assert len(found.errors) / (len(found.errors) + found.false) >= 0.995
    assert np.unique(found.which, axis=0).shape == found.which.shape
    assert found.pulls.std() == pytest.approx(1, abs=0.08)
    for subpixel in ("parabola", "dft"):
        alone = compare(find_bragg_disks(scan.cube, scan.truth.probe, subpixel=subpixel), positions)
        assert len(alone.errors) / (len(alone.errors) + alone.false) >= 0.995
        assert len(alone.errors) >= 0.97 * wanted.sum()


# ---- what is in the way --------------------------------------------------------------------------
def test_beam_stop_and_dead_regions():
    scan = grid_scan(5, 60, 3, n=12)
    data = scan.counts()
    usable = np.ones(data.shape[1:], bool)
    usable[:50, 40:49] = False
    usable[70, :] = False
    usable[12, 12] = False
    data[:, ~usable] = 0
    peaks = find_bragg_disks(as_cube(data), scan.probe, mask=usable)
    found = compare(peaks, scan.centers)
    assert found.false == 0
    assert found.pulls.std() == pytest.approx(1, abs=0.1)
    # All disks of which half can be seen are found.
    i, j = np.indices(usable.shape)
    for (p, k), center in zip(np.ndindex(12, 16), scan.centers.reshape(-1, 2), strict=True):
        visible = usable[np.hypot(i - center[0], j - center[1]) < 5].mean()
        if visible > 0.6:
            assert (found.which == (p, k)).all(1).any()
    data[:, ~usable] = 5000  # what a masked pixel says does not matter
    again = find_bragg_disks(as_cube(data), scan.probe, mask=usable, gain=1.0)
    first = find_bragg_disks(as_cube(np.where(usable, data, 0)), scan.probe, mask=usable, gain=1.0)
    np.testing.assert_array_equal(again.points, first.points)


def test_a_saturated_direct_beam():
    scan = grid_scan(5, 20, 1, n=9, pitch=24)
    data = scan.expected.copy()
    for image, centers in zip(data, scan.centers, strict=True):
        add(image, centers[5], 3_000, 5)
    data = np.minimum(np.random.default_rng(1).poisson(data), 1000).astype("u2")
    peaks = find_bragg_disks(as_cube(data), scan.probe, saturation=1000)
    found = compare(peaks, scan.centers)
    # What is left of its rim is not enough for the saturated disk, and no disk of its own.
    assert set(found.which[:, 1]) >= set(range(16)) - {5}
    assert found.false == 0
    others = found.which[:, 1] != 5
    assert others.sum() == 9 * 15
    assert found.pulls[others].std() == pytest.approx(1, abs=0.1)


def test_hot_pixels_and_pixels_that_are_not_numbers():
    scan = grid_scan(5, 20, 1, n=12)
    data = scan.counts(dtype="f4")
    clean = compare(find_bragg_disks(as_cube(data), scan.probe), scan.centers)
    rng = np.random.default_rng(5)
    for frame, centers in zip(data, scan.centers, strict=True):
        for k, value in enumerate((np.nan, np.inf, 5e4, 5e4)):
            frame[tuple((centers[4 * k] + rng.uniform(-3, 3, 2)).round().astype(int))] = value
        frame[2, 2] = 5e4
    found = compare(find_bragg_disks(as_cube(data), scan.probe), scan.centers)
    assert len(found.errors) > 0.99 * len(clean.errors)
    assert found.false == 0
    # A hot pixel that nobody masked pulls its disk a little, and no other.
    hot = found.which[:, 1] % 4 == 0
    assert np.abs(found.errors[hot]).max() < 0.7
    assert found.errors[~hot].std() < 1.05 * clean.rms
    masked = find_bragg_disks(as_cube(data), scan.probe, saturation=1e4, gain=1)
    assert compare(masked, scan.centers).rms < 1.05 * clean.rms


def test_disks_cut_by_the_edge():
    rng = np.random.default_rng(0)
    expected, centers = np.full((24, 60, 56), 2.0), []
    for k, image in enumerate(expected):
        x = -1.5 + 3.0 * (k % 3) + rng.uniform(-0.3, 0.3)
        row = [np.array([x, 14.0]), np.array([30.2, 27.7]), np.array([30.0, 55 - x])]
        for center in row:
            add(image, center, 100, 5)
        centers.append(row)
    probe = synthetic_probe((60, 56), 5, np.hypot(0.5, 12**-0.5))
    found = compare(find_bragg_disks(as_cube(rng.poisson(expected).astype("u2")), probe), centers)
    assert found.false == 0
    assert (found.which[:, 1] == 1).sum() == 24
    assert (found.which[:, 1] != 1).sum() >= 16
    assert found.pulls.std() == pytest.approx(1, abs=0.15)


# ---- the machinery -------------------------------------------------------------------------------
class Blocks(BlockArray):
    """A scan made when it is read, far larger than what may be held at once."""

    def __init__(self, frames, rows):
        self.frames, self.rows, self.held, self.most = frames, rows, 0, 0
        self.lock = threading.Lock()

    @property
    def shape(self):
        return (self.rows, len(self.frames), *self.frames.shape[1:])

    @property
    def dtype(self):
        return self.frames.dtype

    @property
    def chunks(self):
        return (1, len(self.frames), *self.frames.shape[1:])

    def read_block(self, rx, ry):
        count = len(range(*rx.indices(self.rows))) * len(range(*ry.indices(len(self.frames))))
        with self.lock:
            self.most = max(self.most, count)
        rows = range(*rx.indices(self.rows))
        return np.concatenate([self.frames[ry] for _ in rows])


def test_same_bits_for_any_workers_and_tiles():
    scan = grid_scan(4, 30, 2, n=6)
    blocks = Blocks(scan.counts(), 10)
    cube = DataCube(blocks)
    pattern = blocks.frames[0].nbytes
    # The search samples the scan first, alike for all.
    options = [
        RunOptions(workers=1),
        *(RunOptions(workers=w, memory=pattern * 60) for w in (1, 3)),
        RunOptions(workers=2, memory=pattern * 30),
    ]
    results = [find_bragg_disks(cube, scan.probe, options=o) for o in options]
    for other in results[1:]:
        np.testing.assert_array_equal(results[0].points, other.points)
        np.testing.assert_array_equal(results[0].offsets, other.offsets)
        assert results[0].report == other.report
    assert results[0].counts.shape == (10, 6)


def test_larger_than_memory():
    scan = grid_scan(4, 30, 2, n=6)
    blocks = Blocks(scan.counts(), 60)
    options = RunOptions(workers=2, memory=blocks.frames[0].nbytes * 40)
    peaks = find_bragg_disks(DataCube(blocks), scan.probe, options=options)
    assert blocks.most <= 40
    assert (peaks.counts == peaks.counts[0]).all()
    np.testing.assert_array_equal(peaks[0, 3], peaks[59, 3])


def test_where_searches_only_there():
    scan = grid_scan(4, 30, 2, n=12)
    cube = scan.cube()
    where = np.zeros(cube.R_shape, bool)
    where[1:3, 1] = True
    some, whole = (find_bragg_disks(cube, scan.probe, where=w) for w in (where, None))
    assert (some.counts > 0).tolist() == where.tolist()
    assert len(some[1, 1]) == len(whole[1, 1])
    assert some.report["positions_without_disks"] == 0


@pytest.mark.parametrize("corr_power", [0.0, 0.5, 0.8])
def test_hybrid_and_phase_correlation(corr_power):
    scan = grid_scan(5, 60, 3, n=8)
    least = 0.95 if corr_power else 0.8  # phases alone are noisy
    for subpixel, worst in (("fit", 1.1 * bound(5, 60, 3)[1]), ("dft", 0.3)):
        peaks = find_bragg_disks(scan.cube(), scan.probe, corr_power=corr_power, subpixel=subpixel)
        found = compare(peaks, scan.centers)
        assert len(found.errors) >= least * scan.centers[..., 0].size
        assert found.false == 0
        assert found.rms < worst


def bullseye(rho):
    """Rings of an aperture of radius 7 px."""
    return (np.abs(rho) < 7) * (1 + 0.9 * np.cos(2 * np.pi * rho / 3.2))


def test_a_patterned_probe():
    shape, rng = (100, 100), np.random.default_rng(2)
    i, j = np.indices(shape)

    def ringed(center, step=5):
        fine = (np.arange(step) + 0.5) / step - 0.5
        return np.mean([
            bullseye(np.hypot(i + a - center[0], j + b - center[1]))
            for a, b in itertools.product(fine, fine)
        ], axis=0)  # fmt: skip

    centers = 25 + 25 * np.stack(np.mgrid[:3, :3], -1).reshape(1, 9, 2)
    centers = centers + rng.uniform(-0.5, 0.5, (12, 9, 2))
    expected = np.array([0.3 + sum(6 * ringed(c) for c in row) for row in centers])
    cube = as_cube(rng.poisson(expected).astype("u2"))
    patterned = Probe(
        ringed((49.5, 49.5)), (49.5, 49.5), 7.0, 0.4, synthetic_probe(shape, 7.0).rim, True
    )
    flat = synthetic_probe(shape, 7.0, 0.4)
    rms = [compare(find_bragg_disks(cube, p, slope=0.0), centers).rms for p in (patterned, flat)]
    assert rms[0] < 0.9 * rms[1]


# ---- bad input -----------------------------------------------------------------------------------
def test_scans_without_disks():
    probe = synthetic_probe((40, 44), 4.0)
    cases = {
        "zero": np.zeros((3, 3, 40, 44), "u2"),
        "constant": np.full((3, 3, 40, 44), 7, "u2"),
        "ones": np.ones((3, 3, 40, 44), "f4"),
        "nan": np.full((3, 3, 40, 44), np.nan, "f4"),
        "noise": np.random.default_rng(0).poisson(5, (3, 3, 40, 44)).astype("u2"),
        "negative": np.full((3, 3, 40, 44), -3.0, "f8"),
        "full": np.full((3, 3, 40, 44), 65535, "u2"),
    }
    for name, data in cases.items():
        for subpixel in ("fit", "dft", "parabola"):
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                limit = 65535 if name == "full" else None
                peaks = find_bragg_disks(DataCube(data), probe, subpixel=subpixel, saturation=limit)
            if subpixel == "fit" or name != "noise":
                assert len(peaks) == 0, name
                assert peaks.report["positions_without_disks"] == 9


def test_empty_patterns_are_counted():
    scan = grid_scan(4, 30, 2, n=12)
    data = scan.counts(dtype="f4")
    data[3], data[7] = 0, np.nan
    peaks = find_bragg_disks(as_cube(data), scan.probe)
    assert peaks.counts.ravel()[[3, 7]].tolist() == [0, 0]
    assert peaks.report["positions_without_disks"] == 2
    assert (np.delete(peaks.counts.ravel(), [3, 7]) > 14).all()


def test_a_missing_probe_is_measured():
    scan = strained_lattice((4, 4), (96, 96), probe_radius_px=4.0, seed=4)
    peaks = find_bragg_disks(scan.cube)
    assert peaks.calibration.probe_radius_px == pytest.approx(4.0, abs=0.15)
    assert peaks.report["chosen"]["probe"]["value"] == pytest.approx(4.0, abs=0.15)
    given = find_bragg_disks(scan.cube, scan.truth.probe)
    assert abs(len(peaks) - len(given)) <= 0.03 * len(given)
    with pytest.raises(ParameterError, match="give probe="):
        find_bragg_disks(DataCube(np.zeros((2, 2, 32, 32), "u2")))


def test_what_does_not_fit_is_refused():
    cube = DataCube(np.ones((2, 2, 20, 24), "u2"))
    with pytest.raises(ParameterError, match="does not fit"):
        find_bragg_disks(cube, synthetic_probe((64, 64), 12.0))
    with pytest.raises((ParameterError, ShapeError), match=r"mask|weights|shape"):
        find_bragg_disks(cube, synthetic_probe((20, 24), 4.0), mask=np.ones((20, 20), bool))
    with pytest.raises(ParameterError, match="no pixel"):
        find_bragg_disks(cube, synthetic_probe((20, 24), 4.0), mask=np.zeros((20, 24), bool))
    with pytest.raises(ParameterError, match="no room for a trench"):
        find_bragg_disks(cube, synthetic_probe((20, 24), 4.0), kernel="edge", spacing_px=9.0)
    for wrong in ({"corr_power": 2}, {"subpixel": "magic"}, {"max_peaks": 0}):
        with pytest.raises(ParameterError):
            find_bragg_disks(cube, synthetic_probe((20, 24), 4.0), **wrong)


@pytest.mark.parametrize("function", [find_bragg_disks, preview_bragg_disks, find_spots])
def test_all_parameters_are_named(function):
    """With the defaults of the operation."""
    own = {"cube", "positions", "sigma_px", "where", "options"}
    named = inspect.signature(function).parameters
    wanted = {name: field.default for name, field in FindBraggDisks.model_fields.items()}
    if function is find_spots:
        wanted.pop("probe")  # a spot of `sigma_px`
        wanted["slope"] = 0.0
    assert {name: p.default for name, p in named.items() if name not in own} == wanted
    loose = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    assert not [name for name, p in named.items() if p.kind in loose]


@pytest.mark.parametrize("function", [find_bragg_disks, preview_bragg_disks, find_spots])
def test_all_parameters_arrive(function, monkeypatch):
    """Each under its own name, when all differ from their defaults."""
    given = {
        "subpixel": "dft", "kernel": "flat", "corr_power": 0.5, "stabilise": False,
        "sigma_cc_px": 0.7, "min_significance": 4.0, "min_intensity": 1.5,
        "min_relative_intensity": 0.01, "relative_to": 2, "min_spacing_px": 3.5,
        "spacing_px": 21.0, "edge_px": 2.5, "max_peaks": 17, "threshold": 0.3, "slope": 0.2,
        "gain": 1.2, "read_noise": 0.4, "saturation": 900.0, "leave_out_defects": False,
        "samples": 6,
    }  # fmt: skip
    assert set(given) == set(FindBraggDisks.model_fields) - {"probe", "mask"}
    made = []

    class Seen(Exception):
        pass

    def record(**values):
        made.append(FindBraggDisks(**values))
        raise Seen

    for module in ("detect", "preview"):
        monkeypatch.setattr(f"py4DSTEM.process.bragg.{module}.FindBraggDisks", record)
    cube = DataCube(np.ones((2, 2, 20, 24), "u2"))
    probe = {"sigma_px": 1.0} if function is find_spots else {"probe": synthetic_probe((20, 24), 4)}
    with pytest.raises(Seen):
        function(cube, **probe, mask=np.ones((20, 24), bool), **given)
    assert {name: getattr(made[0], name) for name in given} == given
    assert made[0].mask.weights((20, 24), cube.calibration).all()


def test_the_history_is_enough():
    scan = grid_scan(4, 30, 2, n=6)
    peaks = find_bragg_disks(scan.cube(), scan.probe)
    again = find_bragg_disks(scan.cube(), **peaks.history.steps[-1].parameters)
    np.testing.assert_array_equal(again.points, peaks.points)
    with pytest.raises(ParameterError, match="patterned"):
        find_bragg_disks(scan.cube(), {"patterned": True})


def test_hot_pixels_are_left_out() -> None:
    """Forty of them cost no disk and no honesty."""
    scan = py4DSTEM.simulate.strained_lattice((8, 8), seed=2, hot_pixels=40)
    clean = py4DSTEM.simulate.strained_lattice((8, 8), seed=2)
    peaks = py4DSTEM.find_bragg_disks(scan.cube, scan.truth.probe)
    without = py4DSTEM.find_bragg_disks(clean.cube, clean.truth.probe)
    assert peaks.report["chosen"]["defective pixels"]["value"] == 40
    assert "defective pixels" not in without.report["chosen"]
    assert len(peaks) > 0.99 * len(without)
    kept = py4DSTEM.find_bragg_disks(scan.cube, scan.truth.probe, leave_out_defects=False)
    assert len(kept) < len(peaks)
