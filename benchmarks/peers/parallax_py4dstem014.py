"""Worker that measures Parallax of py4DSTEM 0.14: preprocess, reconstruct, fit, correct."""

from __future__ import annotations

import json
import os
import sys
import time
import warnings

import numpy as np


def main(path: str, _workers: str, rounds: str) -> None:
    line = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    warnings.filterwarnings("ignore")
    import matplotlib as mpl

    mpl.use("Agg")
    import py4DSTEM

    with np.load(path) as file:
        facts = {name: file[name] for name in file.files}
    for _ in range(int(rounds)):
        cube = py4DSTEM.DataCube(data=facts["data"])
        cube.calibration.set_R_pixel_size(float(facts["step_A"]))
        cube.calibration.set_R_pixel_units("A")
        cube.calibration.set_Q_pixel_size(float(facts["pixel_per_A"]))
        cube.calibration.set_Q_pixel_units("A^-1")
        start, used = time.perf_counter(), time.process_time()
        found = py4DSTEM.process.phase.Parallax(
            energy=float(facts["energy_eV"]), datacube=cube, verbose=False
        )
        found.preprocess(plot_average_bf=False)
        found.reconstruct(plot_aligned_bf=False, plot_convergence=False, progress_bar=False)
        found.aberration_fit()
        found.aberration_correct(plot_corrected_phase=False)
        took = {"seconds": time.perf_counter() - start, "cpu_s": time.process_time() - used}
        answer = {**took, "defocus_A": float(-found.aberrations_C1),
                  "degrees": float(np.rad2deg(found.rotation_Q_to_R_rads))}  # fmt: skip
        print(json.dumps(answer), file=line, flush=True)


main(*sys.argv[1:])
