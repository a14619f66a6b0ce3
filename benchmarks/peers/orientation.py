"""What the workers of the orientation benchmark share: spot lists of gold, and errors.

Only numpy and the standard library are imported here. The lab frame of the lists has z along the
beam; ``R`` maps crystal directions to it.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from protocol import Answer, serve

ROWS, COLUMNS = 50, 20
A, K_MAX, ENERGY_EV, LAMBDA_A = 4.08, 1.6, 300e3, 0.0196875
BASIS = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])


@dataclass(frozen=True)
class SpotLists:
    """Spots of 1000 patterns in Å⁻¹ (x, y, intensity), and the true rotations."""

    lists: tuple[np.ndarray, ...]
    R: np.ndarray

    @classmethod
    def load(cls, path: Path) -> SpotLists:
        """From what `make_lists` wrote."""
        with np.load(path) as file:
            spots, offsets = file["spots"], file["offsets"]
            lists = tuple(spots[a:b] for a, b in itertools.pairwise(offsets))
            return cls(lists, file["R"])

    def errors(self, estimate: np.ndarray) -> dict[str, float]:
        """Degrees, with the convention (one for all) that suits the package best.

        ``_apart`` allows half a turn about the beam per pattern, which the spots of one zone do not
        tell apart.
        """
        half = [np.eye(3), np.diag([1.0, -1, -1]), np.diag([-1.0, 1, -1]), np.diag([-1.0, -1, 1])]
        quarter = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
        same = self.R[:, None] @ cubic_rotations()[None]
        known = np.isfinite(estimate).all((1, 2))
        filled = np.where(known[:, None, None], estimate, np.eye(3))
        best: tuple[float, np.ndarray, np.ndarray] | None = None
        for turned in (filled, filled.transpose(0, 2, 1)):
            for frame in half + [quarter @ one for one in half]:
                trace = np.einsum("nkij,nij->nk", same, frame @ turned).max(1)
                other = np.einsum("nkij,nij->nk", same, half[3] @ frame @ turned).max(1)
                angles = [
                    np.degrees(np.arccos(np.clip((t - 1) / 2, -1, 1)))
                    for t in (trace, np.maximum(trace, other))
                ]
                plain, apart = (np.where(known, one, 180.0) for one in angles)
                key = float(np.median(plain) + np.median(apart))
                if best is None or key < best[0]:
                    best = (key, plain, apart)
        _, plain, apart = best
        return {
            "median_deg": float(np.median(plain)),
            "within_2": float((plain < 2).mean()),
            "median_apart_deg": float(np.median(apart)),
            "within_2_apart": float((apart < 2).mean()),
            "indexed": float(known.mean()),
        }


def cubic_rotations() -> np.ndarray:
    """The 24 proper rotations of a cube."""
    found = []
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1, -1), repeat=3):
            m = np.zeros((3, 3))
            m[range(3), order] = signs
            if np.linalg.det(m) > 0:
                found.append(m)
    return np.array(found)


def make_lists(path: Path, count: int = ROWS * COLUMNS) -> None:
    """Kinematic spots of gold in random orientations, places and intensities with errors.

    Gaussian rocking curves of 0.03 Å⁻¹; 0.003 Å⁻¹ and 20 % of noise.
    """
    rng = np.random.default_rng(7)
    reach = int(K_MAX * A) + 1
    h = np.stack(np.meshgrid(*[np.arange(-reach, reach + 1)] * 3, indexing="ij"), -1)
    h = h.reshape(-1, 3)
    h = h[np.isin((h % 2).sum(1), (0, 3))]
    g = h / A
    length = np.linalg.norm(g, axis=1)
    g, length = (one[(length > 0) & (length <= K_MAX)] for one in (g, length))
    strength = np.exp(-(length**2) / 0.36)
    q = rng.standard_normal((count, 4))
    w, x, y, z = (q / np.linalg.norm(q, axis=1)[:, None]).T
    R = np.moveaxis(np.array([
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]), -1, 0)  # fmt: skip
    lists = []
    for one in R:
        v = g @ one.T
        s = -(v[:, 2] + LAMBDA_A * length**2 / 2)
        intensity = strength * np.exp(-(s**2) / (2 * 0.03**2))
        seen = intensity > 0.001 * strength.max()
        places = v[seen, :2] + rng.normal(0, 0.003, (seen.sum(), 2))
        noisy = intensity[seen] * rng.uniform(0.8, 1.2, seen.sum())
        lists.append(np.column_stack([places, noisy]))
    offsets = np.cumsum([0, *map(len, lists)])
    np.savez(path, spots=np.concatenate(lists), offsets=offsets, R=R)


Match = Callable[[], np.ndarray]


def serve_orientation(doc: str, packages: tuple[str, ...], make: Callable[[SpotLists], Match]):
    """Run the worker of one peer; `make` does what is not timed (the plan) and returns the rest."""
    parser = argparse.ArgumentParser(description=doc.split("\n")[0])
    parser.add_argument("--lists", type=Path, required=True)
    parser.add_argument("--prepared", action="store_true", help="ours: do not time the plan either")
    lists = SpotLists.load(parser.parse_args().lists)

    def jobs() -> dict[str, Callable[[], Answer]]:
        call = make(lists)
        return {"match": lambda: Answer({"R": call()})}

    serve(jobs, packages, check=lambda arrays: lists.errors(np.asarray(arrays["R"], float)))
