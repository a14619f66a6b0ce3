"""The fused pass against its twin, and where the truth is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from py4DSTEM.errors import ParameterError, ShapeError
from py4DSTEM.kernels import compiled, reference

FAST, TWIN = compiled(), reference()
KINDS = ["?", "u1", "i1", "<u2", ">u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", ">f4", "f8"]
SHAPES = [(1, 1), (3, 5), (7, 33), (40, 31), (5, 32), (17, 64), (33, 47), (300, 35), (2, 9000)]
ALL = {"moments": True, "sums": True, "squares": True, "maximum": True}


def make_frames(rng, n, shape, kind, bad=0.0):
    dtype = np.dtype(kind)
    if dtype.kind == "b":
        return rng.random((n, *shape)) < 0.5
    if dtype.kind == "f":
        frames = (100 * rng.standard_normal((n, *shape))).astype(dtype)
        wrong = rng.random(frames.shape) < bad
        frames[wrong] = rng.choice([np.nan, np.inf, -np.inf], wrong.sum()).astype(dtype)
        return frames
    info = np.iinfo(dtype)
    low, high = max(info.min, -(2**40)), min(info.max, 2**40)
    return rng.integers(low, high, (n, *shape), endpoint=True).astype(dtype)


def make_detectors(rng, shape, count):
    i, j = np.indices(shape)
    stack = []
    for k in range(count):
        x, y = rng.uniform(0, shape[0]), rng.uniform(0, shape[1])
        far = np.hypot(i - x, j - y)
        edge = rng.uniform(1, max(shape))
        stack.append([
            np.clip(edge - far, 0, 1),
            (far < edge) * 0.25,
            rng.standard_normal(shape) * (far < edge),
            np.zeros(shape),
            np.clip(edge - far, 0, 1) * (far > edge / 2),
        ][k % 5])  # fmt: skip
    return np.array(stack).reshape(count, *shape)


def agree(fast, twin):
    for name, a, b in zip(fast._fields, fast, twin, strict=True):
        assert (a is None) == (b is None), name
        if a is not None:
            assert a.dtype == b.dtype and a.shape == b.shape, name
            size = np.abs(np.where(np.isfinite(b), b, 0)).max(initial=1.0)
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9 * float(size), err_msg=name)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_parity(kind, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    shape = data.draw(st.sampled_from(SHAPES))
    n = data.draw(st.sampled_from([0, 1, 2, 9, 19]))
    frames = make_frames(rng, n, shape, kind, data.draw(st.sampled_from([0, 0.05, 0.9, 1])))
    count = data.draw(st.sampled_from([None, 0, 1, 5, 8]))
    stack = None if count is None else make_detectors(rng, shape, count)
    weights = data.draw(st.sampled_from([None, rng.integers(0, 2, n), rng.random(n)]))
    flags = data.draw(st.fixed_dictionaries({name: st.booleans() for name in ALL}))
    if data.draw(st.booleans()):
        frames = frames.transpose(0, 2, 1).copy().transpose(0, 2, 1)
    fast, twin = (
        k.measure(
            frames, None if stack is None else k.compile_detectors(stack), **flags, weights=weights
        )
        for k in (FAST, TWIN)
    )
    agree(fast, twin)


@pytest.mark.parametrize("kind", ["u1", "u2", "i2", "u4"])
def test_full_scale_is_exact(kind):
    shape, top = (600, 513), int(np.iinfo(kind).max)
    frames = np.full((9, *shape), top, dtype=kind)
    m = FAST.measure(frames, FAST.compile_detectors(np.ones((1, *shape))), **ALL)
    i, j = np.indices(shape)
    assert m.detectors.tolist() == [[float(top * i.size)]] * 9
    assert m.total.tolist() == [float(top * i.size)] * 9
    precision = 0 if kind != "u4" else 1e-14
    np.testing.assert_allclose(m.moment_x, float(top * int(i.sum())), rtol=precision)
    np.testing.assert_allclose(m.moment_y, float(top * int(j.sum())), rtol=precision)
    assert (m.sums == 9 * top).all() and (m.valid == 9).all() and (m.maximum == top).all()
    np.testing.assert_allclose(m.squares, 9 * float(top) ** 2, rtol=1e-15)


@pytest.mark.parametrize("kind", ["u1", "i1", "u2", "i2"])
def test_more_full_scale_patterns_than_32_bits_can_add(kind):
    n, info = 66000, np.iinfo(kind)
    frames = np.full((n, 3, 31), info.max, dtype=kind)
    frames[:, 1] = info.min
    m = FAST.measure(frames, sums=True)
    assert (m.sums[[0, 2]] == n * int(info.max)).all() and (m.sums[1] == n * int(info.min)).all()
    used = np.arange(n) % 3 > 0
    m = FAST.measure(frames, sums=True, weights=used.astype(float))
    assert (m.sums[0] == 44000 * int(info.max)).all() and (m.valid == 44000).all()


def test_many_detectors_of_frames_of_several_bands():
    rng = np.random.default_rng(8)
    for shape in [(200, 101), (129, 128), (5, 9000)]:
        frames = make_frames(rng, 10, shape, "<u2")
        stack = make_detectors(rng, shape, 5)
        fast, twin = (k.measure(frames, k.compile_detectors(stack), **ALL) for k in (FAST, TWIN))
        agree(fast, twin)
        for a, b in zip(FAST.measure(frames, **ALL), fast, strict=True):
            assert a is None or np.array_equal(a, b)


def test_lowest_of_signed_integers_is_exact():
    frames = np.full((3, 520, 64), -(2**15), dtype=np.int16)
    m = FAST.measure(frames, moments=True, maximum=True)
    assert m.total.tolist() == [-float(2**15 * 520 * 64)] * 3
    assert (m.maximum == -(2**15)).all()


def test_one_huge_sixteen_bit_pattern():
    frames = np.full((1, 4096, 4096), 65535, dtype=np.uint16)
    m = FAST.measure(frames, moments=True)
    assert m.total[0] == 65535 * 2**24
    assert m.moment_x[0] == m.moment_y[0] == 65535 * 4096 * (4095 * 4096 // 2)


def test_nan_only_where_a_detector_sees_nothing_finite():
    frames = np.ones((2, 40, 40), dtype=np.float32)
    frames[1, :20] = np.nan
    stack = np.zeros((3, 40, 40))
    stack[0, :20] = stack[1, 10:30] = 1
    m = FAST.measure(frames, FAST.compile_detectors(stack), maximum=True, sums=True)
    np.testing.assert_array_equal(m.detectors, [[800, 800, 0], [np.nan, 400, 0]])
    assert (m.valid[:20] == 1).all() and (m.valid[20:] == 2).all()


def test_the_frames_stay_as_they_are():
    frames = np.ones((3, 8, 40), dtype=np.uint16)
    FAST.measure(frames, **ALL)
    assert frames.flags.writeable and (frames == 1).all()


def test_read_only_and_empty_frames():
    frames = np.ones((3, 8, 40), dtype=np.uint16)
    frames.flags.writeable = False
    assert FAST.measure(frames, sums=True).sums.tolist() == np.full((8, 40), 3.0).tolist()
    empty = FAST.measure(frames[:0], moments=True, maximum=True, sums=True)
    assert empty.total.shape == (0,) and (empty.maximum == 0).all() and (empty.valid == 0).all()


def test_wrong_shapes_and_numbers_are_refused():
    frames = np.ones((3, 8, 40))
    with pytest.raises(ShapeError):
        FAST.measure(frames[0])
    with pytest.raises(ShapeError):
        FAST.measure(frames, FAST.compile_detectors(np.ones((1, 8, 41))))
    with pytest.raises(ShapeError):
        FAST.measure(frames, weights=np.ones(4))
    with pytest.raises(ParameterError):
        FAST.measure(frames.astype(complex))


def test_bits_do_not_depend_on_the_other_outputs():
    rng = np.random.default_rng(5)
    frames = make_frames(rng, 11, (33, 47), "f4", 0.02)
    plan = FAST.compile_detectors(make_detectors(rng, (33, 47), 5))
    whole = FAST.measure(frames, plan, **ALL)
    alone = [FAST.measure(frames, plan), *(FAST.measure(frames, **{name: True}) for name in ALL)]
    for part in alone:
        for a, b in zip(part, whole, strict=True):
            assert a is None or np.array_equal(a, b, equal_nan=True)


def test_a_small_detector_reads_only_its_own_blocks():
    i, j = np.indices((128, 128))
    plan = FAST.compile_detectors((np.hypot(i - 64, j - 64) < 10)[None].astype(float))
    places = plan.parts[1][1]
    assert len(places) < 50 and places.min() > 54 * 128 and places.max() < 75 * 128


def test_what_was_not_asked_for_is_no_number():
    measured = FAST.measure(np.full((2, 3, 4), 5, np.uint16), moments=True)
    total, _ = measured.get("total", "moment_x")
    assert total.tolist() == [60.0, 60.0]
    with pytest.raises(ParameterError, match=r"\['sums', 'valid'\] were not measured"):
        measured.get("total", "sums", "valid")
