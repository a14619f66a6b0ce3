"""Polycrystal, phase object, glass and vacuum against closed forms."""

import numpy as np
import pytest

from py4DSTEM import ParameterError, ShapeError
from py4DSTEM.simulate import amorphous, phase_object, polycrystal, powder_rings, vacuum_probe

# ---- vacuum --------------------------------------------------------------------------------------


def test_vacuum_probe_is_a_disk_of_known_place_and_size():
    probe = vacuum_probe((50, 40), 6.0, center=(22.3, 19.8), dose=None)
    i, j = np.indices(probe.shape)
    data = probe.data.astype(float)
    assert data.sum() == pytest.approx(1, abs=1e-3)
    assert np.sum(i * data) == pytest.approx(22.3, abs=5e-3)
    assert np.sum(j * data) == pytest.approx(19.8, abs=5e-3)
    second_moment = np.sum(((i - 22.3) ** 2 + (j - 19.8) ** 2) * data)
    assert second_moment == pytest.approx(6**2 / 2, rel=0.05)


def test_vacuum_probe_counts():
    probe = vacuum_probe((32, 32), 5, dose=1e5, seed=2)
    assert probe.dtype == np.uint16
    assert probe.data.sum() == pytest.approx(1e5, abs=5 * np.sqrt(1e5))


# ---- polycrystal ---------------------------------------------------------------------------------


def test_zone_axis_shows_the_allowed_reflections_at_their_places():
    scan = polycrystal((1, 1), (96, 96), orientations=[np.eye(3)], thickness_A=20, dose=None)
    spots = scan.truth.spots[0]
    flat = spots[np.abs(spots["l"]) == 0]
    assert {(0, 0), (2, 0), (0, 2), (2, 2)} <= set(zip(flat["h"], flat["k"], strict=True))
    assert all(h % 2 == 0 and k % 2 == 0 for h, k in zip(flat["h"], flat["k"], strict=True))
    np.testing.assert_allclose(flat["gx"], flat["h"] / 4.0782)
    # The Ewald sphere bends towards +z: in the plane g_z = 0 every excitation error is negative.
    wavelength = scan.truth.calibration.wavelength_A
    g2 = flat["gx"] ** 2 + flat["gy"] ** 2
    np.testing.assert_allclose(flat["s"], -wavelength * g2 / 2, atol=1e-15)


def test_columns_of_the_orientation_are_the_sample_axes():
    turn = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])  # sample x along crystal y
    spots = polycrystal((1, 1), (64, 64), orientations=[turn]).truth.spots[0]
    spot = spots[(spots["h"] == 0) & (spots["k"] == 2) & (spots["l"] == 0)]
    assert spot["gx"][0] == pytest.approx(2 / 4.0782) and spot["gy"][0] == pytest.approx(0)


def test_grains_cover_the_scan_and_share_their_pattern():
    scan = polycrystal((8, 9), (48, 48), grains=4, dose=None, seed=5)
    truth = scan.truth
    assert truth.labels.shape == (8, 9) and set(np.unique(truth.labels)) <= set(range(4))
    first, second = np.argwhere(truth.labels == truth.labels[0, 0])[:2]
    np.testing.assert_array_equal(scan.cube.data[tuple(first)], scan.cube.data[tuple(second)])
    identity = truth.matrices @ truth.matrices.swapaxes(-1, -2)
    np.testing.assert_allclose(identity, np.broadcast_to(np.eye(3), identity.shape), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(truth.orientations), 1)
    assert [s["fraction"].sum() for s in truth.spots] == pytest.approx([1] * 4)
    assert len(truth.peaks()[0, 0]) == len(truth.spots[truth.labels[0, 0]])


def test_polycrystal_refuses_nonsense():
    with pytest.raises(ParameterError, match="known: Ag"):
        polycrystal((1, 1), (32, 32), crystal="Xx")
    with pytest.raises(ParameterError, match="proper rotation"):
        polycrystal((1, 1), (32, 32), orientations=[-np.eye(3)])
    with pytest.raises(ShapeError, match="shape"):
        polycrystal((1, 1), (32, 32), orientations=np.eye(3))


# ---- powder --------------------------------------------------------------------------------------


def test_rings_lie_on_their_ellipses_and_hold_their_electrons():
    rings = powder_rings(
        (120, 110), center=(61.2, 54.7), ellipse=(1.05, 1.0, 0.4), background=0, dose=None
    )
    truth, data = rings.truth, rings.pattern.data.astype(float)
    assert 0.8 < data.sum() < 1  # the rest is beside the detector
    vectors = np.indices(data.shape).reshape(2, -1).T - (61.2, 54.7)
    q = np.linalg.norm(vectors @ truth.calibration.Q_matrix("A^-1").T, axis=1)
    first, second = truth.rings_A[:2]
    assert first == pytest.approx(np.sqrt(3) / 4.0782) and second == pytest.approx(2 / 4.0782)
    near = np.abs(q - first) < 0.4 * (second - first)
    assert np.average(q[near], weights=data.ravel()[near]) == pytest.approx(first, rel=1e-3)
    assert truth.fractions.sum() == pytest.approx(0.4)


