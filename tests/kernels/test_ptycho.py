"""Kernels of ptychography against their twins; the twins against their own derivatives."""

from typing import NamedTuple

import numpy as np
import pytest

from py4DSTEM.errors import ParameterError, ShapeError
from py4DSTEM.kernels import ptycho, ptycho_step, twins_ptycho
from py4DSTEM.kernels import ptycho_arrays as arrays
from py4DSTEM.kernels._simd import LANES
from py4DSTEM.kernels.fft import make_plan, padded

SHAPE, FIELD, COUNT = (12, 18), (29, 41), 5
BOTH = [(slices, modes) for slices in (1, 2, 3) for modes in (1, 2, 3)]


class Case(NamedTuple):
    scene: arrays.Scene
    object: np.ndarray
    probe: np.ndarray


def descan(length: int, off: np.ndarray) -> np.ndarray:
    return np.exp(2j * np.pi / length * np.arange(length) * off[:, None])


def case(slices: int, modes: int, poisson: float = 0.0, shape=SHAPE, off: bool = False) -> Case:
    """A strong random object; patterns near those of the model, some pixels not measured."""
    rng = np.random.default_rng([slices, modes])
    n0, n1 = shape
    shifts = rng.uniform(-0.5, 0.5, (COUNT, 2))
    corners = rng.integers(0, (FIELD[0] - n0 + 1, FIELD[1] - n1 + 1), (COUNT, 2))
    flight = np.exp(2j * np.pi * rng.uniform(size=shape)) / (n0 * n1)
    object_ = np.exp(0.5 * complex_noise(rng, slices, *FIELD))
    spread = np.linspace(1, 0.3, modes)[:, None, None] / np.sqrt(n0 * n1)
    probe = spread * (1 + 0.3 * complex_noise(rng, modes, n0, n1))
    ramps = (arrays.ramps(n, s) for n, s in zip(shape, shifts.T, strict=True))
    bends = [descan(n, rng.uniform(-0.5, 0.5, COUNT if off else 0)) for n in shape]
    scene = arrays.Scene(np.zeros((COUNT, n0, n1)), corners, *ramps, *bends, flight, poisson, 1e-2)
    far = arrays.forward(scene, object_, probe, np.arange(COUNT)).far
    known = np.sqrt((np.abs(far) ** 2).sum(axis=1)) * rng.uniform(0.7, 1.4, (COUNT, n0, n1))
    known[:, n0 // 4, 4:9], known[2, 0, 0] = -1, -1
    return Case(scene._replace(amplitudes=known), object_, probe)


def complex_noise(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.normal(size=shape) + 1j * rng.normal(size=shape)


def of_kernel(given: Case) -> tuple[ptycho.Model, ptycho.State]:
    scene, object_, probe = given
    n0, n1 = scene.flight.shape

    def ramp(values: np.ndarray) -> np.ndarray:
        out = np.zeros((len(values), 2, padded(values.shape[1])), np.float32)
        out[:, 0, : values.shape[1]], out[:, 1, : values.shape[1]] = values.real, values.imag
        return out

    model = ptycho.Model(
        make_plan(n0),
        make_plan(n1),
        np.ascontiguousarray(arrays.to_planes(scene.amplitudes + 0j)[:, 0]),
        scene.corners,
        ramp(scene.ramps_x),
        ramp(scene.ramps_y),
        ramp(scene.descan_x),
        ramp(scene.descan_y),
        arrays.to_planes(scene.flight),
        np.float32(scene.poisson),
        np.float32(scene.floor),
    )
    planes = np.zeros((len(object_), 2, FIELD[0], FIELD[1] + LANES), np.float32)
    planes[:, 0, :, : FIELD[1]], planes[:, 1, :, : FIELD[1]] = object_.real, object_.imag
    return model, ptycho.State(planes, arrays.to_planes(probe))


def close(one: np.ndarray, other: np.ndarray, share: float = 5e-6) -> None:
    np.testing.assert_allclose(one, other, rtol=0, atol=share * np.abs(other).max())


def same_gradients(one: ptycho.Gradient, other: ptycho.Gradient) -> None:
    for name in other._fields:
        # What positions ask for is a small difference of large sums.
        close(getattr(one, name), getattr(other, name), 5e-5 if name == "positions" else 5e-6)


# ---- the compiled kernel -------------------------------------------------------------------------
@pytest.mark.parametrize("poisson", [0, 0.5, 1])
@pytest.mark.parametrize(("slices", "modes"), BOTH)
def test_kernel_is_its_twin(slices, modes, poisson):
    model, state = of_kernel(case(slices, modes, poisson))
    chosen = np.array([4, 0, 2])
    truth = twins_ptycho.run_positions(model, state, chosen)
    assert all(np.abs(part).max() > 0 for part in truth)
    same_gradients(ptycho.run_positions(model, state, chosen), truth)


@pytest.mark.parametrize(("slices", "modes"), [(1, 1), (1, 2), (3, 1), (2, 3)])
def test_kernel_is_its_twin_where_patterns_lie_off(slices, modes):
    given = case(slices, modes, 0.5, off=True)
    model, state = of_kernel(given)
    chosen = np.array([4, 0, 2])
    truth = twins_ptycho.run_positions(model, state, chosen)
    same_gradients(ptycho.run_positions(model, state, chosen), truth)
    straight = given.scene._replace(descan_x=np.ones((0, 1)), descan_y=np.ones((0, 1)))
    other = arrays.gradients(straight, given.object, given.probe, chosen)
    assert np.abs(truth.errors - other.errors).min() > 1e-3 * truth.errors.max()


def test_a_pattern_that_lies_off_is_a_pattern_moved():
    scene, object_, probe = case(1, 1, off=True)
    whole = scene._replace(
        descan_x=descan(SHAPE[0], np.full(COUNT, 2.0)),
        descan_y=descan(SHAPE[1], np.full(COUNT, -3.0)),
    )
    none = scene._replace(descan_x=np.ones((0, 1)), descan_y=np.ones((0, 1)))
    chosen = np.arange(COUNT)
    moved, still = (np.abs(arrays.forward(s, object_, probe, chosen).far) for s in (whole, none))
    np.testing.assert_allclose(moved, np.roll(still, (2, -3), axis=(-2, -1)), atol=1e-12)


@pytest.mark.parametrize("shape", [(1, 18), (13, 7), (16, 32), (25, 30)])
def test_kernel_is_its_twin_for_other_patterns(shape):
    model, state = of_kernel(case(2, 2, 0.3, shape))
    chosen = np.arange(COUNT)
    truth = twins_ptycho.run_positions(model, state, chosen)
    same_gradients(ptycho.run_positions(model, state, chosen), truth)


def test_without_the_probe_the_object_is_the_same():
    model, state = of_kernel(case(2, 2))
    chosen = np.arange(COUNT)
    whole = ptycho.run_positions(model, state, chosen)
    part = ptycho.run_positions(model, state, chosen, with_probe=False)
    for one, other in zip(part[:2], whole[:2], strict=True):
        np.testing.assert_array_equal(one, other)
    assert not part.probe.any() and whole.probe.any()
    assert np.isnan(part.positions).all() and np.isfinite(whole.positions).all()


def test_a_room_is_added_to():
    model, state = of_kernel(case(2, 2))
    sums, (room, other) = ptycho.make_rooms(model, state, 3, 2)
    for chosen, with_probe in (([4, 0, 2], True), ([1], False)):
        chosen = np.array(chosen)
        before = [part.copy() for part in room.found[:3]]
        found = ptycho.run_positions(model, state, chosen, with_probe=with_probe, room=room)
        fresh = ptycho.run_positions(model, state, chosen, with_probe=with_probe)
        assert np.shares_memory(found.object, sums.object[0])
        for one, more, old in zip(found, fresh, before, strict=False):
            close(one, old + more, 1e-6)
        for one, more in zip(found[3:], fresh[3:], strict=True):
            np.testing.assert_array_equal(one, more)
    rows = np.flatnonzero(sums.intensity[0].any(axis=(0, 2)))
    assert room.band.tolist() == sums.bands[0].tolist() == [rows[0], rows[-1] + 1]
    assert not other.found.object.any() and not other.band.any()


def test_a_room_for_something_else_is_refused():
    model, state = of_kernel(case(2, 2))
    _, (room,) = ptycho.make_rooms(model, state, 2, 1)
    for other, chosen in ((model, [0, 1, 2]), (model._replace(poisson=np.float32(1)), [0])):
        with pytest.raises(ParameterError, match="another model"):
            ptycho.run_positions(other, state, np.array(chosen), room=room)
    with pytest.raises(ParameterError, match="positions are numbers"):
        ptycho.run_positions(model, state, np.array([COUNT]), room=room)
    fewer = state._replace(object=state.object[:1])
    with pytest.raises(ShapeError, match="this room is for"):
        ptycho.run_positions(model, fewer, np.array([0]), room=room)


@pytest.mark.parametrize("blend", [1.0, 0.3])
def test_a_step_is_its_twin_and_clears_the_sums(blend):
    model, state = of_kernel(case(2, 2))
    truth = ptycho.State(*(part.copy() for part in state))
    sums, rooms = ptycho.make_rooms(model, state, 3, 3)
    rng = np.random.default_rng(1)
    moved, last = (ptycho.State(*(np.zeros_like(part) for part in state)) for _ in range(2))
    for part, other in zip(moved, last, strict=True):
        part[:] = other[:] = rng.normal(size=part.shape)
    for rate in (0.2, 0.0):
        rates = ptycho_step.Rates(0.7, rate, blend, 0.4)
        for room, chosen in zip(rooms, ([4, 0], [2], []), strict=True):
            ptycho.run_positions(model, state, np.array(chosen, np.int64), room=room)
        top = (truth.object[0] ** 2).sum(axis=0).max()
        assert ptycho_step.strongest(state) == pytest.approx(top, rel=1e-6)
        ptycho_step.take_step(state, moved, sums, rates)
        twins_ptycho.take_step(truth, last, model, np.array([0, 2, 4]), rates)
        for one, other in zip((*state, *moved), (*truth, *last), strict=True):
            close(one, other)
        truth.object[:], truth.probe[:] = state
        assert not any(part.any() for part in sums)


def test_a_step_of_another_shape_is_refused():
    model, state = of_kernel(case(2, 2))
    sums, _ = ptycho.make_rooms(model, state, 3, 2)
    moved = ptycho.State(*(np.zeros_like(part) for part in state))
    fewer = moved._replace(object=moved.object[:1])
    with pytest.raises(ShapeError, match="does not fit"):
        ptycho_step.take_step(state, fewer, sums, ptycho_step.Rates(1, 1, 1, 0))


def test_nothing_is_changed_and_no_positions_give_nothing():
    model, state = of_kernel(case(2, 2))
    before = ptycho.State(*(part.copy() for part in state))
    ptycho.run_positions(model, state, np.arange(COUNT))
    none = ptycho.run_positions(model, state, np.empty(0, np.int64))
    for one, other in zip(state, before, strict=True):
        np.testing.assert_array_equal(one, other)
    assert not none.object.any() and none.errors.shape == (0,) and none.positions.shape == (0, 2)


@pytest.mark.parametrize("poisson", [0, 1])
@pytest.mark.parametrize("blend", [1.0, 0.3])
@pytest.mark.parametrize("rates", [(0.7, 0.4), (0.7, 0.0), (0.0, 0.4)])
def test_following_positions_is_its_twin(rates, blend, poisson):
    model, state = of_kernel(case(2, 2, poisson))
    fast, slow = (ptycho.State(*(part.copy() for part in state)) for _ in range(2))
    options = {"object_rate": rates[0], "probe_rate": rates[1], "blend": blend}
    order = np.array([3, 1, 4, 0, 2, 3])
    errors = ptycho.follow_positions(model, fast, order, **options)
    truth = twins_ptycho.follow_positions(model, slow, order, **options)
    np.testing.assert_allclose(errors, truth, rtol=2e-5)
    for one, other, first, rate in zip(fast, slow, state, rates, strict=True):
        if rate:
            close(one - first, other - first, 2e-5)
        else:
            np.testing.assert_array_equal(one, first)


def test_following_positions_lowers_the_error():
    scene, object_, probe = case(1, 1)
    far = arrays.forward(scene, object_, probe, np.arange(COUNT)).far
    scene = scene._replace(amplitudes=np.abs(far[:, 0]))
    model, state = of_kernel(Case(scene, np.ones_like(object_), probe))
    errors = [
        ptycho.follow_positions(
            model, state, np.arange(COUNT), object_rate=0.5, probe_rate=0.0
        ).sum()
        for _ in range(30)
    ]
    assert errors[-1] < 0.2 * errors[0]


@pytest.mark.parametrize(
    "part", ["amplitudes", "ramps_x", "ramps_y", "flight", "object", "probe", "corners"]
)
def test_arrays_that_do_not_fit_are_refused(part):
    model, state = of_kernel(case(2, 2))
    if part in state._fields:
        state = state._replace(**{part: getattr(state, part)[..., :-1]})
    else:
        model = model._replace(**{part: getattr(model, part)[..., :-1]})
    with pytest.raises(ShapeError, match=part):
        ptycho.run_positions(model, state, np.arange(COUNT))


def test_other_types_and_gaps_are_refused():
    model, state = of_kernel(case(1, 1))
    wide = state._replace(object=state.object.astype(np.float64))
    with pytest.raises(ShapeError, match="object is float32"):
        ptycho.run_positions(model, wide, np.arange(COUNT))
    gaps = model._replace(amplitudes=np.repeat(model.amplitudes, 2, axis=1)[:, ::2])
    with pytest.raises(ShapeError, match="without gaps"):
        ptycho.follow_positions(gaps, state, np.arange(COUNT), object_rate=1, probe_rate=1)


@pytest.mark.parametrize("corner", [(-1, 0), (0, -1), (18, 0), (0, 24)])
def test_windows_that_leave_the_object_are_refused(corner):
    model, state = of_kernel(case(1, 1))
    model.corners[2] = corner
    with pytest.raises(ParameterError, match="not within the object"):
        ptycho.run_positions(model, state, np.arange(COUNT))
    ptycho.run_positions(model, state, np.array([0, 1]))  # the others are


def test_windows_at_the_edge_are_worked_on():
    given = case(2, 1)
    given.scene.corners[:2] = (17, 23), (0, 0)
    model, state = of_kernel(given)
    chosen = np.array([0, 1])
    one, other = (k.run_positions(model, state, chosen) for k in (ptycho, twins_ptycho))
    close(one.object, other.object)
    assert not one.object[..., FIELD[1] :].any()


@pytest.mark.parametrize("chosen", [[-1], [0, COUNT]])
def test_positions_that_are_none_are_refused(chosen):
    model, state = of_kernel(case(1, 1))
    with pytest.raises(ParameterError, match=f"from 0 to {COUNT - 1}"):
        ptycho.run_positions(model, state, np.array(chosen))


# ---- the model in plain arrays -------------------------------------------------------------------
def tangent(given: Case, d_object, d_probe, d_shift, chosen) -> np.ndarray:
    """Derivative of the waves at the detector along a change, straight from the product rule."""
    scene, object_, probe = given
    n0, n1 = scene.flight.shape
    out = []
    for p in chosen:
        kx, ky = np.fft.fftfreq(n0)[:, None], np.fft.fftfreq(n1)
        ramp = scene.ramps_x[p][:, None] * scene.ramps_y[p]
        slope = -2j * np.pi * (kx * d_shift[p, 0] + ky * d_shift[p, 1]) * ramp
        wave = np.fft.ifft2(probe * ramp) * (n0 * n1)
        change = np.fft.ifft2(d_probe * ramp + probe * slope) * (n0 * n1)
        row, column = scene.corners[p]
        window = np.s_[row : row + n0, column : column + n1]
        for s in range(len(object_)):
            change = change * object_[s][window] + wave * d_object[s][window]
            wave = wave * object_[s][window]
            if s < len(object_) - 1:
                wave, change = (
                    np.fft.ifft2(np.fft.fft2(w) * scene.flight) * (n0 * n1) for w in (wave, change)
                )
        bend = scene.descan_x[p][:, None] * scene.descan_y[p] if len(scene.descan_x) else 1
        out.append(np.fft.fft2(change * bend))
    return np.array(out)


@pytest.mark.parametrize(("slices", "modes"), BOTH)
def test_adjoint_has_the_same_dot_products(slices, modes):
    given = case(slices, modes, off=slices == 2)
    scene, object_, probe = given
    rng, chosen = np.random.default_rng(1), np.array([1, 3, 4])
    d_object, d_probe = complex_noise(rng, *object_.shape), complex_noise(rng, *probe.shape)
    y = complex_noise(rng, len(chosen), *probe.shape)
    d_shift = rng.normal(size=(COUNT, 2))
    met = arrays.forward(scene, object_, probe, chosen).met
    sums, spectra, along = arrays.adjoint(scene, object_, probe, met, y, chosen)
    no = [np.zeros_like(v) for v in (d_object, d_probe, d_shift)]
    for there, back in (
        ((d_object, no[1], no[2]), np.vdot(sums, d_object)),
        ((no[0], d_probe, no[2]), np.vdot(spectra, d_probe)),
    ):
        assert np.vdot(y, tangent(given, *there, chosen)) == pytest.approx(back, rel=1e-11)
    moved = tangent(given, no[0], no[1], d_shift, chosen)
    np.testing.assert_allclose(
        (y.conj() * moved).sum(axis=(1, 2, 3)).real, (along * d_shift[chosen]).sum(1), rtol=1e-10
    )


def steepest(given: Case, d_object, d_probe, d_shift, chosen) -> float:
    """Central difference of the cost along a direction, of fourth order."""

    def value(t: float) -> float:
        scene = given.scene
        ramps = []
        for ramp, part in zip((scene.ramps_x, scene.ramps_y), d_shift.T, strict=True):
            ramps.append(ramp * arrays.ramps(ramp.shape[1], t * part))
        scene = scene._replace(ramps_x=ramps[0], ramps_y=ramps[1])
        probe = given.probe + t * d_probe
        far = arrays.forward(scene, given.object + t * d_object, probe, chosen).far
        return float(arrays.cost(scene, far, chosen).sum())

    h = 1e-3
    return (8 * (value(h) - value(-h)) - value(2 * h) + value(-2 * h)) / (12 * h)


@pytest.mark.parametrize("poisson", [0, 0.5, 1])
@pytest.mark.parametrize(("slices", "modes"), BOTH)
def test_gradients_are_finite_differences(slices, modes, poisson):
    given = case(slices, modes, poisson, off=modes == 2)
    rng, chosen = np.random.default_rng(2), np.array([0, 2, 3])
    pixels = SHAPE[0] * SHAPE[1]
    found = arrays.gradients(*given, chosen)
    d_object = 0.1 * complex_noise(rng, *given.object.shape)
    d_probe = 0.1 * complex_noise(rng, *given.probe.shape) / np.sqrt(pixels)
    d_shift = 0.1 * rng.normal(size=(COUNT, 2))
    no = [np.zeros_like(v) for v in (d_object, d_probe, d_shift)]
    for there, slope in (
        ((d_object, no[1], no[2]), -2 * pixels * np.vdot(found.object, d_object).real),
        ((no[0], d_probe, no[2]), -2 * pixels * np.vdot(found.probe, d_probe).real),
        ((no[0], no[1], d_shift), (found.positions * d_shift[chosen]).sum()),
    ):
        assert steepest(given, *there, chosen) == pytest.approx(slope, rel=1e-6)


def test_patterns_that_are_met_ask_for_nothing():
    scene, object_, probe = case(2, 2)
    chosen = np.arange(COUNT)
    far = arrays.forward(scene, object_, probe, chosen).far
    scene = scene._replace(amplitudes=np.sqrt((np.abs(far) ** 2).sum(axis=1)), floor=0.0)
    found = arrays.gradients(scene, object_, probe, chosen)
    assert np.abs(found.object).max() < 1e-12 and found.errors.max() < 1e-20


def test_pixels_that_are_not_measured_do_not_count():
    given = case(1, 2, 0.5)
    chosen = np.arange(COUNT)
    hidden = given.scene.amplitudes < 0
    other = given.scene._replace(amplitudes=np.where(hidden, -7.0, given.scene.amplitudes))
    seen = given.scene._replace(amplitudes=np.where(hidden, 2.0, given.scene.amplitudes))
    first, second, third = (
        arrays.gradients(s, given.object, given.probe, chosen) for s in (given.scene, other, seen)
    )
    np.testing.assert_array_equal(first.object, second.object)
    np.testing.assert_array_equal(first.errors, second.errors)
    assert np.abs(first.object - third.object).max() > 1e-3 * np.abs(first.object).max()


def test_single_precision_stays_single():
    given = case(2, 2)
    model, state = of_kernel(given)
    scene, object_, probe = arrays.scene_of(model, state, dtype=np.complex64)
    found = arrays.gradients(scene, object_, probe, np.arange(COUNT))
    kinds = [part.dtype for part in found]
    assert kinds == [np.complex64, np.float32, np.complex64, np.float32, np.float32]
    close(found.object[..., : FIELD[1]], arrays.gradients(*given, np.arange(COUNT)).object)


def test_planes_and_arrays_are_the_same():
    rng = np.random.default_rng(3)
    spectra = complex_noise(rng, 2, 3, 13, 18).astype(np.complex64)
    planes = arrays.to_planes(spectra)
    assert planes.shape == (2, 3, 2, padded(13) * padded(18)) and planes.dtype == np.float32
    np.testing.assert_array_equal(arrays.from_planes(planes, (13, 18)), spectra)
    turned = planes[1, 2, 1].reshape(padded(18), padded(13))
    assert turned[4, 5] == spectra[1, 2, 5, 4].imag
