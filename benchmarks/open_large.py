"""Open 100 GB and show one pattern: a sparse .npy, HDF5 and raw file, in fresh processes.

    python open_large.py --ours PYTHON --folder FOLDER [--gigabytes 100] [--json FILE]

The files are sparse or hold one compressed chunk many times, so that they need little disk; the
folder must be on a file system with sparse files. The chunk index of the HDF5 file is real: one
entry per chunk. Every round is a new process; the import is not counted. Files that this script
made are removed again unless ``--keep`` is given.

The maker needs numpy and h5py in the interpreter that runs this script.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
from pathlib import Path

import common

Q = 256
SCAN_WIDTH = 512
CHUNK = 16  # patterns
READ_ONE = """
import json, sys, time
import numpy as np
import py4DSTEM
path, options = sys.argv[1], json.loads(sys.argv[2])
if "layout" in options:
    options["layout"] = py4DSTEM.RawLayout(**options["layout"])
    options["scan_shape"] = tuple(options["scan_shape"])
start = time.perf_counter()
cube = py4DSTEM.read(path, **options)
opened = time.perf_counter()
pattern = np.asarray(cube[cube.R_shape[0] // 2, 3])
shown = time.perf_counter()
with open("/proc/self/status") as f:
    peak = next(int(x.split()[1]) / 1024 for x in f if x.startswith("VmHWM"))
print(json.dumps({"open": opened - start, "pattern": shown - opened, "sum": float(pattern.sum()),
                  "peak_rss_mib": peak, "shape": list(cube.shape)}))
"""


def scan_shape(gigabytes: float) -> tuple[int, int, int, int]:
    """A uint16 scan of about that size."""
    rows = max(2, round(gigabytes * 1e9 / (SCAN_WIDTH * Q * Q * 2)))
    return rows, SCAN_WIDTH, Q, Q


def make_npy(path: Path, shape: tuple[int, int, int, int]) -> dict:
    """A sparse .npy with one pattern of ones where the reader looks."""
    import numpy as np

    array = np.lib.format.open_memmap(path, "w+", np.uint16, shape)
    array[shape[0] // 2, 3] = 1
    array.flush()
    return {}


def make_h5(path: Path, shape: tuple[int, int, int, int]) -> dict:
    """A chunked gzip dataset whose every chunk is the same stored bytes (ones)."""
    import zlib

    import h5py
    import numpy as np

    chunk = (1, CHUNK, Q, Q)
    stored = zlib.compress(np.ones(chunk, np.uint16).tobytes(), 1)
    with h5py.File(path, "w", libver="latest") as file:
        data = file.create_dataset("data", shape, "u2", chunks=chunk, compression="gzip")
        for rx in range(shape[0]):
            for ry in range(0, shape[1], CHUNK):
                data.id.write_direct_chunk((rx, ry, 0, 0), stored)
    return {}


def make_raw(path: Path, shape: tuple[int, int, int, int]) -> dict:
    """A sparse file of bare uint16 numbers, described to the reader by its layout."""
    import numpy as np

    frame = Q * Q * 2
    with open(path, "wb") as file:
        file.truncate(shape[0] * shape[1] * frame)
        file.seek((shape[0] // 2 * shape[1] + 3) * frame)
        file.write(np.ones(Q * Q, np.uint16).tobytes())
    return {"scan_shape": shape[:2], "layout": {"dtype": "uint16", "Q_shape": shape[2:]}}


MAKERS = {"large.npy": make_npy, "large.h5": make_h5, "large.raw": make_raw}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ours = os.environ.get("BENCH_PYTHON_OURS")
    parser.add_argument("--ours", default=ours, required=ours is None, help="interpreter")
    parser.add_argument("--folder", type=Path, required=True, help="where the files are made")
    parser.add_argument("--gigabytes", type=float, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--keep", action="store_true", help="leave the files")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    shape = scan_shape(options.gigabytes)
    result = common.Result(f"open {options.gigabytes:g} GB")
    env = common.clean_environment(2, os.environ.get("BENCH_OURS_PYTHONPATH"))
    rows = []
    for name, make in MAKERS.items():
        path = options.folder / name
        try:
            arguments = json.dumps(make(path, shape))
            command = [options.ours, "-c", READ_ONE, str(path), arguments]
            rows += measure(name, path, command, env, options.rounds, result)
        finally:
            if not options.keep:
                path.unlink(missing_ok=True)
    headings = ["file", "GB", "GB on disk", "open s", "pattern s", "peak RSS MiB", "n", "sum"]
    print(common.table(headings, rows))
    result.write(options.json)


def measure(
    name: str, path: Path, command: list[str], env: dict, rounds: int, result: common.Result
) -> list[list]:
    """Open the file in fresh processes; the row of the table, or nothing and a note."""
    answers = []
    for _ in range(rounds):
        done = subprocess.run(command, check=False, env=env, capture_output=True, text=True)
        if done.returncode:
            tail = done.stderr.strip().splitlines()[-1:] or ["no message"]
            result.note(f"{name}: not measured ({tail[0]})")
            return []
        answers.append(json.loads(done.stdout))
    result.cases[name] = answers
    size, stored = path.stat().st_size / 1e9, path.stat().st_blocks * 512 / 1e9
    if path.suffix == ".h5":
        rx, ry, qx, qy = answers[0]["shape"]
        size = rx * ry * qx * qy * 2 / 1e9

    def middle(key: str) -> float:
        return sorted(answer[key] for answer in answers)[len(answers) // 2]

    figures = [middle("open"), middle("pattern"), middle("peak_rss_mib")]
    return [[name, size, stored, *figures, len(answers), answers[0]["sum"]]]


if __name__ == "__main__":
    main()
