"""Time and error of the lattice fit and the strain map from given peaks: 128 × 128 × 21.

    python benchmarks/strain_fit.py [--repeat N] [--json FILE]

The time that is quoted is that of the thread: it does not count what other programs do meanwhile.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np

from py4DSTEM import BraggPeaks, Calibration, fit_lattice, strain_map
from py4DSTEM.process.bragg.peaks import PEAK_DTYPE

N, SPACING_PX, CENTER_PX, NOISE_PX = 128, 19.0, 64.0, 0.05


def strained_peaks(with_sigmas: bool) -> tuple[BraggPeaks, np.ndarray]:
    """A table of 21 peaks per position, and the true lattice vectors (N, N, 2, 2)."""
    rng = np.random.default_rng(5)
    u, v = np.meshgrid(np.arange(N) / N, np.arange(N) / N, indexing="ij")
    e_xx, e_yy = 0.02 * np.sin(2 * np.pi * u), -0.015 * np.cos(2 * np.pi * v)
    e_xy, turn = 0.008 * np.sin(2 * np.pi * (u + v)), np.deg2rad(7 + np.cos(2 * np.pi * u))
    deform = np.moveaxis(np.array([[1 + e_xx, e_xy], [e_xy, 1 + e_yy]]), (0, 1), (-2, -1))
    axes = np.moveaxis(
        np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]), (0, 1), (-2, -1)
    )
    lattice = SPACING_PX * axes @ np.swapaxes(deform, -1, -2)
    h, k = (a.ravel() for a in np.mgrid[-3:4, -3:4])
    hk = np.stack([h, k], -1)[np.hypot(h, k) * SPACING_PX < 51]
    points = CENTER_PX + hk @ lattice
    points = points + rng.normal(0, NOISE_PX, points.shape)
    table = np.full(points.shape[:3], np.nan, PEAK_DTYPE)
    table["qx"], table["qy"] = points[..., 0], points[..., 1]
    strength = np.where(hk.any(1), np.exp(-(hk**2).sum(1) / 6.0), 5.0)
    table["intensity"] = strength * rng.uniform(0.7, 1.3, table.shape)
    if with_sigmas:
        table["sigma_qx"] = table["sigma_qy"] = NOISE_PX
        table["cov_qxqy"] = 0.0
    offsets = np.arange(N * N + 1) * len(hk)
    calibration = Calibration().replace(origin_px=(CENTER_PX, CENTER_PX))
    return BraggPeaks(table.ravel(), offsets, (N, N), calibration), lattice


def measured(peaks: BraggPeaks, truth: np.ndarray, repeat: int) -> dict[str, float]:
    """Best times (s), and how far errors and uncertainties agree."""
    fit_lattice(peaks)
    spent = []
    for _ in range(repeat):
        wall, start = time.perf_counter(), time.thread_time()
        lattice = fit_lattice(peaks)
        middle = time.thread_time()
        strain_map(lattice)
        spent.append((middle - start, time.thread_time() - middle, time.perf_counter() - wall))
    fit_s, strain_s, wall_s = np.min(spent, axis=0)
    pull = (lattice.vectors - truth).reshape(-1, 4) / lattice.sigma.reshape(-1, 4)
    return {
        "fit (s)": fit_s, "strain (s)": strain_s, "both, by the clock (s)": wall_s,
        "inside 1 sigma": float((abs(pull) < 1).mean()),
        "inside 2 sigma": float((abs(pull) < 2).mean()),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--json")
    options = parser.parse_args()
    results = {
        name: measured(*strained_peaks(sigmas), options.repeat)
        for name, sigmas in (("peaks with sigmas", True), ("peaks without", False))
    }
    print(json.dumps(results, indent=1))
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
