"""Pixels of the detector summed as they are read: the same as binning afterwards."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import py4DSTEM
from py4DSTEM import Calibration, DataCube, ParameterError, RealSlice
from py4DSTEM.recipe.execute import Execution, open_input
from py4DSTEM.recipe.from_result import from_result
from py4DSTEM.recipe.keys import step_keys
from py4DSTEM.recipe.read import recipe_from_text


@pytest.fixture
def path(tmp_path: Path) -> Path:
    data = np.random.default_rng(2).integers(0, 60000, (3, 4, 9, 14)).astype(np.uint16)
    calibration = Calibration().replace(
        Q_pixel_size=0.5, Q_pixel_units="mrad", origin_px=(4.0, 6.5), probe_radius_px=2.0
    )
    cube = DataCube(data, calibration)
    py4DSTEM.save(tmp_path / "scan.h5", {"scan": cube, "image": RealSlice(np.ones((4, 6)))})
    return tmp_path / "scan.h5"


def test_reading_binned_is_binning_what_was_read(path: Path) -> None:
    whole, found = (py4DSTEM.read(path, "scan", bin_Q=k) for k in (1, 2))
    expected = whole.bin(Q=2)
    assert not isinstance(found.data, np.ndarray)
    assert (found.shape, found.dtype) == ((3, 4, 4, 7), np.uint32)
    np.testing.assert_array_equal(found[1, 2].data, expected[1, 2].data)
    assert found.calibration == expected.calibration
    assert found.calibration.Q[0].step == 1.0
    assert [step.kind for step in found.history.steps] == ["bin"]


def test_what_is_no_scan_stays_as_it_is(path: Path) -> None:
    found = py4DSTEM.read(path, bin_Q=2)
    assert found["scan"].Q_shape == (4, 7)
    assert found["image"].shape == (4, 6)


@pytest.mark.parametrize("factor", [0, -1, 1.5, 10, "x"])
def test_impossible_factors_are_said(path: Path, factor: object) -> None:
    with pytest.raises(ParameterError):
        py4DSTEM.read(path, "scan", bin_Q=factor)  # type: ignore[arg-type]


def test_a_recipe_reads_binned_and_its_keys_know(path: Path) -> None:
    text = f'schema = 1\n[input]\nfile = "{path.as_posix()}"\ndataset = "scan"\n'
    steps = '[[step]]\nuse = "max-pattern"\nname = "max"\n'
    plain, binned = (recipe_from_text(text + more + steps) for more in ("", "bin_Q = 2\n"))
    found = Execution(binned, open_input(binned)).run_all()["max"]
    expected = py4DSTEM.max_pattern(py4DSTEM.read(path, "scan").bin(Q=2))
    np.testing.assert_array_equal(found.data, expected.data)
    assert step_keys(plain, "1:2:a")["max"] != step_keys(binned, "1:2:a")["max"]


def test_a_result_of_a_binned_scan_is_made_again(path: Path, tmp_path: Path) -> None:
    py4DSTEM.save(tmp_path / "alone.h5", DataCube(py4DSTEM.read(path, "scan").load().data))
    binned = py4DSTEM.read(tmp_path / "alone.h5", bin_Q=2)
    made = py4DSTEM.max_pattern(binned)
    py4DSTEM.save(tmp_path / "max.h5", made)
    recipe = from_result(tmp_path / "max.h5")
    assert recipe.input.bin_Q == 2
    found = Execution(recipe, open_input(recipe)).run_all()
    np.testing.assert_array_equal(found[recipe.step[-1].name].data, made.data)
    py4DSTEM.save(tmp_path / "binned.h5", binned)
    with pytest.raises(ParameterError, match="bin"):
        from_result(tmp_path / "binned.h5")
