"""What a file says about an experiment, in one vocabulary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

__all__ = ["Metadata"]


@dataclass(frozen=True)
class Metadata:
    """The experiment as the file describes it; ``None`` where the file is silent.

    Pixel sizes, energy and convergence are also in the cube's `Calibration`, which is what every
    computation uses; they are repeated here exactly as the file gave them.

    Parameters
    ----------
    title, date, time, detector, microscope, operator, software : str, optional
        `date` is ISO 8601 (``YYYY-MM-DD``), `time` is ``HH:MM:SS``.
    energy_eV, camera_length_mm, semiangle_mrad, dwell_time_s, exposure_s, magnification : optional
    counter_depth_bits, gain, threshold_keV : optional
        How the detector counted.
    frames : int, optional
        Frames in the file before any scan repair.
    source, format : str, optional
        The file and the format it was read as.
    notes : tuple of str
        Everything that reading assumed, repaired or could not use.
    original : mapping
        The tree of the file, untouched, for what has no place above.
    """

    title: str | None = None
    date: str | None = None
    time: str | None = None
    detector: str | None = None
    microscope: str | None = None
    operator: str | None = None
    software: str | None = None
    energy_eV: float | None = None
    camera_length_mm: float | None = None
    semiangle_mrad: float | None = None
    dwell_time_s: float | None = None
    exposure_s: float | None = None
    magnification: float | None = None
    counter_depth_bits: int | None = None
    gain: float | None = None
    threshold_keV: float | None = None
    frames: int | None = None
    source: str | None = None
    format: str | None = None
    notes: tuple[str, ...] = ()
    original: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        known = {name: value for name, value in self.known().items() if name != "notes"}
        fields = ", ".join(f"{name}={value!r}" for name, value in known.items())
        notes = f", {len(self.notes)} notes" if self.notes else ""
        return f"<Metadata {fields or 'empty'}{notes}>"

    def _repr_html_(self) -> str:
        from py4DSTEM.core.html import metadata_html

        return metadata_html(self)

    def with_notes(self, *notes: str) -> Metadata:
        """A copy with more notes."""
        return replace(self, notes=self.notes + notes)

    def known(self) -> dict[str, Any]:
        """The fields that have a value, without the original tree."""
        items = asdict(replace(self, original={})).items()
        return {name: value for name, value in items if value not in (None, (), {})}
