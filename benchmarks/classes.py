"""Classes of a 256 x 256 scan with 200 features: this package and its peer.

    python classes.py --data FOLDER --ours PYTHON [--py4dstem014 PYTHON] [--rounds 3] [--json FILE]

FOLDER is filled where it is empty: counts of eight overlapping spectra, as float32 in memory. From
the features to the weights, eight classes, in one thread, in turns. "Judged": with silhouettes of
all positions and five runs for the stability (silhouettes are part of every lane of ours).

Columns: seconds (median of the rounds), time over that of the first lane, least correlation of an
amount with the true one (k-means and mixtures: of labels and probabilities).
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
    Variant("ours, NMF", "ours", "classes_ours.py", ("--way", "nmf")),
    Variant("ours, NMF judged", "ours", "classes_ours.py", ("--way", "nmf-judged")),
    Variant("ours, NMF in parts (100 MB)", "ours", "classes_ours.py", ("--way", "nmf-in-parts")),
    Variant("ours, k-means", "ours", "classes_ours.py", ("--way", "kmeans")),
    Variant("ours, Gaussian mixture", "ours", "classes_ours.py", ("--way", "gmm")),
    Variant("py4DSTEM 0.14, NMF", "py4dstem014", "classes_py4dstem014.py", ("--way", "nmf"),
            slow=True),
)  # fmt: skip
HEADINGS = ("lane", "s", "min", "max", "n", "x ours", "least correlation", "others")
MAKE = """
import sys
sys.path.insert(0, sys.argv[2])
import numpy as np
from classes import made
np.savez(sys.argv[1], **made())
"""


def ensure(folder: Path, python: str) -> Path:
    """The file of the features, made where it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "classes256.npz"
    if not path.exists():
        peers = str(Path(__file__).with_name("peers"))
        subprocess.run([python, "-c", MAKE, str(path), peers], check=True)
    return path


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder; filled when empty")
    add_interpreters(parser, PEERS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--slow-rounds", type=int, default=3, help="rounds of the slow lanes")
    parser.add_argument("--pause", type=float, default=0.3, help="seconds of rest before a call")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    result = common.Result("classes of scan positions")
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
        Turns(options.rounds, options.slow_rounds, options.pause).run(lanes, "classes")
    for lane in lanes:
        if lane.failed:
            result.note(f"{lane.variant.name}: failed ({lane.failed})")
    done = [lane for lane in lanes if lane.samples.seconds]
    ours = done[0].median
    rows = []
    for lane in done:
        s, found = lane.samples.summary(), lane.checks
        rows.append([lane.variant.name, s["median"], s["min"], s["max"], s["n"], s["median"] / ours,
                     found["least correlation"], s["others"]])  # fmt: skip
        result.cases[lane.variant.name] = lane.figures()
    print("\n### Classes of a 256 x 256 scan with 200 features, one thread\n")
    print(common.table(HEADINGS, rows))
    result.write(options.json)


if __name__ == "__main__":
    main()
