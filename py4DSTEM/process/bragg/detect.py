"""Find the Bragg disks of every pattern."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, PlainSerializer, PlainValidator

from py4DSTEM.core.calibration import Ellipse
from py4DSTEM.core.cube import Cube
from py4DSTEM.core.detector import AnyDetector, Detector, Mask
from py4DSTEM.core.history import History
from py4DSTEM.errors import ParameterError
from py4DSTEM.kernels.api import DISK_REJECTIONS
from py4DSTEM.process.bragg.peaks import PEAK_DTYPE, BraggPeaks
from py4DSTEM.process.bragg.search import Search, plan_search
from py4DSTEM.process.bragg.spot import Spot
from py4DSTEM.process.probe import Probe, as_probe, synthetic_probe
from py4DSTEM.process.probe_kernels import KernelKind
from py4DSTEM.stream.engine import run
from py4DSTEM.stream.operation import Operation, Output, Parts, Ragged, Reduced
from py4DSTEM.stream.options import RunOptions

if TYPE_CHECKING:
    from py4DSTEM.kernels.api import Kernels
    from py4DSTEM.stream.tile import Tile

__all__ = ["FindBraggDisks", "find_bragg_disks"]

Float = NDArray[np.float64]
Subpixel = Literal["fit", "dft", "parabola", "pixel"]


def _known_probe(value: Any) -> Probe | Spot | None:
    if isinstance(value, Mapping):
        return _from_facts(value)
    return value if value is None or isinstance(value, Spot) else as_probe(value)


def _from_facts(facts: Mapping[str, Any]) -> Probe | Spot:
    """The probe of a history: all of it that a search uses, unless it was patterned."""
    if "sigma_px" in facts:
        return Spot(facts["sigma_px"])
    if facts.get("patterned"):
        raise ParameterError("a history does not hold the image of a patterned probe: give it")
    if missing := {"Q_shape", "radius_px", "edge_px", "rim"} - facts.keys():
        raise ParameterError(f"a probe given by its facts needs {', '.join(sorted(missing))} too")
    x, y = facts["Q_shape"]
    plain = synthetic_probe((x, y), facts["radius_px"], facts["edge_px"])
    return replace(plain, rim=Ellipse(*facts["rim"]))


def _probe_facts(probe: Probe | Spot | None) -> dict[str, Any] | None:
    """What the history keeps of a probe: its measured shape."""
    if probe is None:
        return None
    if isinstance(probe, Spot):
        return {"sigma_px": probe.sigma_px}
    rim = probe.rim
    return {
        "radius_px": probe.radius_px,
        "edge_px": probe.edge_px,
        "rim": [rim.a, rim.b, rim.theta_rad],
        "patterned": probe.patterned,
        "Q_shape": list(probe.Q_shape),
    }


ProbeParameter = Annotated[Any, PlainValidator(_known_probe), PlainSerializer(_probe_facts)]


class FindBraggDisks(Operation, kind="find-bragg-disks", version=1):
    """Bragg disks of every pattern: position, intensity, uncertainties.

    Correlation with the probe, local maxima, refinement of each disk.

    Notes
    -----
    *Detection.*  Patterns, as √(n + 3/8) so that noise is the same everywhere [1]_, are correlated
    with the probe less a ring around it; local maxima of the smoothed correlation that stand above
    its noise are candidates.

    *Refinement* (``subpixel="fit"``) uses the counts themselves.  The pixels around a candidate are
    modelled as ``λ = A T(p − c)(1 + s·(p − c)) + B``, T the probe, and fitted by maximum likelihood
    for Poisson counts (Fisher scoring).  The inverse Fisher information gives the sigmas: the
    Cramér–Rao bound is reached within a few per cent.  The slope s takes up the uneven filling of
    disks by excitation error, which draws the centre of mass; its prior is as wide as the sampled
    disks say.

    Without fit the correlation itself tells the position, without uncertainty: ``"dft"`` is the
    limit of upsampling by a local Fourier transform [2]_, of the unsmoothed correlation with the
    bare disk (smoothing, and the noise at the edges of a ring, would cost precision).  Only the fit
    tells a weak disk from noise: without it maxima must stand higher above noise.

    References
    ----------
    .. [1] Anscombe, Biometrika 35, 246 (1948), doi:10.1093/biomet/35.3-4.246
    .. [2] Pekin, Gammer, Ciston, Minor, Ophus, Ultramicroscopy 176, 170 (2017),
       doi:10.1016/j.ultramic.2016.12.021
    """

    probe: ProbeParameter = Field(
        None,
        description="Probe, or a file with one or with a vacuum pattern; none: measured here.",
        json_schema_extra={"accepts": ["Probe", "DiffractionSlice"]},
    )
    subpixel: Subpixel = Field(
        "fit",
        description="fit: maximum likelihood, with uncertainties; dft: maximum of the band-limited "
        "correlation; parabola; pixel.",
    )
    kernel: KernelKind = Field("auto", description="What patterns are correlated with.")
    corr_power: float = Field(
        1.0, ge=0, le=1, description="1 cross, 0 phase, between: hybrid correlation."
    )
    stabilise: bool = Field(
        True, description="Correlate the square root of the counts: the same noise everywhere."
    )
    sigma_cc_px: float | None = Field(
        None, ge=0, description="Gaussian smoothing of the correlation (px); none: automatic."
    )
    min_significance: float = Field(
        5.0, ge=0, description="Least intensity over its uncertainty (subpixel fit)."
    )
    min_intensity: float = Field(
        0.0, ge=0, description="Least intensity: counts (subpixel fit) or height of correlation."
    )
    min_relative_intensity: float = Field(
        0.0, ge=0, le=1, description="Least intensity relative to the disk `relative_to`."
    )
    relative_to: int = Field(0, ge=0, description="Rank of that disk: 0 is the brightest.")
    min_spacing_px: float | None = Field(
        None, ge=0, description="Least distance of two disks (px); none: automatic."
    )
    spacing_px: float | None = Field(
        None,
        gt=0,
        description="Distance of neighbouring lattice points (px), for the width of the kernel and "
        "of the fit; none: automatic.",
    )
    edge_px: float | None = Field(
        None, ge=0, description="Centres nearer to the border (px) are left out; none: automatic."
    )
    max_peaks: int = Field(100, ge=1, le=1000, description="Most disks per pattern.")
    threshold: float | None = Field(
        None, description="Least height of a maximum of the correlation; none: from the noise."
    )
    slope: Literal["auto"] | Annotated[float, Field(ge=0, le=1.5)] = Field(
        "auto",
        description="How uneven disks are expected to be: standard deviation of the relative "
        "change of intensity over a radius; 0 for even disks.",
    )
    gain: float | None = Field(
        None, gt=0, description="Counts per electron: variance over mean; none: automatic."
    )
    read_noise: float = Field(0.0, ge=0, description="Standard deviation of a dark pixel, counts.")
    saturation: float | None = Field(
        None, gt=0, description="Pixels with so many counts or more are not used."
    )
    mask: AnyDetector | None = Field(
        None, description="Pixels to use (others: a beam stop, dead regions); none: all."
    )
    leave_out_defects: bool = Field(
        True, description="Leave out pixels that are hot or dead in the sampled patterns."
    )
    samples: int = Field(
        49, ge=1, le=10_000, description="Patterns looked at to choose what is automatic."
    )

    outputs: ClassVar[Mapping[str, Output]] = {
        "peaks": Ragged(PEAK_DTYPE),
        "rejected": Reduced(np.add),
        "without": Reduced(np.add),
    }
    cites: ClassVar[tuple[str, ...]] = ("10.1016/j.ultramic.2016.12.021",)

    @classmethod
    def examples(cls) -> list[FindBraggDisks]:
        """For the checks of all operations: their little scan is too small to measure a probe."""
        probe = synthetic_probe((18, 21), 5.0)
        return [cls(probe=probe), cls(probe=probe, subpixel="dft", corr_power=0.8, gain=1.0)]

    def prepare_at(self, cube: Cube, kernels: Kernels, weights: Float | None) -> Search:
        return plan_search(cube, self, kernels, weights)

    def step(self, plan: Search, tile: Tile, kernels: Kernels) -> Parts:
        found = kernels.find_disks(tile.frames, plan.plan)
        counts, rows, wanted = found.counts, found.rows, np.ones(len(found.counts), bool)
        if tile.weights is not None:
            wanted = tile.weights > 0
            rows = rows[np.repeat(wanted, counts)]
            counts = np.where(wanted, counts, 0)
        return {
            "peaks": (peaks_of_rows(rows), counts),
            "rejected": found.rejected[wanted].sum(axis=0),
            "without": int(((counts == 0) & wanted).sum()),
        }

    def finish(self, cube: Cube, plan: Search, parts: Parts, history: History) -> BraggPeaks:
        points, offsets = parts["peaks"]
        return BraggPeaks(
            points,
            offsets,
            cube.R_shape,
            cube.calibration.replace(**plan.probe.calibration_changes()),
            history,
            Q_shape=cube.Q_shape,
            report=_report(plan, parts),
        )


def peaks_of_rows(rows: Float) -> NDArray[Any]:
    """Columns of `DISK_FIELDS` as a structured array."""
    peaks = np.empty(len(rows), PEAK_DTYPE)
    for k, name in enumerate(PEAK_DTYPE.names or ()):
        peaks[name] = rows[:, k]
    return peaks


def _report(search: Search, parts: Parts) -> dict[str, Any]:
    """What was chosen and why, and what was left out."""
    choices = {name: {"value": v, "why": why} for name, (v, why) in search.choices.items()}
    rejected = dict(zip(DISK_REJECTIONS, map(int, parts["rejected"]), strict=True))
    return {
        "chosen": choices,
        "rejected": rejected,
        "positions_without_disks": int(parts["without"]),
        "slope_prior": search.slope_prior,
        "probe_radius_px": search.probe.radius_px,
    }


def as_mask(mask: Detector | ArrayLike | None) -> Detector | None:
    """A shape as it is; an array as the pixels where it is not zero."""
    return mask if mask is None or isinstance(mask, Detector) else Mask(mask)


def find_bragg_disks(
    cube: Cube, probe: Probe | Spot | str | ArrayLike | None = None, *,
    subpixel: Subpixel = "fit", kernel: KernelKind = "auto", corr_power: float = 1.0,
    stabilise: bool = True, sigma_cc_px: float | None = None, min_significance: float = 5.0,
    min_intensity: float = 0.0, min_relative_intensity: float = 0.0, relative_to: int = 0,
    min_spacing_px: float | None = None, spacing_px: float | None = None,
    edge_px: float | None = None, max_peaks: int = 100, threshold: float | None = None,
    slope: Literal["auto"] | float = "auto", gain: float | None = None, read_noise: float = 0.0,
    saturation: float | None = None, leave_out_defects: bool = True, samples: int = 49,
    mask: Detector | ArrayLike | None = None, where: ArrayLike | None = None,
    options: RunOptions | None = None,
) -> BraggPeaks:  # fmt: skip
    """Find the Bragg disks of every pattern, with uncertainties.

    Every parameter has an automatic default; ``peaks.report["chosen"]`` tells what was chosen and
    why, and `preview_bragg_disks` shows the result on a few patterns.  The method is described at
    `py4DSTEM.process.bragg.detect.FindBraggDisks`.

    Parameters
    ----------
    cube : DataCube
    probe : Probe, path or (Qx, Qy) array, optional
        The unscattered disk; None: measured in the scan.  For spots see `find_spots`.
    subpixel : "fit", "dft", "parabola" or "pixel"
        Maximum likelihood, with uncertainties; maximum of the band-limited correlation; of a
        parabola through nine pixels; the highest pixel.
    kernel : "auto", "flat", "edge", "sigmoid" or "patterned"
        What patterns are correlated with: see `Probe.kernel`.
    corr_power : float
        1 cross, 0 phase, between: hybrid correlation.
    stabilise : bool
        Correlate the square root of the counts: the same noise everywhere.
    sigma_cc_px : float, optional
        Gaussian smoothing of the correlation, pixels.
    min_significance : float
        Least intensity over its uncertainty (fit).
    min_intensity, min_relative_intensity : float
        Least intensity (fit: counts, else height of the correlation); relative to another disk.
    relative_to : int
        Rank of that disk: 0 is the brightest.
    min_spacing_px, spacing_px : float, optional
        Least distance of two disks; distance of neighbouring lattice points (width of the kernel).
    edge_px : float, optional
        Centres nearer to the border are left out.
    max_peaks : int
        Most disks per pattern.
    threshold : float, optional
        Least height of a maximum of the correlation; None: from the noise.
    slope : "auto" or float
        Standard deviation of the relative change of intensity over a radius; 0 for even disks.
    gain, read_noise, saturation : float, optional
        The camera: counts per electron; counts of a dark pixel (standard deviation); counts from
        which on a pixel is not used.
    leave_out_defects : bool
        Leave out pixels that are hot or dead in the sampled patterns.
    samples : int
        Patterns looked at to choose what is automatic.
    mask : Detector or (Qx, Qy) bool, optional
        Pixels to use: False at a beam stop and in dead regions.
    where : (Rx, Ry) bool, optional
        Positions to search; the others have no peaks.
    options : RunOptions, optional

    Returns
    -------
    BraggPeaks
        ``peaks[rx, ry]`` is a structured array ``qx, qy, intensity, sigma_qx, sigma_qy, …`` in
        detector pixels, the brightest first.

    Raises
    ------
    ParameterError
        The probe cannot be measured in the scan, or is larger than the patterns.

    Examples
    --------
    >>> from py4DSTEM.simulate import strained_lattice
    >>> scan = strained_lattice((4, 4), (64, 64), probe_radius_px=3.0, seed=1)
    >>> peaks = find_bragg_disks(scan.cube, scan.truth.probe)
    >>> peaks.shape, bool(peaks[0, 0]["sigma_qx"][0] < 0.1)
    ((4, 4), True)
    """
    operation = FindBraggDisks(
        probe=probe, mask=as_mask(mask), subpixel=subpixel, kernel=kernel, corr_power=corr_power,
        stabilise=stabilise, sigma_cc_px=sigma_cc_px, min_significance=min_significance,
        min_intensity=min_intensity, min_relative_intensity=min_relative_intensity,
        relative_to=relative_to, min_spacing_px=min_spacing_px, spacing_px=spacing_px,
        edge_px=edge_px, max_peaks=max_peaks, threshold=threshold, slope=slope, gain=gain,
        read_noise=read_noise, saturation=saturation, leave_out_defects=leave_out_defects,
        samples=samples,
    )  # fmt: skip
    found: BraggPeaks = run(operation, cube, where=where, options=options)
    return found
