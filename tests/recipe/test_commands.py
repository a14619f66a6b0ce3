"""``py4dstem recipe``: what it writes and says, and its exit codes."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import py4DSTEM
from py4DSTEM.cli import main
from py4DSTEM.recipe.templates import template_path, templates

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: Any) -> Cli:
    """Run ``py4dstem recipe`` in a folder of its own: code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def call(*args: object) -> tuple[int, str, str]:
        code = main(["recipe", *map(str, args)])
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


def validated(name: str, text: str) -> Any:
    """The JSON object of an output, checked against the schema that is shipped."""
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((files("py4DSTEM.cli") / "schemas" / f"{name}.json").read_text("utf-8"))
    jsonschema.validators.validator_for(schema).check_schema(schema)
    value = json.loads(text)
    jsonschema.validate(value, schema)
    return value


@pytest.mark.parametrize("name", templates())
def test_new_writes_a_recipe_that_is_right(cli: Cli, name: str) -> None:
    assert cli("new", name, "-o", "R.toml") == (0, "R.toml\n", "")
    assert Path("R.toml").read_text("utf-8") == template_path(name).read_text("utf-8")
    assert cli("check", "R.toml") == (0, "R.toml: nothing is wrong\n", "")


def test_new_names_the_templates_that_there_are(cli: Cli) -> None:
    from py4DSTEM.cli.arguments import TEMPLATES

    assert set(TEMPLATES.split(", ")) == set(templates())
    code, _, said = cli("new", "strian")
    assert code == 2 and "strain" in said


def test_new_with_values_keeps_the_comments(cli: Cli) -> None:
    values = ("--set", "bragg.corr_power=0.5", "--set", "limits.retries=3")
    code, text, _ = cli("new", "strain", *values)
    assert code == 0
    assert "# Where the unscattered beam is" in text
    read = tomllib.loads(text)
    assert read["step"][0]["corr_power"] == 0.5
    assert (read["limits"]["retries"], read["limits"]["timeout_min"]) == (3, 120)
    code, _, said = cli("new", "strain", "--set", "bragg.corr_power=5")
    assert code == 2 and "must be in [0, 1]" in said


def test_an_existing_recipe_is_not_replaced(cli: Cli) -> None:
    Path("R.toml").write_text("mine")
    assert cli("new", "minimal", "-o", "R.toml")[0] == 2
    assert Path("R.toml").read_text() == "mine"
    assert cli("new", "minimal", "-o", "R.toml", "--force")[0] == 0
    assert cli("new", "minimal", "-o", "R.h5")[0] == 2


def test_check_says_file_line_and_all_problems(cli: Cli) -> None:
    Path("R.toml").write_text('schema = 1\n[[step]]\nuse = "qality"\n[limits]\nretries = -1\n')
    code, out, said = cli("check", "R.toml")
    assert (code, out) == (2, "R.toml: 2 problems\n")
    first, second = said.splitlines()
    assert first.startswith('R.toml:3: step 1 "qality": no step is called "qality" – did you mean')
    assert second == "R.toml:5: retries = -1 must be in [0, 100]"


def test_check_of_several_as_json(cli: Cli) -> None:
    Path("bad.toml").write_text("schema = ")
    code, out, _ = cli("check", "bad.toml", template_path("minimal"), "--json")
    bad, good = validated("recipe-check", out)["recipes"]
    assert code == 2
    assert (bad["ok"], good["ok"], bad["problems"][0]["line"]) == (False, True, 1)


def test_a_recipe_that_is_not_there(cli: Cli) -> None:
    code, _, said = cli("check", "none.toml")
    assert code == 2 and "none.toml" in said


def test_explain_says_passes_parameters_and_limits(cli: Cli) -> None:
    override = '[[override]]\nmatch = "a*"\nset = { "bragg.edge_px" = 7 }\n'
    text = template_path("strain").read_text("utf-8") + override
    Path("R.toml").write_text(text, encoding="utf-8")
    code, out, _ = cli("explain", "R.toml")
    assert code == 0
    assert "1. one pass over the scan" in out and "on 'lattice'" in out
    assert "sampling = 2  (Bins per detector pixel.)" in out
    assert "flagged unless unfitted_fraction is at most 0.2" in out
    assert "files 'a*'" in out and "edge_px = 7" not in out
    assert "edge_px = 7" in cli("explain", "R.toml", "--for", "dir/abc.h5")[1]
    stages = validated("recipe-explain", cli("explain", "R.toml", "--json")[1])["stages"]
    assert stages[0] == {"steps": ["bragg"], "pass": True}


