"""Open files with py4DSTEM 0.14 and print what it finds, one JSON line per object.

    PYTHON014 peer_open.py FILE [FILE ...] [--datapath PATH]

Run it with the interpreter of py4DSTEM 0.14. Each line holds file, class, name, shape, dtype,
sum, first and last value, units, dims, slice labels, calibration and the names below it in the
tree; or "error" when the peer cannot open it. The exit status is 1 when any file failed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import warnings
from contextlib import redirect_stdout

import numpy as np


def plain(value: object) -> object:
    """JSON form of numpy values."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    return str(value)


def numbers(array: np.ndarray) -> dict:
    """Shape, dtype and sums of an array, structured or not."""
    facts = {"shape": array.shape, "dtype": str(array.dtype)}
    if array.dtype.names:
        sums = {name: float(array[name].sum()) for name in array.dtype.names}
        return facts | {"fields": list(array.dtype.names), "sum": sums}
    if array.dtype.kind == "c":
        facts["sum_abs"] = float(np.abs(array).sum())
    elif array.dtype.kind in "uifb" and array.size:
        flat = array.ravel()
        facts["sum"] = float(np.nansum(array, dtype=np.float64))
        facts["first"], facts["last"] = flat[0], flat[-1]
    return facts


def points(lists) -> dict:
    """Counts and sums of a PointListArray."""
    counts = np.zeros(lists.shape, int)
    sums = dict.fromkeys(lists.dtype.names, 0.0)
    for place in np.ndindex(*lists.shape):
        data = lists[place].data
        counts[place] = len(data)
        for name in sums:
            sums[name] += float(data[name].sum())
    return {"shape": lists.shape, "fields": list(sums), "sum": sums, "counts": counts}


def describe(obj) -> dict:
    """What a test can compare with what we wrote."""
    facts: dict[str, object] = {"class": type(obj).__name__, "name": getattr(obj, "name", None)}
    if hasattr(obj, "_v_uncal"):
        facts |= points(obj._v_uncal) | {"Q_shape": obj.Qshape}
    elif type(obj).__name__ == "PointListArray":
        facts |= points(obj)
    elif isinstance(getattr(obj, "data", None), np.ndarray):
        facts |= numbers(obj.data)
    if hasattr(obj, "dims"):
        facts["units"] = obj.units
        facts["dim_names"], facts["dim_units"] = list(obj.dim_names), list(obj.dim_units)
        facts["dims"] = [np.asarray(d)[:2] for d in obj.dims]
    if getattr(obj, "is_stack", False):
        facts["labels"] = [str(label) for label in obj.slicelabels]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        calibration = getattr(obj, "calibration", None)
    if calibration is not None:
        params = calibration._params.items()
        facts["calibration"] = {k: v for k, v in params if v is not None and k[0] != "_"}
    facts["metadata"] = {name: dict(m._params) for name, m in getattr(obj, "metadata", {}).items()
                         if name != "calibration"}  # fmt: skip
    branch = getattr(obj, "_branch", None)
    facts["children"] = list(branch.keys()) if branch is not None else []
    return facts


def objects(path: str, datapath: str | None) -> list:
    """The object at a path; every node below a root when the peer returns a root."""
    import py4DSTEM

    found = py4DSTEM.read(path, datapath=datapath)
    if isinstance(found, list):  # several roots: names
        return [node for name in found for node in objects(path, name)]
    if type(found).__name__ == "Root":
        return [found.tree(name) for name in found._branch]
    return [found]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("files", nargs="+")
    parser.add_argument("--datapath", help="object inside the file")
    options = parser.parse_args()
    failed = False
    for path in options.files:
        try:
            with redirect_stdout(sys.stderr):
                lines = [describe(obj) for obj in objects(path, options.datapath)]
        except Exception as error:  # any failure of the peer is a finding, not a crash
            lines, failed = [{"error": f"{type(error).__name__}: {error}"}], True
        for line in lines:
            print(json.dumps({"file": os.path.basename(path), **line}, default=plain))
    sys.exit(failed)


if __name__ == "__main__":
    main()
