"""Worker that measures `parallax` of this package: from the array in memory to the phase."""

from __future__ import annotations

import json
import sys
import time

import numpy as np


def main(path: str, workers: str, rounds: str) -> None:
    import py4DSTEM

    with np.load(path) as file:
        facts = {name: file[name] for name in file.files}
    cube = py4DSTEM.DataCube(facts["data"]).with_calibration(
        R_pixel_size=float(facts["step_A"]), R_pixel_units="A",
        Q_pixel_size=float(facts["pixel_per_A"]), Q_pixel_units="A^-1",
        energy_eV=float(facts["energy_eV"]), semiangle_mrad=float(facts["semiangle_mrad"]),
    )  # fmt: skip
    options = py4DSTEM.RunOptions(workers=int(workers))
    for _ in range(int(rounds)):
        start, used = time.perf_counter(), time.process_time()
        found = cube.parallax(defocus="under", upsampling=1, options=options)
        took = {"seconds": time.perf_counter() - start, "cpu_s": time.process_time() - used}
        answer = {**took, "defocus_A": found.defocus_A, "degrees": found.rotation_deg}
        print(json.dumps(answer), flush=True)


main(*sys.argv[1:])
