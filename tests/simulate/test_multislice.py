"""Thick objects: propagation against closed forms, the thin limit, modes, frames, counts."""

import numpy as np
import pytest

from py4DSTEM import ParameterError
from py4DSTEM.core.aberrations import Aberrations
from py4DSTEM.simulate import phase_object, thick_object
from py4DSTEM.simulate.multislice import SliceStack, coherent_modes, fine_shape, propagator

SMALL = {"Q_pixel_size_A": 0.12, "thickness_A": 15.62}


def _one_atom(z=0.0, **kwargs):
    defaults = {"atoms_A": [[0.4, -0.7, z]], "atoms_Z": [40], "dose": None, "Q_pixel_size_A": 0.12}
    return thick_object((3, 2), (32, 40), **{**defaults, **kwargs})


# ---- engine --------------------------------------------------------------------------------------
def test_propagators_compose_and_are_unitary_within_the_limit():
    shape, sampling = (30, 44), (0.2, 0.25)
    once, twice = (propagator(shape, sampling, 0.03, d) for d in (12.0, 24.0))
    np.testing.assert_allclose(once * once, twice, atol=1e-6)
    kx = np.fft.fftfreq(30, 0.2)[:, None] * 0.4
    ky = np.fft.fftfreq(44, 0.25)[None] * 0.5
    np.testing.assert_allclose(np.abs(once), np.hypot(kx, ky) <= 2 / 3, atol=1e-6)


