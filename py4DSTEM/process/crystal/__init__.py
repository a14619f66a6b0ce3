"""Crystals: orientations, phases, grains and patterns."""

from __future__ import annotations

from py4DSTEM.core.crystal import Crystal
from py4DSTEM.process.crystal.bloch import bloch_waves
from py4DSTEM.process.crystal.cbed import convergent_beam_pattern
from py4DSTEM.process.crystal.ewald import zone_orientation
from py4DSTEM.process.crystal.patterns import diffraction_pattern
from py4DSTEM.process.crystal.powder import powder_pattern

__all__ = ["Crystal"]

# The core cannot know of the rooms above it: what computes with a crystal becomes its method here,
# where everybody who is given one comes by.
Crystal.diffraction_pattern = diffraction_pattern
Crystal.powder_pattern = powder_pattern
Crystal.bloch_waves = bloch_waves
Crystal.convergent_beam_pattern = convergent_beam_pattern
Crystal.zone_orientation = zone_orientation
