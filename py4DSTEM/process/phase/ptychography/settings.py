"""Parameters of ptychography, in groups: the iteration, the object, the probe, what is refined."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat

from py4DSTEM.core.parameters import Parameters

__all__ = ["IterationSettings", "ObjectSettings", "ProbeSettings", "RefineSettings"]

Method = Literal["gradient", "epie", "dm", "raar"]


class IterationSettings(Parameters):
    """What is sought, from where, and by which steps."""

    method: Method = Field(
        "gradient",
        description="Gradients of batches of positions; a step after every position (ePIE; rPIE "
        "where blend is below 1); or projections of all exit waves (difference map, RAAR).",
    )
    iterations: int = Field(30, ge=1, le=100_000, description="Most passes over all positions.")
    defocus_A: float | None = Field(
        None,
        description="Of the first probe, −C10, underfocus positive; None: by parallax.",
    )
    aberrations: dict[str, float] = Field(
        default_factory=dict, description="Other aberrations of the first probe: C12, phi12 … in Å."
    )
    rotation_rad: float | None = Field(
        None, description="From detector to scan axes, after the flip; None: known or measured."
    )
    flip: bool | None = Field(
        None, description="Whether x and y of the detector are exchanged; None: known or measured."
    )
    slices: int = Field(1, ge=1, le=1000, description="Slices of the object along the beam.")
    slice_thickness_A: PositiveFloat | None = Field(
        None, description="From one slice to the next, where there are several."
    )
    tilt_rad: tuple[float, float] = Field(
        (0.0, 0.0),
        description="Of the crystal: its columns run along (tilt_x, tilt_y, 1) in scan axes.",
    )
    modes: int = Field(1, ge=1, le=10, description="Probe modes, for partial coherence.")
    batch: int = Field(64, ge=1, description="Positions of a step of the gradient method.")
    object_step: PositiveFloat = Field(0.5, description="Share of the suggested step.")
    probe_step: NonNegativeFloat = Field(0.5, description="The same for the probe; 0 keeps it.")
    probe_from: int | None = Field(
        None,
        ge=0,
        description="First iteration that changes the probe; None: 1, and 8 for several slices, "
        "which are far from right before.",
    )
    momentum: float = Field(0.5, ge=0, lt=1, description="Share of the last step taken again.")
    shrink: float = Field(
        0.5,
        gt=0,
        le=1,
        description="Factor on both steps whenever an iteration moves the object back, which says "
        "that noise has taken over; 1 keeps them.",
    )
    blend: float = Field(
        1.0,
        gt=0,
        le=1,
        description="1: all of the object moves as where the beam is brightest; less: dimly lit "
        "places move farther, and with them their noise.",
    )
    relaxation: float = Field(
        0.6, gt=0, le=1, description="β of RAAR; the difference map is RAAR with 1."
    )
    poisson: float = Field(
        1.0,
        ge=0,
        le=1,
        description="1: likelihood of counts; 0: least squares of their roots, which at few counts "
        "gives too weak a phase.",
    )
    tolerance: NonNegativeFloat = Field(
        0.0,
        description="Ends when the error falls by less than this in five iterations.",
    )
    seed: int = Field(0, description="Of the order of positions.")
    device: Literal["cpu", "cuda", "auto"] = Field(
        "cpu",
        description="A card needs cupy and method gradient; auto takes one where there is one.",
    )
    precision: Literal["single", "double"] = Field(
        "single", description="Of the arithmetic; double is for checks, and many times slower."
    )


class ObjectSettings(Parameters):
    """What the object may be; applied after every iteration, neutral unless set."""

    object_type: Literal["complex", "pure phase"] = Field(
        "complex", description="A pure phase object takes no electrons away."
    )
    max_amplitude: PositiveFloat | None = Field(
        None, description="Largest modulus of a transmission; 1: no gain. None: any."
    )
    positivity: bool = Field(False, description="Phases are not negative.")
    tv_weight: NonNegativeFloat = Field(
        0.0, description="Total variation: about the height (rad) of steps that are flattened."
    )
    low_pass_A: PositiveFloat | None = Field(
        None, description="Details finer than this length are removed (Butterworth)."
    )
    high_pass_A: PositiveFloat | None = Field(
        None, description="Phases that vary over more than this length are removed (Butterworth)."
    )
    blur_A: NonNegativeFloat = Field(0.0, description="Gaussian blur, its σ.")
    kz_weight: NonNegativeFloat = Field(
        0.0, description="Neighbouring slices are made alike where the beam cannot tell them apart."
    )
    identical_slices: bool = Field(False, description="All slices are the same.")
    object_every: int = Field(1, ge=1, description="Iterations between these constraints.")


class ProbeSettings(Parameters):
    """What the probe may be; applied after every iteration, neutral unless set."""

    probe_radius_A: PositiveFloat | None = Field(
        None, description="The probe is zero beyond this distance from the middle, softly."
    )
    probe_aperture: PositiveFloat | None = Field(
        None, description="The probe has no frequencies beyond so many convergence angles."
    )
    fix_probe_modulus: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Share of the modulus at the detector that is that of the first probe (the "
        "vacuum pattern, where given).",
    )
    smooth_probe_phase: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Share of the phase of the strongest mode in the aperture that is that of "
        "aberrations up to third order, fitted after every iteration.",
    )
    center_probe: bool = Field(
        False, description="Probe and object are moved so that the probe is in the middle."
    )


class RefineSettings(Parameters):
    """What else is sought besides object and probe."""

    refine_positions: Literal["no", "affine", "free"] = Field(
        "no",
        description="Scan positions move: all together by scale, shear and rotation, or each.",
    )
    positions_from: int = Field(5, ge=0, description="First iteration that moves positions.")
    positions_every: int = Field(2, ge=1, description="Iterations from one move to the next.")
    max_move_A: PositiveFloat | None = Field(
        None, description="How far a position may go from where it was; None: half a step."
    )
    refine_tilt: bool = Field(False, description="The tilt of the crystal is sought too.")
    tilt_from: int = Field(10, ge=0, description="First iteration that changes the tilt.")
    tilt_every: int = Field(2, ge=1, description="Iterations from one change to the next.")
