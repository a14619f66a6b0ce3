"""Shapes whose area and edges are known, and shapes that make no sense."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from py4DSTEM import (
    Annulus,
    Detector,
    Disk,
    DiskLattice,
    EllipseDisk,
    Mask,
    Point,
    Polygon,
    Rectangle,
    Segment,
    dpc_segments,
    segments,
)
from py4DSTEM.core.calibration import Calibration, Ellipse
from py4DSTEM.core.detector import AnyDetector
from py4DSTEM.core.detectors.base import pixel_transform
from py4DSTEM.core.detectors.lattice import reduced
from py4DSTEM.core.detectors.polygon import coverage
from py4DSTEM.errors import CalibrationMissing, ParameterError

NONE = Calibration()
SIZE = (41, 52)
C = (19.3, 27.8)
STAR = ((-12, 0), (-3, 3), (0, 14), (3, 3), (11, 1), (2, -4), (-6, -9))


def shoelace(vertices):
    x, y = np.array(vertices, dtype=float).T
    return abs((x * np.roll(y, -1) - y * np.roll(x, -1)).sum()) / 2


AREAS = {
    "point": (Point(center=C), 1.0),
    "disk": (Disk(9.2, center=C), math.pi * 9.2**2),
    "annulus": (Annulus(3.5, 9.2, center=C), math.pi * (9.2**2 - 3.5**2)),
    "rectangle": (Rectangle(11.0, 7.5, center=C), 11.0 * 7.5),
    "segment": (Segment(4.0, 12.0, 0.4, 2.1, center=C), 1.7 / 2 * (144 - 16)),
    "wedge": (Segment(0.0, 12.0, 2.0, 2.9, center=C), 0.9 / 2 * 144),
    "ellipse": (EllipseDisk(14.0, 6.0, 0.7, center=C), math.pi * 14 * 6),
    "thin ellipse": (EllipseDisk(0.9, 17.0, 0.3, center=C), math.pi * 0.9 * 17),
    "needle": (EllipseDisk(18.0, 0.3, -0.4, center=C), math.pi * 18 * 0.3),
    "polygon": (Polygon(STAR, center=C), shoelace(STAR)),
    "lattice": (DiskLattice(2.2, (8, 1), (-2, 9), order=1, center=C), 8 * math.pi * 2.2**2),
    "filled lattice": (
        DiskLattice(2.2, (8, 1), (-2, 9), order=1, include_center=True, center=C),
        9 * math.pi * 2.2**2,
    ),
    "skewed lattice": (DiskLattice(2.5, (6, 0), (17, 7), order=1, center=C), None),
    "mask": (Mask(np.eye(*SIZE)), 41.0),
}


@pytest.mark.parametrize("name", [n for n, (_, area) in AREAS.items() if area is not None])
def test_the_area_is_that_of_the_closed_form(name):
    detector, area = AREAS[name]
    weights = detector.weights(SIZE, NONE)
    assert weights.shape == SIZE and weights.min() >= 0 and weights.max() <= 1
    assert weights.sum() == pytest.approx(area, rel=3e-3)


def finely(detector, samples=24):
    """Share of the samples of each pixel that lie inside by the sign of the distance alone."""
    step = (np.arange(samples) + 0.5) / samples - 0.5
    x = (np.arange(SIZE[0])[:, None] + step).ravel() - C[0]
    y = (np.arange(SIZE[1])[:, None] + step).ravel() - C[1]
    inside = detector.signed_distance(*np.meshgrid(x, y, indexing="ij")) < 0
    return inside.reshape(SIZE[0], samples, SIZE[1], samples).mean(axis=(1, 3))


@pytest.mark.parametrize("name", ["ellipse", "needle", "polygon", "lattice", "skewed lattice"])
def test_each_pixel_counts_by_its_share(name):
    detector, _ = AREAS[name]
    np.testing.assert_allclose(detector.weights(SIZE, NONE), finely(detector), atol=0.05)


def test_the_ellipse_is_where_its_equation_says():
    detector = EllipseDisk(14.0, 6.0, 0.7)
    rng = np.random.default_rng(0)
    x, y = rng.uniform(-20, 20, (2, 5000))
    u, v = x * math.cos(0.7) + y * math.sin(0.7), y * math.cos(0.7) - x * math.sin(0.7)
    inside = (u / 14) ** 2 + (v / 6) ** 2 < 1
    np.testing.assert_array_equal(detector.signed_distance(x, y) < 0, inside)
    # Along the axes the distance is exact; the middle is half a small axis from the edge or more.
    along = detector.signed_distance(16 * math.cos(0.7), 16 * math.sin(0.7))
    assert float(along) == pytest.approx(2.0)
    assert float(detector.signed_distance(np.zeros(1), np.zeros(1))[0]) == -6.0


def test_whole_numbers_are_numbers():
    for whole, same in (
        (EllipseDisk(8, 3, 1, (20, 25)), EllipseDisk(8.0, 3.0, 1.0, (20.0, 25.0))),
        (Segment(2, 9, 0, 2, (20, 25)), Segment(2.0, 9.0, 0.0, 2.0, (20.0, 25.0))),
        (DiskLattice(2, (6, 0), (0, 7), 2), DiskLattice(2.0, (6.0, 0.0), (0.0, 7.0), 2)),
    ):
        known = Calibration(origin_px=C)
        np.testing.assert_array_equal(whole.weights(SIZE, known), same.weights(SIZE, known))
        assert whole == same


def test_an_ellipse_with_equal_axes_is_a_disk():
    disk, ellipse = Disk(7.3, center=C), EllipseDisk(7.3, 7.3, 1.1, center=C)
    np.testing.assert_allclose(ellipse.weights(SIZE, NONE), disk.weights(SIZE, NONE), atol=1e-12)


# ---- polygons ------------------------------------------------------------------------------------
corners = st.tuples(st.floats(-60, 60), st.floats(-60, 60))


@settings(max_examples=150, deadline=None)
@given(corners, corners, corners)
def test_any_triangle_covers_its_area_wherever_it_lies(a, b, c):
    triangle = np.array([a, b, c])
    covered = coverage(triangle + 60.0, (121, 122))
    assert covered.sum() == pytest.approx(shoelace(triangle), abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(-30, 60), st.floats(-30, 60)), min_size=3, max_size=3))
def test_what_lies_beside_the_frame_changes_nothing_in_it(triangle):
    triangle = np.array(triangle)
    whole = coverage(triangle + 40, (110, 111))
    np.testing.assert_allclose(coverage(triangle, (23, 31)), whole[40:63, 40:71], atol=1e-9)


def test_a_rectangle_as_a_polygon():
    x, y = 5.5, 3.75
    polygon = Polygon(((-x, -y), (-x, y), (x, y), (x, -y)), center=C)
    expected = Rectangle(2 * x, 2 * y, center=C).weights(SIZE, NONE)
    np.testing.assert_allclose(polygon.weights(SIZE, NONE), expected, atol=0.03)


def test_a_line_that_crosses_itself_encloses_both_loops():
    eight = ((-6, -6), (6, 6), (6, -6), (-6, 6))
    weights = Polygon(eight, center=(20, 25)).weights(SIZE, NONE)
    assert weights.sum() == pytest.approx(72, rel=0.02)
    assert weights[16, 25] == weights[24, 25] == 1 and weights[20, 20] == 0


def test_a_polygon_in_physical_units_is_measured_as_a_disk_is():
    known = Calibration(origin_px=C, ellipse=Ellipse(1.15, 1.0, 0.7)).replace(
        Q_pixel_size=(0.5, 0.6), Q_pixel_units="mrad"
    )
    angle = np.linspace(0, 2 * math.pi, 300, endpoint=False)
    round_one = tuple(zip(5 * np.cos(angle), 5 * np.sin(angle), strict=True))
    polygon = Polygon(round_one, units="mrad").weights(SIZE, known)
    disk = Disk(5.0, units="mrad").weights(SIZE, known)
    np.testing.assert_allclose(polygon, disk, atol=0.03)
    assert polygon.sum() == pytest.approx(disk.sum(), rel=1e-3)


def test_a_polygon_through_points_on_the_detector():
    polygon = Polygon.through([(3, 4), (9, 4), (3, 12)])
    assert polygon.center == (5.0, pytest.approx(20 / 3))
    assert polygon.weights((15, 16), NONE).sum() == pytest.approx(24)
    here = Polygon(((3, 4), (9, 4), (3, 12)), center=(0, 0))
    np.testing.assert_allclose(here.weights((15, 16), NONE), polygon.weights((15, 16), NONE))


# ---- lattices ------------------------------------------------------------------------------------
@settings(max_examples=60, deadline=None)
@given(st.integers(-3, 3), st.integers(-3, 3), st.floats(0.05, 0.5))
def test_a_reduced_basis_spans_the_same_lattice(m, n, share):
    g1, g2 = (7.0 + m, 1.0), (0.5 + 2 * n * 7.0, 8.0 + n)
    basis, hk = reduced(g1, g2)
    np.testing.assert_allclose(hk @ np.array([g1, g2]), basis, atol=1e-9)
    assert abs(round(np.linalg.det(hk))) == 1
    assert abs(basis[0] @ basis[1]) <= basis[0] @ basis[0] / 2 * (1 + 1e-9)
    radius = share * np.hypot(*basis[0])
    detector = DiskLattice(radius, g1, g2, order=2)
    at = detector.nodes()
    assert len(at) == 24
    np.testing.assert_allclose(detector.signed_distance(*at.T), -radius)
    np.testing.assert_allclose(
        detector.signed_distance(*(at + np.array([0.0, radius])).T), 0, atol=1e-9
    )
    assert detector.signed_distance(np.zeros(1), np.zeros(1))[0] > 0


@pytest.mark.parametrize("center", [C, (-3.0, 60.0), (500.0, 2.0)])
def test_disks_one_by_one_are_those_of_the_nearest_node(center):
    known = Calibration(ellipse=Ellipse(1.15, 1.0, 0.7)).replace(
        Q_pixel_size=(0.5, 0.6), Q_pixel_units="mrad"
    )
    lattice = DiskLattice(1.2, (5, 1), (-1, 4), center=center, units="mrad")
    nearest = Detector.weights(lattice, SIZE, known)
    np.testing.assert_allclose(lattice.weights(SIZE, known), nearest, atol=2e-3)  # sampled


# ---- sets ----------------------------------------------------------------------------------------
def test_quadrants_for_differential_phase_contrast():
    known = Calibration(origin_px=C, probe_radius_px=8.0)
    found = dpc_segments(known)
    weights = {name: s.weights(SIZE, known) for name, s in found.items()}
    assert {s.outer for s in found.values()} == {10.0}
    ring = Annulus(4.0, 10.0).weights(SIZE, known)
    np.testing.assert_allclose(sum(weights.values()), ring, atol=0.03)
    i, j = np.indices(SIZE) - np.array(C)[:, None, None]
    for name, (x, y) in {"down": (1, 0), "right": (0, 1), "up": (-1, 0), "left": (0, -1)}.items():
        w = weights[name]
        towards = np.array([(w * i).sum(), (w * j).sum()]) / w.sum()
        np.testing.assert_allclose(towards / np.hypot(*towards), (x, y), atol=0.01)


def test_quadrants_see_the_beam_move():
    known = Calibration(origin_px=C, probe_radius_px=8.0)
    w = {name: s.weights(SIZE, known) for name, s in dpc_segments(known).items()}
    beam = Disk(8.0, center=(C[0] + 0.5, C[1] - 0.25)).weights(SIZE, NONE)
    s = {name: float((beam * one).sum()) for name, one in w.items()}
    assert s["down"] - s["up"] > 1 and s["right"] - s["left"] < -0.5
    with pytest.raises(CalibrationMissing, match="convergence"):
        dpc_segments(NONE)
    with pytest.raises(ParameterError, match="inner < outer"):
        dpc_segments(known, inner=1, outer=0.5)


# ---- values --------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", AREAS)
def test_it_comes_back_from_json(name):
    adapter = TypeAdapter(AnyDetector)
    detector, _ = AREAS[name]
    text = adapter.dump_json(detector)
    again = adapter.validate_json(text)
    assert again == detector and type(again) is type(detector)
    assert json.loads(text)["kind"] == detector.kind
    with pytest.raises(ValidationError):
        adapter.validate_python({**json.loads(text), "colour": "red"})


NAN, INF = math.nan, math.inf
BAD = {
    "center": lambda: Disk(3, center=(1, NAN)),
    "three numbers": lambda: Disk(3, center=(1, 2, 3)),
    "words": lambda: Disk("large"),
    "infinite": lambda: Disk(INF),
    "negative": lambda: EllipseDisk(3, -1),
    "no direction": lambda: EllipseDisk(3, 1, NAN),
    "no radius": lambda: EllipseDisk(0, 1),
    "angle": lambda: Segment(1, 2, NAN, 1),
    "endless angle": lambda: Segment(1, 2, -INF, 1),
    "two corners": lambda: Polygon(((0, 0), (1, 1))),
    "too many corners": lambda: Polygon(((0.0, 0.0),) * 1001),
    "a corner of three": lambda: Polygon(((0, 0), (1, 1), (1, 2, 3))),
    "no corners": lambda: Polygon("abc"),
    "nan corner": lambda: Polygon(((0, 0), (1, 1), (NAN, 2))),
    "parallel": lambda: DiskLattice(1, (4, 2), (8, 4)),
    "no vector": lambda: DiskLattice(1, (0, 0), (8, 4)),
    "overlap": lambda: DiskLattice(3, (5, 0), (0, 9)),
    "order": lambda: DiskLattice(1, (5, 0), (0, 9), order=0),
    "half an order": lambda: DiskLattice(1, (5, 0), (0, 9), order=1.5),
    "huge order": lambda: DiskLattice(1, (5, 0), (0, 9), order=51),
    "too many segments": lambda: segments(65, 1, 2),
    "not a mask": lambda: Mask({"shape": [2, 2], "zlib_f8": "AAAA"}),
}


@pytest.mark.parametrize("name", BAD)
def test_what_makes_no_sense_is_refused(name):
    with pytest.raises(ParameterError):
        BAD[name]()


EXACT = ["point", "disk", "annulus", "rectangle", "ellipse", "thin ellipse", "needle"]


@pytest.mark.parametrize("name", EXACT)
def test_shapes_with_a_closed_form_cover_their_area_to_rounding(name):
    detector, area = AREAS[name]
    assert detector.weights(SIZE, NONE).sum() == pytest.approx(area, rel=1e-12)


@pytest.mark.parametrize("radius", [0.2, 0.5, 1.0, 1.5, 7.0])
@pytest.mark.parametrize("center", [(10.0, 10.0), (10.5, 10.5), (10.31, 9.77)])
def test_a_disk_covers_its_area_however_small(radius, center):
    weights = Disk(radius, center=center).weights((21, 20), NONE)
    assert weights.sum() == pytest.approx(math.pi * radius**2, rel=1e-12)


def test_a_disk_on_stretched_pixels_covers_its_area():
    stretched = Calibration(ellipse=Ellipse(1.1, 0.92, 0.4))
    calibration = stretched.replace(Q_pixel_size=(0.02, 0.017), Q_pixel_units="A^-1")
    weights = Disk(0.2, center=(25, 25), units="A^-1").weights((50, 52), calibration)
    area = math.pi * 0.2**2 / abs(np.linalg.det(pixel_transform(calibration, "A^-1")))
    assert weights.sum() == pytest.approx(area, rel=1e-12)


@pytest.mark.parametrize("center", [(-3.0, 5.0), (45.0, 20.0), (-300.0, 5.0), (20.0, 1e9)])
def test_a_disk_over_the_rim_is_cut_there(center):
    disk = Disk(9.2, center=center)
    far = Disk(9.2, center=(center[0] + 400, center[1] + 400))
    whole = far.weights((SIZE[0] + 800, SIZE[1] + 800), NONE)[400:441, 400:452]
    np.testing.assert_allclose(disk.weights(SIZE, NONE), whole, atol=1e-9)
