"""One small example of every type of result of the package."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

import py4DSTEM
from py4DSTEM import RunOptions, simulate
from py4DSTEM.process.cepstrum import CepstralPeaks
from py4DSTEM.process.ring_strain import RingFits

ONE = RunOptions(workers=1)


@cache
def crystal() -> Any:
    """A small strained crystal."""
    return simulate.strained_lattice((5, 6), (64, 64), probe_radius_px=3.0, seed=1)


@cache
def glass() -> Any:
    """Patterns with one ring."""
    x, y = np.indices((48, 48)) - 24.0
    ring = 100 * np.exp(-((np.hypot(x, y) - 15) ** 2) / 8) + 5
    counts = np.random.default_rng(0).poisson(ring, (3, 4, 48, 48)).astype(np.uint16)
    return py4DSTEM.DataCube(counts).with_calibration(origin_px=(24, 24))


@cache
def gold() -> Any:
    """Rings of gold."""
    return simulate.powder_rings((96, 96), seed=1)


@cache
def peaks() -> Any:
    scan = crystal()
    return scan.cube.find_bragg_disks(scan.truth.probe, options=ONE).with_calibration(
        origin_px=scan.truth.calibration.origin_px
    )


@cache
def lattice() -> Any:
    return peaks().fit_lattice()


@cache
def comparison() -> Any:
    first = py4DSTEM.strain_map(lattice())
    second = replace(first, e_xx=first.e_xx + np.linspace(0, 1e-3, 30).reshape(5, 6))
    return py4DSTEM.compare_strain({"a": first, "b/c": second})


@cache
def cu_glass() -> Any:
    """Speckle of a glass of copper."""
    scan = simulate.amorphous((4, 3), (96, 96), seed=2)
    return scan.cube.with_calibration(scan.truth.calibration)


@cache
def class_features() -> Any:
    """A scan of two kinds of patterns, one brighter on one side."""
    counts = np.random.default_rng(3).poisson(4, (5, 6, 12, 16)).astype(np.uint16)
    counts[:, 4:, 2:5, 9:14] += 20
    return py4DSTEM.DataCube(counts).features(bin=4)


@cache
def classes() -> Any:
    return py4DSTEM.classify(class_features(), method="gmm", n=2)


def ring_fits() -> Any:
    profile = glass().mean_radial_profile(step_px=0.5, r_max=26)
    fits = RingFits(profile=tuple(np.nan_to_num(profile.data).tolist()), inner_px=9, outer_px=21)
    return py4DSTEM.run(fits, glass(), options=ONE)


@cache
def ptychography() -> Any:
    scan = simulate.phase_object((6, 7), (32, 32), Q_pixel_size_A=0.08, seed=1)
    return scan.cube.ptychography(iterations=4, defocus_A=100, rotation_rad=0.3, modes=2)


def tuning() -> Any:
    values = {"defocus_A": np.array([90.0, 120.0]), "flip": np.array([False, True])}
    best = {"defocus_A": 90.0, "flip": False}
    return py4DSTEM.PtychographyTuning(values, np.array([1.1, 1.4]), best)


@cache
def grainy() -> Any:
    """Disks of a few grains."""
    scan = simulate.polycrystal((9, 11), (96, 96), grains=3, seed=2)
    cube = scan.cube.with_calibration(scan.truth.calibration)
    return cube, cube.find_bragg_disks(scan.truth.probe, options=ONE)


def halves():
    """Two grains of magnesium, 20 degrees apart."""
    angles = np.zeros((5, 6, 3))
    angles[:, 3:, 1] = np.radians(20)
    return py4DSTEM.orientation_map(py4DSTEM.matrices_from_euler(angles), "Mg")


@cache
def fem() -> Any:
    return glass().fem(samples=20)


@cache
def fibres() -> Any:
    """Where the arcs of a fibrous film point."""
    scan = simulate.fibers((6, 7), seed=1)
    cube = scan.cube.with_calibration(scan.truth.calibration)
    return cube.orientation_distribution((10, 15))


@cache
def optics() -> Any:
    scan = simulate.phase_object((13, 13), step_A=0.8, dose=None, seed=3)
    cube = scan.cube.with_calibration(scan.truth.calibration)
    return cube.search_optics((90.0, 110.0), rotation_rad=0.3, flip=False)


RESULTS: dict[str, Callable[[], Any]] = {
    "AngularCorrelationResult": lambda: glass().angular_correlation((8, 20)),
    "Basis": lambda: py4DSTEM.choose_basis(peaks()),
    "Beam": lambda: crystal().cube.find_beam(),
    "BackgroundFit": lambda: py4DSTEM.fit_profile_background(
        glass().radial_profiles(r_max=22), [[2, 8], [19, 22]]
    ),
    "BlochWaves": lambda: py4DSTEM.Crystal.common("Al").bloch_waves(
        zone_axis=[0, 1, 1], energy_eV=1e5, thickness_A=[40, 90], k_max_A=0.9
    ),
    "BraggPeaks": peaks,
    "CepstralPlaces": lambda: py4DSTEM.run(CepstralPeaks.examples()[0], crystal().cube),
    "CommonSpots": lambda: grainy()[1].common_spots(min_positions=5),
    "CrystallinityMap": lambda: grainy()[0].crystallinity(),
    "ClassAgreement": lambda: py4DSTEM.compare_classes(
        classes(), np.add.outer(np.zeros(5, int), np.arange(6) // 3)
    ),
    "ClassNumbers": lambda: py4DSTEM.suggest_classes(class_features(), (2, 4)),
    "Classes": classes,
    "DPCResult": lambda: simulate.phase_object((8, 9), seed=1).cube.dpc(rotation_rad=0.3),
    "EllipseMeasurement": lambda: py4DSTEM.measure_ellipse(gold().pattern),
    "FEMComparison": lambda: py4DSTEM.fem_significance(fem(), fem(), (10, 20), samples=20),
    "FEMResult": fem,
    "FlowLines": lambda: py4DSTEM.flow_lines(fibres()),
    "Grains": lambda: py4DSTEM.segment_grains(grainy()[1].classify_bragg()),
    "Features": class_features,
    "HotPixels": lambda: crystal().cube.detect_hot_pixels(),
    "LatticeFit": lattice,
    "OpticsSearch": optics,
    "OrientationResult": fibres,
    "OriginFit": lambda: peaks().measure_origin().fit("plane"),
    "OriginMeasurement": lambda: peaks().measure_origin(),
    "DirectResult": lambda: simulate.phase_object((12, 14), step_A=0.5, dose=None, seed=3).cube.ssb(
        aberrations={"defocus": 100.0, "C12": 9.0, "phi12": 0.4}
    ),
    "ParallaxResult": lambda: simulate.phase_object(
        (24, 22), defocus_A=200, dose=None, seed=3
    ).cube.parallax(),
    "PDFResult": lambda: py4DSTEM.pair_distribution(cu_glass(), "Cu", noise="positions"),
    "PolarCube": lambda: glass().polar_transform(n_phi=24),
    "PolarPattern": lambda: glass().polar_transform(n_phi=24).pattern(1, 2),
    "PixelSizeMeasurement": lambda: py4DSTEM.measure_pixel_size(gold().pattern, "Au"),
    "PhaseMap": lambda: py4DSTEM.match_phases(
        grainy()[1], ["Au", "Si"], amorphous=False, step_deg=5, options=ONE
    ),
    "PowderPattern": lambda: py4DSTEM.Crystal.common("TiO2").powder_pattern(
        energy_eV=2e5, k_max_A=0.7, k_step_A=0.005
    ),
    "Preview": lambda: crystal().cube.preview_bragg_disks(crystal().truth.probe),
    "RingFitMap": lambda: glass().fit_rings(8, 22),
    "RingStatistics": lambda: glass().azimuthal_statistics(median=True),
    "Probe": lambda: py4DSTEM.synthetic_probe((64, 64), 3.0, 0.6),
    "PtychographyJudgement": lambda: ptychography().judge(),
    "PtychographyResult": lambda: ptychography(),
    "PtychographyTuning": tuning,
    "QualityEntry": lambda: crystal().cube.quality().entries[0],
    "QualityReport": lambda: crystal().cube.quality(),
    "RadialProfileResult": lambda: glass().radial_profiles(),
    "RingCorrelation": lambda: py4DSTEM.fourier_ring_correlation(
        *np.random.default_rng(1).random((2, 24, 30)), 0.5
    ),
    "RingFitResult": ring_fits,
    "RotationMeasurement": lambda: simulate.phase_object((12, 12), seed=1).cube.measure_rotation(),
    "OrientationMap": halves,
    "OrientationGrains": lambda: py4DSTEM.segment_orientations(halves()),
    "Texture": lambda: py4DSTEM.measure_texture(halves(), poles=((1, 0, 0),)),
    "SpeckleStatistics": lambda: glass().speckle_statistics(10, 20),
    "SpotPattern": lambda: py4DSTEM.Crystal.common("Mg").diffraction_pattern(
        zone_axis=[1, 0, 2], energy_eV=3e5
    ),
    "StrainComparison": comparison,
    "StrainDifference": lambda: comparison().differences[0],
    "StrainMap": lambda: py4DSTEM.strain_map(lattice()),
    "SymmetryResult": lambda: glass().symmetry((8, 20)),
}
"""Name of the type → what makes an example."""
