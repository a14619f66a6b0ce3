"""Figures of fluctuations, symmetry and orientation show what they say."""

import numpy as np
import pytest

import py4DSTEM
from py4DSTEM import DataCube, simulate


@pytest.fixture(scope="module")
def cube():
    rng = np.random.default_rng(1)
    data = rng.poisson(
        rng.gamma(2.0, 4.0, (5, 7, 32, 36)) * np.linspace(0.7, 1.2, 7)[:, None, None]
    )
    calibration = {"origin_px": (15.5, 17.5), "Q_pixel_size": 0.02, "Q_pixel_units": "A^-1"}
    return DataCube(data.astype(np.uint16)).with_calibration(**calibration)


@pytest.fixture(scope="module")
def directions():
    film = simulate.fibers((6, 7), crossed=0.3, seed=2)
    return film.cube.with_calibration(film.truth.calibration).orientation_distribution(
        (9, 16), across=True
    )


def test_fluctuations(cube):
    found = cube.fem(r_max=14)
    fig, axes = py4DSTEM.show(found)
    lines = axes[0].get_lines()
    np.testing.assert_array_equal(lines[0].get_ydata(), found.variance)
    np.testing.assert_array_equal(lines[1].get_ydata(), found.shot_noise)
    fig = py4DSTEM.show_fem(found, (0.1, 0.2))
    np.testing.assert_allclose(fig.axes[1].images[0].get_array(), found.map((0.1, 0.2)).data)
    compared = py4DSTEM.fem_significance(found, found, (0.1, 0.2))
    fig, _ = py4DSTEM.show(compared)
    assert any("0.0 standard deviations" in text.get_text() for text in fig.axes[0].texts)


def test_what_is_all_unknown_is_drawn_too():
    dark = DataCube(np.zeros((2, 3, 20, 21), np.uint8)).with_calibration(origin_px=(9, 9))
    for one in (dark.fem(), dark.symmetry((2, 6)), dark.orientation_distribution((2, 6))):
        py4DSTEM.show(one)
    py4DSTEM.show(py4DSTEM.flow_lines(dark.orientation_distribution((2, 6))))


def test_speckles(cube):
    found = cube.speckle_statistics(3, 12)
    _, ax = py4DSTEM.show(found)
    labels = [text.get_text() for text in ax[0].get_legend().get_texts()]
    assert labels == ["observed", "negative-binomial", "exponential", "poisson"]


def test_symmetry(cube):
    found = cube.symmetry((4, 12))
    fig, _ = py4DSTEM.show(found)
    titles = [ax.get_title() for ax in fig.axes if ax.get_title()]
    assert titles == [f"{n}-fold" for n in (2, 4, 6, 8, 10, 12)]
    fig = py4DSTEM.show_symmetry(found, orders=(3,))
    np.testing.assert_allclose(fig.axes[0].images[0].get_array(), found.map(3).data)
    curve = cube.angular_correlation((4, 12))
    fig, axes = py4DSTEM.show(curve)
    assert [bar.get_height() for bar in axes[1].patches] == pytest.approx(
        list((curve.power * curve.q[:, None]).sum(0) / curve.q.sum()), rel=1e-6
    )


def test_orientation_and_lines(directions):
    fig, axes = py4DSTEM.show(directions)
    np.testing.assert_allclose(
        axes[0].images[0].get_array(), np.degrees(directions.angle_rad[..., 0])
    )
    assert len(axes[2].patches) == len(directions.histogram)
    lines = py4DSTEM.flow_lines(directions, spacing=1.0, least=1.0)
    fig = py4DSTEM.show_flow_lines(lines, directions.order)
    pieces = fig.axes[0].collections[0].get_segments()
    assert len(pieces) == len(lines.points) - len(lines)
    # Column first on the screen.
    np.testing.assert_allclose(pieces[0][0], lines[0][0][::-1])
