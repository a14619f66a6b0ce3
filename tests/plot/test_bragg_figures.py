"""Figures of results: what they show, where zero is, and that they can be drawn at all."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.testing import assert_allclose

import py4DSTEM
from py4DSTEM import BraggPeaks, Calibration, DataCube, DiffractionSlice, Ellipse, show
from py4DSTEM.errors import ParameterError, ShapeError
from py4DSTEM.plot.figures import FIGURES, canvas
from py4DSTEM.plot.figures.rings import polar
from py4DSTEM.process.bragg.lattice import REASONS, LatticeFit
from py4DSTEM.process.calibrate.ellipse import EllipseMeasurement
from py4DSTEM.process.calibrate.origin_fit import OriginMeasurement
from py4DSTEM.process.calibrate.pixel_size import LINE_DTYPE, PixelSizeMeasurement
from py4DSTEM.process.calibrate.rotation import RotationMeasurement
from py4DSTEM.process.strain import StrainMap
from py4DSTEM.process.strain_comparison import compare_strain

R_SHAPE, Q_SHAPE = (8, 11), (40, 44)
RNG = np.random.default_rng(7)
CALIBRATION = Calibration().replace(
    R_pixel_size=1.5, R_pixel_units="nm", Q_pixel_size=0.02, Q_pixel_units="A^-1",
    origin_px=(19, 21), probe_radius_px=3.0,
)  # fmt: skip


def render(figure: Figure) -> bytes:
    """Draw for real: many problems only show up then, as warnings."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.savefig(buffer, dpi=40)
    return buffer.getvalue()


def titles(figure: Figure) -> list[str]:
    return [ax.get_title() for ax in figure.axes if ax.get_title()]


def panel(figure: Figure, title: str) -> Any:
    return next(ax for ax in figure.axes if title in ax.get_title())


# ---- results -------------------------------------------------------------------------------------
def strain_map(**changes: Any) -> StrainMap:
    x, y = np.indices(R_SHAPE)
    mask = np.ones(R_SHAPE, bool)
    mask[0, :3] = False
    maps = [0.01 * np.tanh(y - 5), -0.004 * y / 10, 0.002 * (x - 4) / 4, 0.003 * (x - 3)]
    covariance = np.broadcast_to(np.eye(4) * 1e-8, (*R_SHAPE, 4, 4)).copy()
    for m in (*maps, covariance):
        m[~mask] = np.nan
    values: dict[str, Any] = {
        "covariance": covariance, "mask": mask, "reference": np.eye(2) * 0.3,
        "calibration": CALIBRATION, "axis_angle_rad": 0.4,
    }  # fmt: skip
    return StrainMap(*maps, **(values | changes))


def strain_maps() -> dict[str, StrainMap]:
    """Three ways to the same strain; one knows no rotation."""
    maps = {name: strain_map() for name in ("disks", "ring", "$cepstrum")}
    maps["ring"] = replace(maps["ring"], theta=np.full(R_SHAPE, np.nan))
    maps["$cepstrum"] = replace(
        maps["disks"], e_xx=maps["disks"].e_xx + RNG.normal(0.002, 1e-4, R_SHAPE)
    )
    return maps


def lattice_fit() -> LatticeFit:
    reason = np.zeros(R_SHAPE, np.uint8)
    reason[0, :3], several = 2, np.zeros(R_SHAPE, bool)
    several[4, 4] = True
    g = [RNG.normal(b, 1e-3, (*R_SHAPE, 2)) for b in ((0.2, 0.0), (0.02, 0.25))]
    for vectors in g:
        vectors[reason > 0] = np.nan
    zero = np.zeros((*R_SHAPE, 2))
    return LatticeFit(
        *g, zero, np.zeros((*R_SHAPE, 4, 4)), zero, RNG.random(R_SHAPE) * 1e-3, np.ones(R_SHAPE),
        RNG.integers(5, 20, R_SHAPE), reason == 0, reason, several,
        np.array([[0.2, 0.0], [0.02, 0.25]]), "A^-1", CALIBRATION,
    )  # fmt: skip


