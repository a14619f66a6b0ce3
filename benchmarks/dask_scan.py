"""One big scan on worker processes of a Dask cluster, against threads of one process.

    python dask_scan.py --folder FOLDER [--gib 2] [--cores 2] [--rounds 5]

Makes a scan of random counts (256 x 256 patterns of 128 x 128 uint16 per 2 GiB), then runs virtual
images with centre of mass (bound by memory) and Bragg disks (bound by arithmetic) in turn on as
many threads and on as many single-threaded worker processes. Opening the file is inside the clock,
starting the cluster is not. Prints medians, their ratio (goal: at most 1.2) and whether the bits
agree; the first round of each lane is left out.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from distributed import Client, LocalCluster

import py4DSTEM
from py4DSTEM import Annulus, Disk, RunOptions
from py4DSTEM.testing.operations import arrays_of

Q = 128
ROWS_PER_GIB = 128
WIDTH = 256


def make_scan(folder: Path, gib: float) -> Path:
    """A `.npy` file with a lattice of disks in every pattern, and noise."""
    rows = max(1, round(ROWS_PER_GIB * gib))
    path = folder / f"dask_scan_{rows}.npy"
    if path.exists():
        return path
    rng = np.random.default_rng(0)
    i, j = np.indices((Q, Q))
    mean = np.full((Q, Q), 0.5)
    for x, y in np.ndindex(5, 5):
        r = np.hypot(i - 20.3 - 22 * x, j - 19.6 - 22 * y)
        mean += (400 if (x, y) == (2, 2) else 60) * np.clip(6.5 - r, 0, 1)
    patterns = rng.poisson(mean, (64, Q, Q)).astype(np.uint16)
    out = np.lib.format.open_memmap(path, "w+", np.uint16, (rows, WIDTH, Q, Q))
    for row in out:
        row[...] = patterns[rng.integers(0, len(patterns), WIDTH)]
    out.flush()
    return path


def images(path: Path, options: RunOptions) -> Any:
    """A bright field, a dark field and the centre of mass."""
    from py4DSTEM.process.com import CenterOfMass
    from py4DSTEM.process.virtual import VirtualImages

    center = (64.3, 63.6)
    detectors = {"bf": Disk(8, center=center), "adf": Annulus(12, 50, center=center)}
    operations = [VirtualImages(detectors=detectors), CenterOfMass()]
    return py4DSTEM.run(operations, py4DSTEM.read(path), options=options)


def peaks(path: Path, options: RunOptions) -> Any:
    """Bragg disks in the first quarter of the scan."""
    cube = py4DSTEM.read(path)
    part = cube.crop(R=((0, max(1, cube.R_shape[0] // 4)), (0, WIDTH)))
    probe = py4DSTEM.synthetic_probe((Q, Q), radius_px=6.0)
    return py4DSTEM.find_bragg_disks(part, probe, options=options)


def timed(work: Callable[[Path, RunOptions], Any], path: Path, options: RunOptions) -> Any:
    start = time.perf_counter()
    result = work(path, options)
    return time.perf_counter() - start, {n: a.tobytes() for n, a in arrays_of(result)}


def compare(work: Callable[..., Any], path: Path, lanes: dict[str, RunOptions], rounds: int) -> Any:
    """Medians of lanes in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in lanes}
    bits = {}
    for k in range(rounds + 1):
        for name, options in lanes.items():
            taken, bits[name] = timed(work, path, options)
            if k:
                seconds[name].append(taken)
    medians = {name: round(statistics.median(values), 4) for name, values in seconds.items()}
    ratio = round(medians["dask"] / medians["threads"], 3)
    return {**medians, "ratio": ratio, "same_bits": bits["dask"] == bits["threads"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--gib", type=float, default=2)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    path = make_scan(given.folder, given.gib)
    with (
        LocalCluster(
            n_workers=given.cores, threads_per_worker=1, dashboard_address=":0", silence_logs=50
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        lanes = {"threads": RunOptions(workers=given.cores), "dask": RunOptions(client=client)}
        for name, work in {"images": images, "peaks": peaks}.items():
            print(
                json.dumps({"work": name, **compare(work, path, lanes, given.rounds)}), flush=True
            )


if __name__ == "__main__":
    main()
