"""Forms made from the parameters of steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from py4DSTEM import Disk, FindBraggDisks, FitLattice, ParameterError, VirtualImages
from py4DSTEM.gui.state.forms import (
    accepted,
    all_steps,
    defaults,
    fields_of,
    problems_of,
    title_of,
    values_to_step,
)
from py4DSTEM.process.probe import MeasureProbe
from py4DSTEM.process.strain import MapStrain

OURS = {kind: cls for kind, cls in all_steps().items() if cls.__module__.startswith("py4DSTEM.")}


@pytest.mark.parametrize("kind", sorted(OURS))
def test_every_step_has_a_form(kind: str) -> None:
    cls = OURS[kind]
    for field in fields_of(cls):
        assert field.help, f"{kind}: {field.name} has no description"
        assert field.label
        assert (field.kind == "numbers") == bool(field.parts)
        assert field.kind != "choice" or field.choices
        assert field.kind != "value" or field.accepts
        assert field.required or field.default is not None or None in (
            *field.automatic, *field.choices) or field.kind == "json"  # fmt: skip
    assert title_of(cls)
    assert accepted(cls)


@pytest.mark.parametrize("kind", sorted(OURS))
def test_defaults_make_the_step_that_defaults_make(kind: str) -> None:
    cls = OURS[kind]
    required = {field.name for field in fields_of(cls) if field.required}
    assert set(problems_of(cls, defaults(cls))) == required
    if not required:
        assert values_to_step(cls, defaults(cls)) == cls()


@pytest.mark.parametrize("kind", sorted(OURS))
def test_values_of_an_example_round_trip(kind: str) -> None:
    for example in getattr(OURS[kind], "examples", list)():
        assert problems_of(OURS[kind], example.parameters()) == {}
        step = values_to_step(OURS[kind], example.parameters())
        assert step.parameters() == example.parameters()


def by_name(cls: Any) -> dict[str, Any]:
    return {field.name: field for field in fields_of(cls)}


def test_kinds_units_and_limits() -> None:
    fields = by_name(FindBraggDisks)
    assert fields["probe"].kind == "value"
    assert fields["probe"].accepts == ("Probe", "DiffractionSlice")
    assert (fields["min_spacing_px"].kind, fields["min_spacing_px"].unit) == ("number", "px")
    assert (fields["corr_power"].low, fields["corr_power"].high) == (0, 1)
    assert not fields["corr_power"].open_low
    assert fields["subpixel"].choices == ("fit", "dft", "parabola", "pixel")
    assert (fields["slope"].kind, fields["slope"].automatic) == ("number", ("auto",))
    assert fields["slope"].high == 1.5
    assert (fields["mask"].kind, fields["mask"].automatic) == ("detector", (None,))
    assert fields["max_peaks"].kind == "whole"
    fields = by_name(VirtualImages)
    assert (fields["detectors"].kind, fields["detectors"].required) == ("detectors", True)
    assert fields["follow_origin"].choices == (None, True, False)
    assert by_name(FitLattice)["max_distance_px"].open_low


def test_tuples_are_numbers_side_by_side() -> None:
    g1 = by_name(FitLattice)["g1"]
    assert (g1.kind, g1.automatic) == ("numbers", (None,))
    assert [(part.label, part.kind) for part in g1.parts] == [("x", "number"), ("y", "number")]
    assert by_name(MeasureProbe)["where"].kind == "json"
    assert by_name(MeasureProbe)["where"].choices == ("auto",)


def test_maps_of_positions() -> None:
    fields = by_name(MapStrain)
    assert fields["reference"].per_position and fields["mask"].per_position
    assert by_name(all_steps()["ring-strain"])["reference"].per_position
    assert not by_name(all_steps()["measure-rotation"])["shadow"].per_position
    assert fields["axis"].kind == "json"
    step = values_to_step(MapStrain, {"reference": np.eye(3, 4)})
    assert np.array_equal(step.reference, np.eye(3, 4))


def test_each_field_gets_its_own_message() -> None:
    values = {"corr_power": 2, "subpixel": "fine", "max_peaks": 0, "radius": 1}
    wrong = problems_of(FindBraggDisks, values)
    assert set(wrong) == {"corr_power", "subpixel", "max_peaks", ""}
    assert "less than or equal to 1" in wrong["corr_power"]
    assert "radius" in wrong[""]
    with pytest.raises(ParameterError, match="corr_power"):
        values_to_step(FindBraggDisks, values)


def test_a_bad_detector_within_is_the_fault_of_its_field() -> None:
    values = {"detectors": {"bf": {"kind": "disk", "radius": -1}}}
    assert "radius" in problems_of(VirtualImages, values)["detectors"]
    assert values_to_step(VirtualImages, {"detectors": {"bf": Disk(2.0)}}).detectors == {
        "bf": Disk(2.0)
    }


def test_every_parameter_is_explained_in_a_sentence() -> None:
    for kind, cls in all_steps().items():
        if cls.__module__.startswith("py4DSTEM."):
            for field in fields_of(cls):
                help = field.help
                assert len(help) > 12 and not help.startswith("As for"), (kind, field.name)
