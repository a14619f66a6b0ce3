"""Parallax on scans with known aberrations, rotation and phase."""

import math
from functools import cache

import numpy as np
import pytest
from scipy import ndimage

import py4DSTEM
from py4DSTEM import simulate
from py4DSTEM.core.aberrations import Aberrations
from py4DSTEM.errors import CalibrationMissing, ParameterError, ShapeError, SolveError
from py4DSTEM.process.phase.optics import Optics
from py4DSTEM.process.phase.parallax_image import transfer

ENERGY_EV, EDGE_RAD, STEP_A, PIXEL_A = 300e3, 6e-3, 4.0, 0.03


def weak_phase(shape, seed=0, cut=0.12):
    """A random phase (rad) on a scan grid, without what is finer than `cut` cycles per step."""
    q = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.fftfreq(shape[1])[None])
    waves = np.fft.fft2(np.random.default_rng(seed).normal(size=shape)) * np.exp(-((q / cut) ** 2))
    phase = np.fft.ifft2(waves).real
    phase = np.maximum(phase / phase.std(), -0.5) * 0.05  # peaks: more bright than dark
    return phase - phase.mean()


def scan_of(aberrations, rotation=0.4, flip=False, dose=None, shape=(48, 40), seed=0):
    """Patterns of a weak phase object by first-order theory, written out independently.

    The object and so the scan are periodic.
    """
    optics = Optics((24, 26), (PIXEL_A, PIXEL_A), ENERGY_EV, EDGE_RAD * 1e3, (STEP_A, STEP_A),
                    rotation, flip)  # fmt: skip
    phase = weak_phase(shape)
    waves = np.fft.fft2(phase)
    lam = optics.wavelength_A
    q = lam * np.stack(np.meshgrid(*(np.fft.fftfreq(n, STEP_A) for n in shape), indexing="ij"), -1)
    q = q @ optics.to_detector().T
    center = (11.3, 12.9)
    data = np.zeros((*shape, 24, 26))

    def wave(x, y):
        inside = np.hypot(x, y) < EDGE_RAD
        return inside * np.exp(-2j * np.pi / lam * aberrations.chi(x, y))

    for i, j in np.ndindex(24, 26):
        x, y = (i - center[0]) * PIXEL_A * lam, (j - center[1]) * PIXEL_A * lam
        if math.hypot(x, y) < EDGE_RAD:
            here = wave(x, y)
            seen = 1j * np.conj(here) * wave(x - q[..., 0], y - q[..., 1])
            seen -= 1j * here * np.conj(wave(x + q[..., 0], y + q[..., 1]))
            data[..., i, j] = 1 + np.fft.ifft2(waves * seen).real
    if dose is not None:
        each = data[0, 0].sum()
        data = np.random.default_rng(seed).poisson(data * dose / each).astype(np.uint16)
    cube = py4DSTEM.DataCube(data).with_calibration(
        R_pixel_size=STEP_A, R_pixel_units="A", Q_pixel_size=PIXEL_A, Q_pixel_units="A^-1",
        energy_eV=ENERGY_EV, semiangle_mrad=EDGE_RAD * 1e3, origin_px=center,
    )  # fmt: skip
    return cube, phase


ASTIGMATIC = Aberrations({"C10": -3000.0, "C12": 250.0, "phi12": 0.5})


@cache
def astigmatic():
    return scan_of(ASTIGMATIC)


@pytest.mark.parametrize(("rotation", "flip"), [(0.4, False), (-2.1, True)])
def test_defocus_astigmatism_rotation_and_flip(rotation, flip):
    cube, _ = scan_of(ASTIGMATIC, rotation, flip)
    found = cube.parallax(defocus="under")
    assert found.flip == flip
    assert found.rotation_rad == pytest.approx(rotation, abs=0.005)
    assert found.defocus_A == pytest.approx(3000, rel=0.01)
    assert found.aberrations.C("C12") == pytest.approx(250, abs=30)
    assert found.aberrations.angle("C12") == pytest.approx(0.5, abs=0.06)
    # Each group on its own is displaced as the truth has it.
    alpha = found.k_A * cube.calibration.wavelength_A
    optics = Optics.of(cube.calibration, cube.Q_shape, rotation_rad=rotation, flip=flip)
    true = -ASTIGMATIC.gradient(*alpha.T).T @ optics.to_detector()
    known = np.isfinite(found.shifts_A).all(axis=1)
    assert known.sum() > 30
    assert np.sqrt(np.mean((found.shifts_A - true)[known] ** 2)) < 0.5


