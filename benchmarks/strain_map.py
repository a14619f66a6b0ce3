"""Strain map of a scan from given peaks: this package against its peers.

    python strain_map.py --data FOLDER --ours PYTHON [--py4dstem014 PYTHON] [--quantem PYTHON]
                         [--libertem PYTHON] [--rounds 5] [--json FILE]

FOLDER is filled by ``bragg_data.py`` where it is empty: 128 x 128 positions with 21 peaks each, off
by 0.05 px. From the peaks as each package holds them to the strain with the median lattice as
reference: choice of the basis, indexing, fit, strain; ours gives uncertainties as well. blobfinder
fits lattices only; its strain is a line of numpy. All in one thread, called in turns.

Columns: seconds (median of the rounds), time over that of ours, root mean square error of each
component after the median error was subtracted (each package against the truth in its own
definition of strain, see ``peers/strain.py``), share of the positions with a value.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from contextlib import ExitStack
from pathlib import Path

import bragg_data
import common
from workers import Lane, Turns, Variant, WorkerFailed, add_interpreters, interpreters, start_lane

PEERS = ("ours", "py4dstem014", "libertem", "quantem")
VARIANTS = (
    Variant("ours, with sigmas", "ours", "strain_ours.py"),
    Variant("py4DSTEM 0.14", "py4dstem014", "strain_py4dstem014.py", slow=True),
    Variant("blobfinder lattices + numpy", "libertem", "strain_blobfinder.py", slow=True),
    Variant("quantem", "quantem", "strain_quantem.py", slow=True),
)
COMPONENTS = ("e_xx", "e_yy", "e_xy", "theta")
HEADINGS = ("lane", "s", "min", "max", "n", "x ours", *[f"rms {c} 1e-4" for c in COMPONENTS],
            "mapped", "others")  # fmt: skip


def start_all(
    options: argparse.Namespace, pythons: dict[str, str], stack: ExitStack, result: common.Result
) -> list[Lane]:
    """One running lane per package that was given."""
    scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    lanes = []
    for variant in VARIANTS:
        if variant.peer not in pythons:
            continue
        try:
            shared = ["--lists", str(options.data / "peaks.npz")]
            lane = start_lane(variant, pythons[variant.peer], shared, scratch)
        except WorkerFailed as error:
            result.note(f"{variant.name}: not measured ({error})")
            continue
        stack.enter_context(lane.worker)
        result.versions[variant.peer] = lane.worker.hello["versions"]
        lanes.append(lane)
    return lanes


def row(lane: Lane, ours: float) -> list[object]:
    """One line of the table."""
    s, found = lane.samples.summary(), lane.checks
    errors = [1e4 * found.get(f"rms_{name}", math.nan) for name in COMPONENTS]
    times = [s["median"], s["min"], s["max"], s["n"], s["median"] / ours]
    return [lane.variant.name, *times, *errors, found.get("mapped"), s["others"]]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder; filled when empty")
    add_interpreters(parser, PEERS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--slow-rounds", type=int, default=2, help="rounds of the peers")
    parser.add_argument("--pause", type=float, default=0.3, help="seconds of rest before a call")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    result = common.Result("strain map from given peaks")
    pythons = interpreters(options, PEERS, result)
    bragg_data.ensure(options.data, 1000)
    turns = Turns(options.rounds, options.slow_rounds, options.pause)
    with ExitStack() as stack:
        lanes = start_all(options, pythons, stack, result)
        turns.run(lanes, "lists")
    for lane in lanes:
        if lane.failed:
            result.note(f"{lane.variant.name}: failed ({lane.failed})")
    lanes = [lane for lane in lanes if lane.samples.seconds]
    ours = next((lane.median for lane in lanes if lane.variant.peer == "ours"), math.nan)
    result.cases["lists"] = {
        lane.variant.name: {**lane.figures(), "times_ours": lane.median / ours} for lane in lanes
    }
    print("\n### Strain of 128 x 128 positions from 21 peaks each, one thread\n")
    print(common.table(HEADINGS, [row(lane, ours) for lane in lanes]))
    result.write(options.json)


if __name__ == "__main__":
    main()
