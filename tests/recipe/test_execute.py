"""Recipes do what the functions do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.signal import fftconvolve

import py4DSTEM
from py4DSTEM import Calibration, CalibrationMissing, DataCube, ParameterError
from py4DSTEM.demo.strain import map_strain
from py4DSTEM.recipe.execute import RECIPE, Execution, open_input, plan, rectangle
from py4DSTEM.recipe.keys import StepKeys, fingerprint, step_keys
from py4DSTEM.recipe.model import Override, Recipe, RecipeStep
from py4DSTEM.recipe.read import read_recipe, recipe_from_text
from py4DSTEM.recipe.templates import template_path, templates
from py4DSTEM.simulate import phase_object, powder_rings, strained_lattice


def recipe_of(*steps: str, rest: str = "") -> Recipe:
    """A recipe of the lines of its steps."""
    tables = "".join(f"[[step]]\n{step}\n" for step in steps)
    return recipe_from_text(f"schema = 1\n{tables}{rest}\n")


@pytest.fixture(scope="module")
def scan():
    """A strained crystal, small and not square."""
    return strained_lattice((9, 7), (96, 96), dose=40_000, seed=2)


# ---- strain --------------------------------------------------------------------------------------


def _with_optional_parts(text: str) -> str:
    """The template of strain as a user changes it: the # taken away before what is optional."""
    lines = []
    for line in text.splitlines():
        bare = line.removeprefix("#").strip()
        begins = ("[[step]]", "use ", "name ", "of ", "file ", "calibrates", "reference ", "probe ")
        optional = line.startswith("#") and bare.startswith(begins) and "rect" not in bare
        lines.append(bare if optional else line)
    return "\n".join(lines).partition("# Other values")[0]


def test_the_strain_recipe_is_the_strain_of_the_demo(scan, tmp_path: Path) -> None:
    truth, gold = scan.truth, powder_rings((96, 96), seed=1)
    py4DSTEM.save(tmp_path / "scan.h5", scan.cube)
    py4DSTEM.save(tmp_path / "vacuum.h5", truth.probe)
    py4DSTEM.save(tmp_path / "gold.h5", gold.pattern)
    np.save(tmp_path / "reference.npy", truth.reference)
    text = _with_optional_parts(template_path("strain").read_text(encoding="utf-8"))
    g1, g2 = truth.g1_A.tolist(), truth.g2_A.tolist()
    text = text.replace('use  = "fit-lattice"', f'use  = "fit-lattice"\ng1 = {g1}\ng2 = {g2}')
    more = 'use  = "strain-map"\nresolution_A = "none"\nreference = { file = "reference.npy" }'
    text = text.replace('use  = "strain-map"', more)
    (tmp_path / "R.toml").write_text(text, encoding="utf-8")
    recipe = read_recipe(tmp_path / "R.toml")
    found = Execution(recipe, open_input(recipe, tmp_path / "scan.h5")).run_all()
    cube = py4DSTEM.read(tmp_path / "scan.h5")
    none = np.zeros(cube.Q_shape, bool)
    demo = map_strain(cube, truth.probe.data, py4DSTEM.read(tmp_path / "gold.h5"), none, truth)
    for name in ("e_xx", "e_yy", "e_xy", "theta", "covariance"):
        np.testing.assert_allclose(
            getattr(found["strain"], name), getattr(demo.strain, name), rtol=1e-9, atol=1e-13
        )
    assert np.nanstd(found["strain"].e_xx) > 1e-4


@pytest.mark.parametrize("name", templates())
def test_templates_run_as_they_are(name: str, scan) -> None:
    recipe = read_recipe(template_path(name))
    bare = DataCube(np.asarray(scan.cube.data))  # a file that says nothing about itself
    found = Execution(recipe, bare).run_all()
    assert set(found) == {step.name for step in recipe.step}


