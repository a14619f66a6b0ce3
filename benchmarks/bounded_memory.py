"""A scan ten times larger than the memory that a process may use.

    python bounded_memory.py --ours PYTHON --folder FOLDER [--scan-gib 20] [--limit-gib 2]

Makes a 20 GiB scan that needs little disk (a sparse .npy with a few patterns in it, or a HDF5 file
that holds one compressed block many times) and runs virtual images, centre of mass, mean,
maximum, standard deviation and a conversion, each in a fresh process whose *address space* is
limited (RLIMIT_AS). A mapped 20 GiB file does not fit there, so this also shows that nothing maps
or loads a whole file. Reports seconds, peak resident memory and whether the result is right.
``--tasks`` picks some; the conversion needs disk for its result.

The maker needs numpy, h5py and hdf5plugin in the interpreter that runs this script.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
from pathlib import Path

import common

Q = 256
WIDTH = 256
BLOCK = 8  # patterns per stored chunk

# Each is the body of a function of the cube and of the name of a file to write.
TASKS = {
    "virtual": """
    bf = py4DSTEM.Disk(radius=20, center=(127.5, 128))
    adf = py4DSTEM.Annulus(inner=50, outer=120, center=(127.5, 128))
    images = py4DSTEM.virtual_images(cube, {"bf": bf, "adf": adf})
    return np.asarray(images["bf"])
""",
    "com": """
    return np.asarray(py4DSTEM.center_of_mass(cube))
""",
    "mean": """
    return np.asarray(py4DSTEM.mean_pattern(cube))
""",
    "max": """
    return np.asarray(py4DSTEM.max_pattern(cube))
""",
    "std": """
    return np.asarray(py4DSTEM.std_pattern(cube))
""",
    "convert": """
    py4DSTEM.save(target, cube)
    return np.asarray(py4DSTEM.read(target)[0, 1])
""",
}

FRAME = """
import json, resource, sys, time
limit, path, target = int(sys.argv[1]), sys.argv[2], sys.argv[3]
if limit:
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
import numpy as np
import py4DSTEM

def task(cube, target):
{body}
task(py4DSTEM.DataCube(np.ones((1, 2, 256, 256), np.uint16)), target)  # compiles or loads kernels
cube = py4DSTEM.read(path)
start = time.perf_counter()
found = float(np.nansum(task(cube, target).astype(float)))
seconds = time.perf_counter() - start
status = dict(x.split(":", 1) for x in open("/proc/self/status"))
def mib(key):
    return int(status[key].split()[0]) / 1024
print(json.dumps(dict(seconds=seconds, found=found, peak_rss_mib=mib("VmHWM"),
                      peak_address_mib=mib("VmPeak"), anonymous_mib=mib("RssAnon"))))
