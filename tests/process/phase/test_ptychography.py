"""Iterative ptychography on a scan with known truth: methods, restart, cancel, bad input."""

import dataclasses
import math
import threading
from functools import cache

import numpy as np
import pytest

from py4DSTEM import simulate
from py4DSTEM.core.axis import Axis
from py4DSTEM.core.cube import Cube
from py4DSTEM.errors import (
    CalibrationMissing,
    Cancelled,
    MemoryBudgetError,
    ParameterError,
    ShapeError,
)
from py4DSTEM.kernels import ptycho_arrays as arrays
from py4DSTEM.process.phase.compare import agreement, on_grid
from py4DSTEM.process.phase.ptychography import array_steps, projections
from py4DSTEM.process.phase.ptychography import patterns as reading
from py4DSTEM.process.phase.ptychography.reconstruct import Ptychography, ptychography
from py4DSTEM.stream.options import RunOptions

DEFOCUS_A = 80.0


@cache
def scanned(dose=None, jitter_A=0.0):
    scan = simulate.phase_object(
        (11, 13), (40, 40), Q_pixel_size_A=0.06, semiangle_mrad=20.0, defocus_A=DEFOCUS_A,
        dose=dose, jitter_A=jitter_A, seed=1,
    )  # fmt: skip
    return scan.cube.with_calibration(scan.truth.calibration), scan.truth


def judged(result, truth):
    """Agreement of the phase with the truth at 0.6 Å, over the scanned area."""
    shape, step = result.phase.data.shape, min(result.sampling_A)
    Rx, Ry = truth.positions_A.shape[:2]
    extent = (np.array([Rx, Ry]) - 1) * np.array(result.optics.R_steps_A)
    origin = truth.positions_A.reshape(-1, 2).mean(axis=0) - extent / 2
    known = on_grid(truth.phase, truth.sampling_A, shape, grid_A=step, origin_A=tuple(origin))
    return agreement(result.phase.data, known, step, resolution_A=0.8, max_shift_A=1.0)


def solve(cube, iterations=12, **more):
    more.setdefault("defocus_A", DEFOCUS_A)
    return ptychography(cube, iterations=iterations, **more)


# ---- methods on truth ----------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("method", "least"), [("gradient", 0.995), ("epie", 0.98), ("raar", 0.99), ("dm", 0.97)]
)
def test_methods_find_the_phase(method, least):
    cube, truth = scanned()
    result = solve(cube, 20, method=method, vacuum=truth.vacuum)
    found = judged(result, truth)
    assert found.correlation > least
    assert found.scale == pytest.approx(1, abs=0.06)
    assert result.errors[-1] < 0.1 * result.errors[0]


def test_likelihood_of_counts_is_right_where_counts_are_few():
    cube, truth = scanned(dose=6000)
    counts, roots = (solve(cube, 15, poisson=w, vacuum=truth.vacuum) for w in (1.0, 0.0))
    assert judged(counts, truth).scale == pytest.approx(1, abs=0.2)
    assert judged(roots, truth).scale < 0.7  # the known bias of roots of few counts
    assert deviance(cube, counts) < deviance(cube, roots)


