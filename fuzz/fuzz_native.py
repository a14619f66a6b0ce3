"""Metadata of native files: calibrations, JSON of histories, names; values made from the input."""

import json
import warnings

import numpy as np
from harness import Target, fuzz


def make() -> Target:
    import h5py

    from py4DSTEM.errors import Py4DSTEMError
    from py4DSTEM.io.store import calib, read, values

    def parse(data: bytes) -> None:
        text = data[1:].decode("utf-8", "replace")
        match data[0] % 3:
            case 0:
                extras = {"json": text, "array_0": np.arange(3), "schema": data[0]}
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    read._facts({read.EXTRAS: extras})
            case 1:
                keys = json.loads(text)
                if isinstance(keys, dict):
                    calib.from_keys(keys, (4, 5))
            case _:
                read_back(h5py, values, json.loads(text))

    def target(data: bytes) -> None:
        try:
            parse(data or b"\0")
        except (Py4DSTEMError, json.JSONDecodeError):
            return

    return target


def read_back(h5py: object, values: object, tree: object) -> None:
    """A tree of JSON as groups and datasets with types of their own choice, read as metadata."""
    with h5py.File("a.h5", "w", driver="core", backing_store=False) as file:
        try:
            put(file, "top", tree, 0)
        except (ValueError, TypeError, OSError, RuntimeError, OverflowError, KeyError):
            return
        values.read_items(file)


def put(group: object, name: str, value: object, depth: int) -> None:
    if isinstance(value, dict) and depth < 8:
        below = group.create_group(name)
        for key, inner in list(value.items())[:16]:
            if key == "type":
                below.attrs["type"] = inner
            else:
                put(below, key.replace("/", "_SLASH_") or "_", inner, depth + 1)
    elif isinstance(value, list) and len(value) == 2 and isinstance(value[0], str):
        group[name] = value[1]
        group[name].attrs["type"] = value[0]
    else:
        group[name] = value


def seeds() -> list[bytes]:
    keys = {"Q_pixel_size": 0.1, "Q_pixel_units": "A^-1", "a": 1, "b": 1, "theta": 0.1,
            "QR_rotation": 0.2, "QR_flip": True, "qx0": 3.0, "qy0": [1, 2], "R_pixel_size": None,
            "_root_treepath": "", "name": "c"}  # fmt: skip
    tree = {"a": ["list", [1, 2]], "b": {"type": "tuple_of_tuples", "0": 1, "1": ["None", "x"]},
            "c": ["bool", 1], "d": "_None", "e": ["tuple", ["a", "b"]]}  # fmt: skip
    history = {"mapping": [["a", 1]], "tuple": [1, 2], "array": "array_0"}
    return [b"\0" + json.dumps(history).encode(), b"\0[1, 2.5, null]",
            b"\1" + json.dumps(keys).encode(), b"\2" + json.dumps(tree).encode()]  # fmt: skip


if __name__ == "__main__":
    fuzz(make, seeds, "py4DSTEM.io.store py4DSTEM.core")