def test_an_experimenter_does_not_know_the_truth_of_a_powder_pattern():
    known = powder_rings((64, 64), Q_pixel_size_A=0.03).pattern.calibration
    assert known.origin_px is None and known.ellipse is None and not known.Q[0].calibrated


def test_powder_refuses_nonsense():
    with pytest.raises(ParameterError, match="direct beam"):
        powder_rings((32, 32), scattered=0.7, background=0.4)
    with pytest.raises(ParameterError, match="larger pixel size"):
        powder_rings((32, 32), Q_pixel_size_A=1e-3)


# ---- phase object --------------------------------------------------------------------------------


def _direct(truth, position):
    """The pattern of one position straight from the definition, on the grid of the truth."""
    size, step = len(truth.probe), truth.sampling_A
    pixel = np.rint(truth.positions_A[position] / step).astype(int)
    window = np.arange(size) - size // 2
    phase = truth.phase[np.ix_(pixel[0] + window, pixel[1] + window)]
    k = np.fft.fftshift(np.fft.fftfreq(size))
    kernel = np.exp(-2j * np.pi * np.outer(k, np.arange(size)))
    return lambda wave: kernel @ (wave * np.exp(1j * phase)) @ kernel.T / size, phase


@pytest.mark.parametrize("strength", [1.0, 0.02])
def test_pattern_follows_from_probe_and_phase(strength):
    # A step of exactly two pixels puts every position on the grid of the phase.
    step = 2 / (32 * 0.06)
    scan = phase_object(
        (3, 4), (32, 32), step_A=step, Q_pixel_size_A=0.06, rotation_rad=0, dose=None,
        strength=strength, seed=1,
    )  # fmt: skip
    transform, phase = _direct(scan.truth, (1, 2))
    exact = np.abs(transform(scan.truth.probe)) ** 2
    measured = scan.cube.data[1, 2]
    # Only the edges of the two periodic boxes differ.
    assert np.abs(measured - exact).max() < 2e-4 * exact.max()
    if strength < 0.1:
        size = len(scan.truth.probe)
        flat = np.exp(-1j * phase)
        before = transform(scan.truth.probe * flat)
        first_order = transform(scan.truth.probe * flat * 1j * phase)
        weak = np.abs(before) ** 2 + 2 * np.real(np.conj(before) * first_order)
        assert np.abs(measured - weak).max() < 0.01 * np.abs(measured - np.abs(before) ** 2).max()
        assert size == 32


def _centers(cube):
    i = np.arange(cube.shape[2]) - cube.shape[2] / 2
    x = np.einsum("abij,i->ab", cube.data, i)
    y = np.einsum("abij,j->ab", cube.data, i)
    return np.stack([x, y], axis=-1) * cube.calibration.Q_pixel_size


@pytest.mark.parametrize(("angle", "flip"), [(0.0, False), (0.5, False), (-0.4, True)])
def test_centre_of_mass_is_the_gradient_of_the_phase(angle, flip):
    scan = phase_object(
        (10, 9), (48, 48), rotation_rad=angle, flip=flip, defocus_A=0, dose=None, seed=3,
        Q_pixel_size_A=0.05,
    )  # fmt: skip
    truth, centers = scan.truth, _centers(scan.cube)
    # From detector to scan axes: exchange, then rotate.
    if flip:
        centers = centers[..., ::-1]
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    centers = centers @ turn.T
    # Ehrenfest: the mean momentum is the gradient, averaged over the probe (round at focus).
    n = truth.phase.shape
    qx, qy = np.fft.fftfreq(n[0])[:, None], np.fft.fftfreq(n[1])[None, :]
    spectrum = np.fft.fft2(truth.phase)
    half = len(truth.probe) // 2
    window = np.zeros(n)
    window[: 2 * half, : 2 * half] = np.abs(truth.probe) ** 2
    blur = np.conj(np.fft.fft2(np.roll(window, (-half, -half), (0, 1))))
    for axis, q in enumerate((qx, qy)):
        gradient = spectrum * blur * 1j * q / truth.sampling_A
        where = truth.positions_A.reshape(-1, 2) / truth.sampling_A
        waves = np.exp(2j * np.pi * where[:, :1, None] * qx) * np.exp(
            2j * np.pi * where[:, 1:, None] * qy
        )
        expected = np.real((waves * gradient).sum(axis=(1, 2))) / (n[0] * n[1])
        scale = np.abs(expected).max()
        np.testing.assert_allclose(centers[..., axis].ravel(), expected, atol=0.02 * scale)