"""


def pattern():
    """One block of patterns that is neither symmetric nor constant, (BLOCK, Q, Q) uint16."""
    import numpy as np

    rng = np.random.default_rng(5)
    i, j = np.indices((Q, Q))
    disk = np.hypot(i - 121, j - 131) < 18
    return rng.poisson(0.3 + 12.0 * disk, (BLOCK, Q, Q)).astype(np.uint16)


def make(path: Path, rows: int) -> None:
    """A scan of rows x WIDTH patterns that takes little disk."""
    import numpy as np

    block, shape = pattern(), (rows, WIDTH, Q, Q)
    if path.suffix == ".npy":
        array = np.lib.format.open_memmap(path, "w+", np.uint16, shape)
        for rx in range(0, rows, max(1, rows // 16)):
            array[rx, :BLOCK] = block
        array.flush()
        return
    import h5py
    import hdf5plugin

    first = path.with_suffix(".part")
    chunk = (1, BLOCK, Q, Q)
    filters = hdf5plugin.Bitshuffle(cname="lz4")
    with h5py.File(first, "w") as file:
        small = file.create_dataset("data", chunk, "u2", chunks=chunk, **filters)
        small[0] = block
        stored = small.id.read_direct_chunk((0, 0, 0, 0))[1]
    first.unlink()
    with h5py.File(path, "w", libver="latest") as file:
        data = file.create_dataset("data", shape, "u2", chunks=chunk, **filters)
        for rx in range(rows):
            for ry in range(0, WIDTH, BLOCK):
                data.id.write_direct_chunk((rx, ry, 0, 0), stored)


def expected(path: Path, rows: int) -> dict[str, float]:
    """What each task must find (detector edges are weighted, so "virtual" is not exact)."""
    import numpy as np

    block = pattern().astype(np.float64)
    filled = BLOCK * len(range(0, rows, max(1, rows // 16)))
    copies, n = (filled if path.suffix == ".npy" else rows * WIDTH) / BLOCK, rows * WIDTH
    mean = block.sum(0) * copies / n
    square = (block**2).sum(0) * copies / n
    i, j = np.indices((Q, Q))
    com = sum((p * i).sum() / p.sum() + (p * j).sum() / p.sum() for p in block)
    hard = np.hypot(i - 127.5, j - 128) <= 20
    return {
        "virtual": block[:, hard].sum() * copies,
        "com": com * copies,
        "mean": mean.sum(),
        "max": block.max(0).sum(),
        "std": np.sqrt(square - mean**2).sum(),
        "convert": block[1].sum(),
    }


def run_task(task: str, path: Path, options: argparse.Namespace) -> dict:
    """One task in a limited process; its figures, or its last line of error."""
    target = options.folder / "converted.h5"
    limit = int(options.limit_gib * 2**30)
    code = FRAME.format(body=TASKS[task])
    env = common.clean_environment(options.workers, os.environ.get("BENCH_OURS_PYTHONPATH"))
    command = [options.ours, "-c", code, str(limit), str(path), str(target)]
    try:
        done = subprocess.run(command, check=False, env=env, capture_output=True, text=True)
        if done.returncode:
            tail = done.stderr.strip().splitlines()[-1:] or [f"ended with {done.returncode}"]
            return {"error": tail[0]}
        answer = json.loads(done.stdout.splitlines()[-1])
        if target.exists():
            answer["written_gib"] = target.stat().st_size / 2**30
        return answer
    finally:
        target.unlink(missing_ok=True)


def measure(name: str, options: argparse.Namespace, result: common.Result) -> list[list]:
    """All tasks on one file; rows of the table."""
    path = options.folder / name
    rows = max(1, round(options.scan_gib * 2**30 / (WIDTH * Q * Q * 2)))
    table = []
    try:
        make(path, rows)
        truth = expected(path, rows)
        for task in options.tasks:
            answer = run_task(task, path, options) | {"expected": truth[task]}
            result.cases[f"{name}: {task}"] = answer
            if "error" in answer:
                result.note(f"{name}: {task}: failed ({answer['error']})")
                continue
            error = abs(answer["found"] - truth[task]) / max(abs(truth[task]), 1e-300)
            gib_per_s = options.scan_gib / answer["seconds"]
            memory = [answer["peak_rss_mib"], answer["anonymous_mib"], answer["peak_address_mib"]]
            table.append([name, task, answer["seconds"], gib_per_s, *memory, error])
    finally:
        path.unlink(missing_ok=True)
    return table


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ours = os.environ.get("BENCH_PYTHON_OURS")
    parser.add_argument("--ours", default=ours, required=ours is None, help="interpreter")
    parser.add_argument("--folder", type=Path, required=True, help="where the files are made")
    parser.add_argument("--scan-gib", type=float, default=20)
    parser.add_argument("--limit-gib", type=float, default=2, help="address space; 0: no limit")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--files", nargs="+", default=["scan.npy", "scan.h5"])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(options.folder).free / 2**30
    if "convert" in options.tasks and free < 1.2 * options.scan_gib:
        parser.error(f"{free:.0f} GiB free: too little for the conversion; choose other --tasks")
    result = common.Result(f"{options.scan_gib:g} GiB scan in {options.limit_gib:g} GiB")
    rows = [row for name in options.files for row in measure(name, options, result)]
    headings = ["file", "task", "s", "GiB/s", "peak RSS MiB", "anon MiB", "address MiB", "error"]
    print(common.table(headings, rows))
    result.write(options.json)


if __name__ == "__main__":
    main()
