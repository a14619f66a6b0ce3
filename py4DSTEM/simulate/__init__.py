"""Small scans whose answer is known, for tests, teaching and the demo.

>>> import py4DSTEM
>>> scan = py4DSTEM.simulate.strained_lattice((4, 5), (64, 64), seed=1)
>>> scan.cube.shape, scan.truth.e_xx.shape
((4, 5, 64, 64), (4, 5))
"""

from py4DSTEM.simulate.film import FibersTruth, fibers
from py4DSTEM.simulate.glass import AmorphousTruth, amorphous
from py4DSTEM.simulate.grains import PolycrystalTruth, polycrystal
from py4DSTEM.simulate.lattice import LatticeTruth, strained_lattice
from py4DSTEM.simulate.multislice_crystal import DepthDefect
from py4DSTEM.simulate.multislice_scan import ThickTruth, thick_object
from py4DSTEM.simulate.particles import ParticlesTruth, weak_particles
from py4DSTEM.simulate.phase import PhaseTruth, phase_object
from py4DSTEM.simulate.powder import PowderTruth, powder_rings
from py4DSTEM.simulate.probe import vacuum_probe
from py4DSTEM.simulate.scan import SimulatedPattern, SimulatedScan

__all__ = [
    "AmorphousTruth",
    "DepthDefect",
    "FibersTruth",
    "LatticeTruth",
    "ParticlesTruth",
    "PhaseTruth",
    "PolycrystalTruth",
    "PowderTruth",
    "SimulatedPattern",
    "SimulatedScan",
    "ThickTruth",
    "amorphous",
    "fibers",
    "phase_object",
    "polycrystal",
    "powder_rings",
    "strained_lattice",
    "thick_object",
    "vacuum_probe",
    "weak_particles",
]
