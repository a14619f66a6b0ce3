"""The probe: the unscattered disk, measured or made, and correlation kernels from it."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from py4DSTEM.core.calibration import Calibration, Ellipse
from py4DSTEM.core.cube import Cube
from py4DSTEM.core.history import History
from py4DSTEM.core.parameters import numbers
from py4DSTEM.core.slices import DiffractionSlice
from py4DSTEM.errors import ParameterError, ShapeError
from py4DSTEM.io.format import ReadOptions
from py4DSTEM.io.read import read_file
from py4DSTEM.io.store.schema import register_result
from py4DSTEM.process.diffraction import mean_pattern
from py4DSTEM.process.probe_kernels import (
    LEAST_TRENCH_PX,
    DiskKernel,
    KernelKind,
    fft_offsets,
    trench_radii,
)
from py4DSTEM.process.rim import RimFit, fit_rim, rim_radius, soft_disk
from py4DSTEM.process.vacuum import check_vacuum, steady_positions, vacuum_positions
from py4DSTEM.stream.analysis import Analysis
from py4DSTEM.stream.options import RunOptions

__all__ = ["MeasureProbe", "Probe", "as_probe", "measure_probe", "synthetic_probe"]

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]
MOST_PIXELS = 1 << 15
"""Along an edge of a pattern: more is a mistake, and would fill the memory."""
PIXEL_VARIANCE = 1 / 12
"""Variance (px²) by which the area of a pixel blurs an edge, whatever its direction."""


@dataclass(frozen=True, eq=False, repr=False)
class Probe:
    """The unscattered disk.

    Parameters
    ----------
    pattern : (Qx, Qy) float64
        What it was measured in, or a synthetic image; background removed, not below zero by more
        than noise, zero away from the disk.
    center : (float, float)
        (qx, qy) in pixels.
    radius_px : float
        Radius at half height: the geometric mean of the semi-axes of `rim`.
    edge_px : float
        Standard deviation (px) of the Gaussian that blurs the sharp edge, pixel area included:
        the disk is ``erfc((rho - radius) / (sqrt(2) edge)) / 2``.
    rim : Ellipse
        Shape of the edge; a circle has ``a == b``.
    patterned : bool
        Whether the inside is structured (a bullseye aperture): `pattern` is then the template.
    sigma_center, sigma_radius_px, sigma_edge_px : float
        One-sigma uncertainties; sigma_center along x and y.
    report : mapping
        How the measurement went: reduced χ², `misfit` of the rim, `height`, `background`, `ramp`,
        `positions` averaged and how far the beam wandered over them.
    """

    pattern: Float
    center: tuple[float, float]
    radius_px: float
    edge_px: float
    rim: Ellipse
    patterned: bool = False
    sigma_center: tuple[float, float] = (np.nan, np.nan)
    sigma_radius_px: float = np.nan
    sigma_edge_px: float = np.nan
    calibration: Calibration = field(default_factory=Calibration)
    history: History = field(default_factory=History)
    name: str = "probe"
    report: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Probe:
        """A saved probe, or the probe measured in the pattern or vacuum scan of a file.

        Raises
        ------
        FormatError
            The file cannot be read.
        ParameterError
            It holds several objects, of which not exactly one is a probe.
        """
        found = read_file(path, ReadOptions())
        if isinstance(found, Mapping):
            probes = [value for value in found.values() if isinstance(value, Probe)]
            if len(probes) != 1:
                raise ParameterError(
                    f"{os.fspath(path)!r} holds {len(probes)} probes among {sorted(found)}: read "
                    "the file and choose one"
                )
            return probes[0]
        return as_probe(found)

    @property
    def Q_shape(self) -> tuple[int, int]:
        return self.pattern.shape[0], self.pattern.shape[1]

    @property
    def data(self) -> Float:
        """`pattern`: a probe is shown like any image."""
        return self.pattern

    def __repr__(self) -> str:
        ratio = self.rim.a / self.rim.b
        oval = "" if ratio == 1 else f", a/b {ratio:.4f}"
        kind = ", patterned" if self.patterned else ""
        radius = _pm(self.radius_px, self.sigma_radius_px)
        edge = _pm(self.edge_px, self.sigma_edge_px)
        center = f"({self.center[0]:.2f}, {self.center[1]:.2f})"
        return (
            f"<Probe {self.name!r} {self.Q_shape}, radius {radius} px, edge {edge} px, "
            f"center {center}{oval}{kind}>"
        )

    def calibration_changes(self) -> dict[str, Any]:
        """What the probe tells a calibration: its radius."""
        return {"probe_radius_px": self.radius_px}

    def radius_at(self, level: float) -> float:
        """Radius (px) where the disk has fallen to `level`, the pixels' own area undone.

        ``R + s √2 erfc⁻¹(2 level) + 1/(24 R)`` with ``s² = edge² − 1/12``.

        At 0.5 this is the radius of a sharp aperture whose edge is blurred incoherently (source
        size, detector); the last term is by how much the area of a pixel moves a curved edge
        inwards.  A coherent beam that is limited in real space (a simulated window, a small
        specimen) has half the *amplitude* at its aperture: its radius is ``radius_at(0.25)``.

        >>> round(synthetic_probe((32, 32), 6.0, 0.5).radius_at(0.5), 3)
        6.007
        """
        from scipy.special import erfcinv  # slow to import

        if not 0 < level < 1:
            raise ParameterError(f"level must lie between 0 and 1, not {level!r}")
        blur = math.sqrt(max(self.edge_px**2 - PIXEL_VARIANCE, 0.0))
        outwards = math.sqrt(2) * blur * float(erfcinv(2 * level))
        return self.radius_px + outwards + PIXEL_VARIANCE / (2 * self.radius_px)

    def image(
        self, Q_shape: tuple[int, int] | None = None, center: Sequence[float] | None = None
    ) -> Float:
        """The noise-free disk, one high, (Qx, Qy) float64.

        Parameters
        ----------
        Q_shape : (int, int), optional
            None: that of the pattern.
        center : (float, float), optional
            (qx, qy) in pixels, whole or not, also outside; None: where it was measured.

        Notes
        -----
        The fitted model; for a patterned probe the measured pattern, moved by cubic interpolation
        and with a mean of one inside the rim.

        >>> round(float(synthetic_probe((16, 16), 3.0).image((9, 9), (4, 4))[4, 4]), 6)
        1.0
        """
        shape = self.Q_shape if Q_shape is None else _shape(Q_shape)
        cx, cy = self.center if center is None else center
        i, j = (np.arange(n, dtype=np.float64) for n in shape)
        return self.height_at(i[:, None] - cx, j[None, :] - cy)

    def height_at(self, x: Float, y: Float) -> Float:
        """Height at offsets (x, y) from the centre."""
        rho = rim_radius(x, y, self.rim)
        if not self.patterned:
            return soft_disk(rho, self.radius_px, self.edge_px)
        from scipy import ndimage  # slow to import

        places = np.stack(np.broadcast_arrays(x + self.center[0], y + self.center[1]))
        moved: Float = ndimage.map_coordinates(self.pattern, places, order=3) / self._level()
        return moved

    def _level(self) -> float:
        i, j = np.indices(self.Q_shape, dtype=np.float64)
        rho = rim_radius(i - self.center[0], j - self.center[1], self.rim)
        return float(self.pattern[rho < self.radius_px].mean())

    def kernel(
        self,
        kind: KernelKind = "auto",
        *,
        spacing_px: float | None = None,
        trench_px: tuple[float, float] | None = None,
        Q_shape: tuple[int, int] | None = None,
    ) -> Float:
        """What a pattern is correlated with to find disks, (Qx, Qy) float64.

        Centred on pixel (0, 0) in FFT order: ``irfft2(rfft2(pattern) * conj(rfft2(kernel)))`` has
        its maxima at the centres of the disks.

        Parameters
        ----------
        kind : str
            - ``"flat"``: the disk, sum one;
            - ``"edge"``: the disk minus a ring around it, sum zero: blind to background;
            - ``"sigmoid"``: the disk minus a wider, softer one, sum zero;
            - ``"patterned"``: the measured pattern minus its mean, sum zero;
            - ``"auto"``: patterned where the probe is, else edge where there is room, else flat.
        spacing_px : float, optional
            Least distance between centres of neighbouring disks; the trench then ends before them.
        trench_px : (float, float), optional
            Inner and outer radius of the trench instead; one that reaches neighbouring disks draws
            positions by up to 0.25 px.
        Q_shape : (int, int), optional
            Of the patterns; None: that of the probe.

        Raises
        ------
        ParameterError
            There is no room for a trench between the disks, or the probe is larger than the
            pattern.
        """
        shape = self.Q_shape if Q_shape is None else _shape(Q_shape)
        disk = DiskKernel.on(shape, self.rim, self.radius_px, self.edge_px)
        if spacing_px is not None:
            (spacing_px,) = numbers("spacing_px", spacing_px, 1)
        trench = trench_radii(self.radius_px, self.edge_px, spacing_px)
        if trench_px is not None:
            inner, outer = numbers("trench_px", trench_px, 2)
            trench = inner, outer
        roomy = trench[1] - trench[0] >= LEAST_TRENCH_PX
        if kind == "auto":
            kind = "patterned" if self.patterned else "edge" if roomy else "flat"
        if kind == "flat":
            return disk.flat()
        if kind == "patterned":
            return disk.patterned(self.height_at(*fft_offsets(shape)))
        if kind not in ("edge", "sigmoid"):
            raise ParameterError(f"no kernel {kind!r}: auto, flat, edge, sigmoid or patterned")
        if not (roomy and trench[0] > 0):
            raise ParameterError(
                f"no room for a trench from {trench[0]:.3g} to {trench[1]:.3g} px around a disk of "
                f"radius {self.radius_px:.3g} px (spacing {spacing_px}): use kind='flat'"
            )
        return disk.edge(*trench) if kind == "edge" else disk.sigmoid(*trench)


def _pm(value: float, sigma: float) -> str:
    return f"{value:.3f}" if math.isnan(sigma) else f"{value:.3f} ± {sigma:.2g}"


def _shape(Q_shape: tuple[int, int]) -> tuple[int, int]:
    try:
        shape = tuple(int(n) for n in numbers("Q_shape", Q_shape, 2))
    except ParameterError as error:
        raise ShapeError(f"{error}: (Qx, Qy)") from None
    if not 1 <= min(shape) <= max(shape) <= MOST_PIXELS:
        raise ShapeError(f"Q_shape is (Qx, Qy), from 1 to {MOST_PIXELS} pixels, not {Q_shape!r}")
    return shape[0], shape[1]


# ---- files ---------------------------------------------------------------------------------------
def _to_parts(probe: Probe) -> dict[str, Any]:
    rim = {"a": probe.rim.a, "b": probe.rim.b, "theta_rad": probe.rim.theta_rad}
    names = (
        "pattern center radius_px edge_px patterned sigma_center sigma_radius_px sigma_edge_px "
        "calibration name"
    )
    parts = {name: getattr(probe, name) for name in names.split()}
    return parts | {"rim": rim, "report": dict(probe.report), "history": probe.history.to_dict()}


def _from_parts(parts: Mapping[str, Any]) -> Probe:
    changed = {
        "center": tuple(parts["center"]),
        "sigma_center": tuple(parts["sigma_center"]),
        "rim": Ellipse(**parts["rim"]),
        "history": History.from_dict(parts["history"]),
    }
    return Probe(**{**parts, **changed})


register_result("probe", Probe, _to_parts, _from_parts)


# ---- measuring -----------------------------------------------------------------------------------
class MeasureProbe(Analysis, kind="measure-probe", version=1):
    """Centre, radius, edge and shape of the unscattered disk, in a pattern or a vacuum scan.

    ``background + height (1 + ramp) erfc((ρ − R)/(√2 edge)) / 2`` by weighted least squares.
    """

    where: Literal["auto"] | tuple[tuple[int, int], tuple[int, int]] | None = Field(
        None,
        description="Scan positions to average: a rectangle ((x0, x1), (y0, y1)); auto: the most "
        "vacuum-like ones; None: all.",
    )

    accepts = (Cube, DiffractionSlice)

    def apply(self, value: Any, options: RunOptions | None = None) -> Probe:
        self.check(value)
        history = self.history(value.history)
        if isinstance(value, DiffractionSlice):
            if self.where is not None:
                raise ParameterError("where= chooses scan positions: a single pattern has none")
            return _probe(value.data, fit_rim(value.data), value.calibration, history)
        return _in_scan(value, self._positions(value, options), self.where, history, options)

    def _positions(self, cube: Cube, options: RunOptions | None) -> Bool:
        if self.where == "auto":
            return vacuum_positions(cube, options)
        chosen = np.zeros(cube.R_shape, bool)
        (x0, x1), (y0, y1) = self.where or ((0, cube.R_shape[0]), (0, cube.R_shape[1]))
        chosen[x0:x1, y0:y1] = True
        return chosen


def measure_probe(
    source: ArrayLike | DiffractionSlice | Cube,
    where: ArrayLike | str | None = None,
    *,
    options: RunOptions | None = None,
) -> Probe:
    """Measure the unscattered disk, with uncertainties.

    Parameters
    ----------
    source : (Qx, Qy) array, DiffractionSlice or DataCube
        A pattern; a vacuum scan; or a scan of a specimen with vacuum somewhere.  NaN pixels are
        left out.
    where : (Rx, Ry) bool, ((x0, x1), (y0, y1)) or "auto", optional
        Scan positions to average, as a mask or a rectangle; ``"auto"``: those with the largest
        share of their electrons in the direct beam.  None: all.
    options : RunOptions, optional

    Returns
    -------
    Probe
        ``.center``, ``.radius_px``, ``.edge_px``, ``.rim`` with sigmas, ``.kernel(...)``.

    Raises
    ------
    ParameterError
        No intensity, no finite pixel, no rim within the detector, too few electrons, saturation
        that hides the disk; with ``where="auto"``, a scan without vacuum.
    ShapeError
        `source` is neither a pattern nor a scan.
    SolveError
        The fit met numbers that are not finite.

    Notes
    -----
    The model is ``I = B + A (1 + s·p/R) erfc((ρ − R) / (√2 σ)) / 2`` at pixel centres, ρ the radius
    in the metric of an elliptic rim: a circle where the ellipse is not significant (3 sigma).  The
    slope s takes up uneven illumination.  Weights are those of counting noise plus what the rim
    itself shows beyond it; sigmas are from the covariance times the reduced χ².  Isolated hot or
    dead pixels, neighbouring disks and saturated pixels do not count.

    *Radius.*  A sharp disk that pixels integrate is not a Gaussian edge, but has the same first and
    second moments across it, so that R is its half-height radius and σ² contains 1/12 px² from the
    pixels.  Any blur by σ moves a curved edge inwards, by σ²/(2R); `Probe.radius_at` undoes it for
    the pixels and gives the radius of coherently limited apertures.

    *Scans.*  Where the origin wanders by more than noise, positions near its median are averaged,
    and what wander is left in them is subtracted from the variance of the edge.

    Examples
    --------
    >>> from py4DSTEM.simulate import vacuum_probe
    >>> probe = measure_probe(vacuum_probe((64, 64), 6.0, center=(31.2, 30.7)))
    >>> [round(v, 1) for v in (*probe.center, probe.radius_px)]
    [31.2, 30.7, 6.0]
    """
    value = source if isinstance(source, DiffractionSlice | Cube) else _as_slice(source)
    if where is None or isinstance(where, str) or _is_rectangle(where):
        return MeasureProbe(where=where).apply(value, options)
    if not isinstance(value, Cube):
        raise ParameterError("where= chooses scan positions: a single pattern has none")
    chosen = np.asarray(where)
    if chosen.shape != value.R_shape:
        raise ShapeError(f"where has shape {chosen.shape}, the scan {value.R_shape}")
    if chosen.dtype != bool or not chosen.any():
        raise ParameterError("where must be bool and select at least one scan position")
    given = {"positions": int(chosen.sum()), "of": int(chosen.size)}
    history = value.history.then(MeasureProbe.kind, {"where": given}, MeasureProbe.version)
    return _in_scan(value, chosen, given, history, options)


def _is_rectangle(where: ArrayLike) -> bool:
    """Whether these are ends of rows and columns; a mask holds bools."""
    ends = np.asarray(where)
    return ends.shape == (2, 2) and ends.dtype.kind in "iu"


def _as_slice(source: ArrayLike) -> DiffractionSlice:
    array = np.asarray(source)
    if isinstance(source, np.ma.MaskedArray):
        array = np.where(np.ma.getmaskarray(source), np.nan, array)
    if array.ndim != 2:
        raise ShapeError(
            f"an array of shape {array.shape} is not one pattern (Qx, Qy): for a scan use "
            "DataCube(array)"
        )
    return DiffractionSlice(array, name="pattern")


def _in_scan(
    cube: Cube, chosen: Bool, where: object, history: History, options: RunOptions | None
) -> Probe:
    """The probe in the mean of chosen positions, as far as the beam stands still there."""
    if not chosen.any():
        raise ParameterError(f"where={where!r} selects no position of a scan of {cube.R_shape}")
    mean = _finite(mean_pattern(cube, where=chosen, options=options).data)
    steady = steady_positions(cube, chosen, mean, options)
    if not np.array_equal(steady.where, chosen):
        mean = mean_pattern(cube, where=steady.where, options=options).data
    count = int(steady.where.sum())
    counting = np.dtype(cube.dtype).kind in "bui"
    fit = fit_rim(mean, gain=1 / count if counting else None)
    if where == "auto":
        check_vacuum(mean, fit)
    report = {
        "positions": count,
        "positions_asked": int(chosen.sum()),
        "wander_px": steady.wander_px,
        "wander_left_px": math.sqrt(steady.variance_px2),
    }
    return _probe(mean, fit, cube.calibration, history, steady.variance_px2, report)


def _finite(mean: Float) -> Float:
    if not np.isfinite(mean).any():
        raise ParameterError("no pixel of the chosen positions is finite: choose others")
    return mean


def _probe(
    pattern: NDArray[Any],
    fit: RimFit,
    calibration: Calibration,
    history: History,
    wander_px2: float = 0.0,
    report: Mapping[str, Any] | None = None,
) -> Probe:
    # The pixels alone leave their 1/12: more than that cannot have been wander.
    edge = math.sqrt(max(fit.edge_px**2 - wander_px2, min(PIXEL_VARIANCE, fit.edge_px**2)))
    quality = {
        name: getattr(fit, name) for name in ("chi2", "misfit", "height", "background", "ramp")
    }
    return Probe(
        pattern=np.where(fit.used, pattern - fit.background, 0.0),
        center=fit.center,
        radius_px=fit.radius_px,
        edge_px=edge,
        rim=fit.rim,
        patterned=fit.patterned,
        sigma_center=fit.sigma_center,
        sigma_radius_px=fit.sigma_radius_px,
        sigma_edge_px=fit.sigma_edge_px * fit.edge_px / edge,
        calibration=calibration,
        history=history,
        report=quality | dict(report or {}),
    )


def as_probe(value: Probe | str | os.PathLike[str] | ArrayLike | DiffractionSlice | Cube) -> Probe:
    """A probe from whatever describes one: itself, a file, a pattern or a vacuum scan.

    >>> as_probe(synthetic_probe((32, 32), 5.0)).radius_px
    5.0
    """
    if isinstance(value, Probe):
        return value
    if isinstance(value, str | os.PathLike):
        return Probe.from_file(value)
    return measure_probe(value)


def synthetic_probe(
    Q_shape: tuple[int, int],
    radius_px: float,
    edge_px: float = 0.5,
    *,
    center: Sequence[float] | None = None,
    rim: Ellipse | None = None,
) -> Probe:
    """A probe made from numbers.

    Parameters
    ----------
    Q_shape : (int, int)
    radius_px : float
        Radius at half height, pixels.
    edge_px : float
        Standard deviation of the blur of the edge, pixels; the area of the pixels alone makes 0.29.
    center : (float, float), optional
        (qx, qy) in pixels; None: the middle of the detector.
    rim : Ellipse, optional
        Shape of the edge, scaled to `radius_px`; None: a circle.

    Returns
    -------
    Probe
        Its pattern is the noise-free disk, one high; nothing has an uncertainty.

    Raises
    ------
    ParameterError
        Radius or edge are not positive and finite, or the disk is larger than the pattern.
    ShapeError
        `Q_shape` is not two positive integers.

    Examples
    --------
    >>> probe = synthetic_probe((32, 32), 6.0)
    >>> probe.center, round(float(probe.pattern.sum()), 1)
    ((15.5, 15.5), 113.9)
    """
    shape = _shape(Q_shape)
    (radius_px,), (edge_px,) = numbers("radius_px", radius_px, 1), numbers("edge_px", edge_px, 1)
    for name, value in (("radius_px", radius_px), ("edge_px", edge_px)):
        if value <= 0:
            raise ParameterError(f"{name} must be positive and finite, not {value!r}")
    if 2 * radius_px > min(shape):
        raise ParameterError(f"a disk of radius {radius_px} px is larger than patterns of {shape}")
    middle = [(n - 1) / 2 for n in shape]
    cx, cy = numbers("center", middle if center is None else center, 2)
    if not (-0.5 < cx < shape[0] - 0.5 and -0.5 < cy < shape[1] - 0.5):
        raise ParameterError(f"the center {center} lies outside patterns of {shape}")
    if not (rim is None or isinstance(rim, Ellipse)):
        raise ParameterError(f"rim is an Ellipse(a, b, theta_rad), not {rim!r}")
    ratio, angle = (1.0, 0.0) if rim is None else (math.sqrt(rim.a / rim.b), rim.theta_rad)
    scaled = Ellipse(radius_px * ratio, radius_px / ratio, angle)
    parameters = {"Q_shape": list(shape), "radius_px": radius_px, "edge_px": edge_px}
    history = History().then("synthetic_probe", parameters)
    blank = Probe(np.zeros(shape), (cx, cy), float(radius_px), float(edge_px), scaled)
    return replace(blank, pattern=blank.image(), history=history)
