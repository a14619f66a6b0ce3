"""The .hdr of a Merlin acquisition, opened itself and beside its frames."""

import numpy as np
from fuzz_mib import HDR
from harness import Reader, Target, fuzz, made_by, read_quietly, tests_io


def make() -> Target:
    frames = np.arange(6 * 4 * 8).reshape(6, 4, 8) % 200
    mib = made_by(lambda p: tests_io().write_mib(p, frames, "U08"))
    reader = Reader("mib", "a.hdr", {"a.mib": mib})

    def target(data: bytes) -> None:
        reader(data)
        read_quietly(reader.folder / "a.mib", "mib")

    return target


if __name__ == "__main__":
    fuzz(make, lambda: [HDR], "py4DSTEM.io")
