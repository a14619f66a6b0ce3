"""What the program takes of the machine."""

import subprocess
import sys

import pytest

FREED = """
import sys, threading
import numpy as np
from py4DSTEM.gui.machine import give_memory_back, memory_used

if sys.argv[1] == "back":
    give_memory_back()
kept = []

def work(size):  # small values between large arrays keep a heap from shrinking
    for _ in range(40):
        large = np.ones(size)
        kept.append(np.ones(60))
        del large

for size in (3_000_000, 3_500_000, 3_900_000, 400_000, 200_000):
    threads = [threading.Thread(target=work, args=(size + k,)) for k in range(6)]
    [t.start() for t in threads], [t.join() for t in threads]
print(memory_used() or 0)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc is what keeps memory")
def test_freed_arrays_go_back_to_the_system():
    used = {
        how: int(subprocess.check_output([sys.executable, "-c", FREED, how])) / 2**20
        for how in ("back", "kept")
    }
    assert 0 < used["back"] <= used["kept"] + 5
    assert used["back"] < 110  # Python and numpy