def deviance(cube, result):
    """``2 Σ (I − n + n ln(n / I))`` by a model written out independently."""
    patterns = np.asarray(cube.data[...], np.float64).reshape(-1, *cube.Q_shape)
    total = 0.0
    n0, n1 = result.optics.Q_shape
    rows, columns = np.fft.fftfreq(n0)[:, None], np.fft.fftfreq(n1)
    for pattern, at in zip(patterns, result.positions_px.reshape(-1, 2), strict=True):
        whole = np.rint(at).astype(int)
        (x, y), (i, j) = at - whole, whole - (n0 // 2, n1 // 2)
        spectra = np.fft.fft2(result.probe.astype(complex)) * np.exp(
            -2j * np.pi * (rows * x + columns * y)
        )
        waves = np.fft.ifft2(spectra) * result.object[0, i : i + n0, j : j + n1]
        model = np.fft.fftshift((np.abs(np.fft.fft2(waves)) ** 2).sum(axis=0)) + 1e-9
        ratio = np.where(pattern > 0, pattern, 1) / np.where(pattern > 0, model, 1)
        total += 2 * (model - pattern + pattern * np.log(ratio)).sum()
    return total


def test_several_slices_and_modes_explain_a_thin_object():
    cube, truth = scanned()
    slices = solve(cube, 12, slices=2, slice_thickness_A=2.0, vacuum=truth.vacuum)
    modes = solve(cube, 12, modes=2, vacuum=truth.vacuum)
    assert slices.object.shape[0] == 2 and judged(slices, truth).correlation > 0.97
    assert modes.probe.shape[0] == 2 and judged(modes, truth).correlation > 0.99
    assert modes.mode_shares[0] > 0.97
    assert abs(np.vdot(*modes.probe)) < 1e-3 * np.vdot(modes.probe[0], modes.probe[0]).real


# ---- going on, repeating, stopping ---------------------------------------------------------------
def test_a_result_is_continued():
    cube, _ = scanned()
    first = solve(cube, 4, method="epie")
    second = ptychography(cube, start=first, method="epie", iterations=3)
    whole = solve(cube, 7, method="epie")
    np.testing.assert_allclose(second.errors, whole.errors, rtol=2e-3)
    assert second.errors[:4] == first.errors
    assert len(second.history.steps) == len(first.history.steps) + 1


def test_more_slices_and_modes_begin_where_fewer_ended():
    cube, truth = scanned()
    first = solve(cube, 8)
    more = ptychography(
        cube, start=first, iterations=4, slices=2, slice_thickness_A=0.5, modes=2, batch=30
    )
    assert more.errors[8] < 0.3 * first.errors[0]
    assert more.errors[-1] < 0.5 * more.errors[8]
    fewer = ptychography(cube, start=more, iterations=2)
    assert fewer.object.shape[0] == fewer.probe.shape[0] == 1
    assert judged(fewer, truth).correlation > 0.98


def test_only_the_same_grid_is_continued():
    cube, _ = scanned()
    first = solve(cube, 2)
    other = Cube(cube.data[:9], cube.calibration)
    with pytest.raises(ParameterError, match=r"start is of \(11, 13\) positions"):
        ptychography(other, start=first)


@pytest.mark.parametrize("method", ["gradient", "epie", "raar"])
def test_seeds_repeat_bit_for_bit(method):
    cube, _ = scanned()
    one, two, other = (solve(cube, 3, method=method, seed=s, batch=20) for s in (0, 0, 1))
    assert one.object.tobytes() == two.object.tobytes()
    assert method == "raar" or one.object.tobytes() != other.object.tobytes()


def test_cancelled_gives_what_is_there():
    cube, _ = scanned()
    cancel = threading.Event()

    def progress(done, total, label):
        if label == "ptychography" and done == 2:
            cancel.set()

    result = solve(cube, 9, options=RunOptions(progress=progress, cancel=cancel))
    assert result.status == "cancelled" and len(result.errors) == 2
    with pytest.raises(Cancelled):
        solve(cube, 9, options=RunOptions(cancel=cancel))


def test_divergence_keeps_the_best_state():
    cube, _ = scanned()
    result = solve(cube, 30, object_step=30.0, probe_step=30.0)
    assert result.status == "diverged" and "rose" in result.reason
    assert np.isfinite(result.object).all() and np.isfinite(result.probe).all()
    assert len(result.errors) < 30


# ---- input ---------------------------------------------------------------------------------------
def test_patterns_on_disk_give_the_same_bits(tmp_path, monkeypatch):
    cube, _ = scanned()
    kept = solve(cube, 3)
    monkeypatch.setattr(reading, "available_memory_bytes", lambda: 10_000)
    with pytest.raises(MemoryBudgetError, match="a folder"):
        solve(cube, 3)
    streamed = solve(cube, 3, folder=tmp_path)
    assert streamed.object.tobytes() == kept.object.tobytes()


def test_projections_that_do_not_fit_say_so(monkeypatch):
    cube, _ = scanned()
    monkeypatch.setattr(projections, "available_memory_bytes", lambda: 10_000)
    with pytest.raises(MemoryBudgetError, match="method='gradient'"):
        solve(cube, 3, method="raar")


def test_masked_pixels_do_not_count():
    cube, truth = scanned()
    data = np.array(cube.data[...])
    seen = np.ones(cube.Q_shape, bool)
    seen[10:13, 25:29] = seen[20, 20] = False
    data[..., ~seen] = np.nan
    spoilt = Cube(data, cube.calibration)
    with pytest.raises(ParameterError, match="NaN"):
        solve(spoilt, 2)
    assert judged(solve(spoilt, 20, mask=seen), truth).correlation > 0.98


def test_detectors_that_are_not_square():
    cube, truth = scanned()
    narrow = Cube(np.array(cube.data[..., 2:35]), cube.calibration.replace(origin_px=(20.0, 18.0)))
    result = solve(narrow, 20)
    assert result.optics.Q_shape[0] > result.optics.Q_shape[1]
    assert result.sampling_A[0] < result.sampling_A[1]
    assert judged(result, truth).correlation > 0.95


def lying_off(cube, truth):
    """What a scan would have been with descan: the model of its own result, and where it lies."""
    step = Ptychography(iterations=20, defocus_A=DEFOCUS_A)
    problem = step.problem(cube, None)
    planes = step.solved(problem, step.start(problem, truth.vacuum), None).state.planes
    off = np.random.default_rng(3).uniform(-0.5, 0.5, (cube.data.shape[0] * cube.data.shape[1], 2))
    geometry = problem.geometry.descanned(off)
    model = dataclasses.replace(problem, geometry=geometry).model()
    far = arrays.forward(*arrays.scene_of(model, planes), np.arange(len(off))).far
    middle = np.array(cube.Q_shape) // 2
    frames = np.roll((np.abs(far) ** 2).sum(axis=1), tuple(middle), axis=(-2, -1))
    origin = (off + middle).reshape(*cube.R_shape, 2)
    calibration = cube.calibration.replace(origin_px=origin)
    return Cube(frames.reshape(cube.shape), calibration), cube.calibration


@pytest.mark.parametrize("method", ["gradient", "raar"])
def test_patterns_that_lie_off_by_parts_of_a_pixel(method):
    cube, truth = scanned()
    there, calibration = lying_off(cube, truth)
    whole = Cube(there.data, calibration.replace(origin_px=np.array(cube.Q_shape) // 2))
    found, rough = (solve(one, 20, method=method) for one in (there, whole))
    assert found.errors[-1] < 0.3 * rough.errors[-1]
    assert judged(found, truth).correlation > 0.95
    assert judged(found, truth).correlation > judged(rough, truth).correlation + 0.01


def test_origin_between_pixels():
    cube, truth = scanned()
    exact = solve(cube, 12)
    moved = solve(Cube(cube.data, cube.calibration.replace(origin_px=(20.3, 19.8))), 12)
    # The probe is told to be elsewhere: the object takes the tilt as a ramp of phase.
    assert judged(moved, truth).correlation > 0.99 * judged(exact, truth).correlation


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"energy_eV": None}, CalibrationMissing, "energy"),
        ({"semiangle_mrad": None, "probe_radius_px": None}, CalibrationMissing, "convergence"),
        ({"R": (Axis("Rx"), Axis("Ry"))}, CalibrationMissing, "scan step"),
        (
            {"R": (Axis("Rx", 20.0, 0.0, "A"), Axis("Ry", 20.0, 0.0, "A"))},
            ParameterError,
            "overlap",
        ),
        ({"probe_radius_px": 1.2}, ParameterError, "too few pixels"),
        ({"probe_radius_px": 23.0}, ParameterError, "larger than the detector"),
    ],
)
def test_calibrations_that_cannot_be_are_named(change, error, words):
    cube, _ = scanned()
    wrong = dataclasses.replace(cube.calibration, **change)
    with pytest.raises(error, match=words):
        solve(Cube(cube.data, wrong), 2)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"defocus_A": 900.0}, "does not fit into the window"),
        ({"slices": 3}, "slice_thickness_A"),
        ({"slices": 3, "slice_thickness_A": 5.0, "method": "raar"}, "one slice"),
        ({"positions_A": np.zeros((3, 4, 2))}, "positions_A"),
        ({"positions_A": np.full((11, 13, 2), np.nan)}, "finite"),
        ({"vacuum": np.ones((7, 9))}, "vacuum"),
        ({"vacuum": np.full((40, 40), np.nan)}, "vacuum"),
        ({"aberrations": {"Cs": 3.0}}, "C30"),
        ({"momentum": 1.5}, "momentum"),
        ({"probe_radius": 3.0}, "probe_radius"),
        ({"object_type": "potential"}, "object_type"),
    ],
)
def test_parameters_that_cannot_be_are_named(more, words):
    cube, _ = scanned()
    with pytest.raises(ParameterError, match=words):
        solve(cube, 2, **more)