def origins() -> OriginMeasurement:
    x, y = np.indices(R_SHAPE)
    values = np.stack([19 + 0.05 * x, 21 - 0.02 * y], axis=-1)
    values += RNG.normal(0, 0.01, values.shape)
    values[1, 1], values[5, 5] = np.nan, values[5, 5] + 3
    return OriginMeasurement(values, np.full(values.shape, 0.01), {"dark": 1}, "disk", CALIBRATION)


def bragg_peaks() -> BraggPeaks:
    rx, ry = (n.ravel() for n in np.indices(R_SHAPE))
    columns = {name: [] for name in ("rx", "ry", "qx", "qy", "intensity")}
    for dx, dy, intensity in ((0, 0, 100), (10, 1, 9), (-10, -1, 8), (1, -12, 4), (-1, 12, 4)):
        for name, value in zip(
            columns, (rx, ry, 19.0 + dx, 21.0 + dy, float(intensity)), strict=True
        ):
            columns[name].append(np.broadcast_to(value, rx.shape))
    joined = {name: np.concatenate(parts) for name, parts in columns.items()}
    return BraggPeaks.from_columns(joined, R_SHAPE, Q_shape=Q_SHAPE, calibration=CALIBRATION)


ELLIPSE = Ellipse(15.6, 14.4, 0.6)


def ring_pattern() -> DiffractionSlice:
    i, j = np.indices((64, 70), dtype=float)
    offset = np.stack([i - 31, j - 34], axis=-1) @ ELLIPSE.correction().T
    radius = np.hypot(offset[..., 0], offset[..., 1]) * np.sqrt(ELLIPSE.a / ELLIPSE.b)
    return DiffractionSlice(100 * np.exp(-(((radius - 15) / 1.0) ** 2) / 2) + 1)


def ellipse_measurement() -> EllipseMeasurement:
    radius = np.arange(0, 24, 0.5)
    ring = np.exp(-((radius - 15) ** 2) / 2)
    return EllipseMeasurement(
        ELLIPSE, (31.0, 34.0), 1e-3, 2e-3, (0.01, 0.01), np.eye(4) * 1e-6, np.array([15.0]),
        np.array([2.4]), 1.0, 1.0, "rings", np.stack([radius, 0.7 * ring, ring]),
    )  # fmt: skip


def pixel_size() -> PixelSizeMeasurement:
    lines = np.zeros(4, LINE_DTYPE)
    lines["q_A"] = (0.3, 0.31, 0.6, 0.9)
    lines["radius_px"], lines["sigma_px"] = lines["q_A"] / 0.02, 0.01
    lines["residual"], lines["label"] = (1e-4, -2e-4, 1e-4, 0), ("111", "200", "220", "$3")
    return PixelSizeMeasurement(
        (0.02, 0.02), (1e-5, 1e-5), lines, 1e-4, 1.0, 1.0, 1e-4, 0.0, (31.0, 34.0), "Au", 1.0
    )


def rotation(method: str = "curl") -> RotationMeasurement:
    angles = np.linspace(-np.pi / 2, np.pi / 2, 31)
    curves = np.stack([np.abs(np.sin(angles - 0.3)), np.full(31, 0.7)])
    names = ("curl_rms", "div_rms") if method == "curl" else ("misfit_rms",)
    curve = {"angles_rad": angles, **dict.fromkeys(names, curves)}
    return RotationMeasurement(0.3 - np.pi, False, 0.01, 4.0, 5.0, "near", 0.1, method, curve)