def test_electrons_are_deflected_towards_atoms_and_none_are_lost():
    scan = phase_object((6, 6), (48, 48), dose=None, seed=2, Q_pixel_size_A=0.05)
    np.testing.assert_allclose(scan.cube.data.sum(axis=(2, 3)), 1, atol=1e-5)
    assert scan.truth.phase.max() > 0.15
    assert np.sum(np.abs(scan.truth.probe) ** 2) == pytest.approx(1)
    x, y = np.rint(scan.truth.atoms_A / scan.truth.sampling_A).astype(int).T
    assert scan.truth.phase[x, y].mean() > 2 * scan.truth.phase.mean()


def test_defocus_has_the_sign_of_the_conventions():
    truth = phase_object((1, 1), (32, 32), defocus_A=50, Q_pixel_size_A=0.06, dose=None).truth
    wave = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(truth.probe)))
    wavelength, k = truth.calibration.wavelength_A, 5 * 0.06
    turn = np.angle(wave[16 + 5, 16] / wave[16, 16])
    # exp(−2πi χ/λ), χ = C10 (λk)²/2 and C10 = −defocus: positive here.
    assert turn == pytest.approx(np.pi * wavelength * 50 * k**2)


def test_phase_object_refuses_nonsense():
    with pytest.raises(ParameterError, match="even and square"):
        phase_object((1, 1), (32, 30))
    with pytest.raises(ParameterError, match="bright-field"):
        phase_object((1, 1), (32, 32), semiangle_mrad=60)
    with pytest.raises(ParameterError, match="jitter_A"):
        phase_object((1, 1), (32, 32), jitter_A=-1, Q_pixel_size_A=0.06)


# ---- glass ---------------------------------------------------------------------------------------


def test_mean_profile_of_the_glass_is_the_known_one():
    scan = amorphous((10, 10), (64, 64), dose=None, seed=1)
    truth, step = scan.truth, scan.cube.calibration.Q_pixel_size
    i, j = np.indices((64, 64))
    q = np.hypot(i - truth.origin_px[0, 0, 0], j - truth.origin_px[0, 0, 1])
    ring = np.rint(q).astype(int).ravel()
    profile = np.bincount(ring, scan.cube.data.mean(axis=(0, 1)).ravel()) / np.bincount(ring)
    rings = slice(14, 32)  # from before the first peak to the edge
    assert step * 14 < truth.q_A[np.argmax(truth.structure_factor)]
    np.testing.assert_allclose(profile[rings], truth.intensity[rings], rtol=0.12)
    assert scan.cube.data.sum(axis=(2, 3)).mean() == pytest.approx(1, abs=0.02)


def test_glass_is_dense_and_keeps_its_distance():
    truth = amorphous((1, 1), (16, 16), diameter_A=2.5, packing=0.5, seed=2).truth
    first = truth.r_A[np.argmax(truth.g)]
    assert 2.3 < first < 2.7 and truth.g[truth.r_A < 2].max() < 0.1
    assert truth.g[(truth.r_A > 12) & (truth.r_A < 18)].mean() == pytest.approx(1, abs=0.02)
    assert truth.density_A3 == pytest.approx(0.5 / (np.pi / 6 * 2.5**3), rel=1e-3)


def test_speckle_is_fully_developed():
    scan = amorphous((10, 10), (48, 48), dose=None, seed=3)
    q = np.hypot(*(np.indices((48, 48)) - 24)) * 0.03
    ring = (q > 0.4) & (q < 0.55)
    values = scan.cube.data[:, :, ring]
    contrast = values.std(axis=(0, 1)) / values.mean(axis=(0, 1))
    assert contrast.mean() == pytest.approx(1, abs=0.15)  # negative exponential statistics


@pytest.mark.parametrize("make", [polycrystal, amorphous])
def test_seeds(make):
    first, again, other = (make((2, 2), (32, 32), seed=s).cube.data for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_phase_object_seed_and_history():
    kwargs = {"Q_pixel_size_A": 0.06, "jitter_A": 0.05}
    first, again = (phase_object((2, 2), (32, 32), seed=1, **kwargs) for _ in range(2))
    np.testing.assert_array_equal(first.cube.data, again.cube.data)
    step = first.cube.history.steps[-1]
    assert step.kind == "simulate-phase-object" and step.parameters["seed"] == 1
    assert "Q_shape" in step.parameters


def test_amorphous_refuses_nonsense():
    with pytest.raises(ParameterError, match="packing"):
        amorphous((1, 1), (16, 16), packing=0.9)
    with pytest.raises(ParameterError, match="known: C"):
        amorphous((1, 1), (16, 16), element="Xx")
