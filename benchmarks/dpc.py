"""Phase from the centre of mass of a 128 x 128 scan of 64 x 64 pixels: this package and its peer.

    python dpc.py --data FOLDER --ours PYTHON [--py4dstem014 PYTHON] [--rounds 5] [--json FILE]

FOLDER is filled where it is empty: a simulated layer with vacancies, defocus 100 A, 10 000
electrons per position, as float32 in memory. From the patterns to the phase: centres of mass,
descan, rotation (given, or measured), integration. All in one thread, in turns. High pass: waves
slower than 0.1 cycles per A are damped, which the early stop of iterations does too.

Columns: seconds (median of the rounds), time over that of the first lane, correlation of the phase
with the true one averaged over the probe, its scale, rms error over the rms
of the truth, error of a measured rotation.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from contextlib import ExitStack
from pathlib import Path

import common
from workers import Turns, Variant, WorkerFailed, add_interpreters, interpreters, start_lane

PEERS = ("ours", "py4dstem014")
VARIANTS = (
    Variant("ours, least squares", "ours", "dpc_ours.py", ("--way", "least-squares")),
    Variant("ours, iterative", "ours", "dpc_ours.py", ("--way", "iterative")),
    Variant("ours, high pass", "ours", "dpc_ours.py", ("--way", "high-pass")),
    Variant("ours, rotation measured", "ours", "dpc_ours.py", ("--way", "measured")),
    Variant("py4DSTEM 0.14, 64 iterations", "py4dstem014", "dpc_py4dstem014.py",
            ("--way", "64-iterations")),
    Variant("py4DSTEM 0.14, rotation measured", "py4dstem014", "dpc_py4dstem014.py",
            ("--way", "measured"), slow=True),
)  # fmt: skip
HEADINGS = ("lane", "s", "min", "max", "n", "x ours", "correlation", "scale", "error",
            "rotation off (°)", "others")  # fmt: skip
MAKE = """
import numpy as np, sys
from scipy.ndimage import map_coordinates
from py4DSTEM import simulate
scan = simulate.phase_object((128, 128), (64, 64), seed=1)
t = scan.truth
weight = np.zeros(t.phase.shape)
probe = np.abs(t.probe) ** 2
weight[:len(probe), :len(probe)] = probe
weight = np.roll(weight, [-(len(probe) // 2)] * 2, (0, 1))
if t.flip:
    raise SystemExit("a scan without flip is expected")
mean = np.fft.ifft2(np.fft.fft2(t.phase) * np.fft.fft2(weight).conj()).real
truth = map_coordinates(mean, np.moveaxis(t.positions_A, -1, 0) / t.sampling_A)
c = t.calibration
np.savez(sys.argv[1], data=np.asarray(scan.cube.data, np.float32), truth=truth,
         step_A=c.R[0].step, pixel_per_A=c.Q[0].step, energy_eV=c.energy_eV,
         rotation_deg=np.degrees(t.rotation_rad))
"""


def ensure(folder: Path, python: str) -> Path:
    """The file of the scan, made where it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "dpc128x64.npz"
    if not path.exists():
        subprocess.run([python, "-c", MAKE, str(path)], check=True)
    return path


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder; filled when empty")
    add_interpreters(parser, PEERS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--slow-rounds", type=int, default=3, help="rounds of the slow lanes")
    parser.add_argument("--pause", type=float, default=0.3, help="seconds of rest before a call")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    result = common.Result("phase from the centre of mass")
    pythons = interpreters(options, PEERS, result)
    path = ensure(options.data, pythons["ours"])
    lanes = []
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for variant in (v for v in VARIANTS if v.peer in pythons):
            try:
                lane = start_lane(variant, pythons[variant.peer], ["--scan", str(path)], scratch)
            except WorkerFailed as error:
                result.note(f"{variant.name}: not measured ({error})")
                continue
            stack.enter_context(lane.worker)
            result.versions[variant.peer] = lane.worker.hello["versions"]
            lanes.append(lane)
        Turns(options.rounds, options.slow_rounds, options.pause).run(lanes, "dpc")
    for lane in lanes:
        if lane.failed:
            result.note(f"{lane.variant.name}: failed ({lane.failed})")
    done = [lane for lane in lanes if lane.samples.seconds]
    ours = done[0].median
    rows = []
    for lane in done:
        s, found = lane.samples.summary(), lane.checks
        rows.append([lane.variant.name, s["median"], s["min"], s["max"], s["n"], s["median"] / ours,
                     found["correlation"], found["scale"], found["error"],
                     found.get("rotation_error_deg"), s["others"]])  # fmt: skip
        result.cases[lane.variant.name] = lane.figures()
    print("\n### Phase from the centre of mass, 128 x 128 scan of 64 x 64 pixels, one thread\n")
    print(common.table(HEADINGS, rows))
    result.write(options.json)


if __name__ == "__main__":
    main()