# ---- schema --------------------------------------------------------------------------------------
def test_the_schema_takes_the_templates_and_refuses_nonsense(cli: Cli) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads(cli("show-schema")[1])
    kind = jsonschema.validators.validator_for(schema)
    kind.check_schema(schema)
    validator = kind(schema)
    for name in templates():
        document = tomllib.loads(template_path(name).read_text("utf-8"))
        assert not list(validator.iter_errors(document))
        assert list(validator.iter_errors(document | {"stepp": []}))
    for wrong in (
        {"use": "qality"}, {"use": "fit-lattice", "min_peaks": 1}, {"use": "virtual-images"},
        {"use": "quality", "colour": 1}, {"use": "read"}, {"use": "calibration", "energy": 2},
    ):  # fmt: skip
        assert list(validator.iter_errors({"schema": 1, "step": [wrong]}))
    used = {"use": "find-bragg-disks", "probe": {"result": "p"}, "min_spacing_px": "none"}
    assert not list(validator.iter_errors({"schema": 1, "step": [used]}))


def test_the_schema_knows_every_step(cli: Cli) -> None:
    from py4DSTEM.recipe.model import all_steps

    schema = json.loads(cli("show-schema")[1])
    known = {step["title"] for step in schema["properties"]["step"]["items"]["oneOf"]}
    assert known == {*all_steps(), "calibration", "read"}


# ---- from results --------------------------------------------------------------------------------
def scan_in(path: Path) -> py4DSTEM.DataCube:
    """A calibrated scan of noise around a spot, saved and read."""
    rng = np.random.default_rng(3)
    data = rng.poisson(3.0, (4, 5, 12, 14)).astype(np.uint16)
    data[..., 5:8, 6:9] += 40
    known = py4DSTEM.Calibration().replace(
        origin_px=(6.1, 7.2), Q_pixel_size=0.031, Q_pixel_units="A^-1", R_pixel_size=1 / 3,
        R_pixel_units="nm", energy_eV=2e5,
    )  # fmt: skip
    py4DSTEM.save(path, py4DSTEM.DataCube(data, known))
    return py4DSTEM.read(path)


def again(cli: Cli, result: Path) -> Any:
    """What the recipe of a result makes."""
    from py4DSTEM.recipe.execute import Execution, open_input

    code, out, said = cli("from-result", result, "-o", "again.toml", "--force")
    assert (code, out, said) == (0, "again.toml\n", "")
    recipe = py4DSTEM.read_recipe("again.toml")
    return recipe, Execution(recipe, open_input(recipe)).run_all()


def test_from_the_result_of_functions(cli: Cli) -> None:
    cube = scan_in(Path("scan.h5"))
    shapes = {"bf": py4DSTEM.Disk(2.3), "adf": py4DSTEM.Annulus(0.1, 0.2, units="A^-1")}
    images = py4DSTEM.combine_images(py4DSTEM.virtual_images(cube, shapes), "bf - 0.1 * adf")
    py4DSTEM.save("image.h5", images)
    recipe, found = again(cli, Path("image.h5"))
    assert [step.use for step in recipe.step] == [
        "calibration", "virtual-images", "combine-images",
    ]  # fmt: skip
    np.testing.assert_array_equal(found["combine-images"].data, images.data)
    assert found["combine-images"].calibration.R == images.calibration.R


def test_from_the_result_of_a_recipe(cli: Cli) -> None:
    from py4DSTEM.recipe.execute import Execution, open_input

    scan_in(Path("scan.h5"))
    Path("R.toml").write_text(
        'schema = 1\nname = "r"\n'
        '[[step]]\nuse = "mean-pattern"\nname = "mean"\n'
        '[[step]]\nuse = "measure-origin"\nname = "origin"\nmethod = "com"\ncalibrates = true\n'
        '[[step]]\nuse = "radial-profiles"\nname = "profiles"\n'
        "[limits]\nretries = 2\n"
    )
    recipe = py4DSTEM.read_recipe("R.toml")
    first = Execution(recipe, open_input(recipe, "scan.h5")).run_all()
    py4DSTEM.save("result.h5", first["profiles"])
    same, found = again(cli, Path("result.h5"))
    assert same.step == recipe.step and same.limits == recipe.limits
    np.testing.assert_array_equal(found["profiles"].data, first["profiles"].data)
    np.testing.assert_array_equal(found["origin"].origin_px, first["origin"].origin_px)


def test_results_whose_history_is_not_enough(cli: Cli) -> None:
    cube = scan_in(Path("scan.h5"))
    where = 0.5 * np.eye(4, 5)
    py4DSTEM.save("some.h5", py4DSTEM.mean_pattern(cube, where=where))
    code, _, said = cli("from-result", "some.h5")
    assert code == 2 and "chosen positions" in said
    py4DSTEM.save("plain.h5", py4DSTEM.RealSlice(np.ones((2, 3))))
    code, _, said = cli("from-result", "plain.h5")
    assert code == 2 and "no history" in said


# ---- completion ----------------------------------------------------------------------------------
def test_completion_knows_the_actions() -> None:
    from py4DSTEM.cli.completion import words

    known = words()["recipe"]
    assert {"new", "check", "explain", "show-schema", "from-result", "strain"} <= set(known)
    assert {"--set", "--out", "--json"} <= set(known)
