"""Arithmetic that is read, and text that is refused."""

import ast
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from py4DSTEM import (
    CombineImages,
    DataCube,
    Disk,
    Expression,
    Mask,
    RealSlice,
    Segment,
    combine_images,
    virtual_images,
)
from py4DSTEM.core.expression import combined, linear_factors, weights_of
from py4DSTEM.errors import ParameterError, ShapeError

RNG = np.random.default_rng(0)
IMAGES = {name: RNG.uniform(0.5, 3, (4, 5)) for name in ("A", "B", "bf", "s_1")}
A, B, bf, s_1 = IMAGES.values()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A", A),
        ("(A - B) / (A + B)", (A - B) / (A + B)),
        ("A - B - bf", A - B - bf),
        ("A / B / bf * 2", A / B / bf * 2),
        ("-A ** 2", -(A**2)),
        ("A ** -0.5", A**-0.5),
        ("+A--B", A + B),
        ("2 ** 3 ** 0.5 * A", None),
        ("sqrt(abs(A - B)) + log(bf)", np.sqrt(abs(A - B)) + np.log(bf)),
        ("min(A, B, s_1) / max(A, B)", np.minimum(np.minimum(A, B), s_1) / np.maximum(A, B)),
        ("1e-3 * A + .5", 1e-3 * A + 0.5),
        ("  A\n + B ", A + B),
    ],
)
def test_values(text, expected):
    if expected is None:  # an exponent that is itself a power
        with pytest.raises(ParameterError, match="exponent"):
            Expression(text)
        return
    expression = Expression(text)
    np.testing.assert_allclose(expression.evaluate(IMAGES), expected, rtol=1e-14)
    again = Expression(str(expression))
    assert str(again) == str(expression) and again.names == expression.names
    np.testing.assert_array_equal(again.evaluate(IMAGES), expression.evaluate(IMAGES))


def test_undefined_values_are_nan_without_a_warning():
    values = {"A": [1.0, 0.0, -1.0, 1e308], "B": [0, 0, 2, 1]}
    for text in ("A / B", "log(A) * B", "sqrt(A) / B", "A * 1e10 / B", "A ** 9 / B"):
        result = Expression(text).evaluate(values)
        assert np.isnan(result).any() and not np.isinf(result).any()
    assert math.isnan(Expression("1 / 0").evaluate({}))


def test_names():
    expression = Expression("max(B, A) + A * bf")
    assert expression.names == ("A", "B", "bf")
    assert expression == Expression("max(B, A) + A * bf") and hash(expression)
    with pytest.raises(ParameterError, match=r"needs bf; given: A, B"):
        expression.evaluate({"A": 1, "B": 2})
    with pytest.raises(ShapeError, match="different shapes"):
        expression.evaluate({"A": A, "B": B, "bf": [1, 2]})
    with pytest.raises(ParameterError, match="real numbers"):
        expression.evaluate({"A": A, "B": B, "bf": A * 1j})


REFUSED = {
    "A +": "at its end",
    "(A - B": "never closed",
    "A b": "invalid syntax",
    "A.shape": "no arithmetic, at character 1",
    "A[0]": r"'\[' is no arithmetic, at character 2",
    "A % B": "'%' is no arithmetic, at character 3",
    "A // B": "no arithmetic",
    "A == B": "'=' is no arithmetic",
    "A if B else A": "'if' is no arithmetic",
    "1or 2": "'or' is no arithmetic",
    "lambda": "'lambda'",
    "True": "'True'",
    "'text'": "is no arithmetic",
    "A, B": "no arithmetic",
    "A ** B": "an exponent is a number between ±100",
    "A ** 101": "exponent",
    "9 ** 9 ** 9": "exponent",
    "1e400 * A": "not a number that can be used",
    "2j * A": "not a number that can be used",
    "9" * 900: "not a number that can be used",
    "sqrt": "'sqrt' is a function",
    "abs + A": "'abs' is a function",
    "sin(A)": "no function 'sin', at character 1",
    "__import__(A)": "no function '__import__'",
    "sqrt(A, B)": "sqrt takes one value",
    "min(A)": "min takes two or more",
    "max(*A)": "max takes only values",
    "max(A, key=B)": "'=' is no arithmetic",
    "A(B)(B)": "no arithmetic",
    "-" * 200 + "A": "100 levels deep",
    "(" * 300 + "A" + ")" * 300: "cannot read",
    "A" * 1001: "at most 1000 characters",
    "": "is a text such as",
    "   ": "is a text such as",
}


@pytest.mark.parametrize("text", REFUSED, ids=lambda t: t[:12])
def test_anything_else_is_refused_with_its_place(text):
    with pytest.raises(ParameterError, match=REFUSED[text]):
        Expression(text)


