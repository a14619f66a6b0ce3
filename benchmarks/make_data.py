"""Make a deterministic synthetic scan: .npy, bitshuffle-LZ4 HDF5, its description and its truth.

    python make_data.py --out FOLDER [--shape 256 256 128 128] [--only npy h5]

Writes into the folder

``scan.npy``        uint16 (Rx, Ry, Qx, Qy)
``scan_bslz4.h5``   the same as ``/data``, chunks (1, 32, Qx, Qy), bitshuffle + LZ4
``scan.json``       shape, dtype and the detectors that every benchmark uses
``masks.npz``       the same detectors as boolean (Qx, Qy) arrays
``truth.npz``       exact integer sums: one image per detector, centre of mass, mean and maximum

One scan row is in memory at a time. Every row has its own seed, so a row does not depend on how
many rows there are before it. Needs numpy, h5py and hdf5plugin.
"""

from __future__ import annotations

import argparse
import json
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np

SEED = 4100
CHUNK_PATTERNS = 32


def detectors(Q_shape: tuple[int, int]) -> dict[str, dict]:
    """Five detectors, sized for 128 pixels and scaled to other pattern sizes.

    Returns
    -------
    dict
        name -> {"center": (qx, qy), "inner": radius or None, "outer": radius}, in pixels. A pixel
        belongs to a detector when inner <= distance <= outer; the first two are "bf" and "adf".
    """
    scale = min(Q_shape) / 128
    center = (Q_shape[0] / 2 - 0.5, Q_shape[1] / 2)
    spot = (center[0] + 20 * scale, center[1])

    def ring(inner: float | None, outer: float, at: tuple[float, float] = center) -> dict:
        return {"center": at, "inner": inner and inner * scale, "outer": outer * scale}

    return {
        "bf": ring(None, 10),
        "adf": ring(25, 60),
        "abf": ring(5, 10),
        "ladf": ring(12, 25),
        "spot": ring(None, 5, spot),
    }


def masks(Q_shape: tuple[int, int], shapes: dict[str, dict]) -> dict[str, np.ndarray]:
    """The detectors as boolean arrays (Qx, Qy)."""
    i, j = np.indices(Q_shape)
    found = {}
    for name, shape in shapes.items():
        r = np.hypot(i - shape["center"][0], j - shape["center"][1])
        found[name] = (r >= (shape["inner"] or 0)) & (r <= shape["outer"])
    return found


def disk_templates(Q_shape: tuple[int, int]) -> np.ndarray:
    """Soft-edged disks on a square lattice at two origins, and a diffuse background.

    Returns
    -------
    (n, Qx * Qy) float32
        Rows 0 .. n/2 belong to one origin, the next to the other; the last is the background.
        Mixing the two origins moves the centre of mass smoothly without moving any disk.
    """
    scale = min(Q_shape) / 128
    i, j = np.indices(Q_shape, dtype=np.float32)
    center = np.array([Q_shape[0] / 2 - 0.7, Q_shape[1] / 2 + 0.1])
    step, radius = 20 * scale, 8 * scale
    hk = [(h, k) for h in range(-3, 4) for k in range(-3, 4) if np.hypot(h, k) * step <= 58 * scale]
    hk.sort(key=lambda n: n[0] ** 2 + n[1] ** 2)
    rows = []
    for shift in (-1.5 * scale, 1.5 * scale):
        for h, k in hk:
            x, y = center + shift + step * np.array([h * 0.99 - k * 0.12, h * 0.12 + k * 0.99])
            rows.append(np.clip(radius - np.hypot(i - x, j - y) + 0.5, 0, 1))
    r2 = (i - center[0]) ** 2 + (j - center[1]) ** 2
    rows.append(np.exp(-r2 / (2 * (25 * scale) ** 2)))
    return np.stack(rows).reshape(len(rows), -1).astype(np.float32)