RESULTS: dict[str, Callable[[], Any]] = {
    "strain": strain_map,
    "strain without sigmas": lambda: strain_map(covariance=np.full((*R_SHAPE, 4, 4), np.nan)),
    "strain of nothing": lambda: replace(
        strain_map(mask=np.zeros(R_SHAPE, bool)), **dict.fromkeys(
            ("e_xx", "e_yy", "e_xy", "theta"), np.full(R_SHAPE, np.nan))),
    "comparison": lambda: compare_strain(strain_maps()),
    "lattice": lattice_fit,
    "origin": origins,
    "origin fit": lambda: origins().fit("plane"),
    "origin of one position": lambda: OriginMeasurement(
        np.ones((1, 1, 2)), np.ones((1, 1, 2)), {}, "disk"),
    "peaks": bragg_peaks,
    "no peaks": lambda: bragg_peaks().select(np.zeros(len(bragg_peaks()), bool)),
    "peaks of nothing known": lambda: replace(
        bragg_peaks(), calibration=Calibration(), Q_shape=None),
    "ellipse": ellipse_measurement,
    "pixel size": pixel_size,
    "rotation": rotation,
    "rotation by shadow": lambda: rotation("shadow"),
    "probe": lambda: py4DSTEM.synthetic_probe(Q_SHAPE, 4.0, 0.6),
    "large probe": lambda: py4DSTEM.synthetic_probe((24, 26), 10.5, 0.6),
}  # fmt: skip


@pytest.mark.parametrize("name", RESULTS)
def test_show_draws_results_and_leaves_matplotlib_alone(name: str) -> None:
    before = dict(mpl.rcParams)
    figure, axes = show(RESULTS[name](), title="my $sample")
    assert isinstance(figure, Figure) and len(axes) == len(figure.axes)
    assert figure.get_suptitle() == "my $sample"
    assert len(render(figure)) > 1000
    assert dict(mpl.rcParams) == before


def test_a_whole_figure_is_no_panel() -> None:
    for wrong in ({"a": strain_map()}, [strain_map()]):
        with pytest.raises(ParameterError, match="by itself"):
            show(wrong)
    with pytest.raises(ParameterError, match="without ax"):
        show(strain_map(), ax=canvas.new_figure(2, 2).subplots())


def test_a_patterned_probe_shows_its_own_kernel() -> None:
    probe = py4DSTEM.synthetic_probe(Q_SHAPE, 8.0, 0.6)
    i, j = np.indices(Q_SHAPE)
    rings = 1 + 0.5 * np.cos(np.hypot(i - probe.center[0], j - probe.center[1]))
    bullseye = replace(probe, pattern=probe.pattern * rings, patterned=True)
    render(py4DSTEM.show_probe(bullseye))


@pytest.mark.parametrize("target", FIGURES)
def test_every_figure_is_of_a_type_that_exists(target: str) -> None:
    module, _, name = target.partition(":")
    assert hasattr(import_module(f"py4DSTEM.{module}"), name)
    module, _, name = FIGURES[target].partition(":")
    assert callable(getattr(import_module(f"py4DSTEM.plot.figures.{module}"), name))


# ---- strain --------------------------------------------------------------------------------------
def test_strains_share_one_scale_around_zero() -> None:
    strain = strain_map()
    figure = py4DSTEM.show_strain(strain)
    limits = [panel(figure, name).images[0].get_clim()
              for name in ("{xx}", "{yy}", "{xy}")]  # fmt: skip
    assert len(set(limits)) == 1 and limits[0][0] == -limits[0][1]
    assert 0.95 <= limits[0][1] <= 1.0  # %, the largest is 1 %
    turn = panel(figure, "rotation").images[0].get_clim()
    assert turn[0] == -turn[1] and turn[1] < np.degrees(0.0121)
    assert {"strain (%)", "rotation (°)", "σ (%)", "σ (°)"} <= {
        ax.get_ylabel() for ax in figure.axes
    }