def test_the_other_half_turn():
    cube, _ = astigmatic()
    under, over = cube.parallax(defocus="under"), cube.parallax(defocus="over")
    assert over.defocus_A == pytest.approx(-under.defocus_A)
    turned = over.rotation_rad - under.rotation_rad
    assert math.cos(turned) == pytest.approx(-1)
    np.testing.assert_allclose(over.phase.data, -under.phase.data)
    np.testing.assert_allclose(over.fitted_A, under.fitted_A, atol=1e-9)
    near = cube.parallax(near_deg=math.degrees(0.4) + 60)
    assert near.rotation_rad == pytest.approx(under.rotation_rad)
    known = cube.with_calibration(rotation_rad=0.4 + math.pi, flip=False).parallax()
    assert known.defocus_A == pytest.approx(over.defocus_A)
    assert known.half_turn_by == "calibration"


def test_phase_has_the_scale_of_the_truth():
    cube, phase = astigmatic()
    found = cube.parallax(defocus="under", upsampling=1)
    seen = found.phase.data[8:-8, 8:-8]
    # Low frequencies, which have no contrast, are lost; take the bands that have some.
    q = np.hypot(np.fft.fftfreq(48)[:, None], np.fft.fftfreq(40)[None])
    band = (q > 0.08) & (q < 0.16)
    filtered = [np.fft.ifft2(np.fft.fft2(a) * band).real for a in (phase, found.phase.data)]
    true, seen = (a[8:-8, 8:-8].ravel() for a in filtered)
    assert np.corrcoef(true, seen)[0, 1] > 0.97
    assert true @ seen / (true @ true) == pytest.approx(1.0, abs=0.1)


def test_coma_and_three_fold_astigmatism():
    true = Aberrations({"C10": -3000.0, "C21": 6e4, "phi21": 1.0, "C23": 4e4, "phi23": 0.3})
    cube, _ = scan_of(true)
    found = cube.parallax(order=2, defocus="under")
    assert found.defocus_A == pytest.approx(3000, rel=0.02)
    assert found.aberrations.C("C21") == pytest.approx(6e4, rel=0.2)
    assert found.aberrations.angle("C21") == pytest.approx(1.0, abs=0.2)
    assert found.aberrations.C("C23") == pytest.approx(4e4, rel=0.2)
    assert found.aberrations.angle("C23") == pytest.approx(0.3, abs=0.1)


def test_uncertainties_are_those_of_repeated_noise():
    pulls = []
    for seed in range(6):
        cube, _ = scan_of(Aberrations({"C10": -3000.0}), dose=30_000, shape=(40, 36), seed=seed)
        found = cube.parallax(defocus="under")
        pulls.append([
            (found.defocus_A - 3000) / found.sigma_defocus_A,
            (found.rotation_rad - 0.4) / found.sigmas["rotation_rad"],
        ])  # fmt: skip
    assert 0.4 < np.sqrt(np.mean(np.square(pulls))) < 2.0