def scan_row(rx: int, R_shape: tuple[int, int], templates: np.ndarray) -> np.ndarray:
    """Poisson counts of one scan row, (Ry, Qx * Qy) uint16."""
    rng = np.random.default_rng([SEED, rx])
    n_disks = (len(templates) - 1) // 2
    falloff = np.full(n_disks, 3.0)
    falloff *= np.exp(-np.arange(n_disks) / 12)
    amplitude = falloff * rng.uniform(0.5, 1.5, (R_shape[1], n_disks))
    amplitude[:, 0] = 20.0
    u, v = rx / R_shape[0], np.arange(R_shape[1]) / R_shape[1]
    mix = 0.5 + 0.45 * np.sin(2 * np.pi * (u + v))[:, None]
    weights = np.hstack([amplitude * mix, amplitude * (1 - mix), np.full((R_shape[1], 1), 0.6)])
    return rng.poisson(weights.astype(np.float32) @ templates).astype(np.uint16)


class Truth:
    """Exact sums, collected row by row in float64 (integers below 2**53 are exact)."""

    def __init__(self, shape: tuple[int, int, int, int]) -> None:
        self.shape = shape
        stack = masks(shape[2:], detectors(shape[2:]))
        self.names = list(stack)
        i, j = np.indices(shape[2:])
        rows = [*stack.values(), np.ones(shape[2:]), i, j]
        self.weights = np.stack(rows).reshape(len(rows), -1).T.astype(np.float64)
        self.sums = np.empty((*shape[:2], len(rows)))
        self.total = np.zeros(shape[2:])
        self.maximum = np.zeros(shape[2:], np.uint16)

    def add(self, rx: int, row: np.ndarray) -> None:
        """Take in one scan row, (Ry, Qx * Qy)."""
        frames = row.reshape(-1, *self.shape[2:])
        self.sums[rx] = row.astype(np.float64) @ self.weights
        self.total += frames.sum(0, dtype=np.float64)
        np.maximum(self.maximum, frames.max(0), out=self.maximum)

    def write(self, path: Path) -> None:
        """Write the truth file."""
        images = {name: self.sums[..., n] for n, name in enumerate(self.names)}
        count = self.sums[..., -3]
        np.savez(
            path,
            com_x=self.sums[..., -2] / count,
            com_y=self.sums[..., -1] / count,
            mean=self.total / (self.shape[0] * self.shape[1]),
            max=self.maximum,
            **images,
        )


def describe(folder: Path, shape: tuple[int, int, int, int]) -> None:
    """Write ``scan.json``."""
    facts = {"shape": shape, "dtype": "uint16", "seed": SEED, "detectors": detectors(shape[2:])}
    (folder / "scan.json").write_text(json.dumps(facts, indent=1) + "\n")


def make(folder: Path, shape: tuple[int, int, int, int], kinds: list[str]) -> None:
    """Write the scan row by row into every wanted file."""
    folder.mkdir(parents=True, exist_ok=True)
    truth, templates = Truth(shape), disk_templates(shape[2:])
    with ExitStack() as stack:
        targets = []
        if "npy" in kinds:
            path = folder / "scan.npy"
            targets.append(np.lib.format.open_memmap(path, "w+", np.uint16, shape))
        if "h5" in kinds:
            targets.append(h5_dataset(stack, folder / "scan_bslz4.h5", shape))
        for rx in range(shape[0]):
            row = scan_row(rx, shape[:2], templates)
            truth.add(rx, row)
            for target in targets:
                target[rx] = row.reshape(shape[1:])
    truth.write(folder / "truth.npz")
    np.savez(folder / "masks.npz", **masks(shape[2:], detectors(shape[2:])))
    describe(folder, shape)


def h5_dataset(stack: ExitStack, path: Path, shape: tuple[int, int, int, int]):
    """An empty bitshuffle-LZ4 dataset ``/data`` in a new file that `stack` closes."""
    import h5py
    import hdf5plugin

    file = stack.enter_context(h5py.File(path, "w"))
    chunks = (1, min(CHUNK_PATTERNS, shape[1]), *shape[2:])
    filters = hdf5plugin.Bitshuffle(cname="lz4")
    return file.create_dataset("data", shape=shape, dtype="u2", chunks=chunks, **filters)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--shape", type=int, nargs=4, default=(256, 256, 128, 128))
    parser.add_argument("--only", nargs="+", choices=("npy", "h5"), default=["npy", "h5"])
    options = parser.parse_args()
    start = time.perf_counter()
    make(options.out, tuple(options.shape), options.only)
    print(f"{tuple(options.shape)} uint16 written in {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    main()