def test_scans_of_one_row_and_wrong_masks():
    cube, _ = scanned()
    with pytest.raises(ShapeError, match="two directions"):
        solve(Cube(cube.data[:1], cube.calibration))
    with pytest.raises(ShapeError, match="mask"):
        solve(cube, mask=np.ones((3, 4), bool))
    with pytest.raises(ParameterError, match="empty"):
        solve(Cube(np.zeros_like(cube.data), cube.calibration))


def test_empty_patterns_among_others_are_borne():
    cube, _ = scanned()
    data = np.array(cube.data[...])
    data[4, 5] = 0
    result = solve(Cube(data, cube.calibration), 5)
    assert np.isfinite(result.object).all()
    assert np.isnan(result.position_errors[4, 5])
    assert np.isfinite(np.delete(result.position_errors.ravel(), 4 * 13 + 5)).all()


def test_step_and_function_have_the_same_parameters():
    step = Ptychography(defocus_A=DEFOCUS_A, iterations=3, positivity=True)
    cube, _ = scanned()
    one, two = step.apply(cube), solve(cube, 3, positivity=True)
    assert one.object.tobytes() == two.object.tobytes()
    assert one.history.steps[-1].parameters == two.history.steps[-1].parameters
    assert math.isclose(dataclasses.asdict(one.optics)["energy_eV"], 80e3)