def test_the_phase_recipe_finds_rotation_and_phase() -> None:
    scan = phase_object(
        (24, 20), defocus_A=0, step_A=0.5, strength=0.2, rotation_rad=0.5, flip=True, dose=None
    )
    truth = scan.truth
    recipe = read_recipe(template_path("phase"))
    found = Execution(recipe, scan.cube).run_all()
    assert found["rotation"].flip
    assert abs(found["rotation"].rotation_rad - 0.5) < np.radians(3)
    assert found["phase"].units == "rad"
    # the phase as the probe sees it: smeared by the intensity of the probe
    pixels = truth.positions_A.reshape(-1, 2).T / truth.sampling_A
    seen = convolve(truth.phase, np.abs(truth.probe) ** 2)
    wanted = map_coordinates(seen, pixels, order=3).reshape(24, 20)
    got, wanted = (fine(image)[3:-3, 3:-3] for image in (found["phase"].data, wanted))
    assert np.corrcoef(got.ravel(), wanted.ravel())[0, 1] > 0.998
    assert np.std(got) == pytest.approx(np.std(wanted), rel=0.02)


def convolve(image, probe):
    """Correlation with a probe that is centred on pixel (n // 2, n // 2)."""
    size = probe.shape[0]
    wide = fftconvolve(image, probe[::-1, ::-1], mode="full")
    begin = size - 1 - size // 2
    return wide[begin : begin + image.shape[0], begin : begin + image.shape[1]]


def fine(image):
    """Without the long waves, which the edge of a scan does not determine."""
    return image - gaussian_filter(image, 4)


# ---- stages --------------------------------------------------------------------------------------
def test_operations_share_a_pass_until_the_calibration_changes() -> None:
    recipe = recipe_of(
        'use = "mean-pattern"',
        'use = "calibration"\nname = "numbers"\norigin_px = [3, 4]',
        'use = "mean-radial-profile"\nname = "profile"',
        'use = "quality"',
        'use = "measure-probe"\nof = "mean-pattern"',
        'use = "std-pattern"',
    )
    stages = plan(recipe)
    assert [stage.names for stage in stages] == [
        ("mean-pattern",), ("numbers",), ("profile", "quality", "std-pattern"), ("measure-probe",),
    ]  # fmt: skip
    assert [stage.is_pass for stage in stages] == [True, False, True, False]
    assert [stage.states for stage in stages] == [False, True, False, False]


def test_an_operation_waits_for_what_it_uses() -> None:
    recipe = recipe_of(
        'use = "mean-pattern"\nname = "mean"',
        'use = "measure-probe"\nname = "probe"\nof = "mean"',
        'use = "find-bragg-disks"\nname = "bragg"\nprobe = { result = "probe" }',
        'use = "max-pattern"\nname = "maximum"',
    )
    assert [s.names for s in plan(recipe)] == [("mean", "maximum"), ("probe",), ("bragg",)]


def test_calibration_counts_from_its_step_on() -> None:
    data = np.zeros((2, 3, 9, 11))
    data[..., 6, 7] = 1.0
    disk = 'detectors = { d = { kind = "disk", radius = 1.5 } }'
    recipe = recipe_of(
        'use = "calibration"\nname = "a"\norigin_px = [2, 2]',
        f'use = "virtual-images"\nname = "off"\n{disk}',
        'use = "calibration"\nname = "b"\norigin_px = [6, 7]',
        f'use = "virtual-images"\nname = "on"\n{disk}',
        'use = "combine-images"\nname = "twice"\nof = "on"\nexpression = "2 * d"',
    )
    found = Execution(recipe, DataCube(data)).run_all()
    assert found["off"].data.max() == 0
    np.testing.assert_array_equal(found["on"].data[0], 1.0)
    np.testing.assert_array_equal(found["twice"].data, 2.0)


def test_results_that_were_done_before_are_taken_as_they_are(scan) -> None:
    recipe = recipe_of(
        'use = "find-bragg-disks"\nname = "bragg"',
        'use = "measure-origin"\nname = "origin"\nof = "bragg"\ncalibrates = true',
        'use = "fit-lattice"\nname = "lattice"\nof = "bragg"',
    )
    whole = Execution(recipe, scan.cube)
    whole.run_all()
    again = Execution(recipe, scan.cube)
    for step in recipe.step[:2]:
        again.restore(step, whole.values[step.name])
    (found,) = again.run(plan(recipe)[-1]).values()
    np.testing.assert_array_equal(found.vectors, whole.values["lattice"].vectors)
    assert again.cube.calibration == whole.cube.calibration