def test_strain_values_are_percent_and_masked_is_grey() -> None:
    strain = strain_map()
    image = panel(py4DSTEM.show_strain(strain), "{xx}").images[0]
    shown = image.get_array()
    assert np.array_equal(shown.mask, ~strain.mask)
    assert_allclose(shown[strain.mask], 100 * strain.e_xx[strain.mask])
    assert_allclose(image.get_cmap().get_bad()[:3], 0x8C / 255, atol=1e-3)


def test_positions_without_a_lattice_are_hatched_and_the_legend_says_so() -> None:
    strain = strain_map()
    figure = py4DSTEM.show_strain(strain)
    missing = ~strain.mask
    for ax in (ax for ax in figure.axes if ax.images):
        (lines,) = ax.collections
        ends = np.array(lines.get_segments())  # in (column, row), along row + column = constant
        assert_allclose(np.ptp(ends.sum(2), axis=1), 0, atol=1e-9)
        seen = np.zeros(missing.shape, bool)
        for (x0, y0), (x1, y1) in ends:  # every place that a line passes
            f = np.linspace(0.01, 0.99, 50)
            i, j = np.rint(y0 + f * (y1 - y0)).astype(int), np.rint(x0 + f * (x1 - x0)).astype(int)
            seen[i, j] = True
        assert np.array_equal(seen, missing)
    (legend,) = figure.legends
    words = [text.get_text() for text in legend.get_texts()]
    assert words == [f"no lattice at {missing.sum()} of {missing.size} positions"]
    assert legend.get_patches()[0].get_hatch()


def test_nothing_is_hatched_where_all_is_known() -> None:
    strain = strain_map()
    whole = np.nan_to_num(strain.e_xx)
    same = dict.fromkeys(("e_xx", "e_yy", "e_xy", "theta"), whole)
    figure = py4DSTEM.show_strain(
        replace(strain, **same, mask=np.ones_like(strain.mask)), sigmas=False
    )
    assert not figure.legends and not any(ax.collections for ax in figure.axes if ax.images)


def test_strain_options() -> None:
    figure = py4DSTEM.show_strain(strain_map(), limit_percent=2, theta_unit="mrad", theta_limit=9)
    assert panel(figure, "{yy}").images[0].get_clim() == (-2, 2)
    assert panel(figure, "rotation").images[0].get_clim() == (-9, 9)
    assert sum("σ" in t for t in titles(figure)) == 4
    assert not any("σ" in t for t in titles(py4DSTEM.show_strain(strain_map(), sigmas=False)))
    with pytest.raises(ParameterError, match="theta_unit"):
        py4DSTEM.show_strain(strain_map(), theta_unit="rad")  # type: ignore[arg-type]


def test_differences_of_strain_maps_share_a_scale_of_their_own() -> None:
    comparison = compare_strain(strain_maps())
    figure = py4DSTEM.show_strain_comparison(comparison, theta_unit="mrad")
    names = [ax.get_ylabel() for ax in figure.axes if ax.images]
    assert [n for n in names if n] == [
        "disks", "ring", "$cepstrum", "ring − disks", "$cepstrum − disks", "$cepstrum − ring",
    ]  # fmt: skip
    limits = {ax.get_ylabel(): ax.images[0].get_clim() for ax in figure.axes if ax.images}
    assert limits["disks"] == limits["$cepstrum"] and limits["disks"][1] > 0.9  # %
    assert limits["ring − disks"] == limits["$cepstrum − ring"]
    assert limits["$cepstrum − ring"][1] < 0.05  # without the common 0.2 %
    assert sum("rotation" in ax.get_ylabel() for ax in figure.axes) == 2  # not of the ring
    rms = next(ax for ax in figure.axes if ax.get_ylabel() == "$cepstrum − disks").get_xlabel()
    assert 0.007 < float(rms.split()[1]) < 0.013 and rms.endswith("%")


