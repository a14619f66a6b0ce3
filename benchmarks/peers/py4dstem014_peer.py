"""Worker that measures py4DSTEM 0.14: load, virtual images, centre of mass.

The centre of mass is what ``DPC.preprocess`` measures, the way its users get it. ``--memory map``
maps a .npy file instead of loading it; a HDF5 file is always loaded. Parts of the time are
reported separately.
"""

from __future__ import annotations

import time

import numpy as np
from protocol import Answer, Scan, arguments, serve


def load(scan: Scan, memory: str) -> np.ndarray:
    """The scan as an array."""
    if not scan.is_hdf5:
        return np.load(scan.path, mmap_mode="r" if memory == "map" else None)
    import h5py
    import hdf5plugin  # noqa: F401  registers the filter

    with h5py.File(scan.path, "r") as file:
        return file["data"][()]


def center_of_mass(cube) -> tuple[np.ndarray, np.ndarray]:
    """Measured centre of mass, pixels."""
    import py4DSTEM

    cube.calibration.set_R_pixel_size(1.0)
    cube.calibration.set_R_pixel_units("A")
    cube.calibration.set_Q_pixel_size(0.02)
    cube.calibration.set_Q_pixel_units("A^-1")
    dpc = py4DSTEM.process.phase.DPC(datacube=cube, energy=300e3, verbose=False)
    dpc.preprocess(
        force_com_rotation=0,
        force_com_transpose=False,
        plot_rotation=False,
        plot_center_of_mass=False,
    )
    return dpc._com_measured_x, dpc._com_measured_y


def run_job(scan: Scan, job: str, memory: str) -> Answer:
    """One job from the file to the arrays."""
    import py4DSTEM

    parts, arrays = {}, {}
    masks = scan.masks(job)
    clock = time.perf_counter()

    def lap(name: str) -> None:
        nonlocal clock
        now = time.perf_counter()
        parts[name], clock = now - clock, now

    cube = py4DSTEM.DataCube(data=load(scan, memory))
    lap("load")
    for name, mask in masks.items():
        image = cube.get_virtual_image(mode="mask", geometry=mask, verbose=False, name=name)
        arrays[name] = np.asarray(image.data)
        lap(name)
    if job == "many":
        arrays["mean"] = np.asarray(cube.get_dp_mean().data)
        arrays["max"] = np.asarray(cube.get_dp_max().data)
        lap("mean+max")
    if job != "one":
        arrays["com_x"], arrays["com_y"] = center_of_mass(cube)
        lap("com")
    return Answer(arrays, parts)


def main() -> None:
    """Start the worker."""
    options = arguments(__doc__, memory=("load", "map"))
    scan = options.scan

    def make() -> dict:
        import py4DSTEM  # noqa: F401  the import is part of the start

        return {
            job: lambda job=job: run_job(scan, job, options.memory)
            for job in ("one", "basic", "many")
        }

    serve(make, ("py4DSTEM", "numpy", "scipy", "h5py", "hdf5plugin"), check=scan.compare)


if __name__ == "__main__":
    main()
