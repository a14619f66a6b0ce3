"""What the workers of the Bragg disk benchmark share: patterns, settings, and the score.

Only numpy and the standard library are imported here; the patterns are described in
``bragg_data.py``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from protocol import Answer, serve

SCAN_COLUMNS = 20
MATCH_PX = 2.0
SMOOTHING_PX = 2.0
EDGE_PX = 4
UPSAMPLING = 16


@dataclass(frozen=True)
class Patterns:
    """The patterns of one case with their truth, and the settings that all peers are given.

    Parameters
    ----------
    data : (n, Q, Q) uint16
    positions : (n, disks, 2) float64
        True centres in pixels, x = rows.
    amplitudes : (n, disks) float64
        Counts per pixel inside the disks.
    probe : (Q, Q) float64
        Noise-free, centred at Q / 2.
    radius, spacing : float
        Of the disks, pixels.
    """

    data: np.ndarray
    positions: np.ndarray
    amplitudes: np.ndarray
    probe: np.ndarray
    radius: float
    spacing: float

    @classmethod
    def load(cls, path: Path, patterns: int) -> Patterns:
        """The first `patterns`, a multiple of the columns of the scan that they make."""
        with np.load(path) as file:
            n = min(patterns, len(file["data"])) // SCAN_COLUMNS * SCAN_COLUMNS
            per_pattern = {name: file[name][:n] for name in ("data", "positions", "amplitudes")}
            numbers = {name: float(file[name]) for name in ("radius", "spacing")}
            return cls(probe=file["probe"], **per_pattern, **numbers)

    @property
    def size(self) -> int:
        """Pixels along one side of a pattern."""
        return self.data.shape[-1]

    @property
    def cube(self) -> np.ndarray:
        """The patterns as a scan (Rx, Ry, Q, Q)."""
        return self.data.reshape(-1, SCAN_COLUMNS, self.size, self.size)

    @property
    def minimum(self) -> float:
        """Smallest correlation with a template of sum one that counts as a disk."""
        return 0.25 * float(self.amplitudes.min())

    @property
    def minimum_spacing(self) -> float:
        """Smallest distance of two disks, pixels."""
        return 0.6 * self.spacing

    def score(self, found: Sequence[np.ndarray]) -> dict[str, float]:
        """Recall, precision and root mean square error per coordinate, px.

        A true disk is found when the found disk nearest to it lies within 2 px and has no other
        true disk nearer to it.
        """
        hits, errors = 0, []
        for true, points in zip(self.positions, found, strict=True):
            points = points[np.isfinite(points).all(1)]
            if not len(points):
                continue
            distance = np.hypot(*(true[:, None] - points[None]).transpose(2, 0, 1))
            nearest = distance.argmin(1)
            own = distance.argmin(0)[nearest] == np.arange(len(true))
            good = own & (distance.min(1) < MATCH_PX)
            hits += int(good.sum())
            errors.append(points[nearest[good]] - true[good])
        error = np.concatenate(errors) if errors else np.full((1, 2), np.nan)
        return {
            "recall": hits / self.positions[..., 0].size,
            "precision": hits / max(1, sum(len(points) for points in found)),
            "rms_px": float(np.sqrt(np.mean(error**2))),
            "bias_px": float(np.abs(error.mean(0)).max()),
        }


Detector = Callable[[], object]
"""Finds the disks of all patterns; returns what the package returns."""


def serve_detector(
    doc: str,
    make: Callable[[Patterns, argparse.Namespace], tuple[Detector, Callable[[object], list]]],
    packages: tuple[str, ...],
    methods: tuple[str, ...],
) -> None:
    """Run the worker of one peer.

    Parameters
    ----------
    make : function
        Gets the patterns and the command line; returns the detector, whose call is timed, and a
        function that turns its result into a list of (m, 2) positions, outside the clock.
    """
    parser = argparse.ArgumentParser(description=doc.split("\n")[0])
    parser.add_argument("--file", type=Path, required=True, help="disks128.npz or disks256.npz")
    parser.add_argument("--patterns", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=1, help="patterns so often over per call")
    parser.add_argument("--method", choices=methods, default=methods[0])
    options = parser.parse_args()
    patterns = Patterns.load(options.file, options.patterns)
    unpacking: list[Callable[[object], list]] = []

    def jobs() -> dict[str, Callable[[], Answer]]:
        detect, points = make(patterns, options)
        unpacking.append(points)
        return {"disks": lambda: Answer({"result": detect()})}

    def check(arrays: dict) -> dict[str, float]:
        found = unpacking[0](arrays["result"])
        count = len(found) * options.repeats
        return {**patterns.score(found), "patterns": count} if found else {}

    serve(jobs, packages, check=check)