@pytest.mark.parametrize("angle", [0.0, 0.5, -2.0])
def test_arrows_point_along_the_axes_on_the_screen(angle: float) -> None:
    """x down (rows), y to the right (columns); turned from x towards y."""
    figure = canvas.new_figure(2, 2)
    ax = figure.subplots()
    canvas.axis_arrows(ax, angle)
    tips = [a.xy for a in ax.texts if a.get_text() == "" and hasattr(a, "xy")]
    assert_allclose(tips[0], (np.sin(angle), np.cos(angle)), atol=1e-12)  # (column, row)
    assert_allclose(tips[1], (np.cos(angle), -np.sin(angle)), atol=1e-12)
    assert ax.get_ylim()[0] > ax.get_ylim()[1]  # rows run down


# ---- peaks ---------------------------------------------------------------------------------------
def cube() -> DataCube:
    return DataCube(RNG.poisson(2.0, (*R_SHAPE, *Q_SHAPE)).astype(np.uint16), CALIBRATION)


def test_disks_are_circles_of_the_probe_at_their_places() -> None:
    peaks = bragg_peaks()
    figure = py4DSTEM.show_peaks(cube(), peaks, [(1, 2), (3, 4), (7, 10)])
    assert titles(figure) == ["(1, 2): 5 disks", "(3, 4): 5 disks", "(7, 10): 5 disks"]
    circles = figure.axes[1].collections[0]
    assert_allclose(circles.get_offsets()[:, 1], peaks[3, 4]["qx"])  # row is vertical
    assert_allclose(circles.get_offsets()[:, 0], peaks[3, 4]["qy"])
    assert_allclose(circles.get_widths(), 6.0)
    render(figure)
    assert len(py4DSTEM.show_peaks(cube(), peaks).axes) == 4
    render(py4DSTEM.show_peaks(cube(), peaks.select(np.zeros(len(peaks), bool)), [(0, 0)]))


def test_peaks_that_do_not_fit_a_scan() -> None:
    with pytest.raises(ShapeError, match="do not fit"):
        py4DSTEM.show_peaks(DataCube(np.ones((2, 3, 8, 8))), bragg_peaks())
    with pytest.raises(ParameterError, match="outside the scan"):
        py4DSTEM.show_peaks(cube(), bragg_peaks(), [(8, 0)])
    with pytest.raises(ParameterError, match="at least one"):
        py4DSTEM.show_peaks(cube(), bragg_peaks(), [])


def test_basis_vectors_start_at_the_origin() -> None:
    image = bragg_peaks().bragg_vector_map(2)
    basis = np.array([[0.2, 0.02], [-0.02, 0.24]])  # A^-1
    figure = py4DSTEM.show_vector_map(image, basis)
    arrows = [a for a in figure.axes[0].texts if hasattr(a, "arrow_patch") and a.get_text() == ""]
    x, y = image.calibration.mean_origin_px
    assert_allclose([a.xyann for a in arrows], [(y, x)] * 2)
    assert_allclose([a.xy for a in arrows], [(y + 2, x + 20), (y + 24, x - 2)])
    render(figure)
    render(py4DSTEM.show_vector_map(image, lattice_fit()))
    render(py4DSTEM.show_vector_map(bragg_peaks().bragg_vector_map(centered=False)))


def test_a_basis_that_does_not_fit_a_map() -> None:
    image = bragg_peaks().bragg_vector_map()
    with pytest.raises(ParameterError, match="two vectors"):
        py4DSTEM.show_vector_map(image, [1.0, 2.0])
    with pytest.raises(ParameterError, match="lattice in px"):
        py4DSTEM.show_vector_map(image, replace(lattice_fit(), unit="px"))


# ---- calibration ---------------------------------------------------------------------------------
def test_origin_residuals_are_around_zero() -> None:
    figure = py4DSTEM.show_origin(origins())
    assert len([t for t in titles(figure) if "residual" in t]) == 2
    low, high = panel(figure, "q_y$, residual").images[0].get_clim()
    assert low == -high and high < 0.1  # outliers do not set the scale
    measured, plane = (panel(figure, f"q_x$, {n}").images[0] for n in ("measured", "plane"))
    assert measured.get_clim() == plane.get_clim()
    assert not any("residual" in t for t in titles(py4DSTEM.show_origin(origins(), fit=None)))