# ---- precision and devices -----------------------------------------------------------------------
@pytest.mark.parametrize(
    "more", [{}, {"modes": 2}, {"slices": 2, "slice_thickness_A": 3.0}, {"positivity": True}]
)
def test_double_precision_goes_the_same_way(more):
    cube, _ = scanned()
    single, double = (solve(cube, 4, batch=40, precision=p, **more) for p in ("single", "double"))
    np.testing.assert_allclose(double.errors, single.errors, rtol=1e-3)
    np.testing.assert_allclose(double.object, single.object, atol=1e-3)


def test_double_precision_with_moving_positions():
    cube, _ = scanned(1e6, 0.15)
    single, double = (
        solve(cube, 9, precision=p, refine_positions="free", positions_from=3)
        for p in ("single", "double")
    )
    np.testing.assert_allclose(double.errors, single.errors, rtol=5e-3)
    np.testing.assert_allclose(double.positions_px, single.positions_px, atol=0.02)


def test_waves_in_parts_add_up_to_the_same(monkeypatch):
    cube, _ = scanned()
    whole = solve(cube, 2, precision="double")
    monkeypatch.setattr(array_steps, "AT_ONCE_BYTES", 2**20)
    np.testing.assert_allclose(solve(cube, 2, precision="double").errors, whole.errors, rtol=1e-9)


def test_methods_that_cannot_say_so():
    cube, _ = scanned()
    with pytest.raises(ParameterError, match="method='gradient'"):
        solve(cube, 2, method="epie", precision="double")
    assert solve(cube, 2, method="epie", device="auto").status == "iterations"


def test_a_card_gives_what_the_processor_gives():
    pytest.importorskip("cupy", reason="cupy is not installed: no card to compute on")
    cube, _ = scanned()
    try:
        card = solve(cube, 4, batch=40, device="cuda")
    except ParameterError as error:
        pytest.skip(str(error))
    np.testing.assert_allclose(card.object, solve(cube, 4, batch=40).object, atol=1e-3)


def test_epie_bears_few_counts():
    cube, truth = scanned(dose=3000)
    result = solve(cube, 12, method="epie", vacuum=truth.vacuum)
    assert result.status == "iterations"
    assert judged(result, truth).correlation > 0.8
