"""The fused kernel against a plain numba loop and against the memory bus.

    python benchmarks/kernels_measure.py [--dtype uint16] [--size 128] [--mebibytes 256]

Every case runs over tiles of about 4 MiB on one thread and on two, the cases in turn, so that a
busy machine disturbs all alike. Times are medians per pattern; "read" is the same work done by a
loop that only adds up 64-bit words.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np

from py4DSTEM.kernels import compiled

TILE_BYTES = 4 << 20
K = compiled()


@numba.njit(nogil=True)
def read(words):
    total = np.uint64(0)
    for word in words:
        total += word
    return total


@numba.njit(nogil=True)
def plain_loop(frames, bf, adf, out):
    """BF, ADF and moments as one would write them first."""
    for p in range(frames.shape[0]):
        a, b, s, x, y = 0.0, 0.0, 0.0, 0.0, 0.0
        for i in range(frames.shape[1]):
            for j in range(frames.shape[2]):
                v = np.float64(frames[p, i, j])
                a += bf[i, j] * v
                b += adf[i, j] * v
                s += v
                x += i * v
                y += j * v
        out[p, 0], out[p, 1], out[p, 2], out[p, 3], out[p, 4] = a, b, s, x, y


def ring(size: int, inner: float, outer: float) -> np.ndarray:
    """Anti-aliased annulus, radii in 128ths of the pattern."""
    i, j = np.indices((size, size)) - (size - 1) / 2 + 0.3
    radius = np.hypot(i, j) * 128 / size
    weights = np.clip((outer - radius) * size / 128 + 0.5, 0, 1)
    return weights - np.clip((inner - radius) * size / 128 + 0.5, 0, 1) if inner else weights


def cases(size: int) -> dict[str, Callable[[np.ndarray], object]]:
    bf, adf = ring(size, 0, 20), ring(size, 24, 64)
    five = np.array(
        [ring(size, a, b) for a, b in ((0, 20), (10, 20), (20, 35), (35, 50), (50, 64))]
    )
    plans = {"bf": bf[None], "adf": adf[None], "both": np.stack([bf, adf]), "five": five}
    plan = {name: K.compile_detectors(w) for name, w in plans.items()}
    everything = {"moments": True, "sums": True, "maximum": True}
    return {
        "read": lambda f: read(f.reshape(-1).view(np.uint64)),
        "plain loop": lambda f: plain_loop(f, bf, adf, np.empty((len(f), 5))),
        "bf": lambda f: K.measure(f, plan["bf"]),
        "adf": lambda f: K.measure(f, plan["adf"]),
        "moments": lambda f: K.measure(f, moments=True),
        "bf+adf+moments": lambda f: K.measure(f, plan["both"], moments=True),
        "sums": lambda f: K.measure(f, sums=True),
        "sums+maximum": lambda f: K.measure(f, sums=True, maximum=True),
        "sums+squares": lambda f: K.measure(f, sums=True, squares=True),
        "five": lambda f: K.measure(f, plan["five"]),
        "five+all": lambda f: K.measure(f, plan["five"], **everything),
    }


def seconds(work: Callable[[np.ndarray], object], tiles: list[np.ndarray], threads: int) -> float:
    start = time.perf_counter()
    if threads == 1:
        for tile in tiles:
            work(tile)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(work, tiles))
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dtype", default="uint16")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--mebibytes", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=7)
    given = parser.parse_args()
    dtype, size = np.dtype(given.dtype), given.size
    one = np.random.default_rng(0).integers(0, 200, (16, size, size)).astype(dtype)
    count = max(1, (given.mebibytes << 20) // one.nbytes)
    frames = np.tile(one, (count, 1, 1))
    step = max(1, TILE_BYTES // one[0].nbytes)
    tiles = [frames[k : k + step] for k in range(0, len(frames), step)]
    work = cases(size)
    for run in work.values():
        run(tiles[0])
    times = {(name, t): [] for name in work for t in (1, 2)}
    for _ in range(given.repeats):
        for name, run in work.items():
            for threads in (1, 2):
                times[name, threads].append(seconds(run, tiles, threads))
    print(f"{len(frames)} patterns of {size}x{size} {dtype}, {len(tiles)} tiles")
    for threads in (1, 2):
        t = {name: float(np.median(times[name, threads])) for name in work}
        bandwidth = frames.nbytes / t["read"] / 1e9
        print(f"\n{threads} thread(s), read {bandwidth:.1f} GB/s")
        print(f"{'':16s}{'us/pattern':>11s}{'of read':>9s}{'x plain':>9s}{'/ adf':>8s}")
        for name, s in t.items():
            us = s / len(frames) * 1e6
            ratios = t["read"] / s, t["plain loop"] / s, s / t["adf"]
            print(f"{name:16s}{us:11.2f}{ratios[0]:9.2f}{ratios[1]:9.1f}{ratios[2]:8.2f}")


if __name__ == "__main__":
    main()
