"""Detectors and selections dragged over a scan: milliseconds for every new picture.

    python live.py --scan F [--repeats N]

F is a scan that `py4DSTEM.read` opens; the goals are for 256 x 256 x 128 x 128 uint16 (2 GiB).
Every row is one kind of movement; times are those of the library alone, without drawing.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Iterable

import numpy as np

from py4DSTEM import Annulus, Calibration, Disk, read, virtual_image
from py4DSTEM.process.live.patterns import LivePattern
from py4DSTEM.process.live.scan import LiveScan

RADII = (10, 25, 60)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scan", required=True)
    parser.add_argument("--repeats", type=int, default=30)
    given = parser.parse_args()
    cube = read(given.scan)
    print(f"{cube}; load of the machine {os.getloadavg()[0]:.1f}")
    live = LiveScan(cube)
    warm_up(cube)
    weights = disk(cube, 25, 0, 0)[None]
    once("first look", live.first_look)
    once("first coarse image (8 x 8)", lambda: next(live.coarse_images(weights)))
    once("coarse cache (64 x 64)", live.coarse)
    once("exact image, one pass of the engine", lambda: virtual_image(cube, Disk(25, (64, 64))))
    once("full cache", live.build)
    images(cube, live, given.repeats)
    patterns(cube, given.repeats)
    live.close()


def warm_up(cube: object) -> None:
    """Compile everything on a few positions."""
    few = cube.crop(R=((0, 4), (0, None)))
    live = LiveScan(few)
    live.first_look()
    live.build()
    live.use_shells((4.0, 4.0))
    for stack in (disk(few, 5, 0, 0)[None], moments(disk(few, 5, 2, 0))):
        live.images(stack)
        live.images(stack * 0.5)
    LivePattern(few).selection(np.ones(few.R_shape))
    virtual_image(few, Disk(5, (9, 9)))
    live.close()


def disk(cube: object, radius: float, dx: float, dy: float, inner: float = 0.0) -> np.ndarray:
    """Weights of a disk or ring, off the middle by (dx, dy)."""
    qx, qy = cube.Q_shape
    center = (qx / 2 + dx, qy / 2 + dy)
    shape = Annulus(inner, radius, center) if inner else Disk(radius, center)
    return shape.weights(cube.Q_shape, Calibration())


def moments(weights: np.ndarray) -> np.ndarray:
    i, j = np.indices(weights.shape)
    return np.stack([weights, weights * i, weights * j])


def images(cube: object, live: LiveScan, repeats: int) -> None:
    rng = np.random.default_rng(0)
    turns = np.linspace(0, 2 * np.pi, repeats)
    for radius in RADII:
        for name, step in (("1 px", 1.0), ("4 px", 4.0)):
            path = [(step * (k % 12) - 6, 3 * np.sin(t)) for k, t in enumerate(turns)]
            many(f"disk r = {radius}, drag by {name}", live.images,
                 (disk(cube, radius, *at)[None] for at in path))  # fmt: skip
        path = rng.uniform(-30, 30, (repeats, 2))
        many(f"disk r = {radius}, jumps", live.images,
             (disk(cube, radius, *at)[None] for at in path))  # fmt: skip
    once("shells", lambda: live.use_shells((cube.Q_shape[0] / 2, cube.Q_shape[1] / 2)))
    rings = [disk(cube, 45 + 10 * np.sin(t), 0, 0, 25 + 5 * np.cos(t))[None] for t in turns]
    many("ring resized", live.images, rings)
    for name, step in (("1 px", 1.0), ("4 px", 4.0)):
        path = [step * (k % 8) for k in range(repeats)]
        many(f"centre of mass r = 25, drag by {name}", live.center_of_mass,
             (disk(cube, 25, x, 0) for x in path))  # fmt: skip
    path = rng.uniform(-30, 30, (repeats, 2))
    many("centre of mass r = 25, jumps", live.center_of_mass, (disk(cube, 25, *at) for at in path))


def patterns(cube: object, repeats: int) -> None:
    live = LivePattern(cube)
    rng = np.random.default_rng(1)
    room = [n - 64 for n in cube.R_shape]

    def rectangle(x: int, y: int) -> np.ndarray:
        mask = np.zeros(cube.R_shape, bool)
        mask[x : x + 64, y : y + 64] = True
        return mask

    many("mean of 64 x 64, drag by 1 px", live.selection, (rectangle(k, k) for k in range(repeats)))
    jumps = rng.integers(0, room, (repeats, 2))
    many("mean of 64 x 64, jumps", live.selection, (rectangle(*at) for at in jumps))
    many("maximum of 64 x 64, jumps", lambda m: live.selection(m, "max"),
         (rectangle(*at) for at in jumps))  # fmt: skip
    places = rng.integers(0, cube.R_shape, (repeats, 2))
    many("one pattern", lambda at: live.pattern(*at), places)


def many(name: str, work: Callable[[object], object], steps: Iterable[object]) -> None:
    """Time every step but the first; their preparation is outside the clock."""
    times = []
    for step in steps:
        start = time.perf_counter()
        work(step)
        times.append(1e3 * (time.perf_counter() - start))
    times = sorted(times[1:])
    p95 = times[int(0.95 * (len(times) - 1))]
    print(f"{name:40s} median {statistics.median(times):7.1f} ms   p95 {p95:7.1f} ms")


def once(name: str, work: Callable[[], object]) -> None:
    start = time.perf_counter()
    work()
    print(f"{name:40s} {1e3 * (time.perf_counter() - start):14.0f} ms")


if __name__ == "__main__":
    main()
