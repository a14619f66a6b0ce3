"""Agreement of a phase with the truth: what is invisible does not count, all else does."""

import numpy as np
import pytest

from py4DSTEM.errors import ParameterError, ShapeError
from py4DSTEM.process.phase.compare import agreement, on_grid

STEP = (0.2, 0.25)


def smooth(x, y):
    return np.sin(1.1 * x + 0.4) * np.cos(0.7 * y) + 0.4 * np.sin(0.5 * x - 1.3 * y + 1)


def grid(shape=(60, 47), at=(0.0, 0.0)):
    x, y = np.indices(shape)
    return (x + at[0]) * STEP[0], (y + at[1]) * STEP[1]


def test_constant_plane_and_shift_do_not_count():
    x, y = grid()
    truth = smooth(x, y)
    phase = 0.8 * smooth(x - 0.31, y + 0.17) + 0.05 * x - 0.02 * y + 7
    found = agreement(phase, truth, STEP, max_shift_A=1.0)
    assert found.correlation == pytest.approx(1, abs=1e-4)
    assert found.scale == pytest.approx(0.8, abs=2e-3)
    assert found.shift_A == pytest.approx((0.31, -0.17), abs=5e-3)
    assert found.ramp_rad_per_A == pytest.approx((0.05, -0.02), abs=2e-3)
    assert found.rms_error_rad == pytest.approx(0.2 * found.rms_truth_rad, rel=0.02)


def test_noise_counts_as_much_as_it_is():
    x, y = grid((120, 110))
    truth = smooth(x, y)
    noise = 0.5 * np.random.default_rng(3).standard_normal(truth.shape)
    found = agreement(truth + noise, truth, STEP, max_shift_A=0)
    signal = found.rms_truth_rad
    assert found.correlation == pytest.approx(signal / np.hypot(signal, 0.5), abs=0.02)
    assert found.scale == pytest.approx(1, abs=0.02)
    # The truth has only long waves: limited to them, little of the noise is left.
    assert agreement(truth + noise, truth, STEP, resolution_A=2.0).correlation > 0.98


def test_a_wrong_sign_is_no_agreement_and_a_shift_is_found_only_within_the_limit():
    x, y = grid()
    truth = smooth(x, y)
    assert agreement(-truth, truth, STEP, max_shift_A=0).correlation == pytest.approx(-1)
    far = agreement(smooth(x - 1.5, y), truth, STEP, max_shift_A=0.4)
    assert max(np.abs(far.shift_A)) <= 0.4 + 1e-9 and far.correlation < 0.95


def test_what_lies_outside_the_mask_or_is_no_number_does_not_count():
    x, y = grid()
    truth = smooth(x, y)
    phase = truth.copy()
    phase[:8], phase[40, 20], phase[:, -5:] = 1e3, np.nan, -50
    mask = np.zeros(truth.shape, bool)
    mask[8:, :-5] = True
    found = agreement(phase, truth, STEP, mask=mask, resolution_A=1.0)
    assert found.correlation == pytest.approx(1, abs=1e-9)
    assert found.window[40, 20] == 0 and not found.window[~mask].any()


def test_images_on_other_grids_turned_and_mirrored():
    angle = 0.4
    matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])[:, ::-1]
    x, y = np.indices((200, 220)) * 0.1
    image = smooth(x, y)
    got = on_grid(image, 0.1, (30, 40), grid_A=(0.2, 0.15), origin_A=(6.0, 4.0), matrix=matrix)
    at = np.moveaxis(np.indices((30, 40)), 0, -1) * (0.2, 0.15) @ matrix.T + (6.0, 4.0)
    np.testing.assert_allclose(got, smooth(at[..., 0], at[..., 1]), atol=2e-3)
    beside = on_grid(image, 0.1, (4, 3), grid_A=0.1, origin_A=(-0.1, 0.0))
    assert np.isnan(beside[0]).all() and np.isfinite(beside[1:]).all()


def test_a_periodic_image_repeats_and_what_is_too_fine_is_cut_off():
    n = 32
    x = np.arange(n)
    image = np.cos(2 * np.pi * 3 * x / n)[:, None] + np.cos(2 * np.pi * 12 * x / n)[None]
    got = on_grid(image, 1.0, (20, 20), grid_A=2.0, origin_A=(20.0, 0.0), periodic=True)
    coarse = np.cos(2 * np.pi * 3 * (2 * np.arange(20) + 20) / n)[:, None]
    np.testing.assert_allclose(got, np.broadcast_to(coarse, got.shape), atol=5e-3)


def test_nonsense_is_refused():
    image = np.random.default_rng(0).random((20, 21))
    with pytest.raises(ShapeError, match="one shape"):
        agreement(image, image.T, 1.0)
    with pytest.raises(ShapeError, match="mask"):
        agreement(image, image, 1.0, mask=np.ones((3, 3), bool))
    with pytest.raises(ParameterError, match="at least 16"):
        agreement(image * np.nan, image, 1.0)
    with pytest.raises(ParameterError, match="constant"):
        agreement(image, np.ones_like(image), 1.0)
    with pytest.raises(ParameterError, match="positive"):
        agreement(image, image, -1.0)
