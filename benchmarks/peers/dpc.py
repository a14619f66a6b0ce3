"""What the workers of the DPC benchmark share: the scan, its truth, and the score of a phase.

Only numpy and the standard library are imported here.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from protocol import Answer, Job, serve


@dataclass(frozen=True)
class Scan:
    """Counts (Rx, Ry, Qx, Qy) float32, numbers of the microscope, and the true phase."""

    data: np.ndarray
    truth: np.ndarray
    step_A: float
    pixel_per_A: float
    energy_eV: float
    rotation_deg: float

    @classmethod
    def read(cls, path: Path) -> Scan:
        """From the file that ``dpc.py`` writes."""
        with np.load(path) as file:
            return cls(**{n: file[n] if file[n].ndim else file[n].item() for n in file.files})


def score(scan: Scan) -> Callable[[Mapping[str, np.ndarray]], dict[str, float]]:
    """Correlation of a phase with the truth averaged over the probe, and its scale."""

    def check(arrays: Mapping[str, np.ndarray]) -> dict[str, float]:
        phase, truth = (np.ravel(a - a.mean()) for a in (arrays["phase"], scan.truth))
        figures = {
            "correlation": float(phase @ truth / np.sqrt((phase @ phase) * (truth @ truth))),
            "scale": float(phase @ truth / (truth @ truth)),
            "error": float(np.std(phase - truth) / np.std(truth)),
        }
        if "rotation_deg" in arrays:
            off = float(arrays["rotation_deg"]) - scan.rotation_deg
            figures["rotation_error_deg"] = (off + 90) % 180 - 90
        return figures

    return check


def serve_dpc(
    doc: str, packages: tuple[str, ...], make: Callable[[Scan], Mapping[str, Callable]]
) -> None:
    """Serve the job "dpc" by the way (a name that `make` gives) on the command line."""
    parser = argparse.ArgumentParser(description=doc.split("\n")[0])
    parser.add_argument("--scan", type=Path, required=True)
    parser.add_argument("--way", required=True)
    options = parser.parse_args()
    scan = Scan.read(options.scan)

    def jobs() -> dict[str, Job]:
        way = make(scan)[options.way]
        return {"dpc": lambda: Answer(way())}

    serve(jobs, packages, check=score(scan))
