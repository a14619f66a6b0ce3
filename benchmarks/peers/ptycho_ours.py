"""Worker that measures this package: iterative ptychography, timed by its own progress."""

from __future__ import annotations

import argparse
import statistics
import time
from itertools import pairwise

import numpy as np
from ptycho import Peer, Scan, serve_ptychography


def make(scan: Scan, options: argparse.Namespace) -> Peer:
    """Every call starts afresh, since that is what is public: passes so far, and more."""
    from py4DSTEM import DataCube, RunOptions
    from py4DSTEM.process.phase.ptychography.reconstruct import ptychography

    cube = DataCube(scan.data).with_calibration(
        R_pixel_size=scan.step_A, R_pixel_units="A", Q_pixel_size=scan.pixel_per_A,
        Q_pixel_units="A^-1", energy_eV=scan.energy_eV, semiangle_mrad=scan.semiangle_mrad,
        rotation_rad=0.0, flip=False, origin_px=tuple(n // 2 for n in scan.data.shape[2:]),
    )  # fmt: skip
    # ePIE follows every position: with its usual long steps it follows the noise of the last ones.
    shorter = {"object_step": 0.1, "probe_step": 0.1} if options.way == "epie" else {}
    kept = {"passes": 0}

    def passes(count: int) -> None:
        kept["passes"] += count
        stamps = [(time.perf_counter(), time.process_time())]

        def progress(done: int, total: int, label: str) -> None:
            if label == "ptychography":
                stamps.append((time.perf_counter(), time.process_time()))

        result = ptychography(
            cube, method=options.way, iterations=kept["passes"], batch=options.batch,
            defocus_A=scan.defocus_A, slices=scan.slices,
            slice_thickness_A=scan.slice_A if scan.slices > 1 else None, modes=scan.modes,
            **shorter, options=RunOptions(workers=options.threads, progress=progress),
        )  # fmt: skip
        if result.status != "iterations":
            raise RuntimeError(f"{result.status}: {result.reason}")
        kept["result"] = result
        steps = [np.subtract(b, a) for a, b in pairwise(stamps)][-count:]
        kept["own"] = {
            "prepare_s": stamps[1][0] - stamps[0][0],
            "prepare_cpu_s": stamps[1][1] - stamps[0][1],
            "pass_s": float(statistics.median(step[0] for step in steps)),
            "pass_cpu_s": float(statistics.median(step[1] for step in steps)),
        }

    return Peer(passes, lambda: kept["result"].phase_detector_axes, lambda: kept["own"])


if __name__ == "__main__":
    serve_ptychography(__doc__, ("py4DSTEM", "numpy", "scipy", "numba"), make)
