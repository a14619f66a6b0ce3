"""Direct ptychography of a 128 x 128 scan of 64 x 64 pixels against its bare Fourier transforms.

    python ssb.py [--rounds 7] [--json FILE]

A simulated sheet with vacancies, 10 000 electrons per position, in memory.  The floor is rfft2 over
the scan of every bright-field pixel by scipy.fft, in blocks that stay in the cache, one half of the
pixels in each of two threads.  All lanes take turns; medians.  "processor" are seconds of all
threads together, which another program on the machine does not lengthen as much.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import common
import numpy as np

from py4DSTEM import simulate
from py4DSTEM.core.aberrations import Aberrations
from py4DSTEM.process.phase.direct_stack import BrightStack
from py4DSTEM.process.phase.direct_sums import overlaps, waves_of
from py4DSTEM.stream.parallel import in_threads

LENS = {"defocus": 100.0}
BLOCK = 8


def transforms(images: np.ndarray) -> None:
    def some(part: np.ndarray) -> None:
        for first in range(0, len(part), BLOCK):
            waves_of(part[first : first + BLOCK])

    in_threads(some, np.array_split(images, 2))


def timed(work: Callable[[], object]) -> tuple[float, float]:
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - processor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json")
    given = parser.parse_args()
    scan = simulate.phase_object((128, 128), (64, 64), step_A=0.5, dose=10_000, seed=1)
    cube = scan.cube.with_calibration(scan.truth.calibration)
    stack, lens = BrightStack.of(cube, None, None), Aberrations(LENS)
    ones = np.ones(len(stack.index))
    lanes: dict[str, Callable[[], object]] = {
        "floor: transforms alone": lambda: transforms(stack.images),
        "transforms and sums, ssb": lambda: overlaps(stack, stack.optics, lens, ones, both=False),
        "transforms and sums, obf": lambda: overlaps(stack, stack.optics, lens, ones, both=True),
        "ssb, from the patterns": lambda: cube.ssb(aberrations=LENS),
        "obf, from the patterns": lambda: cube.direct_ptychography(method="obf", aberrations=LENS),
        "wdd, from the patterns": lambda: cube.direct_ptychography(method="wdd", aberrations=LENS),
        "ssb, rotation and lens fitted": lambda: scan.cube.ssb(),
    }
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in lanes}
    for turn in range(given.rounds + 1):
        for name, work in lanes.items():
            slow = "wdd" in name or "fitted" in name
            if turn and slow and turn > 3:
                continue
            found = timed(work)
            if turn:  # the first compiles
                seconds[name].append(found)
    result = common.Result(f"ssb 128 x 128 x 64 x 64, {len(stack.index)} bright-field pixels")
    middle = {
        name: [statistics.median(column) for column in zip(*runs, strict=True)]
        for name, runs in seconds.items()
    }
    floor = middle["floor: transforms alone"]
    rows = [
        (name, wall, wall / floor[0], processor, processor / floor[1])
        for name, (wall, processor) in middle.items()
    ]
    result.cases.update({name: {"seconds": row} for name, row in middle.items()})
    print(f"{len(stack.index)} bright-field pixels")
    print(common.table(("lane", "s", "x floor", "processor (s)", "x floor"), rows))
    if given.json:
        result.write(given.json)


if __name__ == "__main__":
    main()
