"""numpy files."""

import numpy as np
from harness import Reader, Target, fuzz, made_by


def make() -> Target:
    return Reader("npy", "a.npy")


def seeds() -> list[bytes]:
    arrays = [np.arange(24, dtype=d).reshape(s) for d, s in (
        ("u1", (1, 2, 3, 4)), (">u2", (2, 3, 4)), ("f4", (4, 6)), ("c8", (24,)),
    )]  # fmt: skip
    arrays.append(np.asfortranarray(arrays[2]))
    return [made_by(lambda p, a=a: np.save(p, a), "a.npy") for a in arrays]


if __name__ == "__main__":
    fuzz(make, seeds, "py4DSTEM.io numpy.lib")
