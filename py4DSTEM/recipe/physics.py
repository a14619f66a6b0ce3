"""What a step needs and what it makes: types of results, and entries of the calibration."""

from __future__ import annotations

import typing
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from py4DSTEM.core.cube import Cube
from py4DSTEM.recipe.model import CALIBRATION, READ, RecipeInput, RecipeStep, all_steps
from py4DSTEM.stream.fields import accepted, leaves
from py4DSTEM.stream.operation import Operation

__all__ = [
    "REMEDIES",
    "can_calibrate",
    "fits",
    "given_by",
    "given_by_input",
    "made_by",
    "made_of",
    "makers",
    "needed_by",
    "takes",
    "wanted_by",
]

REMEDIES = {
    "origin": ("where the unscattered beam is", "measure-origin"),
    "ellipse": ("the elliptic distortion", "measure-ellipse"),
    "Q_pixel_size": ("the size of a detector pixel", "measure-pixel-size"),
    "R_pixel_size": ("the scan step", "calibration"),
    "rotation": ("the rotation of the scan", "measure-rotation"),
    "energy": ("the energy of the beam", "calibration"),
    "probe_radius": ("the radius of the unscattered disk", "measure-probe"),
}
"""Quantity → in words, and the step that measures it."""
_GIVES: Mapping[str, frozenset[str]] = {
    "OriginMeasurement": frozenset({"origin"}),
    "OriginFit": frozenset({"origin"}),
    "Probe": frozenset({"probe_radius"}),
    "EllipseMeasurement": frozenset({"ellipse"}),
    "PixelSizeMeasurement": frozenset({"Q_pixel_size"}),
    "RotationMeasurement": frozenset({"rotation"}),
    "DirectResult": frozenset({"rotation"}),
    "DPCResult": frozenset({"rotation"}),
    "OpticsSearch": frozenset({"rotation"}),
    "ParallaxResult": frozenset({"rotation"}),
    "PtychographyResult": frozenset({"rotation"}),
}
_FIELDS = {
    "origin_px": "origin", "ellipse": "ellipse", "Q_pixel_size": "Q_pixel_size",
    "R_pixel_size": "R_pixel_size", "rotation_rad": "rotation", "energy_eV": "energy",
    "probe_radius_px": "probe_radius",
}  # fmt: skip
_CENTERED = (
    "fem", "ring-strain", "radial-profiles", "mean-radial-profile", "polar-transform",
    "azimuthal-statistics", "fit-rings", "angular-correlation", "orientation-distribution",
    "symmetry", "speckle-statistics", "crystallinity", "dark-field", "pair-distribution",
)  # fmt: skip
"""Steps that look around the origin, where they are given no center of their own."""


@cache
def made_by(use: str) -> tuple[type, ...]:
    """Types that the result of a step may have; nothing: not known before it is there.

    >>> [cls.__name__ for cls in made_by("strain-map")]
    ['StrainMap']
    """
    cls = all_steps().get(use)
    if cls is None:
        return ()
    method = cls.finish if issubclass(cls, Operation) else cls.apply
    found = typing.get_type_hints(method).get("return", Any)
    return (found,) if isinstance(found, type) and found is not Any else ()


def made_of(step: RecipeStep, known: Mapping[str, tuple[type, ...]]) -> tuple[type, ...]:
    """Types of the result of a step, where what it is applied to makes the difference."""
    if step.use in ("calibrate-origin", "mask-peaks"):
        return known.get(step.of, ()) if step.of else (Cube,)
    return made_by(step.use)


def wanted_by(cls: Any, name: str) -> tuple[str, ...]:
    """Names of the types of result that a parameter may be; nothing: any."""
    extra = cls.model_fields[name].json_schema_extra
    return tuple(extra.get("accepts", ())) if isinstance(extra, dict) else ()


def takes(cls: Any) -> tuple[type, ...]:
    """Types that a step is applied to."""
    return accepted(cls)


# ---- calibration ---------------------------------------------------------------------------------
def given_by_input(given: RecipeInput) -> set[str]:
    """What the calibration holds before the first step."""
    if given.brings == "any":
        return set(REMEDIES)
    units, found = given.units, set(given.brings)
    found |= {"R_pixel_size"} if units.real else set()
    found |= {"Q_pixel_size"} if units.recip else set()
    return found | ({"energy"} if units.voltage_kv else set())


def given_by(step: RecipeStep, made: tuple[type, ...]) -> set[str]:
    """What the calibration holds after a step."""
    if step.use == CALIBRATION:
        return {_FIELDS[name] for name in step.parameters if name in _FIELDS}
    if not step.calibrates:
        return set()
    if step.use == READ or not made:
        return set(REMEDIES)
    if step.use == "calibrate-origin":
        return {"origin"}
    return {quantity for cls in made for quantity in _GIVES.get(cls.__name__, ())}


def can_calibrate(step: RecipeStep, made: tuple[type, ...]) -> bool:
    """Whether the result of a step says something about the calibration."""
    if step.use in (READ, "calibrate-origin") or not made:
        return True
    return any(hasattr(cls, "calibration_changes") for cls in made)


def needed_by(step: RecipeStep) -> Iterator[tuple[str, str, str]]:
    """Entries of the calibration that a step cannot do without: parameter, quantity, why."""
    given = step.parameters
    if step.use in _CENTERED and given.get("center") is None:
        yield "", "origin", "it looks at rings around the beam"
    if step.use == "pair-distribution":
        yield "", "Q_pixel_size", "it needs scattering vectors in 1/Å"
    for name, detector in _detectors(step):
        key = f"detector {name}" if name else "the detector"
        kind = detector.get("kind")
        if kind not in ("mask", "polygon") and detector.get("center") is None:
            yield name, "origin", f"{key} has no center of its own"
        if detector.get("units", "px") != "px":
            yield name, "Q_pixel_size", f"{key} is in {detector['units']}"
    units = given.get("units")
    if step.use in ("radial-profiles", "mean-radial-profile") and units not in (None, "px"):
        yield "units", "Q_pixel_size", f"the radii are in {units}"


def _detectors(step: RecipeStep) -> Iterator[tuple[str, Mapping[str, Any]]]:
    cls = all_steps().get(step.use)
    if cls is None:
        return
    for name, value in step.parameters.items():
        field = cls.model_fields.get(name)
        if field is None or not isinstance(value, Mapping):
            continue
        kinds = {leaf.kind for leaf in leaves(field.annotation, field.metadata)}
        if "detector" in kinds and "kind" in value:
            yield name, value
        if "detectors" in kinds:
            yield from ((str(k), v) for k, v in value.items() if isinstance(v, Mapping))


def fits(made: tuple[type, ...], kinds: tuple[str, ...]) -> bool:
    """Whether a result of types `made` may be one of `kinds`, given by name; unknown ones may."""
    names = {base.__name__ for cls in made for base in cls.__mro__}
    return not made or bool(names & set(kinds))


def makers(kinds: tuple[str, ...]) -> list[str]:
    """Kinds of step that make a value of one of some types, those of the first type first.

    >>> makers(("Probe", "LatticeFit"))
    ['measure-probe', 'fit-lattice']
    """
    found = [
        use for kind in kinds for use in all_steps() if made_by(use) and fits(made_by(use), (kind,))
    ]
    return list(dict.fromkeys(found))
