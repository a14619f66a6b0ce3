"""Disordered matter: pair distributions, fluctuation microscopy, symmetry, orientation."""
