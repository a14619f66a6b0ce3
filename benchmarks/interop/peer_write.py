"""Write one file of every class that py4DSTEM 0.14 can save, and say what is in them.

    PYTHON014 peer_write.py --out FOLDER

Run it with the interpreter of py4DSTEM 0.14. Next to the files it writes ``truth.json`` (class,
shape, dtype, sums, calibration, fields, ragged lengths) and ``truth.npz`` (the arrays), so that a
reader can be tested without py4DSTEM 0.14. Shapes are small, non-square and asymmetric.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

R_SHAPE, Q_SHAPE = (5, 7), (16, 12)
SEED = 20


class Book:
    """Collects truth while files are written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.facts: dict[str, dict] = {}
        self.arrays: dict[str, np.ndarray] = {}

    def save(self, file: str, obj, arrays: dict[str, np.ndarray], **facts: object) -> None:
        """Save one object and note what a reader must find."""
        import py4DSTEM

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            py4DSTEM.save(str(self.folder / file), obj, mode="o")
        self.note(file, type(obj).__name__, obj.name, arrays, **facts)

    def note(
        self, file: str, kind: str, name: str, arrays: dict[str, np.ndarray], **facts: object
    ) -> None:
        """Note the truth of a file that is already there."""
        described = {}
        for key, value in arrays.items():
            array = np.asarray(value)
            self.arrays[f"{file}:{key}"] = array
            described[key] = {"shape": array.shape, "dtype": str(array.dtype)}
            if array.dtype.names is None and array.dtype.kind in "uifb":
                described[key]["sum"] = float(np.nansum(array, dtype=np.float64))
        self.facts[file] = {"class": kind, "name": name, "arrays": described, **facts}

    def write(self) -> None:
        """Write the truth files."""
        import emdfile

        import py4DSTEM

        made = {"py4DSTEM": py4DSTEM.__version__, "emdfile": emdfile.__version__}
        text = json.dumps({"made_with": made, "files": self.facts}, indent=1, default=plain)
        (self.folder / "truth.json").write_text(text + "\n")
        np.savez_compressed(self.folder / "truth.npz", **self.arrays)


