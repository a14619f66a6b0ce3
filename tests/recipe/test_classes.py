"""Classes, dark fields and grains as a recipe are those of the functions."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import py4DSTEM
from py4DSTEM import simulate
from py4DSTEM.recipe.check import check_recipe
from py4DSTEM.recipe.execute import Execution, open_input
from py4DSTEM.recipe.read import read_recipe

RECIPE = """
schema = 1
[[step]]
use  = "read"
name = "vacuum"
file = "vacuum.h5"
[[step]]
use  = "measure-probe"
name = "probe"
of   = "vacuum"
calibrates = true
[[step]]
use  = "find-bragg-disks"
name = "bragg"
probe = { result = "probe" }
[[step]]
use  = "measure-origin"
name = "origin"
of   = "bragg"
calibrates = true
[[step]]
use  = "common-spots"
name = "spots"
of   = "bragg"
[[step]]
use  = "bragg-classes"
name = "classes"
of   = "bragg"
[[step]]
use  = "dark-field"
name = "images"
spots = { result = "spots" }
background = false
[[step]]
use  = "bragg-dark-field"
name = "peak_images"
of   = "bragg"
spots = { g = [[9.0, 2.5], [-9.0, -2.5]], h = [[2.5, -9.0]] }
[[step]]
use  = "segment-grains"
name = "grains"
of   = "classes"
[[step]]
use  = "crystallinity"
name = "share"
"""


def test_the_whole_way_by_a_recipe(tmp_path: Path) -> None:
    scan = simulate.polycrystal((9, 11), (96, 96), grains=3, seed=2)
    py4DSTEM.save(tmp_path / "scan.h5", scan.cube)
    py4DSTEM.save(tmp_path / "vacuum.h5", py4DSTEM.DiffractionSlice(scan.truth.probe.data))
    (tmp_path / "R.toml").write_text(RECIPE, encoding="utf-8")
    assert check_recipe(RECIPE, folder=tmp_path) == ()
    recipe = read_recipe(tmp_path / "R.toml")
    found = Execution(recipe, open_input(recipe, tmp_path / "scan.h5")).run_all()
    assert found["classes"].n == 3
    spots = found["spots"]
    assert found["images"].labels == tuple(spots.friedel_sets)
    assert found["peak_images"].labels == ("g", "h")
    np.testing.assert_array_equal(found["grains"].labels >= 0, found["classes"].classified)
    assert np.nanmin(found["share"].fraction) > 0.5
