"""What a reconstruction gives."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from py4DSTEM.core.aberrations import Aberrations
from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.history import History
from py4DSTEM.core.slices import RealSlice
from py4DSTEM.io.store.schema import register_result
from py4DSTEM.process.phase.optics import Optics
from py4DSTEM.process.phase.ptychography.geometry import affine_part
from py4DSTEM.solve.driver import Status

if TYPE_CHECKING:
    from py4DSTEM.process.phase.ptychography.judge import PtychographyJudgement

__all__ = ["PtychographyResult"]

Float = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PtychographyResult:
    """Object and probe that explain the patterns of a scan.

    Parameters
    ----------
    object : (slices, rows, columns) complex64
        Transmission of each slice, from the entrance on, in detector axes; its phase is positive
        where the projected potential is.
    probe : (modes, n0, n1) complex64
        At the entrance, in detector axes, centred on pixel (n0 // 2, n1 // 2), strongest mode
        first; ``Σ |F ψ|²`` in counts.
    positions_px : (Rx, Ry, 2) float64
        Middle of the probe, in pixels of the object.
    errors : tuple of float
        ``Σ (√I_measured − √I)² / Σ I_measured`` before every iteration.
    expected_error : float
        What counting noise alone gives, where counts are electrons.
    status : "converged", "iterations", "diverged" or "cancelled"
    reason : str
        Why the iteration ended.
    aberrations : Aberrations
        That the probe was started with.
    slice_thickness_A : float
        From one slice to the next; 0 for a single one.
    position_errors : (Rx, Ry) float64
        Error of each pattern as in `errors`, of its own counts, at the end.
    optics : Optics
    calibration : Calibration
        Of the scan, with the rotation and flip that were used.
    history : History
    notes : tuple of str
        What the caller should know of the input: patterns that were left out, a start that the
        data do not decide.
    tilt_rad : (float, float)
        Columns run along ``(tilt_x, tilt_y, 1)``, scan axes.
    tilt_sigma_rad : (float, float)
        0 where the tilt was not sought; of identical slices that of counting noise alone.
    """

    object: NDArray[np.complex64]
    probe: NDArray[np.complex64]
    positions_px: Float
    errors: tuple[float, ...]
    expected_error: float
    status: Status
    reason: str
    aberrations: Aberrations
    slice_thickness_A: float
    position_errors: Float
    optics: Optics
    calibration: Calibration
    history: History
    notes: tuple[str, ...] = ()
    tilt_rad: tuple[float, float] = (0.0, 0.0)
    tilt_sigma_rad: tuple[float, float] = (0.0, 0.0)

    @property
    def name(self) -> str:
        return "ptychography"

    @property
    def sampling_A(self) -> tuple[float, float]:
        """Pixel of object and probe."""
        return self.optics.sampling_A

    @property
    def mode_shares(self) -> Float:
        """Share of the power in each probe mode."""
        power: Float = (np.abs(self.probe.astype(np.complex128)) ** 2).sum(axis=(1, 2))
        shares: Float = power / power.sum()
        return shares

    @property
    def phase_detector_axes(self) -> Float:
        """Phase of all slices together, in detector axes, (rows, columns), rad.

        Each slice counts from the mean phase where the beam was, so that none wraps needlessly.
        """
        phase = np.zeros(self.object.shape[1:])
        seen = self.seen()
        for one in self.object:
            middle = np.angle(one[seen].sum()) if seen.any() else 0.0
            phase += np.angle(one * np.exp(-1j * middle))
        return phase

    @property
    def phase(self) -> RealSlice:
        """Phase of all slices together over the scanned area, in scan axes, rad.

        Its pixel is the smaller one of `sampling_A`; values between pixels of the object are
        interpolated (cubic).
        """
        return self.in_scan_axes(self.phase_detector_axes, "ptychographic phase", "rad")

    @property
    def slice_phases(self) -> tuple[RealSlice, ...]:
        """Phase of each slice over the scanned area, in scan axes."""
        return tuple(
            replace(self, object=self.object[k : k + 1]).phase for k in range(len(self.object))
        )

    def in_scan_axes(self, image: Float, name: str, units: str) -> RealSlice:
        """An image on the grid of the object, turned and cut to the scanned area."""
        step = min(self.sampling_A)
        Rx, Ry = self.positions_px.shape[:2]
        extent = (np.array([Rx, Ry]) - 1) * np.array(self.optics.R_steps_A)
        counts = np.floor(extent / step).astype(int) + 1
        grid = np.moveaxis(np.indices(counts), 0, -1) * step - extent / 2
        middle = self.positions_px.reshape(-1, 2).mean(axis=0)
        at = grid @ self.optics.to_detector().T / np.array(self.sampling_A) + middle
        values = ndimage.map_coordinates(image, np.moveaxis(at, -1, 0), order=3, mode="nearest")
        calibration = Calibration().replace(R_pixel_size=step, R_pixel_units="A")
        return RealSlice(values, calibration, self.history, name, units=units)

    def seen(self) -> NDArray[np.bool_]:
        """Pixels of the object between the outermost positions, (rows, columns)."""
        first = np.floor(self.positions_px.min(axis=(0, 1))).astype(int)
        last = np.ceil(self.positions_px.max(axis=(0, 1))).astype(int) + 1
        seen = np.zeros(self.object.shape[1:], bool)
        seen[first[0] : last[0], first[1] : last[1]] = True
        return seen

    @property
    def amplitude(self) -> RealSlice:
        """Modulus of the transmission of all slices together, in scan axes."""
        modulus = np.prod(np.abs(self.object.astype(np.complex128)), axis=0)
        return self.in_scan_axes(modulus, "ptychographic amplitude", "")

    @property
    def rotation_deg(self) -> float:
        return math.degrees(self.optics.rotation_rad)

    @property
    def scan_matrix(self) -> Float:
        """From the regular scan to the positions, both in scan axes, (2, 2): 1 where none moved.

        Rotation is that of `optics`, so that what is left is scale and stretch.
        """
        Rx, Ry = self.positions_px.shape[:2]
        there = self.positions_px.reshape(-1, 2) * np.array(self.sampling_A)
        matrix = affine_part(self.optics.positions_A((Rx, Ry)).reshape(-1, 2), there)
        turn = self.optics.to_detector()
        in_scan_axes: Float = turn.T @ matrix @ turn
        return in_scan_axes

    @property
    def scan_scale(self) -> float:
        """Scan step that the positions have, over that of the calibration."""
        return math.sqrt(abs(float(np.linalg.det(self.scan_matrix))))

    @property
    def scan_stretch(self) -> tuple[float, float]:
        """By how much the scan is longer in one direction than across it, and that direction.

        A share, and an angle in rad from x towards y, in scan axes.
        """
        left, lengths, _ = np.linalg.svd(self.scan_matrix)
        along = left[:, 0]
        return float(lengths[0] / lengths[1] - 1), math.atan2(along[1], along[0]) % math.pi

    @property
    def error_ratio(self) -> float:
        """Last error over what counting noise alone gives: near 1 where all is explained."""
        return self.errors[-1] / self.expected_error if self.errors else math.nan

    def calibration_changes(self) -> dict[str, Any]:
        """What it tells a calibration: rotation and flip."""
        return {"rotation_rad": self.optics.rotation_rad, "flip": self.optics.flip}

    def judge(self) -> PtychographyJudgement:
        """Whether to believe it, from the result alone; `judge_ptychography` also asks the data."""
        from py4DSTEM.process.phase.ptychography.judge import judge_ptychography

        return judge_ptychography(self)

    def text(self) -> str:
        """A few lines for a report."""
        slices, modes = len(self.object), len(self.probe)
        many = self._slices_text() if slices > 1 else "one slice"
        shares = ", ".join(f"{share:.1%}" for share in self.mode_shares)
        x, y = self.sampling_A
        pixel = f"{x:.3g} Å" if math.isclose(x, y) else f"{x:.3g} x {y:.3g} Å"
        return "\n".join(
            [
                f"{many}, {modes} probe mode(s) ({shares}), pixel {pixel}",
                f"rotation {self.rotation_deg:.2f}°, flip {self.optics.flip}; started from a "
                f"defocus of {self.aberrations.defocus_A:.4g} Å",
                *self._moved_text(),
                f"{len(self.errors)} iterations ({self.status}: {self.reason})",
                *(f"NOTE: {note}" for note in self.notes),
                *self.judge().text().splitlines(),
            ]
        )

    def _moved_text(self) -> list[str]:
        """What the positions say of the scan, where they say anything."""
        stretch, angle = self.scan_stretch
        if max(abs(self.scan_scale - 1), stretch) < 1e-4:
            return []
        return [
            f"scan step {self.scan_scale - 1:+.2%}, stretched by {stretch:.2%} along "
            f"{math.degrees(angle):.0f}°"
        ]

    def _slices_text(self) -> str:
        words = f"{len(self.object)} slices of {self.slice_thickness_A:.4g} Å"
        if any(self.tilt_rad):
            x, y = (1e3 * tilt for tilt in self.tilt_rad)
            words += f" tilted by ({x:.2f}, {y:.2f}) mrad"
        return words

    def __repr__(self) -> str:
        slices, rows, columns = self.object.shape
        error = self.errors[-1] if self.errors else math.nan
        return (
            f"<PtychographyResult of {slices} slice(s) {rows} x {columns}, {len(self.probe)} probe "
            f"mode(s), {len(self.errors)} iterations ({self.status}), error {error:.4g} (noise "
            f"alone: {self.expected_error:.2g})>"
        )


def _to_parts(result: PtychographyResult) -> dict[str, Any]:
    return {
        **{name: getattr(result, name) for name in result.__dataclass_fields__},
        "errors": np.array(result.errors, np.float64),
        "notes": list(result.notes),
        "aberrations": dict(result.aberrations.coefficients),
        "optics": {name: getattr(result.optics, name) for name in Optics.__dataclass_fields__},
        "history": result.history.to_dict(),
    }


def _from_parts(parts: Mapping[str, Any]) -> PtychographyResult:
    optics: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list | tuple) else value
        for name, value in parts["optics"].items()
    }
    changed = {
        "errors": tuple(float(error) for error in parts["errors"]),
        "notes": tuple(parts.get("notes", ())),
        "aberrations": Aberrations(parts["aberrations"]),
        "optics": Optics(**optics),
        **{n: tuple(parts[n]) for n in ("tilt_rad", "tilt_sigma_rad") if n in parts},
        "history": History.from_dict(parts["history"]),
    }
    return PtychographyResult(**{**parts, **changed})


register_result("ptychography", PtychographyResult, _to_parts, _from_parts)
