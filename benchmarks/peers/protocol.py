"""What every worker of the benchmarks shares: the scan, the check, and JSON lines over pipes.

A worker is one process that lives through a whole benchmark and runs in the interpreter of the
package that it measures. It answers one line with one line::

    -> {"do": "run", "job": "basic"}
    <- {"seconds": 0.27, "checks": {"images": 0.0, "com_px": 0.0}, "parts": {}}
    -> {"do": "quit"}

Jobs: ``one`` = the bright field image; ``basic`` = bright field, annular dark field and centre of
mass; ``many`` = five detectors, centre of mass, mean and maximum pattern. A job starts from the
file, so that opening and reading are inside the measured time.

The first line a worker writes is {"ready": true, "versions": {...}, "start_seconds": ...}.
Only numpy and the standard library are imported here.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

import numpy as np

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Scan:
    """The benchmark scan in a folder, read through one of its files."""

    folder: Path
    path: Path

    @property
    def is_hdf5(self) -> bool:
        """True when the file is the HDF5 one."""
        return self.path.suffix == ".h5"

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(Rx, Ry, Qx, Qy)."""
        return tuple(self._facts["shape"])

    @property
    def detectors(self) -> dict[str, dict]:
        """name -> {"center", "inner", "outer"} in pixels."""
        return self._facts["detectors"]

    @property
    def _facts(self) -> dict:
        return json.loads((self.folder / "scan.json").read_text())

    def masks(self, job: str) -> dict[str, np.ndarray]:
        """The detectors of a job as boolean (Qx, Qy) arrays."""
        names = {"one": ["bf"], "basic": ["bf", "adf"]}.get(job, list(self.detectors))
        with np.load(self.folder / "masks.npz") as file:
            return {name: file[name] for name in names}

    def compare(self, answer: Arrays) -> dict[str, float]:
        """Largest deviations from the exact sums.

        Returns
        -------
        dict
            "images", "mean", "max": relative to the largest true value; "com_px": pixels.
        """
        worst: dict[str, float] = {}
        with np.load(self.folder / "truth.npz") as truth:
            for name, value in answer.items():
                true = truth[name].astype(np.float64)
                error = np.abs(np.asarray(value, dtype=np.float64).reshape(true.shape) - true).max()
                if name.startswith("com_"):
                    key = "com_px"
                else:
                    key, error = ("images" if name in self.detectors else name), error / true.max()
                worst[key] = max(worst.get(key, 0.0), float(error))
        return worst


@dataclass
class Answer:
    """Arrays by the names of the truth file, and the seconds of parts where they are known."""

    arrays: Arrays
    parts: dict[str, float] = field(default_factory=dict)


Job = Callable[[], Answer]


def arguments(doc: str, **choices: tuple[str, ...]) -> argparse.Namespace:
    """Parse a worker's command line; each keyword is one more option with its choices."""
    parser = argparse.ArgumentParser(description=doc.split("\n")[0])
    parser.add_argument("--folder", type=Path, required=True, help="folder with scan.json")
    parser.add_argument("--file", required=True, help="file name inside the folder")
    parser.add_argument("--workers", type=int, default=2)
    for name, values in choices.items():
        parser.add_argument(f"--{name}", choices=values, default=values[0])
    options = parser.parse_args()
    options.scan = Scan(options.folder, options.folder / options.file)
    return options


def serve(
    make: Callable[[], Mapping[str, Job]],
    packages: tuple[str, ...] = (),
    stop: Callable[[], None] | None = None,
    check: Callable[[Arrays], dict[str, float]] = lambda arrays: {},
) -> None:
    """Answer requests until "quit" or the end of the input.

    Parameters
    ----------
    make : function
        Imports and starts the peer, returns name -> job. Timed as ``start_seconds``.
    packages : tuple of str
        Distributions whose versions are reported.
    stop : function, optional
        Called at the end.
    check : function, optional
        Compares the arrays of an answer with the truth; outside the clock.
    """
    line = os.fdopen(os.dup(1), "w", buffering=1)  # ours alone: what a peer prints goes to stderr
    os.dup2(2, 1)

    def say(message: dict) -> None:
        line.write(json.dumps(message) + "\n")

    start = time.perf_counter()
    jobs = make()
    found = {"python": sys.version.split()[0]}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    say({"ready": True, "versions": found, "start_seconds": time.perf_counter() - start})
    for text in sys.stdin:
        request = json.loads(text)
        if request["do"] == "quit":
            break
        say(_answer(request, jobs, check))
    if stop:
        stop()


def _answer(
    request: dict, jobs: Mapping[str, Job], check: Callable[[Arrays], dict[str, float]]
) -> dict:
    """Run one request. An error ends the worker; the driver then drops this lane only."""
    start = time.perf_counter()
    answer = jobs[request["job"]]()
    seconds = time.perf_counter() - start
    checks, parts = check(answer.arrays), answer.parts
    del answer
    gc.collect()
    return {"seconds": seconds, "checks": checks, "parts": parts}
