"""Rotation and flip from the shadow image in one defocused pattern."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import ndimage

from py4DSTEM import DataCube, measure_rotation, show
from py4DSTEM.errors import ParameterError, ShapeError, SolveError
from py4DSTEM.process.calibrate.shadow import match_shadow

SCAN, Q_SHAPE, CENTER, RADIUS = (64, 56), (48, 52), np.array([23.3, 25.8]), 18.3
MARGIN, FINE = 150, 2.0  # of the specimen around the scan; its samples per scan step


def specimen(seed: int, contrast: float = 0.15) -> np.ndarray:
    """An image that repeats nowhere, with structure of several sizes."""
    rng = np.random.default_rng(seed)
    noise = (s * ndimage.gaussian_filter(rng.standard_normal((400, 400)), s) for s in (3, 6, 12))
    image = sum(noise)
    return 1 + contrast * image / image.std()


def seen(
    rotation: float,
    flip: bool,
    scale: float = 1.5,
    *,
    seed: int = 0,
    counts: float = 100,
    steps: tuple[float, float] = (1.0, 1.0),
) -> tuple[DataCube, np.ndarray]:
    """A scan in focus, and a pattern that shows ``place + scale R(rotation) k``, upright."""
    rng = np.random.default_rng(seed + 1000)
    big = specimen(seed)
    image = ndimage.map_coordinates(
        big, np.indices(SCAN) * FINE * np.array(steps)[:, None, None] + MARGIN
    )
    k = np.moveaxis(np.indices(Q_SHAPE), 0, -1) - CENTER
    disk = np.clip(RADIUS + 0.5 - np.linalg.norm(k, axis=-1), 0, 1)
    data = rng.poisson(image[..., None, None] * disk * 2000 / disk.sum()).astype(np.uint16)
    c, s = math.cos(rotation), math.sin(rotation)
    turned = (k[..., ::-1] if flip else k) @ np.array([[c, -s], [s, c]]).T
    place = scale * turned + np.array(SCAN) * steps / 2 + (2.0, -3.0)
    shadow = ndimage.map_coordinates(big, np.moveaxis(place, -1, 0) * FINE + MARGIN)
    return DataCube(data), rng.poisson(shadow * disk * counts)


def off(a: float, b: float) -> float:
    return math.remainder(a - b, 2 * math.pi)


@pytest.mark.parametrize(
    ("rotation", "flip", "scale"),
    [(0.3, False, 1.6), (-1.0, True, 1.0), (2.5, True, 2.0), (-2.9, False, 1.3)],
)
def test_every_angle_and_both_flips_are_found(rotation: float, flip: bool, scale: float) -> None:
    cube, shadow = seen(rotation, flip, scale, seed=3)
    measured = measure_rotation(cube, shadow=shadow, defocus="over")
    assert measured.flip is flip
    assert abs(off(measured.rotation_rad, rotation)) < 4 * measured.sigma_rad
    assert measured.sigma_rad < math.radians(0.6)
    assert measured.confidence > 1.1
    assert (measured.method, measured.half_turn_by) == ("shadow", "defocus")
    row = measured.curve["misfit_rms"][int(flip)]
    nearest = measured.curve["angles_rad"][row.argmin()]
    assert abs(math.remainder(nearest - rotation, math.pi)) < math.radians(5)


def test_the_half_turn_is_that_of_the_given_angle() -> None:
    cube, shadow = seen(-1.0, True, 1.0, seed=3)
    measured, under = (
        measure_rotation(cube, shadow=shadow, **known)
        for known in ({"defocus": "over"}, {"near_deg": math.degrees(-1.0) + 180})
    )
    assert abs(off(under.rotation_rad, measured.rotation_rad + math.pi)) < 1e-9


def test_sigmas_are_honest() -> None:
    rng, pulls = np.random.default_rng(5), []
    for seed in range(12):
        rotation, flip = rng.uniform(-3, 3), bool(seed % 2)
        cube, shadow = seen(rotation, flip, rng.uniform(0.9, 1.9), seed=seed, counts=50)
        found = match_shadow(cube, shadow.astype(float))
        assert found.mirrored is flip
        match = found.matches[flip]
        pulls.append(off(match.angle, rotation) / math.sqrt(match.covariance[0, 0]))
    assert 0.6 < np.std(pulls) < 1.5 and abs(np.mean(pulls)) < 0.7


def test_oblong_scan_steps_are_respected() -> None:
    cube, shadow = seen(0.7, False, seed=4, steps=(1.0, 1.25))
    cube = cube.with_calibration(R_pixel_size=(2.0, 2.5), R_pixel_units="A")
    measured = measure_rotation(cube, shadow=shadow, defocus="over")
    assert abs(off(measured.rotation_rad, 0.7)) < math.radians(1)


def test_defocus_follows_from_the_scale() -> None:
    cube, shadow = seen(0.3, False, 1.5, seed=3)
    cube = cube.with_calibration(
        R_pixel_size=20.0, R_pixel_units="A", Q_pixel_size=0.02, Q_pixel_units="A^-1",
        energy_eV=200e3,
    )  # fmt: skip
    measured = measure_rotation(cube, shadow=shadow, defocus="over")
    expected = -1.5 * 20 / (cube.calibration.wavelength_A * 0.02)
    assert measured.defocus_A == pytest.approx(expected, rel=0.01)
    assert abs(measured.defocus_A - expected) < 4 * measured.sigma_defocus_A
    figure, _ = show(measured)
    assert len(figure.axes) == 1


def wave_pattern(image: np.ndarray, place: tuple[int, int], defocus: float) -> np.ndarray:
    """``|FFT(ψ(r − R) t(r))|²`` with ``ψ(k) ∝ exp(iπ λ defocus k²)``, as `simulate` has it."""
    n, radius = 256, 60
    k = np.fft.fftfreq(n) * n
    square = k[:, None] ** 2 + k**2
    phase = np.exp(1j * math.pi * defocus * square / n)
    probe = np.fft.fftshift(np.fft.ifft2((square < radius**2) * phase))
    x, y = place
    wave = probe * image[x - n // 2 : x + n // 2, y - n // 2 : y + n // 2]
    pattern = np.abs(np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(wave)))) ** 2
    return pattern[64:192, 64:192].reshape(32, 4, 32, 4).sum(axis=(1, 3))


@pytest.mark.parametrize(("sign", "defocus"), [("under", 1.8), ("over", -1.8)])
def test_waves_say_which_way_up_a_shadow_is(sign: str, defocus: float) -> None:
    """The sign of the defocus against diffraction itself; detector and scan have the same axes."""
    image = ndimage.gaussian_filter(np.random.default_rng(8).standard_normal((400, 400)), 9)
    image = 1 + 0.15 * image / image.std()
    pixel = np.moveaxis(np.indices((32, 32)), 0, -1) - 15.625
    disk = np.linalg.norm(pixel, axis=-1) < 15
    scan = image[80:320:5, 84:324:5] ** 2
    cube = DataCube((1e3 * scan[..., None, None] * disk).astype(np.float32))
    shadow = wave_pattern(image, (200, 196), defocus)
    measured = measure_rotation(cube, shadow=shadow, defocus=sign)
    assert measured.flip is False
    assert abs(off(measured.rotation_rad, 0)) < math.radians(3)


def test_images_of_different_places_are_refused() -> None:
    cube, _ = seen(0.3, False, seed=1)
    _, other = seen(0.3, False, seed=2)
    with pytest.raises(SolveError, match="no more like one place"):
        measure_rotation(cube, shadow=other, defocus="over")


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda s: s[:-1], ShapeError, "does not fit"),
        (lambda s: s[None], ShapeError, "one pattern"),
        (lambda s: s * np.nan, ParameterError, "NaN"),
        (lambda s: s * 0 + 1, ParameterError, "no contrast"),
    ],
)
def test_bad_shadows_are_refused(change, error, words) -> None:
    cube, shadow = seen(0.3, False)
    with pytest.raises(error, match=words):
        measure_rotation(cube, shadow=change(shadow), defocus="over")