def test_a_corrected_ring_is_straight_in_polar_coordinates() -> None:
    measured, pattern = ellipse_measurement(), ring_pattern()
    spread = {}
    for name, shape in (("circle", Ellipse(1, 1, 0)), ("ellipse", measured.ellipse)):
        image, radii = polar(pattern.data, measured.center, shape, (8.0, 22.0))
        ring = image - image.min()
        spread[name] = np.ptp(ring @ radii / ring.sum(axis=1))
    assert spread["circle"] > 1.0 and spread["ellipse"] < 0.1
    figure = py4DSTEM.show_ellipse(measured, pattern)
    assert len(figure.axes) == 4
    render(figure)
    with pytest.raises(ParameterError, match="one pattern"):
        py4DSTEM.show_ellipse(measured, DiffractionSlice(np.ones((2, 8, 8))))


def test_an_ellipse_of_peaks_is_drawn_on_their_map() -> None:
    peaks = bragg_peaks()
    measured = replace(ellipse_measurement(), method="peaks", center=(0.2, -0.1))
    figure = py4DSTEM.show_ellipse(measured, peaks.bragg_vector_map())
    x, y = peaks.bragg_vector_map().calibration.mean_origin_px
    cross = figure.axes[0].lines[-1]
    assert_allclose((cross.get_ydata()[0], cross.get_xdata()[0]), (x + 0.2, y - 0.1))
    render(figure)


def test_lines_of_a_pixel_size_have_names_and_bars() -> None:
    figure = py4DSTEM.show_pixel_size(pixel_size(), ring_pattern())
    names = [t.get_text() for t in figure.axes[0].texts]
    assert names == ["111", "220", "$3"]  # 200 lies too near to 111
    low, high = figure.axes[1].get_ylim()
    assert low == -high
    render(figure)


def test_rotation_marks_the_angle_without_the_half_turn() -> None:
    figure = py4DSTEM.show_rotation(rotation())
    line = figure.axes[0].lines[-1].get_xdata()[0]
    assert line == pytest.approx(np.degrees(0.3))
    assert [ax.get_ylabel().split()[1] for ax in figure.axes] == ["curl", "divergence"]


def test_the_state_of_a_lattice_is_named_and_counted() -> None:
    figure = py4DSTEM.show_lattice(lattice_fit())
    words = [t.get_text() for t in panel(figure, "state").get_legend().get_texts()]
    assert words == [f"usable ({88 - 4})", f"{REASONS[2]} (3)", "another lattice besides (1)"]
    shown = panel(figure, "angle from").images[0].get_array()
    assert shown.mask.sum() == 3


def test_numbers_keep_the_digits_that_their_sigma_leaves() -> None:
    assert canvas.pm(12.3456, 0.012) == "12.346 ± 0.012"
    assert canvas.pm(0.5, 30.0, "A^-1") == "0 ± 30 Å⁻¹"
    assert canvas.pm(1.5, 0.0) == "1.5"


def test_the_rim_of_a_probe_is_drawn_where_it_is() -> None:
    probe = py4DSTEM.synthetic_probe(Q_SHAPE, 4.0, 0.6)
    figure = py4DSTEM.show_probe(probe, spacing_px=14)
    rim = figure.axes[0].lines[0]
    x, y = rim.get_ydata() - probe.center[0], rim.get_xdata() - probe.center[1]
    assert_allclose(np.hypot(x, y), probe.radius_px, rtol=1e-6)
    kernel = panel(figure, "kernel").images[0].get_array()
    assert kernel.min() < 0 and kernel.max() == 100