def test_a_finer_grid_resolves_what_the_scan_does_not():
    scan = simulate.phase_object(
        (36, 34), defocus_A=140, step_A=1.2, strength=0.1, dose=None, seed=3
    )
    found = scan.cube.parallax(defocus="under")
    truth = scan.truth
    assert found.upsampling == 3
    assert found.defocus_A == pytest.approx(140, rel=0.03)
    assert found.rotation_rad == pytest.approx(truth.rotation_rad, abs=0.01)
    step = 1.2 / found.upsampling
    start = truth.positions_A[0, 0] / truth.sampling_A
    nx, ny = found.phase.shape
    at = [start[a] + np.arange(n) * step / truth.sampling_A for a, n in enumerate((nx, ny))]
    true = ndimage.map_coordinates(truth.phase, np.meshgrid(*at, indexing="ij"), order=3)
    inner = (slice(nx // 4, -nx // 4), slice(ny // 4, -ny // 4))
    # Beyond 1 / 2.4 Å⁻¹ the scan itself shows nothing; most of the lattice lies below.
    q = np.hypot(np.fft.fftfreq(nx, step)[:, None], np.fft.fftfreq(ny, step))
    band = (q > 0.25) & (q < 0.7)
    waves = [np.fft.fft2(a) * band for a in (true, found.phase.data)]
    true, seen = (np.fft.ifft2(w).real[inner].ravel() for w in waves)
    assert np.corrcoef(true, seen)[0, 1] > 0.75


def test_sections_are_sharpest_at_their_own_depth():
    cube, _ = astigmatic()
    found = cube.parallax(defocus="under")
    sections = cube.depth_section(found, [-600.0, 0.0, 600.0], upsampling=1)
    assert sections.labels == ("-600 Å", "0 Å", "600 Å")
    power = sections.data[:, 10:-10, 10:-10].var(axis=(1, 2))
    assert power.argmax() == 1
    with pytest.raises(ParameterError, match="same"):
        cube.depth_section(found, [1.0, 1.0])


def test_transfer_without_and_with_higher_orders_is_the_same_where_they_are_zero():
    optics = Optics((24, 26), (PIXEL_A, PIXEL_A), ENERGY_EV, 6.0, (STEP_A, STEP_A))
    q = np.meshgrid(np.linspace(0, 0.2, 9), np.linspace(-0.15, 0.2, 7), indexing="ij")
    plain = transfer(optics, ASTIGMATIC, q)
    general = transfer(optics, ASTIGMATIC.replace(C30=0.0), q)
    np.testing.assert_allclose(plain, general, atol=0.08)
    assert np.abs(plain).max() > 1


def test_nan_hot_and_dead_pixels_are_no_harm():
    cube, _ = astigmatic()
    data = np.array(cube.data)
    data[3, 5] = np.nan
    data[:, :, 11, 12] = 0.0
    data[:, :, 13, 9] = np.random.default_rng(1).normal(50, 20, data.shape[:2])
    found = py4DSTEM.DataCube(data, cube.calibration).parallax(defocus="under")
    assert found.defocus_A == pytest.approx(3000, rel=0.02)
    assert np.isfinite(found.phase.data).all()
    assert np.isfinite(found.image.data).all()


def test_a_beam_that_moves_is_followed():
    cube, _ = astigmatic()
    data, origins = np.array(cube.data), np.tile(cube.calibration.origin_px, (48, 40, 1))
    for i in range(48):
        data[i] = np.roll(data[i], i // 24, axis=1)
        origins[i, :, 0] += i // 24
    moved = py4DSTEM.DataCube(data, cube.calibration.replace(origin_px=origins))
    found = moved.parallax(defocus="under")
    assert found.defocus_A == pytest.approx(3000, rel=0.03)


def test_focus_is_said():
    cube, _ = scan_of(Aberrations(), dose=2000, shape=(24, 20))
    with pytest.raises(SolveError, match="focus"):
        cube.parallax()


def test_bad_input():
    cube, _ = astigmatic()
    with pytest.raises(ShapeError, match="too small"):
        py4DSTEM.DataCube(cube.data[:1], cube.calibration).parallax()
    with pytest.raises(CalibrationMissing):
        py4DSTEM.DataCube(cube.data).parallax()
    with pytest.raises(ParameterError, match="beyond the detector"):
        cube.with_calibration(origin_px=(1.0, 12.0)).parallax()
    with pytest.raises(ParameterError, match="empty"):
        py4DSTEM.DataCube(0 * np.array(cube.data), cube.calibration).parallax()
    with pytest.raises(ParameterError):
        cube.parallax(order=5)


def test_reference_scan(shared_data):
    h5py = pytest.importorskip("h5py")
    with h5py.File(shared_data / "dpc_parallax" / "data.h5") as file:
        data = file["data"][:]
    cube = py4DSTEM.DataCube(data).with_calibration(
        R_pixel_size=3.0, R_pixel_units="A", Q_pixel_size=0.01447619863967998,
        Q_pixel_units="A^-1", energy_eV=300e3, semiangle_mrad=6.0,
    )  # fmt: skip
    found = cube.parallax()
    # At the entrance surface 4500 Å; in the middle of the specimen less by half of 92.8 Å.
    assert found.defocus_A == pytest.approx(4500 - 46.4, rel=0.01)
    assert abs(found.rotation_deg - -12.0) < 0.5
    assert found.flip
    with np.load(shared_data / "dpc_parallax" / "truth.npz") as truth:
        phase, positions = truth["phase"], truth["positions_xy_A"]
    q = np.hypot(*np.meshgrid(*(np.fft.fftfreq(n, 0.72) for n in phase.shape), indexing="ij"))
    low = q < 2 * 6e-3 / cube.calibration.wavelength_A
    smooth = np.fft.ifft2(np.fft.fft2(phase - phase.mean()) * low).real
    at = (positions[..., ::-1] + 142.38) / 0.72
    true = ndimage.map_coordinates(smooth, np.moveaxis(at, -1, 0), order=3)[10:-10, 10:-10]
    seen = found.phase.data[:: found.upsampling, :: found.upsampling][10:-10, 10:-10]
    assert np.corrcoef(true.ravel(), seen.ravel())[0, 1] > 0.85
