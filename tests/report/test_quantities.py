"""Every quantity of the table has the value that the result was made with."""

import math

import numpy as np
import pytest

from py4DSTEM import Calibration, DataCube, DiffractionSlice, PointTable, RealSlice, StrainMap
from py4DSTEM.process.bragg.lattice import LatticeFit
from py4DSTEM.process.calibrate.origin_fit import OriginFit, OriginMeasurement
from py4DSTEM.report.quantities import QUANTITIES, known_name, numbers_of, slug


def points(*counts):
    one = np.array([(1.0, 2.0)], dtype=[("qx", "f8"), ("qy", "f8")])
    return PointTable.from_lists([[np.repeat(one, n) for n in counts]])


def lattice(residual, mask, calibration=None, unit="px"):
    mask = np.asarray(mask)
    shape = mask.shape
    return LatticeFit(
        g1=np.zeros((*shape, 2)), g2=np.zeros((*shape, 2)), origin=np.zeros((*shape, 2)),
        covariance=np.zeros((*shape, 4, 4)), sigma_origin=np.zeros((*shape, 2)),
        residual=np.asarray(residual), chi2=np.full(shape, 1.5), count=np.ones(shape, int),
        mask=mask, reason=np.zeros(shape, np.uint8), several=~mask, basis=np.eye(2), unit=unit,
        calibration=calibration or Calibration(), report={"positions": {"fitted": 3}},
    )  # fmt: skip


def strain(e_xx, mask=None):
    e_xx = np.asarray(e_xx, float)
    mask = np.isfinite(e_xx) if mask is None else mask
    covariance = np.zeros((*e_xx.shape, 4, 4))
    covariance[..., 0, 0], covariance[..., 1, 1] = 4e-6, 9e-6
    return StrainMap(e_xx, 2 * e_xx, -e_xx, 3 * e_xx, covariance, mask, np.eye(2))


def test_peaks():
    numbers = numbers_of(points(0, 5, 7, 9))
    assert numbers["bragg_peaks_median"] == 6 and numbers["positions_without_peaks"] == 0.25


def test_no_scan_has_no_median():
    empty = PointTable(np.zeros(0, [("qx", "f8")]), np.zeros(1, np.int64), (0, 0))
    assert math.isnan(numbers_of(empty)["bragg_peaks_median"])


def test_lattice_residual_is_in_pixels():
    mask = [[True, True, False, True]]
    fit = lattice([[0.1, 0.3, 99.0, 0.2]], mask)
    numbers = numbers_of(fit)
    assert numbers["strain_residual_px"] == pytest.approx(0.2)
    assert numbers["unfitted_fraction"] == 0.25 == numbers["several_lattices_fraction"]
    assert numbers["lattice_chi2_median"] == 1.5 and numbers["positions_fitted"] == 3
    calibrated = Calibration().replace(Q_pixel_size=0.05, Q_pixel_units="A^-1")
    fit = lattice([[0.1, 0.3, 99.0, 0.2]], mask, calibrated, "A^-1")
    assert numbers_of(fit)["strain_residual_px"] == pytest.approx(4.0)
    fit = lattice([[0.1, 0.3, 99.0, 0.2]], mask, calibrated, "mrad")
    assert math.isnan(numbers_of(fit)["strain_residual_px"])


def test_strain():
    numbers = numbers_of(strain([[0.01, 0.02, np.nan], [0.03, 0.04, 0.05]]))
    assert numbers["e_xx_median"] == pytest.approx(0.03)
    assert numbers["theta_median"] == pytest.approx(0.09)
    assert numbers["unfitted_fraction"] == pytest.approx(1 / 6)
    assert numbers["strain_sigma_median"] == pytest.approx(3e-3)
    normal = np.random.default_rng(1).normal(0, 0.01, (100, 90))
    assert numbers_of(strain(normal))["e_xx_spread"] == pytest.approx(0.01, rel=0.05)


def test_nothing_fitted_is_not_a_number():
    numbers = numbers_of(strain(np.full((2, 3), np.nan)))
    assert math.isnan(numbers["e_xx_median"]) and math.isnan(numbers["e_xx_spread"])
    assert numbers["unfitted_fraction"] == 1


def test_origins():
    origin = np.full((2, 4, 2), 3.0)
    origin[0, 1] = np.nan
    measured = OriginMeasurement(origin, np.ones_like(origin), {}, "disk")
    assert numbers_of(measured)["origin_unmeasured_fraction"] == 1 / 8
    outliers = np.zeros((2, 4), bool)
    outliers[1, :2] = True
    terms, one = (((0, 0),), np.ones((1, 2)), np.ones((2, 1, 1))), np.ones((2, 4, 2))
    fit = OriginFit(3 * one, one, "plane", *terms, (0.3, 0.4), (0.0, 0.0), outliers)
    numbers = numbers_of(fit)
    assert numbers["origin_residual_px"] == pytest.approx(0.5)
    assert numbers["origin_outlier_fraction"] == 0.25 and numbers["outliers"] == 2


def test_images():
    for kind in (RealSlice, DiffractionSlice):
        numbers = numbers_of(kind(np.array([[1.0, 3.0], [np.nan, 8.0]])))
        assert numbers["image_mean"] == 4 and numbers["undefined_fraction"] == 0.25
    assert math.isnan(numbers_of(RealSlice(np.full((2, 2), np.nan)))["image_mean"])
    assert math.isnan(numbers_of(RealSlice(np.ones((2, 2), complex)))["image_std"])


def test_quality_entries_have_names():
    report = DataCube(np.full((3, 4, 8, 8), 9, np.uint8)).quality()
    numbers = numbers_of(report)
    assert numbers["dose_per_pattern"] == 9 * 64 and numbers["empty_frames"] == 0


@pytest.mark.parametrize("value", [None, 3, "text", {"a": 1}, object(), [1, 2], np.zeros(3)])
def test_other_things_have_no_numbers(value):
    assert numbers_of(value) == {}


def test_names():
    assert known_name("unfitted_fraction") and not known_name("unfited_fraction")
    assert known_name("quality.dose_per_pattern") and not known_name("quality.")
    assert known_name("a.b", {"a": ""}) and not known_name("c.b", {"a": ""})
    assert all(slug(name.lower()) == name.lower() for name in QUANTITIES)
