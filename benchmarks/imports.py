"""Import time and ``--help`` time as whole processes, against bare Python and numpy alone.

    python imports.py --ours PYTHON [--libertem PYTHON] [--py4dstem014 PYTHON] [--json FILE]

All commands take turns, so a ratio compares processes that ran seconds apart. For ours the heavy
modules that an import brings in are listed too: each of them is time a user waits.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
from pathlib import Path

import common

HEAVY = ("numba", "llvmlite", "scipy", "h5py", "hdf5plugin", "matplotlib", "pydantic", "dask")
HEAVY += ("pandas", "sklearn", "PyQt5", "torch", "cupy", "hyperspy", "rsciio", "skimage")


def commands(pythons: dict[str, str]) -> dict[str, list[str]]:
    """Lane name -> command."""
    ours = pythons["ours"]
    script = Path(ours).parent / "py4dstem"
    found = {
        "bare python": [ours, "-c", "pass"],
        "import numpy": [ours, "-c", "import numpy"],
        "ours: import py4DSTEM": [ours, "-c", "import py4DSTEM"],
        "ours: import + DataCube": [ours, "-c", "import py4DSTEM; py4DSTEM.DataCube"],
    }
    if script.exists():
        found["ours: py4dstem --help"] = [str(script), "--help"]
    else:
        found["ours: python -m py4DSTEM --help"] = [ours, "-m", "py4DSTEM", "--help"]
    if "libertem" in pythons:
        found["libertem: import libertem.api"] = [pythons["libertem"], "-c", "import libertem.api"]
    if "py4dstem014" in pythons:
        found["py4DSTEM 0.14: import"] = [pythons["py4dstem014"], "-c", "import py4DSTEM"]
    return found


def heavy_modules(python: str, env: dict[str, str]) -> dict:
    """Number of modules after an import, and the heavy ones among them."""
    code = "import sys, py4DSTEM; print('\\n'.join(sys.modules))"
    done = subprocess.run([python, "-c", code], check=True, env=env, capture_output=True, text=True)
    names = set(done.stdout.split())
    return {"modules": len(names), "heavy": sorted(names & set(HEAVY))}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for peer in ("ours", "libertem", "py4dstem014"):
        default = os.environ.get(f"BENCH_PYTHON_{peer.upper()}")
        parser.add_argument(f"--{peer}", default=default, help=f"interpreter of {peer}")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if not options.ours:
        parser.error("give --ours PYTHON or BENCH_PYTHON_OURS")
    peers = ("ours", "libertem", "py4dstem014")
    pythons = {peer: getattr(options, peer) for peer in peers if getattr(options, peer)}
    environments = {
        True: common.clean_environment(2, os.environ.get("BENCH_OURS_PYTHONPATH")),
        False: common.clean_environment(2),
    }
    result = common.Result("import time")
    lanes = {}
    for name, command in commands(pythons).items():
        env = environments[command[0].startswith(str(Path(options.ours).parent))]
        try:
            common.seconds_of(command, env)  # writes the bytecode
        except RuntimeError as error:
            result.note(f"{name}: not measured ({str(error).strip().splitlines()[-1]})")
            continue
        lanes[name] = lambda command=command, env=env: common.seconds_of(command, env)
    samples = common.interleave(lanes, options.rounds)
    numpy_median = statistics.median(samples["import numpy"].seconds)
    summaries = {name: s.summary() for name, s in samples.items()}
    result.cases = {"seconds": summaries}
    if "ours: import py4DSTEM" in lanes:
        result.cases["ours"] = heavy_modules(options.ours, environments[True])
    rows = [
        [name, s["min"], s["median"], s["max"], s["n"], s["median"] / numpy_median]
        for name, s in summaries.items()
    ]
    print(common.table(["process", "min s", "median s", "max s", "n", "x numpy"], rows))
    print(result.cases.get("ours", ""))
    result.write(options.json)


if __name__ == "__main__":
    main()
