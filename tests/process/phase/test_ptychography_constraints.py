"""Constraints of ptychography against what they say, and refinement against the truth."""

import math
from functools import cache

import numpy as np
import pytest

from py4DSTEM import simulate
from py4DSTEM.core.aberrations import Aberrations
from py4DSTEM.errors import ParameterError
from py4DSTEM.process.phase.optics import Optics
from py4DSTEM.process.phase.ptychography import constraints as parts
from py4DSTEM.process.phase.ptychography.reconstruct import ptychography
from py4DSTEM.process.phase.ptychography.refine import fit_aberrations, shrunk

SAMPLING_A = (0.4, 0.5)
RNG = np.random.default_rng(3)


def random_waves(*shape):
    return (RNG.normal(size=shape) + 1j * RNG.normal(size=shape)).astype(np.complex64)


@cache
def scanned(dose=None, jitter_A=0.0, seed=1):
    scan = simulate.phase_object(
        (11, 13), (40, 40), Q_pixel_size_A=0.06, semiangle_mrad=20.0, defocus_A=80.0,
        dose=dose, jitter_A=jitter_A, seed=seed,
    )  # fmt: skip
    return scan.cube.with_calibration(scan.truth.calibration), scan.truth


def solve(iterations=6, dose=None, jitter_A=0.0, **more):
    cube, _ = scanned(dose, jitter_A)
    return ptychography(cube, defocus_A=80.0, iterations=iterations, **more)


# ---- parts ---------------------------------------------------------------------------------------
def test_limits_of_the_modulus():
    waves = random_waves(2, 5, 7)
    kept = parts.limited(waves, 0.0, 0.7)
    np.testing.assert_allclose(np.abs(kept), np.minimum(np.abs(waves), 0.7), rtol=1e-5)
    np.testing.assert_allclose(np.angle(kept), np.angle(waves), atol=1e-5)
    pure = parts.limited(waves, 1.0, 1.0)
    np.testing.assert_allclose(np.abs(pure), 1, rtol=1e-5)
    assert (parts.limited(np.zeros((1, 2, 2), np.complex64), 0.0, 1.0) == 0).all()


def test_positive_phases():
    phase = RNG.uniform(-1.5, 4.6, (2, 6, 5))
    found = np.angle(parts.positive(np.exp(1j * phase).astype(np.complex64)))
    expected = np.angle(np.exp(1j * np.maximum(phase, 0)))
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(("period", "kept"), [(4.0, 0.94), (2.0, 0.5), (1.0, 1 / 17)])
def test_low_pass_halves_what_is_as_fine_as_its_length(period, kept):
    x = np.arange(20) * SAMPLING_A[0]
    waves = np.exp(2j * np.pi * x / period)[None, :, None] * np.ones((1, 20, 9))
    smooth = parts.smoothed(waves.astype(np.complex64), SAMPLING_A, 2.0, 0.0)
    np.testing.assert_allclose(smooth, kept * waves, rtol=2e-3)


def test_blur_is_gaussian():
    point = np.zeros((1, 31, 33), np.complex64)
    point[0, 15, 16] = 1
    blurred = parts.smoothed(point, SAMPLING_A, None, 0.8)[0].real
    x = (np.arange(31) - 15) * SAMPLING_A[0]
    y = (np.arange(33) - 16) * SAMPLING_A[1]
    expected = np.exp(-(x[:, None] ** 2 + y**2) / (2 * 0.8**2))
    expected *= math.prod(SAMPLING_A) / (2 * np.pi * 0.8**2)
    np.testing.assert_allclose(blurred, expected, atol=2e-5)


def test_high_pass_takes_slow_phases_only():
    x = np.arange(40)[:, None] * SAMPLING_A[0] * np.ones((1, 8))
    slow, fast = 0.3 * np.cos(2 * np.pi * x / 16), 0.2 * np.cos(2 * np.pi * x / 1.6)
    waves = (0.9 * np.exp(1j * (0.5 + slow + fast)))[None].astype(np.complex64)
    found = parts.without_slow_phase(waves, SAMPLING_A, 5.0)[0]
    np.testing.assert_allclose(np.abs(found), 0.9, rtol=1e-5)
    np.testing.assert_allclose(np.angle(found), fast, atol=0.01)


def test_total_variation_falls_and_edges_stay():
    step = np.ones((1, 16, 20), np.complex64)
    step[:, :, 10:] = np.exp(0.5j)
    noisy = step + 0.02 * random_waves(1, 16, 20)
    flat = parts.flattened(noisy, 0.05, steps=20)
    assert total_variation(flat) < 0.5 * total_variation(noisy)
    assert np.abs(flat - step).std() < 0.6 * np.abs(noisy - step).std()
    np.testing.assert_allclose(flat.mean(), noisy.mean(), rtol=1e-5)


def total_variation(waves):
    return np.abs(np.diff(waves, axis=1)).sum() + np.abs(np.diff(waves, axis=2)).sum()


