"""Axes and numbers from what vendors write, with everything unusable refused and noted."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from py4DSTEM.core.axis import Axis
from py4DSTEM.core.calibration import Calibration
from py4DSTEM.units import canonical_unit, is_angle, is_length, is_reciprocal

__all__ = ["RawAxis", "axes_of", "finite", "iso_date", "iso_time", "positive", "scan_calibration"]


@dataclass(frozen=True)
class RawAxis:
    """One axis as a file describes it; nothing is believed yet."""

    name: str
    scale: object = 1.0
    offset: object = 0.0
    unit: str | None = None


def finite(value: object) -> float | None:
    """A finite number, or None."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def positive(value: object, factor: float = 1.0) -> float | None:
    """`value * factor` where that is a positive number; zero means "not known" in many headers."""
    number = finite(value)
    return number * factor if number is not None and 0 < number * factor < math.inf else None


def axes_of(raw: Iterable[RawAxis]) -> tuple[tuple[Axis, ...], tuple[str, ...]]:
    """Axes, and a note for every scale that was refused (NaN, zero, negative)."""
    axes, notes = [], []
    for one in raw:
        step, offset = positive(one.scale), finite(one.offset)
        if step is None:
            axes.append(Axis(one.name))
            notes.append(f"scale {one.scale!r} of axis {one.name} refused: left uncalibrated")
        else:
            axes.append(Axis(one.name, step, offset or 0.0, canonical_unit(one.unit)))
    return tuple(axes), tuple(notes)


def scan_calibration(
    R: Sequence[RawAxis], Q: Sequence[RawAxis], *, energy_eV: float | None = None,
    semiangle_mrad: float | None = None,
) -> tuple[Calibration, tuple[str, ...]]:  # fmt: skip
    """Calibration of a scan from its four axes, and notes about what was refused.

    The unit of an axis pair must fit: a length for the scan, a length, an inverse length or an
    angle for the detector.
    """
    notes: list[str] = []
    pairs = {}
    for kind, raw in (("R", R), ("Q", Q)):
        named = [RawAxis(f"{kind}{n}", a.scale, a.offset, a.unit)
                 for n, a in zip("xy", raw, strict=True)]  # fmt: skip
        axes, refused = axes_of(named)
        if refused or not all(_fits(kind, a.unit) for a in axes):
            if not refused:
                notes.append(f"unit {axes[0].unit!r} of the {kind} axes refused")
            axes = tuple(Axis(a.name) for a in axes)
        notes += refused
        pairs[kind] = (axes[0], axes[1])
    calibration = Calibration(
        R=pairs["R"], Q=pairs["Q"], energy_eV=energy_eV, semiangle_mrad=semiangle_mrad
    )
    return calibration, tuple(notes)


def _fits(kind: str, unit: str) -> bool:
    if unit == "px" or is_length(unit):
        return True
    return kind == "Q" and (is_reciprocal(unit) or is_angle(unit))


# ---- dates ---------------------------------------------------------------------------------------
def iso_date(text: object) -> str | None:
    """``2019-05-14`` from ``14/05/2019``, ``5/14/2019`` or ``2019-05-14…``.

    A date that could be read both ways is taken as month/day; what is no date comes back as it is.

    >>> iso_date("14/05/2019"), iso_date("6/3/2019")
    ('2019-05-14', '2019-06-03')
    """
    if not isinstance(text, str) or not text.strip():
        return None
    year_first = re.match(r"\s*(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})", text)
    if year_first:
        year, month, day = map(int, year_first.groups())
    else:
        found = re.match(r"\s*(\d{1,2})[-/.](\d{1,2})[-/.](\d{4})", text)
        if not found:
            return text.strip()
        month, day, year = map(int, found.groups())
        if month > 12 or "." in found[0]:
            month, day = day, month
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return text.strip()
    return f"{year:04d}-{month:02d}-{day:02d}"


def iso_time(text: object) -> str | None:
    """``18:56:37`` from ``6:56:37 PM``.

    >>> iso_time("6:56:37 PM")
    '18:56:37'
    """
    found = re.match(r"\s*(\d{1,2}):(\d{2})(?::(\d{2}))?\s*([AaPp][Mm])?", str(text))
    if not isinstance(text, str) or not found:
        return None
    hour, minute, second = int(found[1]), int(found[2]), int(found[3] or 0)
    if found[4]:
        hour = hour % 12 + (12 if found[4].lower() == "pm" else 0)
    return f"{hour:02d}:{minute:02d}:{second:02d}" if max(hour - 23, minute - 59) <= 0 else None
