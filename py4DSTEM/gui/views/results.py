"""Which results of a scan are images, by name, and those images."""

from __future__ import annotations

from typing import Any

from py4DSTEM.core.slices import ArrayResult, DiffractionSlice, RealSlice, Slice
from py4DSTEM.gui.state.project import Scan

__all__ = ["image_names", "image_of"]

_KINDS = {"diffraction": DiffractionSlice, "real": RealSlice}


def image_names(scan: Scan, panel: str) -> list[str]:
    """Names of all images that a panel can show; "name/label" for those of a stack."""
    names = []
    for result in scan.results:
        value = _as_slice(result.value)
        if isinstance(value, _KINDS.get(panel, Slice)):
            names += [f"{result.name}/{label}" for label in value.labels] or [result.name]
    return names


def image_of(scan: Scan, name: str) -> Slice | None:
    """The image of that name; None where there is none (any more)."""
    result, _, label = name.partition("/")
    value = next((_as_slice(r.value) for r in scan.results if r.name == result), None)
    if value is None or not label:
        return value
    return value[label] if label in value.labels else None


def _as_slice(value: Any) -> Slice | None:
    """Maps that are no slices themselves, as those of the strain, know how to become one."""
    if isinstance(value, Slice):
        return value
    if isinstance(value, ArrayResult) or not hasattr(value, "to_slice"):
        return None
    made = value.to_slice()
    return made if isinstance(made, Slice) else None