def test_slices_that_look_alike_from_above_become_alike():
    waves = random_waves(4, 12, 14)
    kept = parts.kz_filtered(waves, (5.0, *SAMPLING_A), 1e-6)
    for slices in (kept, waves):
        slices -= slices.mean(axis=(1, 2), keepdims=True)  # these are alike at any weight
    np.testing.assert_allclose(kept, waves, atol=1e-4)
    alike = parts.kz_filtered(waves, (5.0, *SAMPLING_A), 1e4)
    np.testing.assert_allclose(alike, np.broadcast_to(waves.mean(axis=0), alike.shape), atol=1e-3)
    means = parts.kz_filtered(waves, (5.0, *SAMPLING_A), 1.0).mean(axis=(1, 2))
    np.testing.assert_allclose(means, waves.mean(), atol=1e-5)
    same = np.broadcast_to(waves[:1], (4, 12, 14))
    np.testing.assert_allclose(parts.kz_filtered(same, (5.0, *SAMPLING_A), 1.0), same, atol=1e-5)


def test_modes_become_orthogonal_and_stay_the_same_mixture():
    modes = random_waves(3, 6, 7)
    turned, matrix = parts.orthogonal(modes)
    np.testing.assert_allclose(matrix @ matrix.conj().T, np.eye(3), atol=1e-6)
    flat = turned.reshape(3, -1)
    overlaps = flat.conj() @ flat.T
    np.testing.assert_allclose(overlaps, np.diag(np.diag(overlaps)), atol=1e-4)
    assert (np.diff(np.diag(overlaps).real) <= 0).all()
    before, after = (np.abs(np.fft.fft2(m)) ** 2 for m in (modes, turned))
    np.testing.assert_allclose(after.sum(axis=0), before.sum(axis=0), rtol=1e-4)


def test_modulus_of_the_probe():
    modes, known = random_waves(2, 6, 7), np.abs(RNG.normal(size=(6, 7))) + 0.5
    fixed = parts.with_modulus(modes, known, 1.0)
    modulus = np.sqrt((np.abs(np.fft.fft2(fixed)) ** 2).sum(axis=0))
    np.testing.assert_allclose(modulus, known, rtol=1e-4)
    np.testing.assert_allclose(parts.with_modulus(modes, known, 0.0), modes, atol=1e-5)


def test_centring_moves_probe_and_object_together():
    x, y = np.indices((24, 26))
    probe = np.exp(-((x - 13.4) ** 2 + (y - 11.8) ** 2) / 6)[None].astype(np.complex64)
    slices = np.exp(1j * np.exp(-((x - 9.0) ** 2 + (y - 10.0) ** 2) / 8))[None]
    modes, moved = parts.centred(probe, slices.astype(np.complex64))
    intensity = np.abs(modes[0]) ** 2
    center = [(intensity * axis).sum() / intensity.sum() for axis in (x, y)]
    np.testing.assert_allclose(center, (12, 13), atol=1e-3)
    phase = np.angle(moved[0])
    at = [(phase * axis)[3:].sum() / phase[3:].sum() for axis in (x, y)]
    np.testing.assert_allclose(at, (9 - 1.4, 10 + 1.2), atol=0.05)


# ---- in the iteration ----------------------------------------------------------------------------
def test_results_obey_their_constraints():
    pure = solve(object_type="pure phase", positivity=True)
    np.testing.assert_allclose(np.abs(pure.object), 1, rtol=1e-5)
    assert (np.angle(pure.object) > -1e-5).all()
    assert np.abs(solve(max_amplitude=1.05).object).max() < 1.05001
    alike = solve(slices=3, slice_thickness_A=2.0, identical_slices=True).object
    assert (alike == alike[0]).all()


def test_defaults_change_nothing():
    neutral = solve(tv_weight=0.0, blur_A=0.0, kz_weight=0.0, fix_probe_modulus=0.0)
    assert neutral.object.tobytes() == solve().object.tobytes()
    assert solve(max_amplitude=1e6).errors == pytest.approx(solve().errors, rel=1e-4)


