"""From HyperSpy's description of a signal to ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.metadata import Metadata
from py4DSTEM.io.format import Signal
from py4DSTEM.io.formats.axes import (
    RawAxis,
    axes_of,
    iso_date,
    iso_time,
    positive,
    scan_calibration,
)

__all__ = ["metadata_from", "signal_from"]


def signal_from(
    name: str,
    data: Any,
    raw: Sequence[RawAxis],
    navigate: Sequence[bool],
    tree: Mapping[str, Any],
    original: Mapping[str, Any],
    *,
    notes: Sequence[str] = (),
) -> Signal:
    """A signal of HyperSpy or RosettaSciIO as one of ours.

    Parameters
    ----------
    name : str
    data : array-like
        Navigation axes first, which is our order too.
    raw, navigate : sequences
        One axis per dimension, in array order; whether it is a navigation axis.
    tree, original : mapping
        HyperSpy's metadata; everything to be kept.
    notes : sequence of str
    """
    metadata = metadata_from(tree, original).with_notes(*notes)
    if len(data.shape) == 4:
        calibration, refused = scan_calibration(
            raw[:2], raw[2:], energy_eV=metadata.energy_eV, semiangle_mrad=metadata.semiangle_mrad
        )
        return Signal(name, data, calibration, metadata.with_notes(*refused))
    axes, refused = axes_of(raw)
    calibration = Calibration(energy_eV=metadata.energy_eV, semiangle_mrad=metadata.semiangle_mrad)
    if len(data.shape) == 3 and list(navigate) == [True, False, False]:
        # Patterns along a line or in time may be arranged as a scan.
        blank = (RawAxis("x"), RawAxis("y"))
        calibration, _ = scan_calibration(blank, raw[1:], energy_eV=metadata.energy_eV,
                                          semiangle_mrad=metadata.semiangle_mrad)  # fmt: skip
    return Signal(name, data, calibration, metadata.with_notes(*refused), axes=axes)


def metadata_from(tree: Mapping[str, Any], original: Mapping[str, Any]) -> Metadata:
    """HyperSpy's tree in our vocabulary (keV to eV, m to mm …).

    HyperSpy's unit of camera length is the millimetre; some readers give metres, which no real
    camera length below half a millimetre could be mistaken for.
    """
    general, tem = _at(tree, "General"), _at(tree, "Acquisition_instrument", "TEM")
    camera = _at(tem, "Detector", "Camera")
    length = positive(tem.get("camera_length"))
    return Metadata(
        title=_text(general.get("title")),
        date=iso_date(general.get("date")),
        time=iso_time(general.get("time")),
        detector=_text(camera.get("name")) or _text(tem.get("detector")),
        microscope=_text(tem.get("microscope")),
        operator=_text(general.get("authors")),
        energy_eV=positive(tem.get("beam_energy"), 1e3),
        camera_length_mm=length * 1e3 if length and length < 0.5 else length,
        semiangle_mrad=positive(tem.get("convergence_angle")),
        exposure_s=positive(camera.get("exposure")),
        magnification=positive(tem.get("magnification")),
        original=original,
    )


def _at(tree: Mapping[str, Any], *path: str) -> Mapping[str, Any]:
    for name in path:
        tree = tree.get(name, {})
        if not isinstance(tree, Mapping):
            return {}
    return tree


def _text(value: Any) -> str | None:
    return value.strip() if isinstance(value, str) and value.strip() else None
