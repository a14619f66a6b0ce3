"""Polar transform and statistics of rings of 256 x 256 patterns: this package and its peers.

    python polar.py [--ours PYTHON] [--pyfai PYTHON] [--py4dstem014 PYTHON] [--patterns 1024]
        [--slow-patterns 40] [--rounds 5] [--json FILE]

One thread each, calls in turns; uint16 counts of a glass with an off-centre origin, in memory.
Jobs: the mean of every ring; mean and variance of the pixels of every ring; the mean in 120 x 180
polar bins.  The truth is every pixel cut into 24 x 24 squares, each in the bin of its middle.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import common
import numpy as np
import workers

JOBS = ("radial", "variance", "polar")
RINGS, ANGLES, PARTS = 120, 180, 24
ORIGIN = (126.3, 129.1)
VARIANTS = (
    workers.Variant("ours", "ours", "polar_ours.py"),
    workers.Variant("pyFAI csr, no splitting", "pyfai", "polar_pyfai.py", ("--split", "no")),
    workers.Variant("pyFAI csr, full splitting", "pyfai", "polar_pyfai.py", ("--split", "full")),
    workers.Variant("py4DSTEM 0.14", "py4dstem014", "polar_py4dstem014.py", slow=True),
)


def make(path: Path, count: int) -> None:
    """Rings with speckles, 1 to 200 counts per pixel; answers for the first four patterns."""
    rng = np.random.default_rng(0)
    x, y = (i - c for i, c in zip(np.indices((256, 256)), ORIGIN, strict=True))
    r, turn = np.hypot(x, y), np.arctan2(y, x)
    mean = 150 * np.exp(-r / 40) + 60 * np.exp(-(((r - 60) / 6) ** 2)) + 4
    mean = mean * (1 + 0.3 * np.cos(2 * turn))
    data = rng.poisson(mean, (count, 256, 256)).astype(np.uint16)
    few = np.concatenate([data[:3], rng.poisson(mean * 200, (1, 256, 256))])[:4]
    data[3] = few[3].clip(0, 65535)
    np.savez(path, data=data, origin=ORIGIN, **truth(data[:4].reshape(4, -1).astype(np.float64)))


def truth(flat: np.ndarray) -> dict[str, np.ndarray]:
    """Means, variances and polar means by small squares."""
    inner = (np.arange(PARTS) + 0.5) / PARTS - 0.5
    size = RINGS * ANGLES
    sums, area = np.zeros((len(flat), size)), np.zeros(size)
    rings, squares = np.zeros((2, len(flat), RINGS))
    i, j = np.indices((256, 256)).reshape(2, -1)
    area_r = np.zeros(RINGS)
    for a in inner:
        for b in inner:
            x, y = i + a - ORIGIN[0], j + b - ORIGIN[1]
            ring = np.floor(np.hypot(x, y)).astype(int)
            wedge = np.floor(np.arctan2(y, x) / (2 * np.pi) * ANGLES).astype(int) % ANGLES
            inside = ring < RINGS
            place = (ring * ANGLES + wedge)[inside]
            area += np.bincount(place, minlength=size)
            area_r += np.bincount(ring[inside], minlength=RINGS)
            for n, pattern in enumerate(flat):
                v = pattern[inside]
                sums[n] += np.bincount(place, v, size)
                rings[n] += np.bincount(ring[inside], v, RINGS)
                squares[n] += np.bincount(ring[inside], v**2, RINGS)
    mean = rings / area_r
    return {
        "radial": mean,
        "variance": squares / area_r - mean**2,
        "polar": (sums / area).reshape(len(flat), RINGS, ANGLES),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    peers = ("ours", "pyfai", "py4dstem014")
    workers.add_interpreters(parser, peers)
    parser.add_argument("--patterns", type=int, default=1024, help="a multiple of 128")
    parser.add_argument("--slow-patterns", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json")
    options = parser.parse_args()
    options.ours = options.ours or sys.executable
    result = common.Result("polar transform of 256 x 256 patterns, one thread")
    pythons = workers.interpreters(options, peers, result)
    with tempfile.TemporaryDirectory() as folder:
        files = {}
        for slow, count in ((False, options.patterns), (True, options.slow_patterns)):
            files[slow] = Path(folder) / f"{count}.npz"
            make(files[slow], count)
        for job in JOBS:
            measure(job, pythons, files, options, result)
    result.write(options.json)


def measure(
    job: str, pythons: dict, files: dict, options: argparse.Namespace, result: object
) -> None:
    """One job by all lanes, in turns."""
    lanes = []
    with tempfile.TemporaryDirectory() as scratch:
        for variant in VARIANTS:
            if variant.peer in pythons:
                shared = (str(files[variant.slow]),)
                lane = workers.start_lane(variant, pythons[variant.peer], shared, Path(scratch))
                lanes.append(lane)
        workers.Turns(rounds=options.rounds).run(lanes, job)
        rows = []
        for lane in lanes:
            count = options.slow_patterns if lane.variant.slow else options.patterns
            rate = count / lane.median if not lane.failed else float("nan")
            errors = {k: lane.checks.get(f"{job}_{k}", float("nan")) for k in ("median", "99")}
            rows.append((lane.variant.name, rate, *errors.values()))
            result.cases[f"{job}: {lane.variant.name}"] = {"per_s": rate, **lane.figures()}
            lane.worker.__exit__()
    head = (job, "patterns/s", "off by, median", "99 % below")
    print(common.table(head, rows), flush=True)


if __name__ == "__main__":
    main()
