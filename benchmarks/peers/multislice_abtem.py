"""Worker: one multislice calculation by abTEM; slice potentials and diffraction patterns to a file.

python multislice_abtem.py case.json out.npz
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import abtem
import ase
import numpy as np


def specimen(case: dict) -> ase.Atoms:
    """SrTiO3 [001], one vacancy and one substitution, which leave no symmetry."""
    a = 3.905
    cell = ase.Atoms(
        "SrTiO3",
        scaled_positions=[(0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5)],
        cell=[a, a, a],
        pbc=True,
    )
    atoms = cell * (*case["cells"],)
    atoms.numbers[case["substituted"]] = 56
    del atoms[case["missing"]]
    # Off the boundaries of slices, so that nobody has to decide where those belong.
    atoms.positions[:, 2] += 0.4
    return atoms


def main() -> None:
    """Compute the case."""
    case, out = json.loads(Path(sys.argv[1]).read_text()), sys.argv[2]
    abtem.config.set({"precision": "float64", "device": "cpu"})
    atoms = specimen(case)
    potential = abtem.Potential(
        atoms, gpts=case["gpts"], slice_thickness=case["slice_A"], projection="infinite"
    ).build()
    probe = abtem.Probe(
        energy=case["energy_eV"], semiangle_cutoff=case["semiangle_mrad"], soft=False,
        **case["aberrations"],
    )  # fmt: skip
    probe.grid.match(potential)
    scan = abtem.CustomScan(np.array(case["positions_A"]))
    detector = abtem.PixelatedDetector(max_angle=None, reciprocal_space=True)
    patterns = probe.multislice(potential, scan=scan, detectors=detector).compute()
    potential = potential.compute()
    np.savez(
        out,
        potential=potential.array,
        thickness=np.array(potential.slice_thickness),
        sampling=np.array(potential.sampling),
        patterns=patterns.array,
        version=abtem.__version__,
    )


if __name__ == "__main__":
    main()
