"""Merlin files: all counters, raw mode, the .hdr beside them."""

import numpy as np
from harness import Reader, Target, fuzz, made_by, tests_io

HDR = b"HDR,\t\r\nFrames in Acquisition (Number):\t6\r\nFrames per Trigger (Number):\t3\r\nEnd\t"


def make() -> Target:
    alone, described = Reader("mib", "a.mib"), Reader("mib", "b.mib", {"b.hdr": HDR})

    def target(data: bytes) -> None:
        alone(data)
        described(data)

    return target


def seeds() -> list[bytes]:
    write, found = tests_io().write_mib, []
    frames = np.arange(6 * 4 * 8).reshape(6, 4, 8) % 2
    for kind in ("U08", "U16", "U32", "U64"):
        found.append(made_by(lambda p, kind=kind: write(p, frames, kind)))
    big = np.arange(2 * 8 * 64).reshape(2, 8, 64) % 2
    for depth in (1, 6, 12, 24):
        found.append(made_by(lambda p, d=depth: write(p, big, "R64", depth=d)))
    return found


if __name__ == "__main__":
    fuzz(make, seeds, "py4DSTEM.io")
