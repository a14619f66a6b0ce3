"""Worker that measures parallax of quantem: aberrations and rotation by shifts, then the phase."""

from __future__ import annotations

import json
import os
import sys
import time
import warnings

import numpy as np


def main(path: str, workers: str, rounds: str) -> None:
    line = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    warnings.filterwarnings("ignore")
    import torch

    torch.set_num_threads(int(workers))
    from quantem.core.datastructures import Dataset4dstem
    from quantem.diffractive_imaging.direct_ptychography import DirectPtychography

    with np.load(path) as file:
        facts = {name: file[name] for name in file.files}
    step, pixel = float(facts["step_A"]), float(facts["pixel_per_A"])
    scan = Dataset4dstem.from_array(
        facts["data"].astype(np.float32), sampling=(step, step, pixel, pixel),
        units=("A", "A", "A^-1", "A^-1"),
    )  # fmt: skip
    for _ in range(int(rounds)):
        start, used = time.perf_counter(), time.process_time()
        found = DirectPtychography.from_dataset4d(
            scan, energy=float(facts["energy_eV"]), semiangle_cutoff=float(facts["semiangle_mrad"]),
            rotation_angle=0.0, verbose=False,
        )  # fmt: skip
        found.fit_hyperparameters_cross_correlation(verbose=False)
        found.reconstruct(deconvolution_kernel="parallax", verbose=False)
        answer = {
            "seconds": time.perf_counter() - start, "cpu_s": time.process_time() - used,
            **fitted(found),
        }  # fmt: skip
        print(json.dumps(answer), file=line, flush=True)


def fitted(found) -> dict[str, float]:
    """Defocus and rotation that were found."""
    state = found.hyperparameter_state
    return {
        "defocus_A": -float(state.optimized_aberrations["C10"]),
        "degrees": float(state.optimized_rotation_angle_deg),
    }


main(*sys.argv[1:])
