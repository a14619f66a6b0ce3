"""Pair distributions of 10 000 radial profiles: this package, and one profile after another.

    python pdf.py [--positions 100] [--rounds 5] [--json FILE]

Profiles of a kinematic glass with counting noise, 64 rings, 600 distances, with the errors of every
g(r).  The baseline does the same steps by numpy for each profile (least squares of the background,
sine transform), without errors: what a script around a function for one profile costs.  The floor
is the one matrix product that makes G(r).
"""

from __future__ import annotations

import argparse
import time

import common
import numpy as np

RINGS, STEP_A, DENSITY_A3 = 64, 0.0235, 0.07


def structure_factor(q: np.ndarray) -> np.ndarray:
    """Hard spheres of 2.5 Å, half of the volume filled (Percus and Yevick)."""
    eta, x = 0.5, 2 * np.pi * np.maximum(q, 1e-3) * 2.5
    a = (1 + 2 * eta) ** 2 / (1 - eta) ** 4
    b = -6 * eta * (1 + eta / 2) ** 2 / (1 - eta) ** 4
    c = eta * a / 2
    s, k = np.sin(x), np.cos(x)
    total = a * (s - x * k) / x**2 + b * (2 * x * s + (2 - x**2) * k - 2) / x**3
    total += c * (-(x**4) * k + 4 * ((3 * x**2 - 6) * k + (x**3 - 6 * x) * s + 6)) / x**5
    return 1 / (1 + 24 * eta * total / x)


def make(positions: int):
    from py4DSTEM.core.axis import Axis
    from py4DSTEM.core.scattering import Composition
    from py4DSTEM.process.radial import RadialProfileResult

    q = STEP_A * np.arange(RINGS)
    pixels = 2 * np.pi * np.maximum(np.arange(RINGS), 0.2)
    expected = 0.3 * Composition.parse("Cu").mean_f2_A2(q) * structure_factor(q)
    shape = (positions, positions, RINGS)
    counts = np.random.default_rng(0).poisson(expected * pixels, shape)
    return RadialProfileResult(
        counts / pixels, np.broadcast_to(pixels, shape).copy(), Axis("q", STEP_A, 0.0, "A^-1"), 1.0
    )


def ours(profiles):
    import py4DSTEM

    return py4DSTEM.pair_distribution(
        profiles, "Cu", per="position", q_min=0.1, q_max=1.45, density_A3=DENSITY_A3
    )


def one_by_one(profiles, found) -> np.ndarray:
    """G(r) of each profile on its own."""
    from py4DSTEM.core.scattering import Composition

    q, r = found.q, found.r
    used = np.searchsorted(profiles.q, q - 1e-9)
    f2 = Composition.parse("Cu").mean_f2_A2(q)
    design = (f2 * np.stack([(1 - q / q[-1]) ** k for k in range(3)]) * q / f2).T
    window = np.sinc(q / (q[-1] + STEP_A / 2)) * STEP_A * 4
    rows = []
    for profile in profiles.data.reshape(-1, RINGS)[:, used]:
        fit, *_ = np.linalg.lstsq(design, profile * q / f2, rcond=None)
        F = 2 * np.pi * (profile * q / f2 - design @ fit) / fit[0]
        rows.append(np.sin(2 * np.pi * np.outer(r, q)) @ (F * window))
    return np.array(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--positions", type=int, default=100, help="along each side of the scan")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json")
    given = parser.parse_args()
    result = common.Result("pair distributions")
    profiles = make(given.positions)
    found = ours(profiles)
    lanes = {
        "ours, with errors": lambda: ours(profiles),
        "ours, first peaks and neighbours besides": lambda: _all(profiles),
        "one after another, without errors": lambda: one_by_one(profiles, found),
        "floor: one product": lambda: found.intensity.reshape(-1, len(found.q)) @ found.to_H.T,
    }
    times: dict[str, list[float]] = {name: [] for name in lanes}
    for _ in range(given.rounds):
        for name, lane in lanes.items():
            start = time.perf_counter()
            lane()
            times[name].append(time.perf_counter() - start)
    rows = []
    for name, taken in times.items():
        result.cases[name] = {"seconds": float(np.median(taken)), "all": taken}
        rows.append((name, float(np.median(taken))))
    print(common.table(("lane", "s"), rows))
    peaks = found.first_peak()
    result.note(
        f"{given.positions**2} profiles; first peak {np.nanmedian(peaks.r_A):.3f} Å, scatter "
        f"{np.nanstd(peaks.r_A):.3f}, stated {np.nanmedian(peaks.sigma_A):.3f}"
    )
    result.write(given.json)


def _all(profiles) -> None:
    found = ours(profiles)
    found.first_peak()
    found.coordination()


if __name__ == "__main__":
    main()
