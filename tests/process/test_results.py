"""Every result that an operation, an analysis or a function gives can be saved, read and shown."""

from __future__ import annotations

import inspect
import io
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from results import RESULTS

import py4DSTEM
from py4DSTEM import History
from py4DSTEM.cli import main
from py4DSTEM.core.lazy import BlockArray
from py4DSTEM.process import load_analyses, load_operations

mpl.use("Agg")


def assert_same(one: Any, other: Any, where: str = "") -> None:
    """Equal to the last bit, part by part."""
    if isinstance(one, History):  # a file adds where it was read from
        assert one.steps == other.steps, where
    elif isinstance(one, np.ndarray | BlockArray):
        one, other = np.asarray(one), np.asarray(other)
        assert one.dtype == other.dtype, where
        np.testing.assert_array_equal(one, other, err_msg=where)
    elif is_dataclass(one) and not isinstance(one, type):
        assert type(one) is type(other), where
        for f in fields(one):
            assert_same(getattr(one, f.name), getattr(other, f.name), f"{where}.{f.name}")
    elif isinstance(one, Mapping):
        assert list(one) == list(other), where
        for key in one:
            assert_same(one[key], other[key], f"{where}[{key!r}]")
    elif isinstance(one, tuple | list):
        assert len(one) == len(other), where
        for k, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_same(a, b, f"{where}[{k}]")
    elif isinstance(one, float) and np.isnan(one):
        assert np.isnan(other), where
    else:
        assert one == other, where


def returned_types() -> set[str]:
    """Names of the types that operations, analyses and functions of the package return."""
    # Other tests may have registered steps of their own.
    steps = [*load_operations().values(), *load_analyses().values()]
    steps = [step for step in steps if step.__module__.startswith("py4DSTEM.")]
    calls = [getattr(step, "finish", None) or step.apply for step in steps]
    calls += [v for v in (getattr(py4DSTEM, n) for n in dir(py4DSTEM)) if inspect.isfunction(v)]
    names = {str(inspect.signature(call).return_annotation) for call in calls}
    names |= {name for name in dir(py4DSTEM) if is_result(getattr(py4DSTEM, name))}
    return names


def is_result(found: Any) -> bool:
    """Whether a public name is a type of values made by the science of the package."""
    ours = inspect.isclass(found) and found.__module__.startswith("py4DSTEM.process.")
    return ours and is_dataclass(found)


NO_RESULTS = {
    "Any", "None", "C", "Scan", "Figure", "tuple[Figure, Any]", "tuple[FormatRow, ...]",
    "dict[str, Detector]", "dict[str, Segment]",
    "NDArray[Any]", "tuple[Vector, ...]",  # spots of a class, of a lattice
    "Path", "Recipe", "RunSummary",  # of batch runs: tests/recipe, tests/batch
    "PolarCube | PolarPattern",
    "Float",  # scattering factors, extinction distances, orientations: plain numbers
    "ArrayResult", "DiffractionSlice", "RealSlice",  # tests of the store and of `show`
}  # fmt: skip


def test_there_is_an_example_of_every_type() -> None:
    assert returned_types() - NO_RESULTS == set(RESULTS)


@pytest.mark.parametrize("name", RESULTS)
def test_it_comes_back_from_a_file(name: str, tmp_path: Path) -> None:
    result = RESULTS[name]()
    assert type(result).__name__ == name
    py4DSTEM.save(path := tmp_path / "result.h5", result)
    assert_same(result, py4DSTEM.read(path))


@pytest.mark.parametrize("name", RESULTS)
def test_it_is_drawn(name: str) -> None:
    from matplotlib import pyplot as plt

    figure, _ = py4DSTEM.show(RESULTS[name]())
    figure.savefig(picture := io.BytesIO(), dpi=40)  # many problems only show up then
    plt.close(figure)
    assert picture.tell() > 1000


def test_a_saved_result_is_viewed_from_the_command_line(tmp_path: Path) -> None:
    for name in ("RingFitResult", "CepstralPlaces"):
        py4DSTEM.save(path := tmp_path / f"{name}.h5", RESULTS[name]())
        out = tmp_path / f"{name}.png"
        assert main(["view", str(path), "-o", str(out)]) == 0
        assert out.stat().st_size > 1000


def test_results_that_are_arrays_may_be_one_picture_of_many() -> None:
    from matplotlib import pyplot as plt

    figure, axes = py4DSTEM.show({"hot": RESULTS["HotPixels"](), "mask": np.eye(4)})
    plt.close(figure)
    assert len(axes) == 2
