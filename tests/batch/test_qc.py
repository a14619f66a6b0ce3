"""Limits turn nonsense that ran through into yellow and red."""

import json
import math

import numpy as np
import pytest

from py4DSTEM import RealSlice
from py4DSTEM.batch.qc import judged, measured, qc_record, verdicts_of, worst
from py4DSTEM.recipe.model import Bounds


def level(value, **bounds):
    (verdict,) = judged({"a.image_mean": value}, {"image_mean": Bounds(**bounds)})
    return verdict.level


@pytest.mark.parametrize(
    ("value", "bounds", "expected"),
    [
        (5.0, {"min": 4}, "ok"),
        (4.0, {"min": 4}, "ok"),
        (3.7, {"min": 4}, "yellow"),
        (3.5, {"min": 4}, "red"),
        (0.25, {"max": 0.25}, "ok"),
        (0.27, {"max": 0.25}, "yellow"),
        (0.30, {"max": 0.25}, "red"),
        (0.1, {"min": 0, "max": 0.2}, "ok"),
        (-1e-9, {"min": 0}, "red"),
        (-4.2, {"min": -4}, "yellow"),
        (-5.0, {"min": -4}, "red"),
        (None, {"max": 1}, "yellow"),
        (math.nan, {"max": 1}, "yellow"),
        (math.inf, {"max": 1}, "yellow"),
    ],
)
def test_levels(value, bounds, expected):
    assert level(value, **bounds) == expected


def test_the_worst_result_counts_unless_one_is_named():
    numbers = {"a.unfitted_fraction": 0.01, "b.unfitted_fraction": 0.5, "b.other": 1.0}
    limits = {"unfitted_fraction": Bounds(max=0.1), "a.unfitted_fraction": Bounds(max=0.1)}
    everywhere, named = judged(numbers, limits)
    assert (everywhere.level, everywhere.result) == ("red", "b")
    assert everywhere.message == "unfitted_fraction of b is 0.5, above 0.1"
    assert (named.level, named.value) == ("ok", 0.01)


def test_a_number_that_nothing_has_is_not_passed_over():
    (verdict,) = judged({"a.image_mean": 1.0}, {"ellipse_ratio": Bounds(max=1.1)})
    assert verdict.level == "yellow" and "no result has a number" in verdict.message


def test_the_unit_is_told():
    (verdict,) = judged(
        {"lattice.strain_residual_px": 1.0}, {"strain_residual_px": Bounds(max=0.2)}
    )
    assert verdict.message == "strain_residual_px of lattice is 1 px, above 0.2"


def test_record_is_json_and_comes_back():
    results = {"bf": RealSlice(np.array([[1.0, 5.0]])), "no": RealSlice(np.full((2, 3), np.nan))}
    limits = {"bf.image_mean": Bounds(min=10), "image_std": Bounds(max=9)}
    record = json.loads(json.dumps(qc_record(measured(results), limits), allow_nan=False))
    assert record["level"] == "red" and record["numbers"]["bf.image_mean"] == 3
    assert record["numbers"]["no.image_mean"] is None
    assert [v.level for v in verdicts_of(record)] == ["red", "yellow"]
    assert verdicts_of(record) == judged(measured(results), limits)


def test_worst():
    assert worst(()) == "ok" and worst(("ok", "red", "yellow")) == "red"
    assert verdicts_of({}) == ()
