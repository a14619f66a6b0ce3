"""Parallax of a 128 x 128 scan of 64 x 64 pixels: this package, its peers, and bare transforms.

    python parallax.py [--py4dstem014 PYTHON] [--quantem PYTHON] [--rounds 5] [--peer-rounds 1]
        [--json FILE]

A simulated sheet with vacancies, defocus 400 A, 10 000 electrons per position, in memory.  From the
patterns to aberrations and phase.  The floor is one shift and sum of all bright-field images by
scipy.fft, two threads, complex64.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import common
import numpy as np
from scipy import fft

PEERS = Path(__file__).parent / "peers"


def make(path: Path) -> None:
    from py4DSTEM import simulate

    scan = simulate.phase_object((128, 128), (64, 64), defocus_A=400, dose=10_000, seed=1)
    c = scan.truth.calibration
    np.savez(
        path, data=np.asarray(scan.cube.data), step_A=c.R[0].step, pixel_per_A=c.Q[0].step,
        energy_eV=c.energy_eV, semiangle_mrad=scan.truth.semiangle_mrad,
    )  # fmt: skip


def floor(images: int = 481) -> float:
    """Seconds of one shift and sum by bare transforms."""
    stack = np.random.default_rng(0).normal(size=(images, 128, 128)).astype(np.complex64)
    start = time.perf_counter()
    fft.ifft2(fft.fft2(stack, workers=2), workers=2).sum(axis=0)
    return time.perf_counter() - start


def lane(python: str, script: str, path: Path, rounds: int) -> list[dict]:
    command = [python, str(PEERS / script), str(path), "2", str(rounds)]
    env = common.clean_environment(2)
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=env)
    return [json.loads(text) for text in done.stdout.splitlines()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--py4dstem014")
    parser.add_argument("--quantem")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peer-rounds", type=int, default=1)
    parser.add_argument("--json")
    given = parser.parse_args()
    result = common.Result("parallax 128 x 128 x 64 x 64")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scan.npz"
        make(path)
        lanes = {"ours": lane(sys.executable, "parallax_ours.py", path, given.rounds + 1)[1:]}
        peers = {
            "py4DSTEM 0.14": (given.py4dstem014, "parallax_py4dstem014.py"),
            "quantem": (given.quantem, "parallax_quantem.py"),
        }
        for name, (python, script) in peers.items():
            if python:
                lanes[name] = lane(python, script, path, given.peer_rounds)
                again = lane(sys.executable, "parallax_ours.py", path, given.rounds + 1)[1:]
                lanes["ours"] += again
    bare = float(np.median([floor() for _ in range(3)]))
    rows = []
    for name, runs in lanes.items():
        medians = {k: float(np.median([run[k] for run in runs])) for k in runs[0]}
        result.cases[name] = {"n": len(runs), **medians}
        seconds = medians["seconds"]
        rows.append((name, seconds, medians["cpu_s"], len(runs), seconds / bare,
                     medians["defocus_A"], medians["degrees"]))  # fmt: skip
    headings = ("lane", "s", "processor, s", "n", "x floor", "defocus (Å)", "rotation (°)")
    print(common.table(headings, rows))
    result.note(f"floor: {bare:.3f} s; truth: 400 Å, 17.19°")
    result.write(given.json)


if __name__ == "__main__":
    main()
