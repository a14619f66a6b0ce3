"""What the workers of ``benchmarks/polar.py`` share: the patterns, and how far an answer is off."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import protocol

RINGS, ANGLES = 120, 180
"""Rings of one pixel: ring k reaches from k to k + 1 px."""

QUANTILES = {"median": 50, "99": 99, "largest": 100}


@dataclass(frozen=True)
class Patterns:
    """Patterns (n, 256, 256) uint16, their origin, and the exact answers for the first few."""

    data: np.ndarray
    origin: tuple[float, float]
    truth: Mapping[str, np.ndarray]


def load(path: str) -> Patterns:
    """The file that the driver has made."""
    with np.load(path) as file:
        truth = {name: file[name] for name in ("radial", "variance", "polar")}
        return Patterns(file["data"], tuple(map(float, file["origin"])), truth)


def serve(make: Callable[[Patterns], Mapping[str, Callable]], packages: tuple[str, ...]) -> None:
    """Answer requests for the jobs of a peer; each returns arrays by the names of the truth."""
    parser = argparse.ArgumentParser()
    parser.add_argument("file")
    parser.add_argument("--split", default="no")
    options = parser.parse_args()
    patterns = load(options.file)

    def jobs() -> dict[str, protocol.Job]:
        made = make(patterns) if make.__code__.co_argcount == 1 else make(patterns, options.split)
        return {name: (lambda run=run: protocol.Answer(run())) for name, run in made.items()}

    protocol.serve(jobs, packages, check=lambda arrays: off(arrays, patterns.truth))


def off(arrays: Mapping[str, np.ndarray], truth: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Relative deviations beyond the innermost rings: the median, 99 % of them, the largest."""
    found: dict[str, float] = {}
    for name, values in arrays.items():
        true = truth[name][:, 4:]
        one = np.asarray(values)[: len(true), 4:].astype(np.float64)
        error = np.abs(one.reshape(true.shape) - true) / true
        found |= {f"{name}_{q}": float(np.percentile(error, p)) for q, p in QUANTILES.items()}
    return found