def test_results_carry_the_recipe() -> None:
    recipe = recipe_of('use = "mean-pattern"\nname = "mean"')
    found = Execution(recipe, DataCube(np.ones((2, 3, 4, 5)))).run_all()["mean"]
    assert recipe_from_text(found.history.source[RECIPE]) == recipe


def test_errors_name_their_step() -> None:
    recipe = recipe_of(
        'use = "mean-radial-profile"\nname = "profile"', rest='[input]\nbrings = ["origin"]'
    )
    with pytest.raises(CalibrationMissing) as caught:
        Execution(recipe, DataCube(np.ones((2, 3, 4, 5)))).run_all()
    assert "in step 'profile' (use = 'mean-radial-profile')" in caught.value.__notes__


@pytest.mark.parametrize("rect", [[0, 3, 0, 1], [1, 1, 0, 1], [0, 1, -1, 1], [0, 1, 0, 4]])
def test_rectangles_outside_the_scan_are_said(rect: list[int]) -> None:
    with pytest.raises(ParameterError, match="no part of a scan"):
        rectangle(rect, (2, 3))


# ---- input ---------------------------------------------------------------------------------------
UNITS = '[input.units]\nreal = [2.0, "nm"]\nrecip = [0.4, "mrad"]\nvoltage_kv = 200\n'
LOOK = 'use = "mean-pattern"\nname = "mean"'


def test_units_fill_what_the_file_lacks(tmp_path: Path) -> None:
    recipe = recipe_of(LOOK, rest=UNITS)
    bare = DataCube(np.ones((2, 3, 4, 5), np.uint16))
    py4DSTEM.save(tmp_path / "bare.h5", bare)
    known = Calibration().replace(R_pixel_size=7, R_pixel_units="A", energy_eV=8e4)
    py4DSTEM.save(tmp_path / "known.h5", replace(bare, calibration=known))
    filled = open_input(recipe, tmp_path / "bare.h5").calibration
    assert (filled.R_pixel_size, filled.R_pixel_units, filled.energy_eV) == (2.0, "nm", 2e5)
    kept = open_input(recipe, tmp_path / "known.h5").calibration
    assert (kept.R_pixel_size, kept.R_pixel_units, kept.energy_eV) == (7.0, "A", 8e4)
    assert (kept.Q_pixel_size, kept.Q_pixel_units) == (0.4, "mrad")


def test_what_is_no_scan_is_said(tmp_path: Path) -> None:
    recipe = recipe_of(LOOK)
    with pytest.raises(ParameterError, match="names no file"):
        open_input(recipe)
    py4DSTEM.save(tmp_path / "i.h5", py4DSTEM.RealSlice(np.ones((2, 3))))
    with pytest.raises(ParameterError, match="no 4D scan"):
        open_input(recipe, tmp_path / "i.h5")
    cube = DataCube(np.ones((2, 3, 4, 5)))
    py4DSTEM.save(tmp_path / "two.h5", {"a": cube, "b": cube})
    with pytest.raises(ParameterError, match="'a', 'b'"):
        open_input(recipe, tmp_path / "two.h5")


# ---- overrides -----------------------------------------------------------------------------------
def test_overrides_change_their_files_only() -> None:
    recipe = recipe_of(
        'use = "find-bragg-disks"\nname = "a.b"\ncorr_power = 0.5',
        rest='[qc]\nbragg_peaks_median = { min = 4 }\n[[override]]\nmatch = "*_018*"\n'
        'set = { "a.b.corr_power" = 0.75, "a.b.edge_px" = 3, "limits.timeout_min" = 9, '
        '"qc.bragg_peaks_median.max" = 7, "input.units.voltage_kv" = 80 }\n'
        '[[override]]\nmatch = "x_*"\nset = { "a.b.edge_px" = 5 }\n',
    )
    other, eighteen, both = (recipe.for_file(p) for p in ("dir_018/y.h5", "y_018.h5", "x_018.h5"))
    assert other.step == recipe.step and other.override == ()
    assert eighteen.step[0].parameters == {"corr_power": 0.75, "edge_px": 3}
    assert eighteen.limits.timeout_min == 9
    assert eighteen.qc["bragg_peaks_median"].max == 7
    assert eighteen.qc["bragg_peaks_median"].min == 4
    assert eighteen.input.units.voltage_kv == 80
    assert both.step[0].parameters["edge_px"] == 5
    assert recipe_from_text(eighteen.text()) == eighteen


