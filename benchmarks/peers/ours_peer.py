"""Worker that measures this package: virtual images, centre of mass, mean and maximum.

``--detectors shapes`` uses Disk and Annulus, whose edge pixels are weighted; ``--detectors masks``
uses the boolean masks of the benchmark, the same sums as every other peer computes.
``--open once`` keeps the scan open between calls; ``each`` opens the file within the clock.
"""

from __future__ import annotations

import numpy as np
from protocol import Answer, Scan, arguments, serve


def detector(kind: str, name: str, scan: Scan):
    """One detector of the benchmark in the words of the package."""
    import py4DSTEM

    if kind == "masks":
        return py4DSTEM.Mask(scan.masks("many")[name])
    shape = scan.detectors[name]
    center = tuple(shape["center"])
    if shape["inner"] is None:
        return py4DSTEM.Disk(radius=shape["outer"], center=center)
    return py4DSTEM.Annulus(inner=shape["inner"], outer=shape["outer"], center=center)


def operations(job: str, kind: str, scan: Scan) -> list:
    """What one pass over the scan has to compute for a job."""
    import py4DSTEM

    shapes = {name: detector(kind, name, scan) for name in scan.masks(job)}
    wanted = [py4DSTEM.VirtualImages(detectors=shapes)]
    if job != "one":
        wanted.append(py4DSTEM.CenterOfMass())
    if job == "many":
        wanted += [py4DSTEM.MeanPattern(), py4DSTEM.MaxPattern()]
    return wanted


def unpack(results, job: str, names: list[str]) -> dict[str, np.ndarray]:
    """Results of one pass, in the order of `operations`, as plain arrays by benchmark name."""
    results = list(results.values()) if hasattr(results, "values") else list(results)
    images = results[0]
    if hasattr(images, "keys"):
        arrays = {name: np.asarray(images[name]) for name in names}
    else:  # one labelled stack
        arrays = dict(zip(names, np.asarray(images), strict=True))
    if job != "one":
        arrays["com_x"], arrays["com_y"] = stack_of_two(results[1])
    if job == "many":
        arrays["mean"], arrays["max"] = np.asarray(results[2]), np.asarray(results[3])
    return arrays


def stack_of_two(result) -> tuple[np.ndarray, np.ndarray]:
    """The two components of the centre of mass, wherever the stack axis is."""
    array = np.asarray(result)
    array = array if array.shape[0] == 2 else np.moveaxis(array, -1, 0)
    return array[0], array[1]


def main() -> None:
    """Start the worker."""
    options = arguments(__doc__, detectors=("masks", "shapes"), open=("each", "once"))
    scan = options.scan

    def make() -> dict:
        import py4DSTEM

        settings = py4DSTEM.RunOptions(workers=options.workers)
        kept = py4DSTEM.read(scan.path) if options.open == "once" else None

        def job(name: str):
            wanted = operations(name, options.detectors, scan)
            names = list(scan.masks(name))

            def run() -> Answer:
                cube = py4DSTEM.read(scan.path) if kept is None else kept
                return Answer(unpack(py4DSTEM.run(wanted, cube, options=settings), name, names))

            return run

        return {name: job(name) for name in ("one", "basic", "many")}

    serve(make, ("py4DSTEM", "numpy", "numba", "h5py", "hdf5plugin"), check=scan.compare)


if __name__ == "__main__":
    main()