def plain(value: object) -> object:
    """JSON form of numpy values."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    return str(value)


def calibration_facts(calibration) -> dict:
    """The keys of a calibration that are set."""
    return {k: v for k, v in calibration._params.items() if v is not None and k[0] != "_"}


# --------------------------------------------------------------------------------------- the data
def patterns(rng: np.random.Generator) -> np.ndarray:
    """Poisson counts with a disk that moves over the scan."""
    rx, ry, i, j = np.ogrid[: R_SHAPE[0], : R_SHAPE[1], : Q_SHAPE[0], : Q_SHAPE[1]]
    r2 = (i - 7 - 0.3 * rx) ** 2 + (j - 5 - 0.2 * ry) ** 2
    return rng.poisson(20 * np.exp(-r2 / 8) + 0.5).astype(np.uint16)


def calibrate(cube) -> None:
    """A calibration in which no two numbers are equal."""
    c = cube.calibration
    c.set_R_pixel_size(2.5)
    c.set_R_pixel_units("nm")
    c.set_Q_pixel_size(0.021)
    c.set_Q_pixel_units("A^-1")
    c.set_QR_rotation_degrees(12.5)
    c.set_QR_flip(True)
    rx, ry = np.indices(R_SHAPE)
    c.set_origin((7 + 0.3 * rx, 5 + 0.2 * ry))
    c.set_ellipse((1.03, 0.98, 0.4))
    c.set_probe_semiangle(2.2)
    c.set_convergence_semiangle_mrad(21.4)


def peaks_at(rng: np.random.Generator, rx: int, ry: int) -> np.ndarray:
    """A few spots of a square lattice; one position has none."""
    dtype = [("qx", np.float64), ("qy", np.float64), ("intensity", np.float64)]
    if (rx, ry) == (2, 3):
        return np.empty(0, dtype)
    h, k = np.meshgrid([-1, 0, 1], [-1, 0, 1], indexing="ij")
    spots = np.empty(9 - (rx + ry) % 3, dtype)
    n = len(spots)
    spots["qx"] = (7 + 0.3 * rx + 4.1 * h.ravel() + 0.2 * k.ravel())[:n]
    spots["qy"] = (5 + 0.2 * ry - 0.2 * h.ravel() + 3.9 * k.ravel())[:n]
    spots["intensity"] = rng.uniform(1, 9, n)
    return spots


def ragged(rng: np.random.Generator, lists) -> tuple[np.ndarray, np.ndarray]:
    """Fill a PointListArray; returns the flat table and the number of points per position."""
    counts, tables = np.zeros(R_SHAPE, int), []
    for rx, ry in np.ndindex(*R_SHAPE):
        table = peaks_at(rng, rx, ry)
        lists[rx, ry].add(table)
        counts[rx, ry] = len(table)
        tables.append(table)
    return np.concatenate(tables), counts


# -------------------------------------------------------------------------------------- the files
def write_cubes(book: Book, rng: np.random.Generator) -> None:
    """DataCube: calibrated, plain, float32, and a tree with everything below one root."""
    import py4DSTEM

    data = patterns(rng)
    cube = py4DSTEM.DataCube(data=data.copy(), name="scan")
    calibrate(cube)
    facts = calibration_facts(cube.calibration)
    book.save("datacube_calibrated.h5", cube, {"data": data}, calibration=facts)
    plain_cube = py4DSTEM.DataCube(data=data.copy())
    book.save("datacube_plain.h5", plain_cube, {"data": data})
    floats = (data * 0.5).astype(np.float32)
    book.save("datacube_float32.h5", py4DSTEM.DataCube(data=floats), {"data": floats})


def write_images(book: Book, rng: np.random.Generator) -> None:
    """VirtualImage, VirtualDiffraction and the mean pattern as a cube computes them."""
    import py4DSTEM

    def fresh():
        cube = py4DSTEM.DataCube(data=patterns(np.random.default_rng(SEED)), name="scan")
        calibrate(cube)
        return cube

    cube = fresh()
    image = cube.get_virtual_image(
        mode="annulus", geometry=((7, 5), (2, 5)), name="adf", verbose=False
    )
    facts = calibration_facts(cube.calibration)
    mode = {"mode": "annulus", "geometry": ((7, 5), (2, 5))}
    book.save("virtual_image.h5", image, {"data": image.data}, calibration=facts, gen_params=mode)
    cube = fresh()
    pattern = cube.get_virtual_diffraction(method="max", name="maximum")
    book.save("virtual_diffraction.h5", pattern, {"data": pattern.data}, calibration=facts)
    tree = fresh()
    tree.get_virtual_image(mode="circle", geometry=((7, 5), 3), name="bf", verbose=False)
    tree.get_dp_mean()
    arrays = {name: np.asarray(tree.tree(name).data) for name in ("bf", "dp_mean")}
    arrays["data"] = tree.data
    book.save("datacube_with_results.h5", tree, arrays, calibration=facts)


def write_slices(book: Book, rng: np.random.Generator) -> None:
    """RealSlice and DiffractionSlice, single and as labelled stacks."""
    from py4DSTEM import DiffractionSlice, RealSlice

    real = rng.normal(size=R_SHAPE)
    book.save("real_slice.h5", RealSlice(data=real, name="thickness"), {"data": real})
    stack, labels = rng.normal(size=(3, *R_SHAPE)), ["dx", "dy", "error"]
    sliced = RealSlice(data=stack, name="shifts", slicelabels=labels)
    book.save("real_slice_stack.h5", sliced, {"data": stack}, labels=labels)
    pattern = rng.normal(size=Q_SHAPE)
    book.save(
        "diffraction_slice.h5", DiffractionSlice(data=pattern, name="dark"), {"data": pattern}
    )
    stack = rng.normal(size=(2, *Q_SHAPE))
    sliced = DiffractionSlice(data=stack, name="pair", slicelabels=["dark", "gain"])
    book.save("diffraction_slice_stack.h5", sliced, {"data": stack}, labels=["dark", "gain"])


def write_probe(book: Book, rng: np.random.Generator) -> None:
    """Probe with a measured disk and a kernel, and one without."""
    from py4DSTEM import Probe

    probe = Probe.generate_synthetic_probe(radius=3, width=1, Qshape=Q_SHAPE)
    bare = np.asarray(probe.probe).copy()
    book.save("probe_plain.h5", probe, {"probe": bare})
    probe = Probe.generate_synthetic_probe(radius=3, width=1, Qshape=Q_SHAPE)
    radius, qx0, qy0 = probe.measure_disk(plot=False)
    probe.get_kernel(mode="sigmoid", origin=(qx0, qy0), radii=(3, 6), returncalc=False)
    arrays = {"probe": probe.probe, "kernel": probe.kernel}
    book.save("probe_kernel.h5", probe, arrays, params={"alpha": radius, "origin": (qx0, qy0)})


def write_points(book: Book, rng: np.random.Generator) -> None:
    """PointList, QPoints, PointListArray."""
    from py4DSTEM import PointList, PointListArray, QPoints

    table = np.zeros(6, [("x", np.float64), ("y", np.float64), ("label", np.int32)])
    table["x"], table["y"], table["label"] = rng.normal(size=6), rng.normal(size=6), range(6)
    book.save("point_list.h5", PointList(data=table, name="marks"), {"data": table})
    spots = peaks_at(rng, 1, 1)
    book.save("qpoints.h5", QPoints(data=spots.copy(), name="spots"), {"data": spots})
    lists = PointListArray(dtype=spots.dtype, shape=R_SHAPE, name="lists")
    flat, counts = ragged(rng, lists)
    book.save("point_list_array.h5", lists, {"points": flat, "counts": counts})


def bragg_vectors(rng: np.random.Generator):
    """Calibrated BraggVectors with a few spots, the flat table and the counts."""
    from py4DSTEM import BraggVectors, PointListArray

    vectors = BraggVectors(Rshape=R_SHAPE, Qshape=Q_SHAPE, name="disks")
    lists = PointListArray(dtype=peaks_at(rng, 0, 0).dtype, shape=R_SHAPE, name="_v_uncal")
    flat, counts = ragged(rng, lists)
    vectors.set_raw_vectors(lists)
    calibrate(vectors)
    return vectors, flat, counts


def write_bragg(book: Book, rng: np.random.Generator) -> None:
    """BraggVectors and their histogram."""
    vectors, flat, counts = bragg_vectors(rng)
    facts = calibration_facts(vectors.calibration)
    arrays = {"points": flat, "counts": counts}
    book.save("bragg_vectors.h5", vectors, arrays, calibration=facts, Q_shape=Q_SHAPE)
    vectors, _, _ = bragg_vectors(rng)
    vectors.setcal(center=True, ellipse=False, pixel=False, rotate=False)
    vector_map = vectors.histogram(mode="cal")
    book.save("bragg_vector_map.h5", vector_map, {"data": vector_map.data})


def write_strain(book: Book, rng: np.random.Generator) -> None:
    """StrainMap with known numbers in its six slices."""
    from py4DSTEM import StrainMap

    vectors, _, _ = bragg_vectors(rng)
    vectors.setcal(center=True, ellipse=False, pixel=False, rotate=True)
    strain = StrainMap(vectors, name="strain")
    strain.data[...] = rng.normal(0, 0.01, strain.data.shape)
    labels = [str(label) for label in strain.slicelabels]
    book.save("strain_map.h5", strain, {"data": strain.data.copy()}, labels=labels)


def write_phase(book: Book, rng: np.random.Generator) -> None:
    """A DPC reconstruction."""
    import py4DSTEM

    cube = py4DSTEM.DataCube(data=patterns(rng), name="scan")
    cube.calibration.set_R_pixel_size(2.5)
    cube.calibration.set_R_pixel_units("A")
    cube.calibration.set_Q_pixel_size(0.021)
    cube.calibration.set_Q_pixel_units("A^-1")
    dpc = py4DSTEM.process.phase.DPC(datacube=cube, energy=200e3, verbose=False, name="dpc")
    dpc.preprocess(force_com_rotation=0, force_com_transpose=False, plot_rotation=False,
                   plot_center_of_mass=False)  # fmt: skip
    dpc.reconstruct(max_iter=4, progress_bar=False)
    book.save("dpc.h5", dpc, {"object": np.asarray(dpc.object_phase)}, energy_eV=200e3)


def write_generic(book: Book, rng: np.random.Generator) -> None:
    """A bare Array with dimensions, and one file with two roots."""
    import emdfile

    data = rng.normal(size=(4, 6, 3))
    array = emdfile.Array(
        data=data,
        name="volume",
        units="mV",
        dims=[[1.0, 1.5], [0.0, 0.25], [0.0, 1.0, 4.0]],
        dim_names=["x", "y", "energy"],
        dim_units=["nm", "nm", "eV"],
    )
    array.metadata = emdfile.Metadata(
        name="notes",
        data={
            "text": "é µm",
            "number": 3.5,
            "flag": True,
            "nothing": None,
            "numbers": [1, 2, 3],
            "pairs": ((1.0, 2.0), (3.0, 4.0)),
            "table": np.arange(6).reshape(2, 3),
            "nested": {"a": 1, "b": {"c": "d"}},
            "words": ["one", "two"],
        },
    )
    book.save(
        "array.h5",
        array,
        {"data": data},
        units="mV",
        metadata=dict(array.metadata["notes"]._params),
    )
    file = "two_roots.h5"
    first, second = rng.normal(size=(3, 4)), rng.normal(size=(2, 5))
    path = str(book.folder / file)
    emdfile.save(path, emdfile.Array(data=first, name="first"), mode="o")
    emdfile.save(path, emdfile.Array(data=second, name="second"), mode="a")
    book.note(file, "Array", "first, second", {"first": first, "second": second})


WRITERS: tuple[Callable[[Book, np.random.Generator], None], ...] = (
    write_cubes,
    write_images,
    write_slices,
    write_probe,
    write_points,
    write_bragg,
    write_strain,
    write_phase,
    write_generic,
)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    options = parser.parse_args()
    import matplotlib

    matplotlib.use("agg")
    options.out.mkdir(parents=True, exist_ok=True)
    book = Book(options.out)
    for writer in WRITERS:
        writer(book, np.random.default_rng(SEED))
    book.write()
    print(f"{len(book.facts)} files in {options.out}")


if __name__ == "__main__":
    main()
