"""StreamPix sequences."""

import numpy as np
from harness import Reader, Target, fuzz, made_by, tests_io


def make() -> Target:
    return Reader("seq", "a.seq")


def seeds() -> list[bytes]:
    write = tests_io().write_seq
    frames = np.arange(3 * 4 * 6).reshape(3, 4, 6)
    return [
        made_by(lambda p, v=v, d=d: write(p, frames.astype(d), version=v))
        for v in (4, 5) for d in ("u1", "u2")
    ]  # fmt: skip


if __name__ == "__main__":
    fuzz(make, seeds, "py4DSTEM.io")