def test_a_gaussian_beam_spreads_as_in_the_closed_form():
    # ψ(r) = exp(−r²/w²) becomes exp(−r²/(w² + iλz/π)) / (1 + iλz/(πw²)).
    n, step, wavelength, z, w = 96, 0.25, 0.03, 60.0, 2.0
    x = (np.arange(n) - n // 2) * step
    r2 = x[:, None] ** 2 + x[None] ** 2
    stack = SliceStack.of_phase(np.zeros((5, n, n)), (step, step), z / 4, wavelength)
    start = np.exp(-r2 / w**2).astype(np.complex64)
    behind = stack.exit_waves(start[None], np.zeros((1, 2), np.int64))[0]
    found = np.fft.ifft2(behind)
    spread = 1j * wavelength * z / np.pi
    np.testing.assert_allclose(
        found, np.exp(-r2 / (w**2 + spread)) / (1 + spread / w**2), atol=2e-5
    )


def test_no_electron_is_lost_or_made_where_nothing_scatters_far():
    rng = np.random.default_rng(4)
    smooth = np.fft.ifft2(np.fft.fft2(rng.standard_normal((3, 60, 70)))[:, :4, :4], (60, 70)).real
    stack = SliceStack.of_phase(0.5 * smooth / smooth.std(), (0.2, 0.2), 10.0, 0.02)
    k = [np.fft.fftfreq(n, 1 / n) for n in (36, 42)]
    wave = np.exp(-(k[0][:, None] ** 2 + k[1][None] ** 2) / 16).astype(complex)[None]
    wave /= np.linalg.norm(wave)
    found = stack.patterns(wave, np.array([[30.2, 35.7], [25.0, 33.1]]), (24, 28))
    np.testing.assert_allclose(found.sum(axis=(1, 2)), 1, atol=1e-4)


# ---- scans ---------------------------------------------------------------------------------------
def test_one_slice_is_a_phase_object():
    thin = phase_object(
        (4, 3), (48, 48), Q_pixel_size_A=0.05, step_A=0.7, dose=None, rotation_rad=0.4, flip=True,
        aberrations={"C12": 30.0, "phi12": 0.5, "C30": 2e5}, jitter_A=0.1, seed=3,
    )  # fmt: skip
    truth = thin.truth
    middle = (truth.positions_A.min(axis=(0, 1)) + truth.positions_A.max(axis=(0, 1))) / 2
    places = np.column_stack([truth.atoms_A - middle, np.zeros(len(truth.atoms_A))])
    thick = thick_object(
        (4, 3), (48, 48), Q_pixel_size_A=0.05, step_A=0.7, dose=None, rotation_rad=0.4, flip=True,
        aberrations=truth.aberrations, jitter_A=0.1, seed=3, atoms_A=places, atoms_Z=truth.atoms_Z,
        thickness_A=1.0, slice_A=1.0, energy_eV=80e3, semiangle_mrad=20.0,
    )  # fmt: skip
    np.testing.assert_allclose(
        np.diff(thick.truth.positions_A, axis=0), np.diff(truth.positions_A, axis=0)
    )
    peak = thin.cube.data.max()
    # What the coarser grid of the thin object folds back is all that differs.
    assert np.abs(thick.cube.data - thin.cube.data).max() < 2e-3 * peak
    np.testing.assert_allclose(thick.truth.probe, truth.probe, atol=1e-12)
    assert thick.truth.phase.max() == pytest.approx(truth.phase.max(), rel=0.02)


def test_patterns_follow_from_the_truth_in_detector_axes():
    scan = thick_object(
        (3, 4), (40, 32), rotation_rad=0.5, flip=True, dose=None, source_size_A=0.3,
        probe_modes=2, drift_A=(0.4, -0.3), jitter_A=0.05, seed=5, **SMALL,
    )  # fmt: skip
    truth = scan.truth
    assert truth.probes.shape == (2, 40, 32)
    phase, step = truth.detector_phase, truth.detector_sampling_A
    shape = np.array(phase.shape[1:])
    k = [np.fft.fftfreq(n, s) for n, s in zip((40, 32), step, strict=True)]
    spread = np.exp(
        -1j * np.pi * truth.calibration.wavelength_A * truth.slice_A
        * (k[0][:, None] ** 2 + k[1][None] ** 2)
    )  # fmt: skip
    at = truth.detector_positions_A[1, 2] / step
    whole = np.floor(at).astype(int)
    shift = np.exp(-2j * np.pi * sum(
        np.expand_dims(f * s * d, 1 - a)
        for a, (f, s, d) in enumerate(zip(k, step, at - whole, strict=True))
    ))  # fmt: skip
    rows, columns = (w - n // 2 + np.arange(n) for w, n in zip(whole, (40, 32), strict=True))
    assert rows.min() >= 0 and columns.max() < shape[1]
    expected = np.zeros((40, 32))
    for probe in truth.probes:
        wave = np.fft.ifft2(np.fft.fft2(probe) * shift)
        for index, slab in enumerate(phase):
            spectrum = np.fft.fft2(wave * np.exp(1j * slab[np.ix_(rows, columns)]), norm="ortho")
            if index + 1 < len(phase):
                wave = np.fft.ifft2(spectrum * spread, norm="ortho")
        expected += np.fft.fftshift(np.abs(spectrum) ** 2)
    found = scan.cube.data[1, 2]
    assert np.abs(found - expected).max() < 0.01 * expected.max()
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.9999


def test_depth_is_defocus():
    # An atom 40 Å deep under a probe with C10 = 0 is one at the surface under C10 = +40 … and the
    # vacuum behind it changes no intensity.
    deep = _one_atom(40.0, thickness_A=42.0, slice_A=2.0, defocus_A=0.0)
    flat = _one_atom(0.0, thickness_A=2.0, slice_A=2.0, defocus_A=-40.0)
    other = _one_atom(0.0, thickness_A=2.0, slice_A=2.0, defocus_A=40.0)
    np.testing.assert_allclose(deep.cube.data, flat.cube.data, atol=2e-7)
    assert np.abs(deep.cube.data - other.cube.data).max() > 1e-5


def test_slices_converge():
    def data(slice_A):
        scan = thick_object((2, 3), (32, 32), slice_A=slice_A, dose=None, seed=2,
                            Q_pixel_size_A=0.12, thickness_A=31.24)  # fmt: skip
        return scan.cube.data.astype(float)

    exact, cell, half = data(1.9525), data(7.81), data(3.905)
    far, near = (np.abs(d - exact).sum() / exact.sum() for d in (cell, half))
    assert 0 < near < 0.6 * far < 0.1
    # Layers are half a cell apart: thinner slices are empty.
    np.testing.assert_allclose(data(1.9525 / 2), exact, atol=1e-6)


def test_defects_lie_where_the_truth_says():
    kwargs = {"dose": None, "seed": 7, "thickness_A": 39.05, "Q_pixel_size_A": 0.12}
    scan, perfect = (
        thick_object((8, 9), (32, 32), defects=n, step_A=1.5, rotation_rad=0.0, **kwargs)
        for n in (3, 0)
    )
    truth = scan.truth
    assert [d.kind for d in truth.defects] == ["Ba on Sr sites", "Ti vacancies", "Zr on Ti sites"]
    change = truth.phase - perfect.truth.phase
    for defect in truth.defects:
        first, last = (int(z / truth.slice_A + 1e-6) for z in defect.depth_A)
        x, y = np.rint(np.array(defect.place_A) / truth.sampling_A).astype(int)
        sign = np.sign(defect.Z_after - defect.Z_before)
        column = sign * change[:, x, y]
        inside = np.arange(len(column))
        inside = (inside >= first) & (inside <= last)
        assert column[inside].min() > 0.02 and np.abs(column[~inside]).max() < 0.005
    np.testing.assert_allclose(truth.slabs(2).sum(axis=0), truth.phase.sum(axis=0))
    np.testing.assert_allclose(
        truth.slabs(5, detector_axes=True)[1], truth.detector_phase[2:4].sum(axis=0)
    )
    with pytest.raises(ParameterError, match="equal thickness"):
        truth.slabs(3)


# ---- coherence, counts, frames -------------------------------------------------------------------
def test_modes_add_up_to_the_blurred_probe():
    n, step = 40, 0.1
    k = np.fft.fftfreq(n, step)
    radius = np.hypot(k[:, None], k[None])
    wave = (radius < 1.2) * np.exp(1j * np.pi * 0.02 * 80 * radius**2)
    wave = wave / np.linalg.norm(wave)
    modes = coherent_modes(
        wave, (k[:, None], k[None]), 0.02, source_size_A=0.2, focal_spread_A=0.0, count=40
    )
    overlaps = np.einsum("axy,bxy->ab", modes, modes.conj())
    assert np.abs(overlaps - np.diag(np.diag(overlaps))).max() < 1e-12
    assert np.trace(overlaps).real == pytest.approx(1)
    assert (np.diff(np.diag(overlaps).real) <= 1e-12).all()
    seen = (np.abs(np.fft.ifft2(modes)) ** 2).sum(axis=0)
    blur = np.exp(-2 * (np.pi * 0.2 * radius) ** 2)
    expected = np.fft.ifft2(np.fft.fft2(np.abs(np.fft.ifft2(wave)) ** 2) * blur).real
    np.testing.assert_allclose(seen, expected, atol=3e-3 * expected.max())


def test_focal_spread_leaves_the_aperture_alone():
    scan = _one_atom(thickness_A=2.0, slice_A=2.0, focal_spread_A=40.0)
    sharp = _one_atom(thickness_A=2.0, slice_A=2.0)
    assert len(scan.truth.probes) > 1 == len(sharp.truth.probes)
    np.testing.assert_allclose(scan.truth.vacuum.data, sharp.truth.vacuum.data, atol=1e-4)


def test_counts_are_poisson_about_the_mean_and_repeat_with_the_seed():
    kwargs = {"seed": 3, **SMALL}
    counts, again, mean = (
        thick_object((5, 4), (32, 32), dose=d, **kwargs).cube.data for d in (2e4, 2e4, None)
    )
    assert counts.dtype == np.uint16
    np.testing.assert_array_equal(counts, again)
    expected = mean.astype(float) * 2e4
    clear = expected > 5
    pull = (counts[clear] - expected[clear]) / np.sqrt(expected[clear])
    assert pull.mean() == pytest.approx(0, abs=5 / np.sqrt(clear.sum()))
    assert pull.var() == pytest.approx(1, abs=0.05)


def test_positions_drift_and_lie_in_the_frame():
    kwargs = {"dose": None, "rotation_rad": -0.6, "flip": True, **SMALL}
    scan = thick_object((3, 4), (32, 36), drift_A=(0.6, -0.9), **kwargs)
    truth = scan.truth
    still = thick_object((3, 4), (32, 36), **kwargs).truth.positions_A
    drift = (truth.positions_A - still).reshape(-1, 2)
    np.testing.assert_allclose(drift[[0, -1]], [[0, 0], [0.6, -0.9]], atol=1e-12)
    assert (np.diff(drift[:, 0]) > 0).all()
    # From detector to scan axes: exchange, then rotate.
    turn = np.array([[np.cos(-0.6), np.sin(0.6)], [np.sin(-0.6), np.cos(-0.6)]])
    seen = truth.detector_positions_A[..., ::-1] @ turn.T
    np.testing.assert_allclose(seen - seen[0, 0], truth.positions_A - truth.positions_A[0, 0])
    known = scan.cube.calibration
    assert known.rotation_rad is None and known.semiangle_mrad == pytest.approx(21)
    assert dict(scan.cube.history.steps[-1].parameters)["aberrations"] == {"C10": -60.0}


def test_aberrations_take_the_place_of_the_defocus():
    scan = _one_atom(thickness_A=2.0, slice_A=2.0, aberrations=Aberrations({"C10": 25.0}))
    assert scan.truth.defocus_A == -25.0
    thin = phase_object((1, 1), (32, 32), Q_pixel_size_A=0.06, aberrations={"defocus": 70.0})
    assert thin.truth.defocus_A == 70.0 and thin.truth.aberrations.C("C10") == -70.0


def test_fine_grids_are_even():
    assert fine_shape((30, 45)) == (46, 68)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"slice_A": 0.0}, "slice_A"),
        ({"thickness_A": 1e6, "slice_A": 1.0}, "at most 1000"),
        ({"source_size_A": -1.0}, "source_size_A"),
        ({"probe_modes": 0}, "probe_modes"),
        ({"semiangle_mrad": 80.0}, "too large for a detector"),
        ({"atoms_A": [[0, 0, 0]]}, "give both"),
        ({"atoms_A": [[0, 0]], "atoms_Z": [6]}, r"\(n, 3\)"),
        ({"atoms_A": [[0, 0, 99.0]], "atoms_Z": [6]}, "depths"),
        ({"atoms_A": [[0, 0, 0]], "atoms_Z": [0]}, "atomic numbers"),
        ({"defects": 500}, "no room"),
        ({"aberrations": {"C99": 1.0}}, "no aberration"),
        ({"drift_A": (np.nan, 0.0)}, "drift_A"),
    ],
)
def test_nonsense_is_refused(kwargs, message):
    with pytest.raises(ParameterError, match=message):
        thick_object((2, 2), (32, 32), **{**SMALL, **kwargs})
