"""Aberrations: closed forms, gradients by finite differences, and there and back."""

import math

import numpy as np
import pytest

from py4DSTEM.core.aberrations import ORDERS, Aberrations, all_parts, basis, basis_gradient
from py4DSTEM.errors import ParameterError

RNG = np.random.default_rng(3)
X, Y = RNG.uniform(-0.03, 0.03, (2, 7))


def test_the_table_of_orders_is_that_of_krivanek():
    assert list(ORDERS)[:7] == ["C10", "C12", "C21", "C23", "C30", "C32", "C34"]
    assert all((n + m) % 2 == 1 and m <= n + 1 for n, m in ORDERS.values())


def test_chi_is_the_polar_formula():
    given = {"C10": -120.0, "C12": 30.0, "phi12": 0.4, "C21": 900.0, "phi21": -1.1}
    given |= {"C23": 700.0, "phi23": 0.2, "C30": 1e5, "C34": 5e4, "phi34": 0.1, "C50": 1e8}
    alpha, phi = np.hypot(X, Y), np.arctan2(Y, X)
    expected = sum(
        value * alpha ** (n + 1) / (n + 1) * np.cos(m * (phi - given.get(f"phi{n}{m}", 0.0)))
        for name, value in given.items()
        if name in ORDERS
        for n, m in [ORDERS[name]]
    )
    np.testing.assert_allclose(Aberrations(given).chi(X, Y), expected, rtol=1e-12)


@pytest.mark.parametrize(("name", "part"), all_parts(ORDERS))
def test_gradients_are_finite_differences(name, part):
    x, y, h = X * 30, Y * 30, 1e-6
    expected = [
        (basis(name, part, x + h, y) - basis(name, part, x - h, y)) / (2 * h),
        (basis(name, part, x, y + h) - basis(name, part, x, y - h)) / (2 * h),
    ]
    np.testing.assert_allclose(basis_gradient(name, part, x, y), expected, atol=1e-8)


def test_the_gradient_of_defocus_is_the_shift_of_a_bright_field_image():
    shift = Aberrations({"defocus": 4500.0}).gradient(0.006, -0.002)
    np.testing.assert_allclose(shift, [-4500 * 0.006, 4500 * 0.002])


def test_cartesian_and_back():
    given = Aberrations({"C12": 20.0, "phi12": 0.3, "C23": 5.0, "phi23": -0.2, "C30": -4.0})
    again = Aberrations.from_cartesian(given.cartesian)
    assert again.coefficients == pytest.approx(dict(given.coefficients))
    assert math.isclose(again.angle("C23"), -0.2)
    assert hash(again.replace(C10=1.0)) != hash(again)


def test_what_is_no_aberration_is_refused():
    for wrong in ({"C11": 1.0}, {"phi10": 0.1}, {"C10": float("nan")}, {"C10": 1, "defocus": 2}):
        with pytest.raises(ParameterError):
            Aberrations(wrong)
