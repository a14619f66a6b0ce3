"""What the fields of steps may hold."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from py4DSTEM.core.detector import AnyDetector
from py4DSTEM.core.detectors.mask import MaskArray
from py4DSTEM.core.parameters import Parameters
from py4DSTEM.stream.fields import allows_none, leaves, plain_value


@pytest.mark.parametrize(
    ("annotation", "kinds"),
    [
        (float, ["number"]),
        (int | None, ["integer"]),
        (bool, ["bool"]),
        (str | list[float], ["text", "json"]),
        (Literal["a", "b"] | float, ["word", "number"]),
        (tuple[float, float] | None, ["tuple"]),
        (tuple[float, ...], ["json"]),
        (tuple[tuple[bool, ...], ...] | None, ["positions"]),
        (AnyDetector, ["detector"]),
        (AnyDetector | None, ["detector"]),
        (dict[str, AnyDetector], ["detectors"]),
        (dict[str, float], ["json"]),
        (MaskArray | None, ["array"]),
        (Any, ["object"]),
    ],
)
def test_kinds(annotation: Any, kinds: list[str]) -> None:
    assert [leaf.kind for leaf in leaves(annotation)] == kinds


def test_arrays_whose_type_a_model_has_split_off() -> None:
    class Step(Parameters):
        positions: MaskArray

    field = Step.model_fields["positions"]
    assert [leaf.kind for leaf in leaves(field.annotation, field.metadata)] == ["array"]


def test_limits_of_a_field_and_of_one_alternative() -> None:
    class Step(Parameters):
        a: float | None = Field(None, gt=0, le=2)
        b: Literal["auto"] | Annotated[float, Field(ge=0)] = "auto"

    fields = Step.model_fields
    (a,) = leaves(fields["a"].annotation, fields["a"].metadata)
    assert a.limits == {"gt": 0, "le": 2}
    assert leaves(fields["b"].annotation)[1].limits == {"ge": 0}


def test_tuples_have_parts() -> None:
    (leaf,) = leaves(tuple[int, Literal["x"]])
    assert [[inner.kind for inner in part] for part in leaf.parts] == [["integer"], ["word"]]


def test_none_is_a_word_where_the_field_has_it() -> None:
    assert plain_value("none", float | None) is None
    assert plain_value("none", Literal["none", "plane"] | None) == "none"
    assert plain_value("none", str) == "none"
    assert allows_none(Any)
    assert not allows_none(AnyDetector)
