"""Kill a process at random times while it saves; count files that were lost or damaged.

    python benchmarks/kill9.py [--kills 500] [--signal KILL] [--folder FOLDER] [--mode w]

A child rewrites one file again and again.  After every kill the file must hold one of the two
scans that the child writes, whole.  Prints one line with the counts; the exit status is 1 if any
file was lost.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import py4DSTEM
from py4DSTEM.io.store.atomic import clean_parts

CHILD = """
import sys
import numpy as np, py4DSTEM
path, mode, seed = sys.argv[1], sys.argv[2], int(sys.argv[3])
noise = np.random.default_rng(seed).integers(0, 9, (6, 8, 128, 128)).astype("u2") * 10
for k in range(10**6):
    cube = py4DSTEM.DataCube(noise + (1 + k % 2))
    py4DSTEM.save(path, {"scan": cube} if mode == "w" else {f"s{k % 3}": cube}, mode=mode)
    if k == 0:  # everything is imported: from now on the process does nothing but save
        print("ready", flush=True)
"""


def whole(path: Path) -> bool:
    """Whether every scan of the file can be read and belongs to one writing."""
    found = py4DSTEM.read(path)
    scans = list(found.values()) if isinstance(found, dict) else [found]
    return all(len(np.unique(np.asarray(scan.data[...]) % 10)) == 1 for scan in scans)


def strike(path: Path, mode: str, number: int, how: int, rng: random.Random) -> tuple[bool, bool]:
    """Start a child, end it at a random time; returns (file is whole, a part was left)."""
    command = [sys.executable, "-c", CHILD, str(path), mode, str(number)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(rng.uniform(0, 0.3))
        child.send_signal(how)
        child.wait()
    left = bool(clean_parts(path.parent, min_age_s=0))
    try:
        return whole(path), left
    except (OSError, ValueError) as error:
        print(f"kill {number}: {error}", file=sys.stderr)
        return False, left


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--signal", default="KILL", choices=["KILL", "TERM", "INT"])
    parser.add_argument("--mode", default="w", choices=["w", "ao"])
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    rng, counts = random.Random(0), {"kills": 0, "lost": 0, "parts_left": 0}
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        path = Path(folder, "a.h5")
        first = py4DSTEM.DataCube(np.ones((6, 8, 128, 128), np.uint16))
        py4DSTEM.save(path, {"scan": first})
        how = getattr(signal, f"SIG{options.signal}")
        for number in range(options.kills):
            good, left = strike(path, options.mode, number, how, rng)
            counts["kills"] += 1
            counts["lost"] += not good
            counts["parts_left"] += left
    print(json.dumps(counts))
    sys.exit(counts["lost"] > 0)


if __name__ == "__main__":
    main()
