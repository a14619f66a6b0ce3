"""Numerical primitives on bare arrays: frames in, numbers out.

`compiled` gives the fast set, `reference` the slow and obvious one that defines it. numba is
imported when the compiled set is first asked for.
"""

from __future__ import annotations

from functools import cache

from .api import Kernels, LatticeFits, Measured, RadialSums, ThresholdCounts, bin_dtype

__all__ = [
    "Kernels",
    "LatticeFits",
    "Measured",
    "RadialSums",
    "ThresholdCounts",
    "bin_dtype",
    "compiled",
    "reference",
]


@cache
def compiled() -> Kernels:
    """The numba kernels; each compiles on first use and is kept in a cache on disk."""
    from .binning import bin_frames
    from .brackets import bucket_counts, key_range
    from .clean import apply_dark_gain, repair_pixels, subtract_radial_background, threshold_counts
    from .com import center_of_mass
    from .detectors import compile_detectors
    from .disks import find_disks
    from .lattice import fit_lattices
    from .live import add_weighted, row_prefix, turn_frames
    from .measure import measure
    from .order import histogram_digit, ordered_uint
    from .overlap import gather_pixels, overlap_sums
    from .polar import (
        polar_means,
        polar_plan,
        polar_plans,
        polar_sums,
        ring_medians,
        ring_moments,
    )
    from .radial import radial_plan, radial_sums, radial_sums_centered
    from .shifted import shifted_sums

    return Kernels(
        compile_detectors=compile_detectors,
        measure=measure,
        center_of_mass=center_of_mass,
        shifted_sums=shifted_sums,
        radial_plan=radial_plan,
        radial_sums=radial_sums,
        radial_sums_centered=radial_sums_centered,
        polar_plan=polar_plan,
        polar_plans=polar_plans,
        polar_sums=polar_sums,
        polar_means=polar_means,
        ring_moments=ring_moments,
        ring_medians=ring_medians,
        bin_frames=bin_frames,
        ordered_uint=ordered_uint,
        histogram_digit=histogram_digit,
        key_range=key_range,
        bucket_counts=bucket_counts,
        repair_pixels=repair_pixels,
        apply_dark_gain=apply_dark_gain,
        threshold_counts=threshold_counts,
        subtract_radial_background=subtract_radial_background,
        fit_lattices=fit_lattices,
        find_disks=find_disks,
        turn_frames=turn_frames,
        add_weighted=add_weighted,
        row_prefix=row_prefix,
        gather_pixels=gather_pixels,
        overlap_sums=overlap_sums,
    )


@cache
def reference() -> Kernels:
    """The numpy twins: slow, plain, and the definition of what the compiled kernels do."""
    from . import twins

    return Kernels(**{name: getattr(twins, name) for name in Kernels.__dataclass_fields__})
