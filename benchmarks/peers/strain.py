"""What the workers of the strain benchmarks share: peak lists, scans, and their truth.

Only numpy and the standard library are imported here (h5py where a scan is read). Vectors are
(x, y) with x = rows of the detector; lattices are matrices whose rows are g1 and g2.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from protocol import Answer, serve

COMPONENTS = ("e_xx", "e_yy", "e_xy", "theta")
MATCH_PX = 2.0
BEAM_RANGE_PX = 6.0
Strain = Mapping[str, np.ndarray]


def infinitesimal(vectors: np.ndarray, reference: np.ndarray) -> dict[str, np.ndarray]:
    """Strain as ``1 - beta`` with ``g = g0 beta``: this package, py4DSTEM 0.14."""
    beta = np.linalg.solve(reference, vectors)
    return {
        "e_xx": 1 - beta[..., 0, 0],
        "e_yy": 1 - beta[..., 1, 1],
        "e_xy": -(beta[..., 0, 1] + beta[..., 1, 0]) / 2,
        "theta": (beta[..., 0, 1] - beta[..., 1, 0]) / 2,
    }


def deformation(vectors: np.ndarray, reference: np.ndarray) -> dict[str, np.ndarray]:
    """Strain as ``F - 1`` with ``F = beta^-1``: quantem. Differs in second order."""
    gradient = np.linalg.inv(np.linalg.solve(reference, vectors))
    return {
        "e_xx": gradient[..., 0, 0] - 1,
        "e_yy": gradient[..., 1, 1] - 1,
        "e_xy": (gradient[..., 0, 1] + gradient[..., 1, 0]) / 2,
        "theta": (gradient[..., 1, 0] - gradient[..., 0, 1]) / 2,
    }


DEFINITIONS = {"infinitesimal": infinitesimal, "deformation": deformation}


def misfit(
    found: Strain, true: Strain, region: np.ndarray | None = None, sigmas: Strain | None = None
) -> dict[str, float]:
    """Errors of each component against the truth.

    Parameters
    ----------
    found, true : mapping
        (Rx, Ry) arrays by component.
    region : (Rx, Ry) bool, optional
        Positions whose median error is subtracted; None: all.
    sigmas : mapping, optional
        One-sigma uncertainties where a package gives them.

    Returns
    -------
    dict
        ``rms_<component>``: root mean square after the median over `region` (all) was subtracted
        from both; ``mean_<component>``: mean error with nothing subtracted; ``mapped``: share of
        the positions with a value; with `sigmas` ``within_1_<component>`` and ``within_2_...``:
        shares of the errors, less that median, inside one and two sigma.
    """
    figures = {}
    for name in COMPONENTS:
        error = np.asarray(found[name], float) - true[name]
        rest = error - np.nanmedian(error if region is None else error[region])
        figures[f"rms_{name}"] = float(np.sqrt(np.nanmean(rest**2)))
        figures[f"mean_{name}"] = float(np.nanmean(error))
        for n in (1, 2) if sigmas else ():
            known = np.isfinite(rest)
            inside = np.abs(rest) < n * np.asarray(sigmas[name])
            figures[f"within_{n}_{name}"] = float(inside[known].mean())
    figures["mapped"] = float(np.isfinite(error).mean())
    return figures


# ---------------------------------------------------------------------------------- given the peaks
@dataclass(frozen=True)
class PeakLists:
    """The peaks of every position of a scan, and the lattices they come from.

    Parameters
    ----------
    positions : (Rx, Ry, n, 2) float64
        Noisy centres in pixels.
    intensities : (Rx, Ry, n) float64
    sigma_px : float
        Standard deviation of the noise.
    origin : (2,) float64
    vectors : (Rx, Ry, 2, 2) float64
        True g1 and g2 as rows.
    """

    positions: np.ndarray
    intensities: np.ndarray
    sigma_px: float
    origin: np.ndarray
    vectors: np.ndarray

    @classmethod
    def load(cls, path: Path) -> PeakLists:
        """From ``peaks.npz``."""
        with np.load(path) as file:
            vectors = np.stack([file["g1"], file["g2"]], axis=-2)
            names = ("positions", "intensities", "origin")
            arrays = {name: file[name] for name in names}
            return cls(sigma_px=float(file["sigma_px"]), vectors=vectors, **arrays)

    @property
    def shape(self) -> tuple[int, int]:
        """Scan shape."""
        return self.positions.shape[:2]

    def compare(self, found: Found) -> dict[str, float]:
        """Errors of a strain map whose reference is the median of the lattices."""
        median = np.median(self.vectors, axis=(0, 1))
        true = DEFINITIONS[found.definition](self.vectors, median)
        return misfit(found.strain, true, sigmas=found.sigmas)


# ------------------------------------------------------------------------------------ from raw data
@dataclass(frozen=True)
class Scan:
    """A simulated nanobeam scan with its truth, in a folder.

    ``data.h5`` holds ``/data`` (Rx, Ry, Qx, Qy), ``/vacuum_probe`` and ``/calibration`` (rings of
    polycrystalline gold); ``truth.json`` and ``truth.npz`` are in the optical frame, x = columns,
    and are turned here.
    """

    folder: Path
    counts: float

    @cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        """Scan, probe and rings."""
        import h5py

        with h5py.File(self.folder / "data.h5", "r") as file:
            return {name: file[name][()] for name in ("data", "vacuum_probe", "calibration")}

    @cached_property
    def facts(self) -> dict:
        """True scalars and what an experimenter knows."""
        known = [
            json.loads((self.folder / name).read_text()) for name in ("meta.json", "truth.json")
        ]
        return known[0] | known[1]

    @cached_property
    def _truth(self) -> dict[str, np.ndarray]:
        with np.load(self.folder / "truth.npz") as file:
            return {name: file[name] for name in file.files}

    @property
    def radius(self) -> float:
        """Radius of a disk, px."""
        return float(self.facts["disk_radius_px"])

    @property
    def minimum(self) -> float:
        """Smallest correlation with a template of sum one: a quarter of the weakest disk."""
        return 0.25 * self.counts / (np.pi * self.radius**2)

    @property
    def distortion(self) -> np.ndarray:
        """Matrix (2, 2) from undistorted to stored vectors, x = rows, determinant one."""
        return np.array(self.facts["ellipse_matrix_xy"])[::-1, ::-1]

    @cached_property
    def reference(self) -> np.ndarray:
        """Unstrained lattice in undistorted pixels."""
        rows = [self.facts[f"reference_g{n}_xy_1_per_A"][::-1] for n in (1, 2)]
        return np.array(rows) / self.facts["detector_pixel_1_per_A"]

    @cached_property
    def vectors(self) -> np.ndarray:
        """True lattices (Rx, Ry, 2, 2) in undistorted pixels."""
        rows = [self._truth[f"g{n}_local_xy"][..., ::-1] for n in (1, 2)]
        return np.stack(rows, axis=-2) / self.facts["detector_pixel_1_per_A"]

    @cached_property
    def origin(self) -> np.ndarray:
        """True origins (Rx, Ry, 2), px."""
        return np.stack([self._truth["origin_row"], self._truth["origin_col"]], axis=-1)

    @cached_property
    def region(self) -> np.ndarray:
        """Scan positions in the unstrained material."""
        composition = self._truth.get("composition_x")
        if composition is None:
            return np.ones(self.origin.shape[:2], bool)
        return composition < 0.01

    @cached_property
    def sites(self) -> tuple[np.ndarray, np.ndarray]:
        """Places of all possible disks (Rx, Ry, n, 2), and which must be found (Rx, Ry, n).

        Only h + k even: the cell is centred. Those must be found whose whole disk lies on the
        detector and holds at least `counts` above the background.
        """
        hk = np.stack(np.mgrid[-8:9, -8:9], -1).reshape(-1, 2)
        hk = hk[hk.sum(1) % 2 == 0]
        places = self.origin[:, :, None] + hk @ self.vectors @ self.distortion.T
        size = np.array(self.arrays["data"].shape[2:])
        inside = ((places >= self.radius + 1) & (places <= size - 2 - self.radius)).all(-1)
        used = ((places > -self.radius) & (places < size - 1 + self.radius)).all(-1).any((0, 1))
        places, inside = places[:, :, used], inside[:, :, used]
        return places, inside & (self._signal(places) >= self.counts)

    def _signal(self, places: np.ndarray) -> np.ndarray:
        """Counts above the true background within the radius of each place."""
        data, facts = self.arrays["data"], self.facts
        i, j = np.indices(data.shape[2:])
        signal = np.zeros(places.shape[:3])
        for at in np.ndindex(*data.shape[:2]):
            r = np.hypot(i - self.origin[at][0], j - self.origin[at][1])
            q = r * facts["detector_pixel_1_per_A"]
            background = (1 + (q / 0.16) ** 2) ** -1.4
            background *= facts["counts_per_pattern"] * facts["background_fraction"]
            above = data[at] - background / ((1 + (q / 0.16) ** 2) ** -1.4).sum()
            for n, (x, y) in enumerate(places[at]):
                low = np.maximum(np.floor([x, y] - np.array(self.radius)).astype(int), 0)
                box = tuple(slice(k, k + int(2 * self.radius) + 3) for k in low)
                near = np.hypot(i[box] - x, j[box] - y) <= self.radius
                signal[at][n] = above[box][near].sum()
        return signal

    def detection(self, found: Sequence[np.ndarray]) -> dict[str, float]:
        """Recall of the disks that must be found, and share of found disks on any possible site."""
        places, must = self.sites
        hits = on_site = total = 0
        for at, points in zip(np.ndindex(*must.shape[:2]), found, strict=True):
            total += len(points)
            if not len(points):
                continue
            distance = np.hypot(*(places[at][:, None] - points[None]).transpose(2, 0, 1))
            hits += int((distance.min(1)[must[at]] < MATCH_PX).sum())
            on_site += int((distance.min(0) < MATCH_PX).sum())
        return {
            "recall": hits / int(must.sum()),
            "precision": on_site / max(total, 1),
            "found_per_pattern": total / must[..., 0].size,
        }

    def known_lattice(self, basis: np.ndarray, scale: float) -> np.ndarray:
        """The unstrained lattice in the basis that a package chose.

        Parameters
        ----------
        basis : (2, 2) array
            Its g1 and g2, undistorted px times `scale`.
        scale : float
            Undistorted pixels of the package over those with the true pixel size.
        """
        indices = np.rint(basis @ np.linalg.inv(scale * self.reference))
        return indices @ self.reference * scale

    def compare(self, found: Found) -> dict[str, float]:
        """Errors of a strain map whose reference is the known lattice, and of the disks."""
        true = DEFINITIONS[found.definition](self.vectors, self.reference)
        figures = misfit(found.strain, true, self.region, found.sigmas)
        return figures if found.points is None else figures | self.detection(found.points())


# ------------------------------------------------------------------------------------------ serving
@dataclass(frozen=True)
class Found:
    """What a package found.

    Parameters
    ----------
    strain : mapping
        (Rx, Ry) arrays by component, signs as in this package (theta positive from x to y).
    definition : str
        ``"infinitesimal"`` or ``"deformation"``.
    points : function, optional
        Gives the disks of every pattern, raw px, in scan order.
    sigmas : mapping, optional
        One-sigma uncertainties of `strain`.
    figures : mapping
        More numbers for the report.
    """

    strain: Strain
    definition: str = "infinitesimal"
    points: Callable[[], Sequence[np.ndarray]] | None = None
    sigmas: Strain | None = None
    figures: Mapping[str, float] | None = None


FromLists = Callable[[PeakLists], Callable[[], Found]]
FromScan = Callable[[Scan, str], Callable[[], Found]]


def serve_strain(
    doc: str,
    packages: tuple[str, ...],
    from_lists: FromLists | None,
    from_scan: FromScan,
    methods: tuple[str, ...],
) -> None:
    """Run the worker of one peer: job ``lists`` with --lists, job ``scan`` with --scan.

    `from_lists` and `from_scan` do what is not timed and return the function that is.
    """
    parser = argparse.ArgumentParser(description=doc.split("\n")[0])
    parser.add_argument("--lists", type=Path, help="peaks.npz")
    parser.add_argument("--scan", type=Path, help="folder with data.h5 and truth")
    parser.add_argument("--counts", type=float, default=100.0, help="of the weakest disk")
    parser.add_argument("--method", choices=methods, default=methods[0])
    options = parser.parse_args()
    lists = PeakLists.load(options.lists) if options.lists else None
    scan = Scan(options.scan, options.counts) if options.scan else None

    def jobs() -> dict[str, Callable[[], Answer]]:
        calls: dict[str, Callable[[], Found]] = {}
        if lists is not None and from_lists is not None:
            calls["lists"] = from_lists(lists)
        if scan is not None:
            calls["scan"] = from_scan(scan, options.method)
        return {name: lambda call=call: Answer({"found": call()}) for name, call in calls.items()}

    def check(arrays: dict) -> dict[str, float]:
        found = arrays["found"]
        return {**(scan or lists).compare(found), **(found.figures or {})}

    serve(jobs, packages, check=check)
