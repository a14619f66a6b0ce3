"""Crystals: orientations, phases, grains and patterns."""
