"""What the workers of the classification benchmark share: the features, their truth, the score.

Only numpy and the standard library are imported here.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from protocol import Answer, Job, serve

CLASSES = 8


def made(shape: tuple[int, int] = (256, 256), features: int = 200) -> dict[str, np.ndarray]:
    """Counts (Rx * Ry, features) of patches of eight spectra that overlap, and the largest one."""
    rng = np.random.default_rng(1)
    spectra = rng.gamma(0.5, 1.0, (CLASSES, features))
    seeds = rng.uniform(0, 1, (3 * CLASSES, 2)) * shape
    x, y = np.indices(shape)
    amounts = np.zeros((CLASSES, *shape))
    for k, (a, b) in enumerate(seeds):
        amounts[k % CLASSES] += np.exp(-((x - a) ** 2 + (y - b) ** 2) / (2 * 28**2))
    amounts = amounts**2 / (amounts**2).sum(axis=0)
    counts = rng.poisson(20 * np.einsum("kxy,kf->xyf", amounts, spectra))
    return {
        "counts": counts.reshape(-1, features).astype(np.float32),
        "labels": amounts.argmax(axis=0),
        "amounts": amounts.reshape(CLASSES, -1).T,
    }


def score(truth: Mapping[str, np.ndarray]) -> Callable[[Mapping[str, np.ndarray]], dict]:
    """Least correlation of an amount with the true one it is most like; weights (n, 8)."""

    def check(arrays: Mapping[str, np.ndarray]) -> dict[str, float]:
        weights = np.asarray(arrays["weights"], np.float64).reshape(-1, CLASSES)
        match = np.corrcoef(weights.T, truth["amounts"].T)[:CLASSES, CLASSES:]
        return {"least correlation": float(match.max(axis=0).min())}

    return check


def serve_classes(
    doc: str, packages: tuple[str, ...], make: Callable[[Mapping[str, np.ndarray]], Mapping]
) -> None:
    """Serve the job "classes" by the way (a name that `make` gives) on the command line."""
    parser = argparse.ArgumentParser(description=doc.split("\n")[0])
    parser.add_argument("--scan", type=Path, required=True)
    parser.add_argument("--way", required=True)
    options = parser.parse_args()
    with np.load(options.scan) as file:
        truth = {name: file[name] for name in file.files}

    def jobs() -> dict[str, Job]:
        way = make(truth)[options.way]
        return {"classes": lambda: Answer({"weights": way()})}

    serve(jobs, packages, check=score(truth))