def test_probe_obeys_its_constraints():
    _, truth = scanned()
    fixed = solve(vacuum=truth.vacuum, fix_probe_modulus=1.0, modes=2).probe
    modulus = (np.abs(np.fft.fft2(fixed)) ** 2).sum(axis=0)
    known = np.fft.fftshift(truth.vacuum.data)
    assert np.corrcoef(modulus.ravel(), known.ravel())[0, 1] > 0.999
    small = np.abs(solve(probe_radius_A=4.0).probe[0]) ** 2
    x, y = ((np.arange(n) - n // 2) / (n * 0.06) for n in small.shape)
    assert small[np.hypot(x[:, None], y) > 4.5].sum() < 1e-6 * small.sum()
    kept = np.abs(np.fft.fft2(solve(probe_aperture=1.1).probe[0]))
    k = np.hypot(*np.meshgrid(*(np.fft.fftfreq(40, 1 / (40 * 0.06)),) * 2))
    assert kept[k > 1.1 * 20e-3 / truth_wavelength() + 0.06].max() < 1e-3 * kept.max()


def truth_wavelength():
    return Optics.of(scanned()[1].calibration, (40, 40)).wavelength_A


def test_kz_weight_makes_slices_of_a_thin_object_alike():
    free, tied = (
        solve(10, slices=3, slice_thickness_A=4.0, kz_weight=w).object for w in (0.0, 8.0)
    )
    assert np.abs(np.diff(tied, axis=0)).mean() < 0.5 * np.abs(np.diff(free, axis=0)).mean()


# ---- positions -----------------------------------------------------------------------------------
def offsets(result, truth):
    """Errors (P, 2) Å of positions, before and after, each without its mean."""
    true = truth.positions_A.reshape(-1, 2) @ result.optics.to_detector().T
    first = result.optics.positions_A(truth.positions_A.shape[:2]).reshape(-1, 2)
    found = result.positions_px.reshape(-1, 2) * np.array(result.sampling_A)
    return tuple(np.std(p - true, axis=0).max() for p in (first, found))


def test_positions_are_found():
    _, truth = scanned(1e6, 0.15)
    result = solve(24, 1e6, 0.15, refine_positions="free")
    before, after = offsets(result, truth)
    assert before > 0.1 and after < 0.35 * before
    assert result.errors[-1] < 0.9 * solve(24, 1e6, 0.15).errors[-1]


def test_right_positions_stay():
    _, truth = scanned(5000.0)
    result = solve(12, 5000.0, refine_positions="free")
    assert offsets(result, truth)[1] < 0.03


def test_positions_go_no_further_than_allowed():
    result = solve(12, 1e6, 0.15, refine_positions="free", max_move_A=0.05)
    first = result.optics.positions_A((11, 13)).reshape(-1, 2)
    away = result.positions_px.reshape(-1, 2) * np.array(result.sampling_A) - first
    away -= np.median(away, axis=0)
    assert np.linalg.norm(away, axis=1).max() < 0.075


def test_affine_positions_turn_together():
    cube, truth = scanned(1e6)
    wrong = cube.with_calibration(rotation_rad=truth.rotation_rad + 0.08)
    result = ptychography(
        wrong, defocus_A=80.0, iterations=25, refine_positions="affine", positions_every=1,
        positions_from=3, max_move_A=2.0,
    )  # fmt: skip
    at = result.positions_px.reshape(-1, 2) * np.array(result.sampling_A)
    first = result.optics.positions_A((11, 13)).reshape(-1, 2)
    at, first = at - at.mean(axis=0), first - first.mean(axis=0)
    matrix = np.linalg.lstsq(first, at, rcond=None)[0].T
    np.testing.assert_allclose(first @ matrix.T, at, atol=1e-6)
    turn = math.atan2(matrix[1, 0] - matrix[0, 1], matrix[0, 0] + matrix[1, 1])
    # The result has the rotation of its positions: what is left of them is scale and stretch.
    assert abs(turn) < 1e-6
    # Object and probe give way as well, so that it takes many iterations to get there.
    assert 0.03 < truth.rotation_rad + 0.08 - result.optics.rotation_rad < 0.1
    assert result.calibration_changes()["rotation_rad"] == result.optics.rotation_rad
    np.testing.assert_allclose(result.scan_matrix, result.scan_matrix.T, atol=1e-9)
    assert result.scan_scale == pytest.approx(1, abs=0.03) and result.scan_stretch[0] < 0.05


def test_moves_that_are_noise_are_taken_back():
    rng = np.random.default_rng(5)
    information = np.broadcast_to(np.diag([100.0, 25.0]), (400, 2, 2))
    noise = rng.normal(size=(400, 2)) * (0.1, 0.2)
    assert shrunk(noise, information).std() < 0.05
    true = rng.normal(size=(400, 2)) * 0.5
    found = shrunk(true + noise, information)
    assert (found - true).std() < noise.std()


# ---- aberrations of a probe ----------------------------------------------------------------------
def test_aberrations_of_a_probe():
    true = Aberrations({"C10": -95.0, "C12": 12.0, "phi12": 0.4, "C21": 600.0, "C30": 4e4})
    optics = Optics((48, 52), (0.03, 0.031), 80e3, 21.0, (1.0, 1.0))
    probe = np.fft.fftshift(optics.probe(true)) * np.exp(0.7j)
    found, left = fit_aberrations(probe, optics, Aberrations({"C10": -80.0}))
    assert left < 1e-3
    assert found.C("C10") == pytest.approx(-95, abs=0.5)
    assert found.C("C12") == pytest.approx(12, abs=0.2)
    assert found.angle("C12") == pytest.approx(0.4, abs=0.01)
    assert found.C("C21") == pytest.approx(600, rel=0.02)
    assert found.C("C30") == pytest.approx(4e4, rel=0.02)
    with pytest.raises(ParameterError, match="probe"):
        fit_aberrations(probe[:40], optics, true)
