"""What is drawn is what is summed, and no mouse can break a shape."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from py4DSTEM import (
    Annulus,
    Disk,
    DiskLattice,
    DiskSelection,
    EllipseDisk,
    Mask,
    MaskSelection,
    Point,
    PointSelection,
    Polygon,
    PolygonSelection,
    Rectangle,
    RectangleSelection,
    Segment,
)
from py4DSTEM.core import borders
from py4DSTEM.core.axis import Axis
from py4DSTEM.core.borders import pixel_borders
from py4DSTEM.core.calibration import Calibration, Ellipse
from py4DSTEM.core.detectors.polygon import coverage
from py4DSTEM.core.outline import (
    contains,
    grown,
    handles,
    moved,
    outline,
    shifted,
    with_vertex,
    without_vertex,
)
from py4DSTEM.errors import CalibrationMissing, ParameterError

SIZE = (41, 52)
C = (19.3, 27.8)
KNOWN = Calibration(origin_px=C, ellipse=Ellipse(1.2, 1.0, 0.6)).replace(
    Q_pixel_size=(0.5, 0.55), Q_pixel_units="mrad"
)
BLOB = np.zeros(SIZE)
BLOB[4:9, 6:30] = 1
BLOB[6:8, 10:20] = 0
BLOB[9, 5] = BLOB[30, 40] = 1
DETECTORS = {
    "point": Point(),
    "disk": Disk(9.2),
    "disk in mrad": Disk(5.1, units="mrad"),
    "annulus": Annulus(3.5, 9.2),
    "annulus in mrad": Annulus(2.0, 5.0, units="mrad"),
    "whole annulus": Annulus(0.0, 9.2),
    "rectangle": Rectangle(11.0, 7.5),
    "rectangle in mrad": Rectangle(6.0, 9.5, units="mrad"),
    "segment": Segment(4.0, 12.0, 0.4, 2.1),
    "wedge": Segment(0.0, 12.0, 2.0, 2.9),
    "all around": Segment(3.0, 9.0, 1.0, 1.0 + 2 * math.pi),
    "ellipse": EllipseDisk(14.0, 6.0, 0.7),
    "ellipse in mrad": EllipseDisk(6.0, 3.0, 0.7, units="mrad"),
    "polygon": Polygon(((-9, 0), (0, 12), (11, 1), (-6, -9))),
    "lattice": DiskLattice(2.2, (8, 1), (-2, 9), order=2),
    "lattice in mrad": DiskLattice(1.5, (4, 1), (-1, 4.5), order=1, units="mrad"),
    "mask": Mask(BLOB),
}
SELECTIONS = {
    "point": PointSelection(3, 5),
    "rectangle": RectangleSelection(2, 9, 4, 17),
    "disk": DiskSelection(6.4, (12.0, 14.5)),
    "polygon": PolygonSelection(((2, 3), (20, 9), (7, 25))),
    "mask": MaskSelection(BLOB),
}
SHAPES = {**DETECTORS, **{f"{name} of positions": s for name, s in SELECTIONS.items()}}


# ---- outlines ------------------------------------------------------------------------------------
def enclosed(lines):
    """Share of each pixel inside of an odd number of lines."""
    total = np.zeros(SIZE)
    for line in lines:
        part = coverage(line[:-1], SIZE)
        total = total + part - 2 * np.minimum(total, part)
    return total


@pytest.mark.parametrize("name", DETECTORS)
def test_what_is_drawn_is_what_is_summed(name):
    lines = outline(DETECTORS[name], SIZE, KNOWN)
    weights = DETECTORS[name].weights(SIZE, KNOWN)
    assert all(line.dtype == np.float64 and (line[0] == line[-1]).all() for line in lines)
    np.testing.assert_allclose(enclosed(lines), weights, atol=0.06)
    assert abs(enclosed(lines).sum() - weights.sum()) < 5e-3 * weights.sum()


@pytest.mark.parametrize("name", ["point", "rectangle", "mask"])
def test_selected_positions_are_outlined_as_pixels(name):
    lines = outline(SELECTIONS[name], SIZE)
    np.testing.assert_allclose(enclosed(lines), SELECTIONS[name].mask(SIZE), atol=1e-12)


@pytest.mark.parametrize("name", ["disk", "polygon"])
def test_selected_positions_lie_within_the_outline(name):
    lines = outline(SELECTIONS[name], SIZE)
    mask = SELECTIONS[name].mask(SIZE)
    assert abs(enclosed(lines).sum() - mask.sum()) < 0.1 * mask.sum()


def test_a_circle_in_mrad_is_an_ellipse_on_the_detector():
    [line] = outline(DETECTORS["disk in mrad"], SIZE, KNOWN)
    transform = np.diag((0.5, 0.55)) @ KNOWN.ellipse.correction()
    np.testing.assert_allclose(np.hypot(*transform @ (line - C).T), 5.1)
    assert np.ptp(np.hypot(*(line - C).T)) > 1


def test_only_disks_in_the_frame_are_drawn():
    wide = DiskLattice(2.0, (8, 0), (0, 8), order=50, center=C)
    drawn = outline(wide, SIZE)
    assert 20 < len(drawn) < 60
    np.testing.assert_allclose(enclosed(drawn), wide.weights(SIZE, KNOWN), atol=0.06)


def test_an_origin_or_pixel_size_that_is_needed_is_asked_for():
    for ask in (lambda d: outline(d, SIZE), handles, lambda d: contains(d, (1, 1))):
        with pytest.raises(CalibrationMissing):
            ask(Disk(3))
        with pytest.raises(CalibrationMissing):
            ask(Disk(3, center=C, units="mrad"))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.1, 0.9))
def test_borders_enclose_exactly_their_pixels(seed, share):
    chosen = np.random.default_rng(seed).random((9, 13)) < share
    total = np.zeros(chosen.shape)
    for line in pixel_borders(chosen):
        x, y = line.T
        turning = np.sign((x[:-1] * y[1:] - x[1:] * y[:-1]).sum())
        total -= turning * coverage(line[:-1], chosen.shape)
    np.testing.assert_allclose(total, chosen, atol=1e-12)


def test_a_noisy_mask_is_outlined_coarsely(monkeypatch):
    monkeypatch.setattr(borders, "MOST_EDGES", 200)
    noise = np.random.default_rng(0).random((61, 80)) < 0.5
    lines = pixel_borders(noise)
    assert 0 < sum(map(len, lines)) <= 1000
    solid = np.zeros((64, 80), bool)
    solid[8:24, 16:64] = True
    [line] = pixel_borders(solid)
    assert line.min(axis=0).tolist() == [7.5, 15.5] and line.max(axis=0).tolist() == [23.5, 63.5]
    assert pixel_borders(np.zeros((3, 4), bool)) == []


@pytest.mark.parametrize("name", DETECTORS)
def test_hits_are_where_the_weights_are(name):
    weights = DETECTORS[name].weights(SIZE, KNOWN)
    for at in np.ndindex(SIZE):
        if weights[at] in (0, 1) and (at[0] + at[1]) % 3 == 0:
            assert contains(DETECTORS[name], at, KNOWN) == bool(weights[at])


def test_hits_on_selections():
    assert contains(SELECTIONS["point"], (3.4, 4.6)) and not contains(SELECTIONS["point"], (4, 5))
    assert contains(SELECTIONS["rectangle"], (8.4, 16.4))
    assert not contains(SELECTIONS["rectangle"], (8.6, 16.4))
    assert contains(SELECTIONS["mask"], (30.2, 39.8))
    assert not contains(SELECTIONS["mask"], (999.0, -5.0))
    assert not contains(SELECTIONS["disk"], (math.nan, 3))


# ---- handles -------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", SHAPES)
def test_dragging_a_handle_to_where_it_is_changes_nothing(name):
    shape = SHAPES[name]
    for handle, at in handles(shape, KNOWN).items():
        again = handles(moved(shape, handle, at, KNOWN), KNOWN)
        assert again.keys() == handles(shape, KNOWN).keys()
        for one, before in handles(shape, KNOWN).items():
            assert again[one] == pytest.approx(before, abs=1e-6), (handle, one)


FREE = [  # handles that follow in both directions
    (name, handle)
    for name, shape in SHAPES.items()
    for handle in handles(shape, KNOWN)
    if handle in ("center", "corner0", "a", "g1", "g2")
    or handle.startswith("vertex")
    or (handle == "corner" and shape in SELECTIONS.values())
]


@pytest.mark.parametrize(("name", "handle"), FREE)
def test_a_handle_goes_where_it_is_dragged(name, handle):
    at = np.round(handles(SHAPES[name], KNOWN)[handle]) + np.array([1.0, 2.0])
    if handle.startswith("corner"):
        at -= 0.5
    dragged = handles(moved(SHAPES[name], handle, tuple(at), KNOWN), KNOWN)
    assert dragged[handle] == pytest.approx(tuple(at))


def test_dragging_sizes():
    ring = Annulus(3, 9, center=(20, 20))
    assert moved(ring, "outer", (20, 32)).outer == 12
    assert moved(ring, "outer", (20, 21)).outer == 3.5
    assert moved(ring, "inner", (20, 40)).inner == 8.5
    assert moved(ring, "inner", (20, 20)).inner == 0.5
    box = moved(Rectangle(4, 6, center=(10, 10)), "corner", (7, 15))
    assert (box.height, box.width) == (6, 10)
    assert moved(box, "height", (14, 99)) == Rectangle(8, 10, center=(10, 10))
    ellipse = moved(EllipseDisk(5, 2, 0.0, center=(10, 10)), "a", (10, 18))
    assert (ellipse.a, ellipse.b) == (8, 2) and ellipse.theta_rad == pytest.approx(math.pi / 2)
    assert moved(ellipse, "b", (6, 33)).b == pytest.approx(4)
    in_mrad = moved(Disk(5.0, center=C, units="mrad"), "radius", (C[0], C[1] + 12), KNOWN)
    assert in_mrad.units == "mrad" and handles(in_mrad, KNOWN)["radius"] != (C[0], C[1] + 12)
    transform = np.diag((0.5, 0.55)) @ KNOWN.ellipse.correction()
    assert in_mrad.radius == pytest.approx(np.hypot(*transform @ (0, 12)))


def test_dragging_the_directions_of_a_segment():
    quarter = Segment(2, 9, 0.0, math.pi / 2, center=(20, 20))
    wider = moved(quarter, "stop", (10, 20))
    assert (wider.start_rad, wider.stop_rad) == pytest.approx((0, math.pi))
    through = moved(quarter, "start", (20, 10))
    assert through.start_rad == pytest.approx(1.5 * math.pi)
    assert through.stop_rad == pytest.approx(2.5 * math.pi)
    assert 0 < np.ptp(list(vars(moved(quarter, "start", (20, 30))).values())[2:4]) < 0.02


def test_dragging_the_centre_gives_a_centre():
    assert moved(Disk(5.0, units="mrad"), "center", (3.0, 4.5), KNOWN).center == (3.0, 4.5)
    assert shifted(Disk(5.0), (0.1, -10), KNOWN).center == pytest.approx((C[0] + 0.1, C[1] - 10))


def test_a_lattice_stays_a_lattice():
    lattice = DiskLattice(2.0, (8, 0), (0, 9), center=(20, 20))
    assert moved(lattice, "g1", (20, 29)) == lattice  # parallel to g2
    assert moved(lattice, "g1", (20, 20)) == lattice
    close = moved(lattice, "g1", (23, 20))
    assert close.g1 == (3, 0) and close.radius == 1.5
    assert moved(lattice, "radius", (28, 90)).radius == 4
    assert grown(lattice, 10).radius == 4


def test_shifting_pixels():
    moved_mask = shifted(Mask(BLOB), (2.4, -3))
    np.testing.assert_array_equal(moved_mask.data[6:11, 3:27], BLOB[4:9, 6:30])
    assert moved_mask.data.sum() == BLOB.sum()
    assert shifted(Mask(BLOB), (1000, 0)) == Mask(BLOB)
    assert shifted(SELECTIONS["rectangle"], (1.2, 2)) == RectangleSelection(3, 10, 6, 19)
    assert shifted(SELECTIONS["point"], (-1, 0)) == PointSelection(2, 5)


def test_growing():
    ring = Annulus(3, 9, center=(20, 20))
    assert grown(ring, 1).outer == 10 and grown(ring, -99).outer == 3.5
    assert grown(ring, 2, "inner").inner == 5 and grown(ring, 99, "inner").inner == 8.5
    assert grown(ring, -99, "inner").inner == 0
    assert grown(Disk(3), 1, "inner", KNOWN) == Disk(3)
    assert grown(Rectangle(4, 6, center=C), 1) == Rectangle(6, 8, center=C)
    assert grown(EllipseDisk(4, 1, center=C), -2) == EllipseDisk(2, 0.5, center=C)
    square = grown(Polygon(((-1, -1), (-1, 1), (1, 1), (1, -1)), center=C), math.sqrt(2))
    np.testing.assert_allclose(square.vertices, ((-2, -2), (-2, 2), (2, 2), (2, -2)))
    assert grown(Disk(5.0, units="mrad"), 1, calibration=KNOWN).radius == pytest.approx(
        5 + math.sqrt(0.5 * 0.55 / 1.2), rel=0.02
    )
    assert grown(SELECTIONS["rectangle"], 2) == RectangleSelection(0, 11, 2, 19)
    assert grown(RectangleSelection(0, 3, 0, 4), -9).mask((9, 9)).sum() == 1
    assert grown(SELECTIONS["mask"], 3) == SELECTIONS["mask"]


def test_what_is_not_asked_for_properly():
    with pytest.raises(ParameterError, match="radius"):
        moved(Disk(3, center=C), "corner", (1, 1))
    with pytest.raises(ParameterError, match="no handles"):
        moved(Mask(BLOB), "center", (1, 1))
    with pytest.raises(ParameterError, match="vertex"):
        moved(SELECTIONS["polygon"], "vertex3", (1, 1))
    with pytest.raises(ParameterError, match="outer"):
        grown(Disk(3, center=C), 1, "left")


# ---- any mouse -----------------------------------------------------------------------------------
anywhere = st.one_of(
    st.floats(-100, 200), st.floats(allow_nan=True, allow_infinity=True), st.integers(-3, 60)
)
acts = st.tuples(st.sampled_from(["drag", "shift", "grow", "shrink"]), anywhere, anywhere)


@pytest.mark.parametrize("name", SHAPES)
@settings(max_examples=40, deadline=None)
@given(st.lists(acts, max_size=8), st.data())
def test_no_mouse_breaks_a_shape(name, todo, data):
    shape = SHAPES[name]
    for act, a, b in todo:
        held = handles(shape, KNOWN)
        if act == "drag" and held:
            shape = moved(shape, data.draw(st.sampled_from(sorted(held))), (a, b), KNOWN)
        elif act == "shift":
            shape = shifted(shape, (a, b), KNOWN)
        else:
            shape = grown(shape, a if act == "grow" else -1.0, data.draw(which), KNOWN)
        assert type(shape) is type(SHAPES[name])
        for line in outline(shape, SIZE, KNOWN):
            assert np.isfinite(line).all() and len(line) > 3
        assert np.isfinite(list(handles(shape, KNOWN).values())).all()
        assert contains(shape, (a, b), KNOWN) in (True, False)


which = st.sampled_from(["outer", "inner"])


def test_vertices_lie_on_the_nearest_edge() -> None:
    square = ((0.0, 0.0), (0.0, 8.0), (8.0, 8.0), (8.0, 0.0))
    assert with_vertex(PolygonSelection(square), (4.0, -0.5)).vertices == (*square, (4.0, -0.5))
    scaled = Polygon(((0, 0), (0, 2), (2, 0)), center=(3, 4), units="mrad")
    known = Calibration(Q=(Axis("Qx", 0.5, 0, "mrad"), Axis("Qy", 0.5, 0, "mrad")))
    added = with_vertex(scaled, (3.0, 6.0), known)
    assert added.vertices == ((0, 0), (0, 1.0), (0, 2), (2, 0))
    assert with_vertex(scaled, (np.nan, 1.0), known) is scaled
    disk = Disk(3.0)
    assert with_vertex(disk, (1.0, 1.0)) is disk and without_vertex(disk, "radius") is disk
    line = PolygonSelection(((0.0, 0.0), (0.0, 4.0), (0.0, 8.0), (3.0, 3.0)))
    assert len(without_vertex(line, "vertex1").vertices) == 3
    assert without_vertex(without_vertex(line, "vertex1"), "vertex0").vertices == (
        (0.0, 0.0), (0.0, 8.0), (3.0, 3.0)
    )  # fmt: skip
