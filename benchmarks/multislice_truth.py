"""The multislice of the simulations against abTEM, on abTEM's own slice potentials.

    python benchmarks/multislice_truth.py --abtem ENVABTEM/bin/python [--out result.json]

Both get the same potentials, aperture, aberrations (defocus, astigmatism, coma, spherical) and
positions; everything after that is independent: interaction constant, wavelength, signs of the
aberrations and of the propagation, limits in frequency. Shown is the largest difference of a
pixel in parts of the whole beam and of the brightest pixel, and the same with one sign turned.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from py4DSTEM.core.aberrations import Aberrations
from py4DSTEM.simulate.multislice import SliceStack, frequencies
from py4DSTEM.units import electron_wavelength_A, interaction_constant_rad_per_VA

CASE = {
    "cells": [5, 5, 12],
    "substituted": 2 * 5,
    "missing": 501,
    "gpts": [160, 160],
    "slice_A": 3.905 / 2,
    "energy_eV": 200e3,
    "semiangle_mrad": 22.0,
    "aberrations": {
        "C10": -70.0, "C12": 25.0, "phi12": 0.4, "C21": 900.0, "phi21": -0.7, "C30": 4e4,
    },
    "positions_A": [[6.3, 9.1], [9.76, 9.76], [11.2, 7.7]],
}  # fmt: skip


def theirs(python: str) -> dict[str, np.ndarray]:
    """Run the worker in the interpreter of abTEM."""
    worker = Path(__file__).with_name("peers") / "multislice_abtem.py"
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    with tempfile.TemporaryDirectory() as folder:
        case, out = Path(folder) / "case.json", Path(folder) / "out.npz"
        case.write_text(json.dumps(CASE))
        subprocess.run([python, worker, case, out], check=True, env=environment)
        with np.load(out) as found:
            return dict(found)


def ours(found: dict[str, np.ndarray], aberrations: dict[str, float]) -> np.ndarray:
    """Patterns (n, nx, ny), beam in the middle, of sum one less what is lost."""
    energy, shape = CASE["energy_eV"], found["potential"].shape[1:]
    wavelength, sampling = electron_wavelength_A(energy), tuple(found["sampling"])
    kx, ky = frequencies(shape, sampling)
    chi = Aberrations(aberrations).chi(wavelength * kx, wavelength * ky)
    inside = np.hypot(kx, ky) * wavelength <= CASE["semiangle_mrad"] * 1e-3
    wave = inside * np.exp(-2j * np.pi * chi / wavelength)
    wave /= np.linalg.norm(wave)
    at = np.array(CASE["positions_A"])
    ramps = np.exp(-2j * np.pi * (at[:, 0, None, None] * kx + at[:, 1, None, None] * ky))
    probes = np.fft.ifft2(wave * ramps, norm="ortho").astype(np.complex64)
    phase = interaction_constant_rad_per_VA(energy) * found["potential"]
    stack = SliceStack.of_phase(
        phase.astype(np.float64), sampling, float(found["thickness"][0]), wavelength
    )
    behind = stack.exit_waves(probes, np.zeros((len(at), 2), np.int64))
    return np.fft.fftshift(np.abs(behind) ** 2, axes=(1, 2)) / np.prod(shape)


def apart(a: np.ndarray, b: np.ndarray) -> dict[str, float]:
    """Largest difference of a pixel, in parts of the beam and of the brightest pixel."""
    largest = float(np.abs(a - b).max())
    return {"of the beam": largest, "of the brightest": largest / float(b.max())}


def main() -> None:
    """Compare and show."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--abtem", default=os.environ.get("BENCH_PYTHON_ABTEM"), required=False)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if not options.abtem:
        parser.error("give --abtem or BENCH_PYTHON_ABTEM: the interpreter that has abTEM")
    found = theirs(options.abtem)
    reference = found["patterns"].astype(np.float64)
    known = CASE["aberrations"]
    size = reference.shape[1:]
    start = [(n - m) // 2 for n, m in zip(found["potential"].shape[1:], size, strict=True)]
    cut = (..., slice(start[0], start[0] + size[0]), slice(start[1], start[1] + size[1]))
    rows = {"same": apart(ours(found, known)[cut], reference)}
    for name in ("C10", "phi12", "phi21"):
        rows[f"{name} turned"] = apart(ours(found, {**known, name: -known[name]})[cut], reference)
    sums = {"ours": ours(found, known).sum(axis=(1, 2)).tolist(),
            "abtem": reference.sum(axis=(1, 2)).tolist()}  # fmt: skip
    for name, row in rows.items():
        print(f"{name:>12}: " + ", ".join(f"{v:.2e} {k}" for k, v in row.items()))
    print("sums:", sums, "abTEM", str(found["version"]))
    if options.out:
        told = {"case": CASE, "differences": rows, "sums": sums, "abtem": str(found["version"])}
        options.out.write_text(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
