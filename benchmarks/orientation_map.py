"""Orientations of 1000 spot lists of gold: this package against its peers.

    python orientation_map.py --data FOLDER --ours PYTHON [--py4dstem014 PYTHON] [--quantem PYTHON]
                              [--pyxem PYTHON] [--rounds 5] [--json FILE]

FOLDER is filled where it is empty. Directions 2 degrees apart, one thread, called in turns. Ours
includes the plan and all that it learns from the lists (scale, rocking curves, pixel size), and
gives uncertainties; "prepared" has these made before, as the plans of the
peers are. pyxem works on images, drawn from the lists.

Columns: seconds (median of the rounds), time over that of ours, median error and share within 2
degrees, and both again with half a turn about the beam allowed.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import common
from workers import HERE, Turns, Variant, WorkerFailed, add_interpreters, interpreters, start_lane

PEERS = ("ours", "py4dstem014", "quantem", "pyxem")
VARIANTS = (
    Variant("ours, with sigmas", "ours", "orientation_ours.py"),
    Variant("ours, prepared", "ours", "orientation_ours.py", ("--prepared",)),
    Variant("py4DSTEM 0.14", "py4dstem014", "orientation_py4dstem014.py", slow=True),
    Variant("quantem", "quantem", "orientation_quantem.py", slow=True),
    Variant("pyxem", "pyxem", "orientation_pyxem.py", slow=True),
)
FIGURES = ("median_deg", "within_2", "median_apart_deg", "within_2_apart", "indexed")
HEADINGS = ("lane", "s", "min", "max", "n", "x ours", *FIGURES, "others")


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
    result = common.Result("orientations of given spots")
    pythons = interpreters(options, PEERS, result)
    lists = options.data / "orientation.npz"
    if not lists.exists():
        sys.path.insert(0, str(HERE / "peers"))
        from orientation import make_lists  # of peers/

        options.data.mkdir(parents=True, exist_ok=True)
        make_lists(lists)
    lanes = []
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for variant in VARIANTS:
            if variant.peer in pythons:
                try:
                    lane = start_lane(
                        variant, pythons[variant.peer], ["--lists", str(lists)], scratch
                    )
                except WorkerFailed as error:
                    result.note(f"{variant.name}: not measured ({error})")
                    continue
                stack.enter_context(lane.worker)
                result.versions[variant.peer] = lane.worker.hello["versions"]
                lanes.append(lane)
        Turns(options.rounds, options.slow_rounds, options.pause).run(lanes, "match")
    for lane in lanes:
        if lane.failed:
            result.note(f"{lane.variant.name}: failed ({lane.failed})")
    lanes = [lane for lane in lanes if lane.samples.seconds]
    ours = next((lane.median for lane in lanes if lane.variant.name == "ours, prepared"), math.nan)
    result.cases["match"] = {
        lane.variant.name: {**lane.figures(), "times_ours": lane.median / ours} for lane in lanes
    }
    rows = []
    for lane in lanes:
        s = lane.samples.summary()
        times = [s["median"], s["min"], s["max"], s["n"], s["median"] / ours]
        found = [lane.checks.get(name, math.nan) for name in FIGURES]
        rows.append([lane.variant.name, *times, *found, s["others"]])
    print("\n### Orientations of 1000 spot lists of gold, one thread\n")
    print(common.table(HEADINGS, rows))
    result.write(options.json)


if __name__ == "__main__":
    main()
