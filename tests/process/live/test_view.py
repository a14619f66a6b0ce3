"""What detectors show together: live from the caches, and exactly from the engine."""

from __future__ import annotations

import numpy as np
import pytest

from py4DSTEM import Annulus, DataCube, Disk, center_of_mass, virtual_images
from py4DSTEM.errors import ParameterError
from py4DSTEM.process.live.scan import LiveScan
from py4DSTEM.process.live.view import DetectorView

SHAPES = {"A": Disk(3.2, center=(6, 9.5)), "B": Annulus(3.2, 7, center=(7.5, 8)), "C": Disk(2)}


@pytest.fixture(scope="module")
def cube() -> DataCube:
    rng = np.random.default_rng(3)
    data = rng.poisson(20, (5, 7, 16, 18)).astype(np.uint16)
    return DataCube(data).with_calibration(origin_px=(7.0, 8.5))


def view(cube: DataCube, **changes: object) -> DetectorView:
    known = {"factors": {"A": 1.0, "B": -0.5}, "expression": "", "response": "sum"} | changes
    return DetectorView(SHAPES, Q_shape=cube.Q_shape, calibration=cube.calibration, **known)


@pytest.mark.parametrize(
    "changes",
    [{}, {"expression": "(A - B) / (A + C)"}, {"expression": "2*A - B"}, {"response": "com"}],
    ids=str,
)
def test_live_and_engine_agree(cube: DataCube, changes: dict[str, object]) -> None:
    wanted = view(cube, **({"factors": {"A": 1.0, "B": 1.0}} | changes))
    with LiveScan(cube) as live:
        live.build()
        found = wanted.live(live)
    assert found.exact
    np.testing.assert_allclose(found.images, wanted.exact(cube), rtol=1e-12, atol=1e-9)


def test_against_the_verbs_of_the_library(cube: DataCube) -> None:
    images = virtual_images(cube, SHAPES)
    np.testing.assert_allclose(
        view(cube).exact(cube)[0], images["A"].data - 0.5 * images["B"].data, rtol=1e-12
    )
    com = center_of_mass(cube, mask=SHAPES["A"])
    moved = view(cube, factors={"A": 1.0}, response="com").exact(cube)
    np.testing.assert_allclose(moved, com.data, rtol=1e-12)


def test_a_coarse_cache_is_not_called_exact(cube: DataCube) -> None:
    with LiveScan(cube) as live:
        live.coarse(positions=6)
        found = view(cube).live(live)
    whole = view(cube).exact(cube)[0]
    assert not found.exact and found.images[0].size <= 6
    np.testing.assert_allclose(found.images[0], whole[np.ix_(found.rows, found.columns)])


def test_a_detector_outside_gives_nan_and_is_named(cube: DataCube) -> None:
    shapes = SHAPES | {"B": Disk(2, center=(400, -90))}
    wanted = DetectorView(shapes, {"A": 1.0, "B": 1.0}, cube.Q_shape, cube.calibration)
    with LiveScan(cube) as live:
        assert np.isnan(wanted.live(live).images).all()
    assert wanted.outside == ("B",) and np.isnan(wanted.exact(cube)).all()


def test_detectors_that_follow_the_origin_are_left_to_the_engine(cube: DataCube) -> None:
    origins = np.full((*cube.R_shape, 2), (7.0, 8.5)) + np.arange(35).reshape(5, 7, 1) / 20
    moving = cube.with_calibration(origin_px=origins)
    wanted = DetectorView(SHAPES, {"C": 1.0}, cube.Q_shape, moving.calibration)
    with LiveScan(moving) as live:
        live.build()
        assert not wanted.live(live).exact
    np.testing.assert_allclose(
        wanted.exact(moving)[0], virtual_images(moving, {"C": Disk(2)})["C"].data
    )


def test_a_constant_is_no_image() -> None:
    cube = DataCube(np.ones((2, 3, 8, 8), np.uint16))
    view = DetectorView({}, {}, cube.Q_shape, cube.calibration, "0.5")
    with LiveScan(cube) as live, pytest.raises(ParameterError, match="no detector"):
        view.live(live)
