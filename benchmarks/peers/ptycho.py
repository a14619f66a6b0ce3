"""What the workers of the ptychography benchmark share: the scan, its truth, and the score.

A worker prepares once and then runs passes over all positions, going on from where it was: the job
"warm" is one pass, "run" are ``--passes`` of them.  A worker whose package can only start afresh
runs as many as it had, and so many more, and gives the time of the last ones.  Times of parts are
``prepare_s`` with ``prepare_cpu_s``, and per pass ``pass_s`` with ``pass_cpu_s``.

Only numpy and the standard library are imported here.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np
from protocol import Answer, Job, serve

Passes = Callable[[int], None]


@dataclass(frozen=True)
class Scan:
    """Counts (Rx, Ry, Qx, Qy) float32 without rotation or flip, the microscope, the true phase.

    The beam without specimen is on pixel (Qx // 2, Qy // 2).  `phase` is that of all slices
    together, on pixels of 1 / (Q · pixel_per_A).
    """

    data: np.ndarray
    phase: np.ndarray
    step_A: float
    pixel_per_A: float
    energy_eV: float
    semiangle_mrad: float
    defocus_A: float
    slices: int
    slice_A: float
    modes: int

    @classmethod
    def read(cls, path: Path) -> Scan:
        """From the file that ``ptychography.py`` writes."""
        with np.load(path) as file:
            return cls(**{n: file[n] if file[n].ndim else file[n].item() for n in file.files})


@dataclass(frozen=True)
class Peer:
    """A package that is ready to iterate.

    Parameters
    ----------
    passes : function
        Runs so many passes over all positions.
    phase : function
        The phase of all slices together, rows and columns as those of the scan.
    own : function, optional
        Seconds (clock, processor) per pass of the last call, and of the preparation, where the
        package tells; otherwise calls are timed from outside.
    """

    passes: Passes
    phase: Callable[[], np.ndarray]
    own: Callable[[], dict[str, float]] | None = None


def correlation(found: np.ndarray, scan: Scan) -> float:
    """Correlation of the middle of a phase with the truth; shift and plane are fitted.

    Four fifths of the scanned area in both directions, about the middle of the phase; the best
    place in the truth to a pixel, then to a tenth of one.
    """
    truth, pixel_A = scan.phase, 1 / (scan.data.shape[-1] * scan.pixel_per_A)
    size = [int(0.8 * n * scan.step_A / pixel_A) for n in scan.data.shape[:2]]
    start = [(s - n) // 2 for s, n in zip(found.shape, size, strict=True)]
    window = np.s_[start[0] : start[0] + size[0], start[1] : start[1] + size[1]]
    if not np.isfinite(found).all():
        return float("nan")
    return max(
        (_at_best(sign * found, window, truth) for sign in (1, -1)), key=lambda value: abs(value)
    )


def _at_best(found: np.ndarray, window: tuple[slice, slice], truth: np.ndarray) -> float:
    part = _level(found[window])
    shape = [a + b for a, b in zip(truth.shape, part.shape, strict=True)]
    spectrum, one = np.fft.rfft2(truth, shape), np.conj(np.fft.rfft2(np.ones(part.shape), shape))
    match = np.fft.irfft2(spectrum * np.conj(np.fft.rfft2(part, shape)), shape)
    first, second = (
        np.fft.irfft2(np.fft.rfft2(truth**power, shape) * one, shape) for power in (1, 2)
    )
    spread = np.sqrt(np.maximum(second - first**2 / part.size, 1e-9 * part.size))
    inside = np.s_[: truth.shape[0] - part.shape[0] + 1, : truth.shape[1] - part.shape[1] + 1]
    row, column = np.unravel_index(np.argmax((match / spread)[inside]), match[inside].shape)
    known = _level(truth[row : row + part.shape[0], column : column + part.shape[1]])
    waves, tenths = np.fft.fft2(found), np.arange(-6, 7) / 10
    kx, ky = np.fft.fftfreq(found.shape[0])[:, None], np.fft.fftfreq(found.shape[1])
    best = -1.0
    for dx in tenths:
        for dy in tenths:
            moved = np.fft.ifft2(waves * np.exp(-2j * np.pi * (kx * dx + ky * dy))).real
            best = max(best, float(np.corrcoef(_level(moved[window]).ravel(), known.ravel())[0, 1]))
    return best


def _level(image: np.ndarray) -> np.ndarray:
    """Without the plane that fits it best."""
    rows, columns = np.indices(image.shape)
    basis = np.stack([np.ones(image.size), rows.ravel(), columns.ravel()], axis=1)
    return image - (basis @ np.linalg.lstsq(basis, image.ravel(), rcond=None)[0]).reshape(
        image.shape
    )


def serve_ptychography(
    doc: str,
    packages: tuple[str, ...],
    make: Callable[[Scan, argparse.Namespace], Peer],
    modules: tuple[str, ...] = (),
) -> None:
    """Serve the jobs "warm" and "run" of one package; `modules` are imported before the clock."""
    parser = argparse.ArgumentParser(description=doc.split("\n")[0])
    parser.add_argument("--scan", type=Path, required=True)
    parser.add_argument("--way", default="gradient")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--passes", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    scan = Scan.read(options.scan)

    def jobs() -> dict[str, Job]:
        for name in modules:
            import_module(name)
        clock, processor = time.perf_counter(), time.process_time()
        peer = make(scan, options)
        prepared = {
            "prepare_s": time.perf_counter() - clock,
            "prepare_cpu_s": time.process_time() - processor,
        }
        done = [0]

        def run(count: int) -> Answer:
            clock, processor = time.perf_counter(), time.process_time()
            peer.passes(count)
            parts = {
                **prepared,
                "pass_s": (time.perf_counter() - clock) / count,
                "pass_cpu_s": (time.process_time() - processor) / count,
            }
            if peer.own is not None:
                parts.update(peer.own())
            done[0] += count
            phase = np.asarray(peer.phase(), dtype=np.float64)
            return Answer({"phase": phase, "passes": np.array(done[0])}, parts)

        return {"warm": lambda: run(1), "run": lambda: run(options.passes)}

    def check(arrays: Mapping[str, np.ndarray]) -> dict[str, float]:
        found = correlation(arrays["phase"], scan)
        return {"correlation": found, "passes": int(arrays["passes"])}

    serve(jobs, packages, check=check)
