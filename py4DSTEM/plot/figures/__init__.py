"""Figures of results: one module per family, imported when the first of its figures is drawn."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["FIGURES", "figure_maker"]

FIGURES = {
    "process.amorphous.pdf_result:PDFResult": "pdf:show_pair_distribution",
    "process.beam:Beam": "first_look:show_beam",
    "process.classes.agreement:ClassAgreement": "classes:show_class_agreement",
    "process.classes.features:Features": "classes:show_features",
    "process.classes.result:Classes": "classes:show_classes",
    "process.classes.suggest:ClassNumbers": "classes:show_class_numbers",
    "process.clean:HotPixels": "first_look:show_hot_pixels",
    "process.quality:QualityEntry": "first_look:show_quality_entry",
    "process.quality:QualityReport": "first_look:show_quality",
    "process.polar.background:BackgroundFit": "pdf:show_profile_background",
    "process.radial:RadialProfileResult": "profiles:show_profiles",
    "process.probe:Probe": "probe:show_probe",
    "process.bragg.peaks:BraggPeaks": "peaks:show_bragg_peaks",
    "process.bragg.preview:Preview": "preview:show_preview",
    "process.bragg.basis:Basis": "lattice:show_basis",
    "process.bragg.lattice:LatticeFit": "lattice:show_lattice",
    "process.calibrate.origin_fit:OriginMeasurement": "origin:show_origin",
    "process.calibrate.origin_fit:OriginFit": "origin:show_origin_fit",
    "process.calibrate.ellipse:EllipseMeasurement": "rings:show_ellipse",
    "process.calibrate.pixel_size:PixelSizeMeasurement": "rings:show_pixel_size",
    "process.calibrate.rotation:RotationMeasurement": "rotation:show_rotation",
    "process.classes.crystallinity:CrystallinityMap": "grains:show_crystallinity",
    "process.classes.grains:Grains": "grains:show_grains",
    "process.classes.spots:CommonSpots": "grains:show_common_spots",
    "process.cepstrum:CepstralPlaces": "fits:show_cepstral_places",
    "process.ring_strain:RingFitResult": "fits:show_ring_fits",
    "process.amorphous.fem_compare:FEMComparison": "fem:show_fem_comparison",
    "process.amorphous.fem_result:FEMResult": "fem:show_fem",
    "process.amorphous.flow:FlowLines": "symmetry:show_flow_lines",
    "process.amorphous.orient:OrientationResult": "symmetry:show_orientation",
    "process.amorphous.speckle:SpeckleStatistics": "fem:show_speckles",
    "process.amorphous.symmetry:AngularCorrelationResult": "symmetry:show_angular_correlation",
    "process.amorphous.symmetry:SymmetryResult": "symmetry:show_symmetry",
    "process.phase.direct:DirectResult": "direct:show_direct_ptychography",
    "process.phase.dpc:DPCResult": "dpc:show_dpc",
    "process.phase.frc:RingCorrelation": "frc:show_ring_correlation",
    "process.phase.parallax:ParallaxResult": "parallax:show_parallax",
    "process.phase.ptychography.judge:PtychographyJudgement": "ptychography:show_judgement",
    "process.phase.ptychography.result:PtychographyResult": "ptychography:show_ptychography",
    "process.phase.ptychography.search:OpticsSearch": "ptychography:show_optics_search",
    "process.phase.ptychography.tune:PtychographyTuning": "ptychography:show_tuning",
    "process.polar.transform:PolarCube": "polar:show_polar_cube",
    "process.polar.transform:PolarPattern": "polar:show_polar",
    "process.polar.statistics:RingStatistics": "polar:show_ring_statistics",
    "process.polar.rings:RingFitMap": "polar:show_ring_fits",
    "process.crystal.bloch:BlochWaves": "spots:show_bloch_waves",
    "process.crystal.powder:PowderPattern": "spots:show_powder_pattern",
    "process.crystal.spots:SpotPattern": "spots:show_spot_pattern",
    "process.crystal.grains:OrientationGrains": "orientations:show_orientation_grains",
    "process.crystal.phase_result:PhaseMap": "phase_maps:show_phases",
    "process.crystal.result:OrientationMap": "orientations:show_orientations",
    "process.crystal.texture:Texture": "texture:show_texture",
    "process.strain:StrainMap": "strain:show_strain",
    "process.strain_comparison:StrainComparison": "strain:show_strain_comparison",
    "process.strain_comparison:StrainDifference": "strain:show_strain_difference",
}
"""Type of a result (below ``py4DSTEM``) → what draws it (below this package).

By name, so that drawing one type imports neither the science nor the figures of the others.
"""


def figure_maker(obj: object) -> Callable[..., Figure] | None:
    """The function that draws an object of this type; None where it has no figure of its own."""
    for cls in type(obj).__mro__:
        name = f"{cls.__module__}:{cls.__qualname__}".removeprefix("py4DSTEM.")
        if name in FIGURES:
            module, _, function = FIGURES[name].partition(":")
            found: Callable[..., Figure] = getattr(import_module(f"{__name__}.{module}"), function)
            return found
    return None
