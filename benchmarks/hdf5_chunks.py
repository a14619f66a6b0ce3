"""Decode a whole HDF5 scan: `Hdf5Array` against h5py, interleaved.

    python benchmarks/hdf5_chunks.py [--positions 64 64] [--repeat 5] [--threads 2] [--file F]

Without a file, small scans are made for several filters and chunk shapes. Times are the
medians over the repeats, in which the readers take turns; the ratio is h5py's time to ours.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np

from py4DSTEM.io.hdf5 import Hdf5Array

DETECTOR = (128, 128)
FILTERS = {
    "bitshuffle-lz4": hdf5plugin.Bitshuffle(cname="lz4"),
    "gzip-shuffle": {"compression": "gzip", "compression_opts": 1, "shuffle": True},
    "lzf-shuffle": {"compression": "lzf", "shuffle": True},
    "zstd": hdf5plugin.Zstd(),
    "blosc-lz4": hdf5plugin.Blosc(cname="lz4"),
    "none": {},
}


def make(folder: Path, scan: tuple[int, int]) -> Iterator[Path]:
    """One file per filter and chunk shape."""
    counts = np.random.default_rng(0).poisson(0.7, (*scan, *DETECTOR)).astype(np.uint16)
    for name, options in FILTERS.items():
        for across in (1, 32):
            path = folder / f"{name}-1x{across}.h5"
            with h5py.File(path, "w") as file:
                chunks = (1, min(across, scan[1]), *DETECTOR)
                file.create_dataset("data", data=counts, chunks=chunks, **options)
            yield path


def through_h5py(path: Path, threads: int) -> None:
    """Row by row, the way h5py is used."""
    with h5py.File(path) as file:
        for row in range(file["data"].shape[0]):
            file["data"][row]


def through_ours(path: Path, threads: int) -> None:
    """Blocks of 64 positions, on a pool of threads."""
    array = Hdf5Array(path, "data")
    rows, columns = array.shape[:2]

    def row(k: int) -> None:
        for start in range(0, columns, 64):
            array.read_block(slice(k, k + 1), slice(start, start + 64))

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(row, range(rows)))
    array.close()


def seconds(function: Callable[[Path, int], None], path: Path, threads: int) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    function(path, threads)
    return time.perf_counter() - start


def compare(path: Path, threads: int, repeat: int) -> None:
    """Print one line of results."""
    readers = {
        "h5py": (through_h5py, 1),
        "ours, 1 thread": (through_ours, 1),
        f"ours, {threads} threads": (through_ours, threads),
    }
    times: dict[str, list[float]] = {name: [] for name in readers}
    for _ in range(repeat):
        for name, (function, n) in readers.items():
            times[name].append(seconds(function, path, n))
    medians = {name: statistics.median(t) for name, t in times.items()}
    with h5py.File(path) as file:
        nbytes = file["data"].nbytes
    cells = [
        f"{name} {t:.3f} s ({nbytes / t / 1e9:.2f} GB/s, {medians['h5py'] / t:.2f}x)"
        for name, t in medians.items()
    ]
    print(f"{path.stem:24} " + "  ".join(cells), flush=True)


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--positions", type=int, nargs=2, default=(64, 64))
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--file", type=Path, help="with a 4-D dataset called data")
    options = parser.parse_args()
    if options.file is not None:
        compare(options.file, options.threads, options.repeat)
        return
    with tempfile.TemporaryDirectory() as folder:
        for path in make(Path(folder), tuple(options.positions)):
            compare(path, options.threads, options.repeat)


if __name__ == "__main__":
    main()