@pytest.mark.parametrize("value", [None, 3, ["A"], b"A"])
def test_only_text_is_read(value):
    with pytest.raises(ParameterError, match="is a text"):
        Expression(value)


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(max_size=40), st.text("AB12 +-*/().,eabsqrtlogmin_=[]'\\%", max_size=40)))
def test_no_text_does_more_than_raise(text):
    try:
        expression = Expression(text)
    except ParameterError:
        return
    values = dict.fromkeys(expression.names, 2.0)
    result = expression.evaluate(values)
    np.testing.assert_array_equal(Expression(str(expression)).evaluate(values), result)


numbers = st.floats(-9, 9).map(lambda v: ast.unparse(ast.Constant(round(v, 3))))
terms = st.recursive(
    st.one_of(st.sampled_from(["A", "B"]), numbers),
    lambda t: st.one_of(
        st.tuples(t, st.sampled_from("+-*/"), t).map(lambda p: f"({p[0]} {p[1]} {p[2]})"),
        t.map(lambda x: f"-{x}"),
        t.map(lambda x: f"abs({x})"),
    ),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(terms)
def test_factors_are_those_of_the_expression(text):
    expression = Expression(text)
    factors = linear_factors(expression)
    if factors is None:
        return
    values = {"A": np.array([0.7, 0, 3.1]), "B": np.array([0, 2.3, -1.7])}
    expected = sum((f * values[name] for name, f in factors.items()), np.zeros(3))
    np.testing.assert_allclose(expression.evaluate(values), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("text", "factors"),
    [
        ("A", {"A": 1}),
        ("A - B", {"A": 1, "B": -1}),
        ("(A + 2 * B) / 4 - -A", {"A": 1.25, "B": 0.5}),
        ("sqrt(4) * (A - B) * 0.5", {"A": 1, "B": -1}),
        ("2 ** 3 * A", {"A": 8}),
        ("A + 1 - 1", {"A": 1}),
        ("A / B", None),
        ("A * B", None),
        ("A + 1", None),
        ("abs(A)", None),
        ("A ** 2", None),
        ("A / 0", None),
        ("A * log(0)", None),
        ("3", None),
        ("max(A, B)", None),
    ],
)
def test_linear_expressions(text, factors):
    assert linear_factors(Expression(text)) == factors


def test_one_image_for_a_linear_expression():
    rng = np.random.default_rng(1)
    cube = DataCube(rng.integers(0, 99, (3, 4, 12, 15)).astype(np.uint16))
    shapes = {"A": Disk(3, center=(5, 6)), "B": Segment(2, 5, 0, 2, center=(6, 7))}
    weights = {name: d.weights(cube.Q_shape, cube.calibration) for name, d in shapes.items()}
    expression = Expression("A - 2 * B")
    one = weights_of(expression, weights)
    images = virtual_images(cube, shapes)
    expected = expression.evaluate({name: images[name].data for name in shapes})
    np.testing.assert_allclose(cube.virtual_image(Mask(one)).data, expected)
    np.testing.assert_allclose(combined(weights, {"A": 1, "B": -2}), one)
    assert weights_of(Expression("A / B"), weights) is None
    with pytest.raises(ParameterError, match="no weights are given for C"):
        combined(weights, {"C": 1})
    with pytest.raises(ParameterError, match="finite factor"):
        combined(weights, {"A": math.inf})
    with pytest.raises(ParameterError, match="finite factor"):
        combined(weights, {})
    with pytest.raises(ShapeError):
        combined({"A": np.ones((2, 3)), "B": np.ones((3, 2))}, {"A": 1, "B": 1})


def test_combined_images_know_how_they_were_made():
    stack = RealSlice(np.stack([A, B]), labels=("A", "B"), units="counts")
    ratio = combine_images(stack, "(A-B)/(A+B)")
    np.testing.assert_allclose(ratio.data, (A - B) / (A + B))
    assert ratio.name == "(A - B) / (A + B)" and ratio.units == ""
    assert ratio.history.steps[-1].kind == "combine-images"
    again = CombineImages(**ratio.history.steps[-1].parameters).apply(stack)
    np.testing.assert_array_equal(again.data, ratio.data)
    assert combine_images(stack, "A - B").units == "counts"
    assert combine_images(stack, "A / 2").units == ""
    assert combine_images(stack, "0.5").data.shape == (4, 5)
    np.testing.assert_array_equal(combine_images(stack["A"], "2 * A").data, 2 * A)


def test_images_that_cannot_be_combined():
    stack = RealSlice(np.stack([A, B]), labels=("A", "B"))
    with pytest.raises(ParameterError, match="needs C; given: A, B"):
        combine_images(stack, "A + C")
    with pytest.raises(ParameterError, match="never closed"):
        combine_images(stack, "(A")
    with pytest.raises(ParameterError, match="works on RealSlice"):
        combine_images(A, "A")
    with pytest.raises(ParameterError, match="real numbers"):
        combine_images(RealSlice(np.ones((2, 3), complex), name="z"), "z")
