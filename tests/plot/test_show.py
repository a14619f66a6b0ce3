"""`show` draws everything, says where it is, and leaves matplotlib alone."""

import io
import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pytest

from py4DSTEM import (
    Annulus,
    ArrayResult,
    Axis,
    Calibration,
    DataCube,
    DiffractionSlice,
    Disk,
    Mask,
    ParameterError,
    Point,
    PointTable,
    RealSlice,
    Rectangle,
    Segment,
    show,
)
from py4DSTEM.plot.contrast import complex_colors
from py4DSTEM.plot.decorate import nice_length

RNG = np.random.default_rng(1)
CALIBRATION = Calibration().replace(
    R_pixel_size=5, R_pixel_units="nm", Q_pixel_size=0.02, Q_pixel_units="A^-1",
    origin_px=(20, 25),
)  # fmt: skip
PATTERN = DiffractionSlice(RNG.poisson(3.0, (40, 50)), CALIBRATION, name="pattern")


def render(figure):
    """Draw for real: many problems only show up then."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=50)
    return buffer.getvalue()


def points(*rows):
    return np.array(list(rows), dtype=[("qx", "f8"), ("qy", "f8"), ("intensity", "f8")])


EVERYTHING = {
    "image": (RealSlice(RNG.normal(5, 1, (7, 9)), CALIBRATION), 1),
    "signed": (RealSlice(RNG.normal(0, 1, (7, 9))), 1),
    "pattern": (PATTERN, 1),
    "stack": (RealSlice(np.ones((3, 7, 9)), labels=("a", "b", "c")), 3),
    "array": (np.arange(12).reshape(3, 4), 1),
    "boolean": (np.eye(5, dtype=bool), 1),
    "curve": (np.arange(5.0), 1),
    "stack of arrays": (np.ones((5, 3, 4)), 5),
    "4D array": (np.ones((2, 3, 4, 5)), 2),
    "nested list": ([[1, 2], [3, 4]], 1),
    "list": ([PATTERN, np.eye(3)], 2),
    "mapping": ({"a": PATTERN, "b": {"c": np.eye(3), "d": np.eye(4)}}, 3),
    "complex": (RealSlice(np.exp(1j * RNG.normal(size=(6, 7)))), 1),
    "cube": (DataCube(RNG.poisson(2, (30, 20, 8, 9)).astype(np.uint16), CALIBRATION), 2),
    "points": (PointTable.from_lists([[points((1, 2, 3)), points()]], name="peaks"), 1),
    "result": (ArrayResult(np.ones((3, 4)), (Axis("Qr", 0.1, unit="A^-1"), Axis("angle"))), 1),
    "all NaN": (RealSlice(np.full((4, 5), np.nan)), 1),
    "all NaN pattern": (DiffractionSlice(np.full((4, 5), np.nan)), 1),
    "complex NaN": (np.full((4, 5), np.nan + 0j), 1),
    "constant": (RealSlice(np.full((4, 5), 3.0)), 1),
    "zero": (DiffractionSlice(np.zeros((4, 5))), 1),
    "negative constant": (DiffractionSlice(np.full((4, 5), -2.0)), 1),
    "infinite": (DiffractionSlice(np.array([[np.inf, 1], [-np.inf, 2]])), 1),
    "empty": (RealSlice(np.zeros((0, 5))), 1),
    "one pixel": (DiffractionSlice(np.ones((1, 1))), 1),
}


@pytest.mark.parametrize("scale", [None, "log", 0.3])
@pytest.mark.parametrize("name", EVERYTHING)
def test_everything_is_drawn_without_warnings(name, scale):
    obj, count = EVERYTHING[name]
    before = dict(mpl.rcParams)
    figure, axes = show(obj, scale=scale, cbar=scale is None)
    assert np.size(axes) == count
    assert dict(mpl.rcParams) == before
    if scale is None:  # the slow part; the others differ by the norm alone
        assert render(figure)


def test_rows_point_down_and_columns_to_the_right():
    figure, ax = show(PATTERN)
    render(figure)
    top_left = ax.transData.transform((0, 0))
    assert ax.transData.transform((0, 39))[1] < top_left[1]  # larger x (row): further down
    assert ax.transData.transform((49, 0))[0] > top_left[0]  # larger y (column): further right
    assert ax.get_ylabel() == "qx (Å⁻¹)" and ax.get_xlabel() == "qy (Å⁻¹)"


def test_ticks_count_from_the_calibrated_origin():
    _, ax = show(PATTERN)
    labels = [text.get_text() for text in ax.get_yticklabels()]
    assert ax.get_yticks()[labels.index("0")] == pytest.approx(20)
    assert ax.get_yticks()[labels.index("0.2")] == pytest.approx(30)


def test_ticks_of_a_map_follow_the_offset_of_its_axes():
    calibration = Calibration(R=(Axis("Rx", 5, 100, "nm"), Axis("Ry", 5, 0, "nm")))
    _, ax = show(RealSlice(np.eye(20), calibration))
    labels = [text.get_text() for text in ax.get_yticklabels()]
    assert ax.get_yticks()[labels.index("100")] == pytest.approx(0)


def find(ax, gid):
    return [artist for artist in ax.get_children() if artist.get_gid() == gid]


@pytest.mark.parametrize(
    ("step", "unit", "text", "pixels"),
    [(5, "nm", "50 nm", 10), (20, "A", "20 nm", 10), (0.02, "A^-1", "0.2 Å⁻¹", 10),
     (0.5, "mrad", "5 mrad", 10), (1, "px", "10 px", 10), (200, "nm", "2000 nm", 10)],
)  # fmt: skip
def test_scale_bar_has_the_length_it_states(step, unit, text, pixels):
    calibration = Calibration().replace(R_pixel_size=step, R_pixel_units=unit)
    _, ax = show(RealSlice(np.eye(50), calibration))
    (bar,) = find(ax, "scale bar")
    assert bar.get_width() == pytest.approx(pixels)
    assert text in [t.get_text() for t in ax.texts]
    _, bare = show(PATTERN, scalebar=False)
    assert not find(bare, "scale bar")


def test_nice_lengths():
    assert [nice_length(v) for v in (1, 1.99, 2, 4.9, 5, 9.9, 0.03)] == [1, 1, 2, 2, 5, 5, 0.02]


def outline(detector, pattern=PATTERN):
    _, ax = show(pattern, overlays=detector)
    (drawn,) = [a for a in ax.get_children() if type(a).__name__ == "QuadContourSet"]
    return np.concatenate([path.vertices for path in drawn.get_paths()])[:, ::-1]  # x, y


def test_outline_of_a_disk_is_a_circle_about_the_origin():
    radius = np.hypot(*(outline(Disk(8.3)) - (20, 25)).T)
    assert radius == pytest.approx(8.3, abs=0.15)
    physical = np.hypot(*(outline(Disk(0.166, units="A^-1")) - (20, 25)).T)
    assert physical == pytest.approx(8.3, abs=0.15)


@pytest.mark.parametrize(
    "detector",
    [Annulus(3, 6), Rectangle(4, 9, center=(10, 30)), Segment(2, 9, 0.1, 1.5), Point((3, 4)),
     Mask(np.eye(40, 50) - 0.5), Disk(500), Mask(np.zeros((40, 50))), Disk(3, center=(-50, 0))],
)  # fmt: skip
def test_every_detector_has_an_outline(detector):
    figure, ax = show(PATTERN, overlays={"name $x$": detector})
    assert render(figure)
    assert ax.get_xlim() == (-0.5, 49.5) and ax.get_ylim() == (39.5, -0.5)
    assert ax.get_legend().get_texts()[0].get_text() == "name $x$"


def test_points_are_drawn_at_row_and_column():
    table = PointTable.from_lists([[points((5, 30, 1), (7, 40, 9))]])
    for overlay in (table, table[0, 0], [(5, 30), (7, 40)], np.array([[5, 30], [7, 40]])):
        _, ax = show(PATTERN, overlays=overlay)
        np.testing.assert_allclose(ax.collections[0].get_offsets(), [(30, 5), (40, 7)])


def test_overlays_that_make_no_sense():
    with pytest.raises(ParameterError, match="diffraction pattern"):
        show(RealSlice(np.eye(9)), overlays=Disk(3, center=(4, 4)))
    with pytest.raises(ParameterError, match=r"\(n, 2\)"):
        show(PATTERN, overlays=np.ones((3, 3)))
    with pytest.raises(ParameterError, match="qx, qy"):
        show(PATTERN, overlays=np.zeros(2, dtype=[("a", "f8")]))


def test_undefined_pixels_have_their_own_colour():
    data = np.linspace(0, 1, 100).reshape(10, 10)
    data[4, 4] = np.nan
    for kind in (RealSlice, DiffractionSlice):
        _, ax = show(kind(data))
        image = ax.images[0]
        colors = image.cmap(image.norm(image.get_array()))
        others = np.delete(colors.reshape(-1, 4), 44, axis=0)
        assert np.abs(others - colors[4, 4]).max(axis=1).min() > 0.1


def test_defaults_follow_the_kind_of_value():
    assert show(PATTERN)[1].images[0].cmap.name == "inferno"
    assert show(RealSlice(np.eye(5)))[1].images[0].cmap.name == "gray"
    signed = show(EVERYTHING["signed"][0])[1].images[0]
    assert signed.cmap.name == "RdBu_r"
    assert signed.norm.vmin == pytest.approx(-signed.norm.vmax)
    assert show(PATTERN, cmap="magma")[1].images[0].cmap.name == "magma"


def test_square_root_is_the_default_of_patterns_only():
    assert show(PATTERN)[1].images[0].norm(1.0) > show(PATTERN, scale=1)[1].images[0].norm(1.0)
    image = show(RealSlice(np.linspace(0, 1, 100).reshape(10, 10)), clip=(0, 100))[1].images[0]
    assert float(image.norm(0.25)) == pytest.approx(0.25)


def test_colours_of_complex_numbers():
    rgb = complex_colors(np.exp(1j * np.linspace(0, 2 * np.pi, 13)), 1.0)
    np.testing.assert_allclose(rgb[0], rgb[-1], atol=1e-6)
    assert np.abs(np.diff(rgb, axis=0)).max(axis=1).min() > 0.02
    luminance = rgb**2.2 @ (0.2126, 0.7152, 0.0722)
    assert luminance.std() < 0.05  # no hue stands out
    assert complex_colors(np.zeros(1), 1.0).max() < 0.01
    figure, _ = show(EVERYTHING["complex"][0])
    assert any(axes.get_gid() == "colour wheel" for axes in figure.axes)


def test_own_axes_and_titles():
    from matplotlib.figure import Figure

    figure = Figure()
    one, two = figure.subplots(1, 2)
    assert show(PATTERN, ax=one, title="cost: $5$")[0] is figure
    assert one.get_title() == "cost: $5$"
    returned, axes = show([PATTERN, PATTERN], ax=[one, two])
    assert returned is figure and list(axes) == [one, two]
    with pytest.raises(ParameterError, match="as many axes"):
        show([PATTERN] * 3, ax=[one, two])


def test_names_from_files_are_not_read_as_mathematics():
    figure, ax = show(RealSlice(np.eye(3), name=r"$\frac{$", units="$^"), cbar=True)
    assert render(figure) and ax.get_title() == r"$\frac{$"


class Counting:
    """A lazy scan that counts how many patterns were read."""

    shape = (300, 200, 16, 12)
    dtype = np.dtype(np.uint16)
    read = 0

    def __getitem__(self, key):
        self.read += 1
        return np.full((16, 12), key[0] % 7, np.uint16)


def test_a_cube_is_never_read_whole():
    data = Counting()
    _, axes = show(DataCube(data, CALIBRATION))
    assert data.read <= 144
    assert "every 25th position" in axes[0].get_title().replace("\n", " ")
    assert "96 of 60000 patterns" in axes[1].get_title()


def test_long_stacks_are_thinned_and_it_is_said():
    figure, axes = show(np.ones((100, 3, 4)))
    assert len(axes) == 36 and "36 of 100" in figure.get_suptitle()


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [({"scale": "cube"}, "scale"), ({"scale": -1}, "scale"), ({"clip": (5, 1)}, "percentiles"),
     ({"cmap": "nonsense"}, "colour map")],
)  # fmt: skip
def test_bad_options(kwargs, message):
    with pytest.raises(ParameterError, match=message):
        show(PATTERN, **kwargs)


@pytest.mark.parametrize("obj", [[], {}, "text", object(), np.ones((1,) * 5), None])
def test_what_cannot_be_drawn(obj):
    with pytest.raises(ParameterError):
        show(obj)


def test_importing_show_does_not_import_matplotlib():
    code = "import sys, py4DSTEM; py4DSTEM.show; assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_text_has_no_picture_and_says_so():
    text = ArrayResult(np.array([["a", "b"], ["c", "d"]]), (Axis("k"), Axis("l")), name="labels")
    with pytest.raises(ParameterError, match=r"labels holds <U1 values"):
        show(text)
