"""Ctrl-C at any moment stops the engine, and never leaves it waiting."""

from __future__ import annotations

import subprocess
import sys

import pytest

STRESS = """
import faulthandler, random, signal, threading
import numpy as np
from py4DSTEM import DataCube, RunOptions
from py4DSTEM.stream import engine, tile

tile.TARGET_BYTES, tile.MIN_PATTERNS = 4 * 1024, 1  # many small tiles: many places to be hit
cube = DataCube(np.ones((32, 32, 32, 32), np.uint8))
faulthandler.dump_traceback_later(100, exit=True)

def interrupt(number, frame):
    raise KeyboardInterrupt

signal.signal(signal.SIGALRM, interrupt)
random.seed(5)
hits = 0
for _ in range(300):
    try:
        signal.setitimer(signal.ITIMER_REAL, 1e-4 + 0.01 * random.random())
        for _ in engine.stream_tiles(cube, lambda tile: 1, options=RunOptions(workers=4)):
            pass
        signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt:
        hits += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
print(hits)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="timers of POSIX")
def test_interrupted_anywhere() -> None:
    done = subprocess.run(
        [sys.executable, "-c", STRESS], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 20