def test_overrides_that_make_no_sense_are_said() -> None:
    wrong = Recipe(
        step=(RecipeStep(use="quality", name="q"),),
        override=(Override(match="*", set={"p.x": 1}),),
    )
    with pytest.raises(ParameterError, match=r"'p\.x' names no value"):
        wrong.for_file("a.h5")


# ---- keys ----------------------------------------------------------------------------------------
CHAIN = (
    'use = "find-bragg-disks"\nname = "bragg"',
    'use = "measure-origin"\nname = "origin"\nof = "bragg"\ncalibrates = true',
    'use = "fit-lattice"\nname = "lattice"\nof = "bragg"',
    'use = "mean-pattern"\nname = "mean"',
)


def _changed(recipe: Recipe, stamp: str = "1:2:a") -> set[str]:
    before, now = step_keys(recipe_of(*CHAIN), "1:2:a"), step_keys(recipe, stamp)
    return {name for name in before if before[name] != now[name]}


def test_keys_change_with_what_a_result_depends_on() -> None:
    bragg, origin, lattice, mean = CHAIN
    everything = {"bragg", "origin", "lattice", "mean"}
    assert _changed(recipe_of(*CHAIN)) == set()
    assert _changed(recipe_of(*CHAIN), "1:3:a") == everything
    assert _changed(recipe_of(f"{bragg}\nedge_px = 3", origin, lattice, mean)) == everything
    assert _changed(recipe_of(bragg, origin, f"{lattice}\nmin_peaks = 5", mean)) == {"lattice"}
    assert _changed(recipe_of(bragg, origin, f"{lattice}\nmin_peaks = 4", mean)) == set()
    sized = f"{origin}\nsearch_px = 3"
    assert _changed(recipe_of(bragg, sized, lattice, mean)) == {"origin", "lattice", "mean"}
    read = recipe_of(*CHAIN, rest="[input]\nflyback = 1")
    assert _changed(read) == everything
    assert _changed(recipe_of(*CHAIN, rest="[output]\nreport = false")) == set()


def test_keys_change_with_the_version_and_the_files(monkeypatch, tmp_path: Path) -> None:
    np.save(tmp_path / "m.npy", np.ones((2, 3)))
    step = RecipeStep(
        use="strain-map", name="s", parameters={"mask": {"file": str(tmp_path / "m.npy")}}
    )
    recipe = Recipe(step=(step,))
    first = step_keys(recipe, "x")
    np.save(tmp_path / "m.npy", np.zeros((2, 3)))
    second = step_keys(recipe, "x")
    monkeypatch.setattr(py4DSTEM.process.strain.MapStrain, "version", 99)
    assert len({first["s"], second["s"], step_keys(recipe, "x")["s"]}) == 3


def test_names_do_not_count() -> None:
    renamed = tuple(step.replace('"bragg"', '"peaks"') for step in CHAIN)
    keys, others = (StepKeys(recipe_of(*steps)).of("x") for steps in (CHAIN, renamed))
    assert keys["lattice"] == others["lattice"]


def test_fingerprints(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"x" * (3 << 20))
    first, strict = fingerprint(path), fingerprint(path, strict=True)
    with open(path, "r+b") as file:
        file.seek((1 << 20) + 5)
        file.write(b"y")
    assert fingerprint(path, strict=True) != strict
    assert fingerprint(path) != first  # the time has changed
    folder = tmp_path / "z.zarr"
    (folder / "c").mkdir(parents=True)
    (folder / "c" / "0").write_bytes(b"1")
    before, strictly = fingerprint(folder), fingerprint(folder, strict=True)
    (folder / "c" / "0").write_bytes(b"2")
    assert fingerprint(folder, strict=True) != strictly
    (folder / "c" / "1").write_bytes(b"2")
    assert fingerprint(folder) != before
