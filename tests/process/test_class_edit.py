"""Classes merged, split, renamed, smoothed, separated and compared."""

import numpy as np
import pytest

import py4DSTEM
from py4DSTEM import features
from py4DSTEM.errors import ParameterError, ShapeError
from py4DSTEM.process.classes.result import classes_of

LABELS = np.array(
    [
        [0, 0, 0, 1, 1, 2],
        [0, 0, 0, 1, 1, 2],
        [0, 0, 0, -1, 2, 0],
    ]
)


@pytest.fixture
def classes():
    patterns = np.arange(3.0)[:, None, None] * np.ones((3, 2, 4))
    return classes_of(LABELS, names=("a", "b", "c"), patterns=patterns, components=np.eye(3))


def test_merged_classes_add_weights_and_average_patterns(classes):
    found = py4DSTEM.merge_classes(classes, ["b", 2])
    assert found.names == ("a", "b") and found.sizes.tolist() == [10, 7]
    assert (found.labels == np.where(LABELS == 2, 1, LABELS)).all()
    np.testing.assert_array_equal(found.weights[..., 1], LABELS > 0)
    assert found.patterns[1, 0, 0] == pytest.approx((4 * 1 + 3 * 2) / 7)
    np.testing.assert_allclose(found.components[1], [0, 4 / 7, 3 / 7])
    assert found.history.steps[-1].kind == "merge-classes"
    large = py4DSTEM.merge_classes(classes, ["c", "a"])
    assert large.names == ("a", "b") and large.sizes.tolist() == [13, 4]


def test_merging_keeps_default_names_in_order():
    found = py4DSTEM.merge_classes(classes_of(LABELS), [0, 1])
    assert found.names == ("class 0", "class 1") and found.patterns is None


def test_merging_an_empty_class():
    weights = np.zeros((1, 3, 3), np.float32)
    found = py4DSTEM.merge_classes(
        classes_of([[0, 0, 1]], weights, patterns=np.array([[[1.0]], [[5.0]], [[np.nan]]])), [1, 2]
    )
    assert found.patterns.ravel().tolist() == [1, 5]


def test_split_by_features(classes):
    values = np.zeros((3, 6))
    values[:, :2] = 4
    values += 0.01 * np.random.default_rng(0).random((3, 6))
    found = py4DSTEM.split_class(classes, "a", features(values))
    assert found.names == ("a.0", "a.1", "b", "c") and found.sizes.tolist() == [6, 4, 4, 3]
    assert (found.labels[:, :2] == 0).all() and found.labels[2, 3] == -1
    # Other classes stay what they were.
    assert (found.mask("b") == (LABELS == 1)).all() and (found.mask("c") == (LABELS == 2)).all()


def test_positions_of_a_split_class_without_features_belong_nowhere(classes):
    values = np.arange(18.0).reshape(3, 6)
    values[0, 0] = np.nan
    found = py4DSTEM.split_class(classes, 0, features(values))
    assert found.labels[0, 0] == -1 and found.sizes.sum() == 16


def test_renamed(classes):
    assert py4DSTEM.rename_classes(classes, {"a": "film", 2: "grain"}).names == (
        "film", "b", "grain",
    )  # fmt: skip
    assert py4DSTEM.rename_classes(classes, ["x", "y", "z"]).names == ("x", "y", "z")
    with pytest.raises(ParameterError, match="different names"):
        py4DSTEM.rename_classes(classes, {0: "b"})


def test_smoothing_removes_single_positions_and_keeps_edges():
    labels = np.zeros((6, 8), int)
    labels[:, 4:] = 1
    noisy = labels.copy()
    noisy[2, 1], noisy[4, 6] = 1, 0
    noisy[0, 0] = -1
    found = py4DSTEM.smooth_classes(classes_of(noisy))
    expected = classes_of(labels).labels.copy()
    same = found.labels == (1 - expected if found.labels[3, 3] else expected)
    assert same.sum() == 47 and found.labels[0, 0] == -1
    filled = py4DSTEM.smooth_classes(classes_of(noisy), fill=True)
    assert filled.labels[0, 0] == filled.labels[3, 3]


def test_parts_that_do_not_touch_are_separated(classes):
    found = py4DSTEM.separate_classes(classes)
    assert found.sizes.tolist() == [9, 4, 2, 1, 1]
    assert found.names == ("a.0", "b", "c.0", "c.1", "a.1")
    large = py4DSTEM.separate_classes(classes, min_size=2)
    assert large.names == ("a", "b", "c") and (large.labels == -1).sum() == 3
    touching = py4DSTEM.separate_classes(classes, corners=True)
    assert touching.sizes.tolist() == [9, 4, 3, 1]
    np.testing.assert_array_equal(found.components[4], [1, 0, 0])
    with pytest.raises(ParameterError, match="min_size"):
        py4DSTEM.separate_classes(classes, min_size=50)


def test_agreement_with_other_numbers(classes):
    other = np.where(LABELS >= 0, 2 - LABELS, -1)
    found = py4DSTEM.compare_classes(classes, other)
    assert found.adjusted_rand == 1 and found.share == 1 and found.positions == 17
    assert found.matches == ((0, 2), (1, 1), (2, 0))
    one_wrong = other.copy()
    one_wrong[0, 0] = 1
    less = py4DSTEM.compare_classes(classes, one_wrong)
    assert less.share == pytest.approx(16 / 17) and less.adjusted_rand < 1
    assert "b is class 1" in less.text()
    within = np.ones((3, 6), bool)
    within[0, 0] = False
    assert py4DSTEM.compare_classes(classes, one_wrong, within=within).adjusted_rand == 1


def test_what_cannot_be_done(classes):
    with pytest.raises(ParameterError, match="no class 'd'"):
        py4DSTEM.merge_classes(classes, ["a", "d"])
    with pytest.raises(ParameterError, match="which"):
        py4DSTEM.merge_classes(classes, ["a"])
    with pytest.raises(ShapeError, match="classes of"):
        py4DSTEM.split_class(classes, 0, features(np.zeros((2, 3))))
    with pytest.raises(ParameterError, match="split by Features"):
        py4DSTEM.split_class(classes, 0, np.zeros((3, 6)))
    with pytest.raises(ParameterError, match="3 classes of 2 positions"):
        py4DSTEM.split_class(classes_of([[0, 0, 1, 1, 1]]), 1, features(np.arange(5.0)[None]), n=3)
    with pytest.raises(ShapeError, match="positions"):
        py4DSTEM.compare_classes(classes, np.zeros((6, 3), int))
    with pytest.raises(ParameterError, match="nothing to compare"):
        py4DSTEM.compare_classes(classes, np.full((3, 6), -1))
    with pytest.raises(ParameterError, match="least=5"):
        py4DSTEM.suggest_classes(features(np.arange(12.0).reshape(3, 4)), (5, 3))
