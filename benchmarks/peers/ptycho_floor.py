"""Worker that measures bare transforms: what a pass cannot do without.

``--way ours``: compiled, wave by wave in the cache; ``--way scipy``: batches by scipy.fft.
One pair of transforms at the detector per position and mode, and two pairs more for every flight
between slices (there and back).  Probes that are shifted within a pixel and refined, which no
package here does without, take another pair per position and mode, which is not counted.
"""

from __future__ import annotations

import argparse

import numpy as np
from ptycho import Peer, Scan, serve_ptychography


def make(scan: Scan, options: argparse.Namespace) -> Peer:
    """Pairs of transforms."""
    n0, n1 = scan.data.shape[2:]
    positions = scan.data.shape[0] * scan.data.shape[1]
    count = positions * scan.modes * (1 + 2 * (scan.slices - 1))
    turn = (_compiled if options.way == "ours" else _library)(n0, n1, count, options)

    def passes(number: int) -> None:
        for _ in range(number):
            turn()

    return Peer(passes, lambda: np.full(scan.phase.shape, np.nan))


def _compiled(n0: int, n1: int, count: int, options: argparse.Namespace):
    from py4DSTEM.kernels._jit import njit
    from py4DSTEM.kernels._simd import LANES
    from py4DSTEM.kernels.fft import make_plan, padded, transform
    from py4DSTEM.stream.parallel import in_threads

    @njit(nogil=True)
    def pairs(number, rows, columns, wave, far, buffer):
        for k in range(number):
            transform(wave, far, rows, columns, buffer)
            transform(far, wave, columns, rows, buffer)
            if k % 8 == 7:  # not normalised, so that nothing but transforms is timed: start anew
                wave[:] = np.float32(0.5)

    def work(number: int) -> None:
        shape = (2, padded(n0) * padded(n1))
        wave, far = np.full(shape, 0.5, np.float32), np.zeros(shape, np.float32)
        buffer = np.zeros((6, LANES * padded(max(n0, n1))), np.float32)
        pairs(number, make_plan(n0), make_plan(n1), wave, far, buffer)

    shares = [count // options.threads] * options.threads
    return lambda: in_threads(work, shares)


def _library(n0: int, n1: int, count: int, options: argparse.Namespace):
    from scipy import fft

    rng = np.random.default_rng(0)
    batch = min(options.batch, count)
    waves = rng.standard_normal((batch, n0, n1, 2), dtype=np.float32).view(np.complex64)[..., 0]

    def turn() -> None:
        for _ in range(count // batch):
            far = fft.fft2(waves, workers=options.threads)
            fft.ifft2(far, workers=options.threads, overwrite_x=True)

    return turn


if __name__ == "__main__":
    serve_ptychography(__doc__, ("py4DSTEM", "numpy", "scipy", "numba"), make)
