"""DigitalMicrograph 3 and 4."""

import numpy as np
from harness import Reader, Target, fuzz, made_by, tests_io


def make() -> Target:
    return Reader("dm", "a.dm4")


def seeds() -> list[bytes]:
    tests_io()
    import synthetic_dm as dm

    found = []
    axes = [(1.0, 0.0, "nm")] * 2 + [(0.1, 0.0, "1/nm")] * 2
    for dtype in ("uint16", "float32"):
        scan = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5).astype(dtype)
        for version in (3, 4):
            tree = dm.tree(dm.image(scan, axes))
            found.append(made_by(lambda p, t=tree, v=version: dm.write_dm(p, t, v)))
    return found


if __name__ == "__main__":
    fuzz(make, seeds, "py4DSTEM.io")
